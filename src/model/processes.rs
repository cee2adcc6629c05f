//! Processes: what fork copies, what exit gives back, what wait tells.

use std::collections::BTreeMap;

use super::{Descriptors, Mappings, Opening, Page, Prediction, Rule, World};
use crate::kernel::call::{ActorId, Call};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::expect::Expect;

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Whether it takes calls.
    pub alive: bool,
    /// Who forked it.
    pub parent: Option<ActorId>,
    /// Its address space: page number to page.
    pub pages: BTreeMap<usize, Page>,
    /// Where its mappings began.
    pub mappings: Mappings,
    /// Its descriptors: name to open file description.
    pub descriptors: Descriptors,
    /// Where its arena begins.
    pub arena: usize,
    /// The call in which it waits.
    pub blocked: Option<Call>,
    /// The FIFO that it waits to open.
    pub opening: Option<Opening>,
    /// How it ended, until it has been waited for.
    pub ended: Option<Outcome>,
}

impl Process {
    pub(super) fn first(reserved: BTreeMap<usize, Page>) -> Process {
        let arena = reserved.keys().next().map_or(0, |number| number * page());
        Process { alive: true, pages: reserved, arena, ..Process::default() }
    }
}

impl World {
    pub(super) fn predict_processes(&self, who: ActorId, call: &Call) -> Option<Prediction> {
        Some(match call {
            Call::Fork { .. } => self.by(Rule::Fork, Expect::Success),
            Call::Exit { status } => self.by(Rule::Wait, Expect::Exited(*status)),
            Call::Wait { actor } => {
                let child = self.processes.get(usize::from(actor.0))?;
                match (&child.ended, child.parent == Some(who)) {
                    (Some(Outcome::Exited(status)), true) => self.by(Rule::Wait, Expect::Exited(*status)),
                    (Some(Outcome::Died(signal)), true) => self.by(Rule::Wait, Expect::Died(*signal)),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    pub(super) fn apply_processes(&mut self, who: ActorId, call: &Call) {
        match call {
            Call::Fork { .. } => self.fork(who),
            Call::Exit { status } => self.end(who, Outcome::Exited(*status)),
            Call::Wait { actor } => {
                if let Some(child) = self.processes.get_mut(usize::from(actor.0)) {
                    child.ended = None;
                }
            }
            _ => {}
        }
    }

    fn fork(&mut self, who: ActorId) {
        let mut child = self.process(who).clone();
        child.parent = Some(who);
        child.blocked = None;
        child.opening = None;
        child.ended = None;
        if !self.in_force(Rule::Fork) {
            child.pages.values_mut().for_each(|found| found.copy = None);
        }
        let open: Vec<usize> = child.descriptors.values().copied().collect();
        self.processes.push(child);
        for index in open {
            self.take_reference(index);
        }
    }

    /// A process ends: its memory and its descriptors are given back.
    pub(super) fn end(&mut self, who: ActorId, outcome: Outcome) {
        let process = self.process_mut(who);
        process.alive = false;
        process.ended = Some(outcome);
        process.pages.clear();
        let open: Vec<usize> = process.descriptors.drain().map(|(_, index)| index).collect();
        for index in open {
            self.drop_reference(index);
        }
    }
}

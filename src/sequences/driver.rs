//! Runs a sequence: chooses each call in the light of the model, performs it, and compares.

use std::collections::BTreeMap;

use super::choice::{ARENA, Known, Op};
use super::situations;
use crate::kernel::call::{ActorId, At, Call, Fd};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::actor::Begun;
use crate::lab::expect::Expect;
use crate::lab::trace::{Stop, Verdict};
use crate::model::{Object, Prediction, Rule, World};

/// After so many calls everything that can be observed is.
const BETWEEN_CHECKS: usize = 24;

struct Driver<'l> {
    lab: &'l Lab,
    world: World,
    known: Known,
    begun: BTreeMap<ActorId, Begun<'l>>,
}

/// Runs the calls that these numbers mean, and compares every outcome with the model's.
///
/// # Errors
/// A violation at the first outcome that the model does not allow; a skip where the machine lacks something.
pub(super) fn drive(lab: &Lab, ops: &[Op], processes: usize, wrong: Option<Rule>) -> Verdict {
    let mut world = World::new(lab.arena_address(), ARENA);
    world.wrong = wrong;
    let known = Known { processes, ..Known::default() };
    let mut driver = Driver { lab, world, known, begun: BTreeMap::new() };
    for (index, op) in ops.iter().enumerate() {
        if let Some((who, call)) = op.choose(lab, &driver.world, &mut driver.known) {
            driver.perform(who, call)?;
            driver.release()?;
        }
        if (index + 1) % BETWEEN_CHECKS == 0 {
            driver.look_at_everything()?;
        }
    }
    driver.look_at_everything()
}

impl<'l> Driver<'l> {
    fn perform(&mut self, who: ActorId, call: Call) -> Verdict {
        let Some(prediction) = self.world.predict(who, &call) else { return Ok(()) };
        // The worker itself must not wait, though the model may be planted to deny that it would.
        let waits = matches!(prediction.rule, Rule::PipeBlocks | Rule::FifoWaits);
        if waits && who == ActorId(0) || prediction.expect == Expect::Blocked && self.is_waited_for(who, &call) {
            return Ok(());
        }
        situations::count(&self.world, who, &call, &prediction);
        if prediction.expect == Expect::Blocked {
            return self.begin(who, call, &prediction);
        }
        let may_kill =
            matches!(&prediction.expect, Expect::AnyOf(list) if list.iter().any(|one| matches!(one, Expect::Died(_))));
        if may_kill && !self.may_die(who) {
            return Ok(());
        }
        if let Call::Fork { survives, .. } = call {
            self.lab.fork_from(who, survives)?;
            self.world.apply(who, &call, &Outcome::DONE);
            return Ok(());
        }
        let answer = self.lab.call(who, call.clone());
        let outcome = answer.outcome().clone();
        if prediction.expect == Expect::Success || matches!(prediction.expect, Expect::Value(_)) {
            answer.wanted(&prediction.expect)
        } else {
            answer.must(&prediction.expect)
        }
        .map_err(|stop| by_rule(stop, prediction.rule))?;
        if let (Call::Mmap { args, map }, Outcome::Mapped(address)) = (&call, &outcome) {
            let placed = self.world.is_well_placed(who, args, *address);
            self.lab
                .must(
                    placed,
                    "the mapping begins on a page boundary, where it was fixed if it was, and on no other mapping",
                    || "another place".into(),
                )
                .map_err(|stop| by_rule(stop, Rule::MapPlace))?;
            self.known.extents.insert(*map, args.len.in_pages());
        }
        if let (Call::Mremap { new, map, .. }, Outcome::Mapped(address)) = (&call, &outcome) {
            let placed = self.world.is_well_moved(who, &call, *address);
            let words = "the mapping stays without MREMAP_MAYMOVE, and goes where MREMAP_FIXED says";
            self.lab.must(placed, words, || "another place".into()).map_err(|stop| by_rule(stop, prediction.rule))?;
            self.known.extents.insert(*map, new.in_pages());
        }
        if let Call::Open { path, .. } | Call::Mkfifo { path, .. } = &call
            && outcome.is_success()
            && !self.known.paths.contains(path)
        {
            self.known.paths.push(*path);
        }
        self.world.apply(who, &call, &outcome);
        if let (Call::Pipe { read: fd, .. } | Call::Open { fd, .. }, true) = (&call, outcome.is_success())
            && matches!(self.world.open_file(who, *fd).map(|file| file.object), Some(Object::Pipe(_)))
        {
            self.learn_capacity(who, *fd)?;
        }
        Ok(())
    }

    /// A user above the soft limit on pipe pages gets smaller pipes: what a pipe holds is asked and not known.
    fn learn_capacity(&mut self, who: ActorId, fd: Fd) -> Verdict {
        let size = self.lab.call(who, Call::Fcntl { fd, command: libc::F_GETPIPE_SZ, argument: 0 }).value()?;
        if let Some(Object::Pipe(pipe)) = self.world.open_file(who, fd).map(|file| file.object) {
            self.world.pipes[pipe].capacity = size as usize / page();
        }
        Ok(())
    }

    fn may_die(&self, who: ActorId) -> bool {
        match self.world.process(who).parent {
            None => true,
            Some(parent) => self.world.process(parent).blocked.is_none(),
        }
    }

    /// Whether somebody waits for what this read would wait for: of two it is open who is served first.
    fn is_waited_for(&self, who: ActorId, call: &Call) -> bool {
        let Call::Read { fd, .. } = call else { return false };
        let object = self.world.open_file(who, *fd).map(|file| file.object);
        self.world.processes.iter().enumerate().any(|(index, process)| match &process.blocked {
            Some(Call::Read { fd, .. }) => {
                self.world.open_file(ActorId(index as u16), *fd).map(|file| file.object) == object
            }
            _ => false,
        })
    }

    fn begin(&mut self, who: ActorId, call: Call, prediction: &Prediction) -> Verdict {
        let begun = self.lab.actor(who).begin(call.clone());
        begun.must_block().map_err(|stop| by_rule(stop, prediction.rule))?;
        self.begun.insert(who, begun);
        self.world.wait(who, call);
        Ok(())
    }

    /// Takes the answers of those whose wait must be over by now.
    fn release(&mut self) -> Verdict {
        for who in (1..self.world.processes.len() as u16).map(ActorId) {
            let Some(call) = self.world.process(who).blocked.clone() else { continue };
            let opens = matches!(call, Call::Open { .. });
            let prediction = if opens { self.world.predict_opened(who) } else { self.world.predict(who, &call) };
            let Some(prediction) = prediction else { continue };
            // A wait that has begun goes on when O_NONBLOCK is set.
            if matches!(prediction.expect, Expect::Blocked | Expect::Refused(libc::EAGAIN)) {
                continue;
            }
            let Some(begun) = self.begun.remove(&who) else { continue };
            let answer = begun.answer();
            let outcome = answer.outcome().clone();
            let rule = if opens { Rule::FifoReleased } else { Rule::PipeReleased };
            answer.must(&prediction.expect).map_err(|stop| by_rule(stop, rule))?;
            self.world.processes[usize::from(who.0)].blocked = None;
            if opens {
                self.world.opened(who, &call);
            } else {
                self.world.apply(who, &call, &outcome);
            }
        }
        Ok(())
    }

    /// Every byte of every mapping in every process, every file by read, every size, offset, and count of waiting bytes.
    fn look_at_everything(&mut self) -> Verdict {
        for who in (0..self.world.processes.len() as u16).map(ActorId) {
            if !self.world.process(who).alive || self.world.process(who).blocked.is_some() {
                continue;
            }
            for call in self.memory_looks(who).into_iter().chain(self.descriptor_looks(who)) {
                let Some(prediction) = self.world.predict(who, &call) else { continue };
                if prediction.expect == Expect::Blocked {
                    continue;
                }
                let answer = self.lab.call(who, call.clone());
                let outcome = answer.outcome().clone();
                answer.must(&prediction.expect).map_err(|stop| by_rule(stop, prediction.rule))?;
                self.lab.forget_last();
                self.world.apply(who, &call, &outcome);
            }
        }
        Ok(())
    }

    /// One load of each run of pages that belong to one mapping or to the arena.
    fn memory_looks(&self, who: ActorId) -> Vec<Call> {
        let process = self.world.process(who);
        let arena = self.lab.arena_address();
        let mut looks = Vec::new();
        let mut extents: Vec<_> = process
            .mappings
            .iter()
            .filter(|(_, start)| start.wrapping_sub(arena) >= pages(ARENA).get())
            .map(|(map, start)| (At::Map(*map, 0), *start, self.known.extents.get(map).copied().unwrap_or(0)))
            .collect();
        extents.sort_unstable_by_key(|extent| extent.1);
        extents.push((At::Arena(0), arena, ARENA));
        for (at, start, count) in extents {
            let mut index = 0;
            while index < count {
                let readable = |index: usize| {
                    let number = start / page() + index;
                    process.pages.get(&number).is_some_and(|page| page.rights.has(crate::kernel::names::READ))
                };
                let begin = index;
                while index < count && readable(index) {
                    index += 1;
                }
                if index > begin {
                    looks.push(Call::Load { at: at.plus(pages(begin)), len: pages(index - begin).get() });
                }
                index += 1;
            }
        }
        looks
    }

    fn descriptor_looks(&self, who: ActorId) -> Vec<Call> {
        let process = self.world.process(who);
        let mut names: Vec<(&u16, &usize)> = process.descriptors.iter().collect();
        names.sort_unstable();
        let mut seen = Vec::new();
        let mut looks = Vec::new();
        for (name, index) in names {
            let fd = Fd::Named(*name);
            let file = &self.world.open_files[*index];
            match file.object {
                Object::File(inode) => {
                    looks.push(Call::Lseek { fd, offset: 0, whence: libc::SEEK_CUR });
                    if file.reads && !seen.contains(&inode) {
                        seen.push(inode);
                        let size = self.world.inodes[inode].size;
                        looks.push(Call::Pread { fd, len: size + 1, offset: Size::ZERO });
                    }
                }
                Object::Pipe(_) => {
                    looks.push(Call::Fionread { fd });
                    looks.push(Call::Fcntl { fd, command: libc::F_GETPIPE_SZ, argument: 0 });
                }
            }
        }
        looks
    }
}

/// The rule behind an expectation is part of what a reader needs.
fn by_rule(stop: Stop, rule: Rule) -> Stop {
    match stop {
        Stop::Violation(mut departure) => {
            departure.expected = format!("{} (rule: {}; {})", departure.expected, rule.text(), rule.cite());
            Stop::Violation(departure)
        }
        other => other,
    }
}

//! What a correct kernel would answer: address spaces, files, open files, pipes and processes, as small as they can be said.
//!
//! A [`World`] is asked to [`predict`](World::predict) the outcome of a call, and told with [`apply`](World::apply) what it was.
//! Where the rules leave something open (placement, the tail of a file's last page, untouched pages of a private mapping
//! after the file has changed) the prediction is a set, and the world goes on with what was seen.

mod descriptors;
mod fifos;
mod files;
mod mappings;
mod memory;
mod pipes;
mod processes;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub use descriptors::{NEVER_OPEN, descriptor};
pub use fifos::Opening;
pub use files::Inode;
pub use memory::{Page, Source};
pub use pipes::PipeState;
pub use processes::Process;
pub use rules::Rule;

use crate::kernel::call::{ActorId, Call, MapId, Path};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::expect::Expect;

/// What is expected of a call, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The outcomes that are allowed.
    pub expect: Expect,
    /// The rule that says so.
    pub rule: Rule,
}

/// An open file description (open(2)).
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// What it is of.
    pub object: Object,
    /// Whether it may be read.
    pub reads: bool,
    /// Whether it may be written.
    pub writes: bool,
    /// The offset, in bytes.
    pub offset: usize,
    /// O_APPEND.
    pub append: bool,
    /// O_NONBLOCK.
    pub nonblocking: bool,
    /// How many descriptors of living processes refer to it.
    pub references: usize,
}

/// What an open file description is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A file: its index.
    File(usize),
    /// A pipe or FIFO: its index.
    Pipe(usize),
}

/// A whole system, as far as a sequence of calls can see it.
#[derive(Clone, Debug)]
pub struct World {
    /// By [`ActorId`].
    pub processes: Vec<Process>,
    /// Every file that was ever made, with or without a name.
    pub inodes: Vec<Inode>,
    /// The names in the directory: of files, and of FIFOs.
    pub names: BTreeMap<Path, Object>,
    /// Every open file description that was ever made.
    pub open_files: Vec<OpenFile>,
    /// Every pipe that was ever made.
    pub pipes: Vec<PipeState>,
    /// The rule that is wrong on purpose, if one is.
    pub wrong: Option<Rule>,
    /// The latest number of a [`Page::piece`].
    pieces: u64,
}

impl World {
    /// One process, the worker, which has so many pages of arena at this address and nothing else.
    pub fn new(arena: usize, pages: usize) -> World {
        let first = arena / page();
        let reserved = (first..first + pages).map(|number| (number, Page::of(Source::Zero))).collect();
        World {
            processes: vec![Process::first(reserved)],
            inodes: Vec::new(),
            names: BTreeMap::new(),
            open_files: Vec::new(),
            pipes: Vec::new(),
            wrong: None,
            pieces: 0,
        }
    }

    /// A prediction by a rule; the opposite of it if that rule is planted as wrong.
    fn by(&self, rule: Rule, expect: Expect) -> Prediction {
        let expect = if self.wrong == Some(rule) { opposite(expect) } else { expect };
        Prediction { expect, rule }
    }

    fn refused(&self, rule: Rule, errno: i32) -> Prediction {
        self.by(rule, Expect::Refused(errno))
    }

    /// Whether an effect takes place: not if its rule is planted as wrong.
    fn in_force(&self, rule: Rule) -> bool {
        self.wrong != Some(rule)
    }

    /// What a correct kernel answers; `None` for a call that the model does not speak of.
    pub fn predict(&self, who: ActorId, call: &Call) -> Option<Prediction> {
        use Call::*;
        match call {
            Mmap { .. } | Munmap { .. } | Mprotect { .. } | Mremap { .. } | Msync { .. } | Madvise { .. } => {
                self.predict_mapping(who, call)
            }
            Load { .. } | Store { .. } | CompareExchange { .. } => self.predict_access(who, call),
            Open { .. } | Unlink { .. } | Rename { .. } | Mkfifo { .. } => self.predict_names(call),
            Close { .. }
            | Dup { .. }
            | Dup2 { .. }
            | Lseek { .. }
            | Read { .. }
            | Write { .. }
            | Pread { .. }
            | Pwrite { .. }
            | Ftruncate { .. }
            | Fstat { .. }
            | Fcntl { .. }
            | Poll { .. }
            | Fionread { .. } => self.predict_descriptors(who, call),
            Pipe { .. } => Some(self.by(Rule::Pipe, Expect::Success)),
            Fork { .. } | Exit { .. } | Wait { .. } => self.predict_processes(who, call),
            _ => None,
        }
    }

    /// Goes on to the state after a call with an outcome that was allowed.
    pub fn apply(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
        use Call::*;
        match call {
            Mmap { .. } | Munmap { .. } | Mprotect { .. } | Mremap { .. } | Madvise { .. } => {
                self.apply_mapping(who, call, outcome);
            }
            Load { .. } | Store { .. } | CompareExchange { .. } => self.apply_access(who, call, outcome),
            Open { .. } | Unlink { .. } | Rename { .. } | Mkfifo { .. } => self.apply_names(who, call, outcome),
            Close { .. }
            | Dup { .. }
            | Dup2 { .. }
            | Lseek { .. }
            | Read { .. }
            | Write { .. }
            | Pread { .. }
            | Pwrite { .. }
            | Ftruncate { .. }
            | Fcntl { .. } => self.apply_descriptors(who, call, outcome),
            Pipe { read, write, flags } if outcome.is_success() => self.make_pipe(who, *read, *write, *flags),
            Fork { .. } | Exit { .. } | Wait { .. } => self.apply_processes(who, call),
            _ => {}
        }
        if let Outcome::Died(_) = outcome {
            self.end(who, outcome.clone());
        }
    }

    /// The process of an actor.
    pub fn process(&self, who: ActorId) -> &Process {
        &self.processes[usize::from(who.0)]
    }

    fn process_mut(&mut self, who: ActorId) -> &mut Process {
        &mut self.processes[usize::from(who.0)]
    }
}

/// What a planted error makes of an expectation: something that no correct kernel does.
fn opposite(expect: Expect) -> Expect {
    match expect {
        Expect::Success | Expect::Value(0) => Expect::Refused(libc::EINVAL),
        Expect::Value(value) => Expect::Value(value + 1),
        Expect::Bytes(list) if list.is_empty() => Expect::Bytes(vec![0]),
        Expect::Bytes(list) => Expect::Bytes(list.iter().map(|byte| !byte).collect()),
        Expect::Contents { bytes, .. } if bytes.is_empty() => Expect::Bytes(vec![0]),
        Expect::Contents { bytes, .. } => Expect::Bytes(bytes.iter().map(|byte| byte ^ 0x01).collect()),
        Expect::Fault { .. } | Expect::Refused(_) | Expect::Died(_) | Expect::Blocked => Expect::Value(u64::MAX),
        Expect::Exited(status) => Expect::Exited(status + 1),
        Expect::AnyOf(_) | Expect::Relation(_) | Expect::Number(_) | Expect::Merged { .. } | Expect::Share { .. } => {
            Expect::Value(u64::MAX)
        }
    }
}

/// Tables of a process, by the names of a case.
type Descriptors = HashMap<u16, usize>;
/// Where the mappings of a process began.
type Mappings = HashMap<MapId, usize>;
/// The contents of one page.
pub type Contents = Rc<Vec<u8>>;

//! Scripts over one file, the descriptors of several processes for it, and the open file descriptions behind them.

use std::fmt;

use proptest::prelude::*;

use super::{any_size, content_seed};
use crate::kernel::call::{ActorId, Call, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// What one process does; processes are numbered in the order of their making, the worker is 0.
#[derive(Clone, PartialEq, Eq)]
pub enum FileAct {
    /// fork(2): the child has the descriptors of its parent.
    Fork(usize, usize),
    /// A program of its own is started, which has no descriptor.
    Start(usize),
    /// open(2), O_RDWR.
    Open(usize, Fd),
    /// dup(2).
    Dup(usize, Fd, Fd),
    /// dup2(2), or dup3(2) with O_CLOEXEC, onto a descriptor that is open.
    Onto(usize, Fd, Fd, bool),
    /// read(2).
    Read(usize, Fd, usize),
    /// write(2).
    Write(usize, Fd, Data),
    /// lseek(2).
    Seek(usize, Fd, i64, i32),
    /// fcntl(2), F_SETFL.
    Flags(usize, Fd, i32),
    /// close(2).
    Close(usize, Fd),
    /// _exit(2).
    Exit(usize),
}

impl fmt::Debug for FileAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, call) = match *self {
            FileAct::Fork(parent, child) => {
                return write!(f, "{:?} forks {:?}", ActorId(parent as u16), ActorId(child as u16));
            }
            FileAct::Start(who) => return write!(f, "{:?} starts", ActorId(who as u16)),
            FileAct::Open(who, fd) => return write!(f, "{:?}: {fd:?} = open", ActorId(who as u16)),
            FileAct::Dup(who, of, fd) => return write!(f, "{:?}: {fd:?} = dup({of:?})", ActorId(who as u16)),
            FileAct::Onto(who, of, onto, cloexec) => (who, Call::Dup2 { of, onto, cloexec }),
            FileAct::Read(who, fd, len) => return write!(f, "{:?}: read({fd:?}, {})", ActorId(who as u16), Size(len)),
            FileAct::Write(who, fd, ref data) => {
                return write!(f, "{:?}: write({fd:?}, {data:?})", ActorId(who as u16));
            }
            FileAct::Seek(who, fd, offset, whence) => (who, Call::Lseek { fd, offset, whence }),
            FileAct::Flags(who, fd, flags) => (who, Call::Fcntl { fd, command: libc::F_SETFL, argument: flags as u64 }),
            FileAct::Close(who, fd) => (who, Call::Close { fd }),
            FileAct::Exit(who) => return write!(f, "{:?} ends", ActorId(who as u16)),
        };
        write!(f, "{:?}: {call}", ActorId(who as u16))
    }
}

/// A file and what is done to it; the worker has it open as fd1 at first.
#[derive(Clone, PartialEq, Eq)]
pub struct FileScript {
    /// The file's size at first, in bytes.
    pub size: Size,
    /// Its contents at first: which pattern.
    pub contents: u32,
    /// What is done.
    pub acts: Vec<FileAct>,
}

impl fmt::Debug for FileScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.size, self.acts)
    }
}

/// How processes come by descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From their parent, and by duplication.
    Inherited,
    /// As before, and by opening the file anew.
    InheritedOrOpened,
    /// They are programs of their own and open the file.
    Opened,
}

#[derive(Clone, Debug)]
enum Wish {
    More,
    Open,
    Dup,
    Onto(usize, bool),
    Read(usize),
    Write(Data),
    Seek(i64, i32),
    Flags(i32),
    Close,
    Exit,
}

/// The largest number of processes in a script, the worker included.
const PROCESSES: usize = 4;

/// Scripts over files of up to five pages.
pub fn any_file_script(origin: Origin) -> BoxedStrategy<FileScript> {
    let far = any_size(0, 5).prop_map(|size| size.get() as i64);
    let near = prop_oneof![Just(0_i64), -9..9_i64, Just(-(pages(64).get() as i64))];
    let whence = prop_oneof![
        3 => far.prop_map(|at| (at, libc::SEEK_SET)),
        2 => near.clone().prop_map(|by| (by, libc::SEEK_CUR)),
        2 => near.prop_map(|by| (by, libc::SEEK_END)),
    ];
    let written = (any_size(1, 2), 0..1000_u32).prop_map(|(len, seed)| Data::pattern(seed * 2 + 1, len));
    let short = (1..20_usize, 0..1000_u32).prop_map(|(len, seed)| Data::pattern(seed * 2 + 1, len));
    let flags = prop::sample::select(vec![0, libc::O_APPEND, libc::O_NONBLOCK, libc::O_APPEND | libc::O_NONBLOCK]);
    let wish = prop::strategy::Union::new_weighted(vec![
        (2, Just(Wish::More).boxed()),
        (2, Just(if origin == Origin::Inherited { Wish::Dup } else { Wish::Open }).boxed()),
        (2, Just(Wish::Dup).boxed()),
        (1, (0..9_usize, any::<bool>()).prop_map(|(onto, cloexec)| Wish::Onto(onto, cloexec)).boxed()),
        (5, any_size(1, 2).prop_map(|len| Wish::Read(len.get())).boxed()),
        (3, written.prop_map(Wish::Write).boxed()),
        (2, short.prop_map(Wish::Write).boxed()),
        (4, whence.prop_map(|(at, whence)| Wish::Seek(at, whence)).boxed()),
        (2, flags.prop_map(Wish::Flags).boxed()),
        (1, Just(Wish::Close).boxed()),
        (1, Just(Wish::Exit).boxed()),
    ]);
    let wishes = prop::collection::vec((wish, 0..64_usize), 2..12);
    (any_size(0, 4), content_seed(), wishes)
        .prop_map(move |(size, contents, wishes)| FileScript { size, contents, acts: Cast::new(origin).tell(wishes) })
        .boxed()
}

/// Scripts that are told whatever is drawn: flags that one process sets and another meets, and two descriptors of
/// a process that it came by in the same way.
pub fn plain_file_scripts(origin: Origin) -> [FileScript; 2] {
    use FileAct::{Dup, Flags, Fork, Open, Read, Seek, Start, Write};
    let [first, second, third] = [1, 2, 3].map(Fd::Named);
    let (comes, fd, again, another) = match origin {
        Origin::Inherited => (vec![Fork(0, 1)], first, Dup(1, first, second), second),
        Origin::InheritedOrOpened => (vec![Fork(0, 1), Open(1, second)], second, Open(1, third), third),
        Origin::Opened => (vec![Start(1), Open(1, second)], second, Open(1, third), third),
    };
    let text = |seed: u32| Data::pattern(seed * 2 + 1, 9);
    let flags = vec![
        Flags(1, fd, libc::O_APPEND),
        Write(1, fd, text(1)),
        Seek(1, fd, 3, libc::SEEK_SET),
        Write(0, first, text(2)),
        Flags(1, fd, 0),
        Seek(1, fd, 1, libc::SEEK_SET),
        Write(1, fd, text(3)),
        Read(0, first, 20),
    ];
    let offsets = vec![
        Seek(1, fd, 0, libc::SEEK_SET),
        again,
        Read(1, fd, 5),
        Read(1, another, 7),
        Seek(0, first, -4, libc::SEEK_CUR),
        Read(1, fd, 3),
        Read(0, first, 2),
    ];
    [flags, offsets].map(|acts| FileScript { size: pages(1), contents: 2, acts: [comes.clone(), acts].concat() })
}

/// Who is there by now, and which descriptors each has.
struct Cast {
    origin: Origin,
    open: Vec<Option<Vec<Fd>>>,
    named: u16,
}

impl Cast {
    fn new(origin: Origin) -> Cast {
        Cast { origin, open: vec![Some(vec![Fd::Named(1)])], named: 1 }
    }

    /// Gives every wish to a process and a descriptor that it has by then; the worker does not end.
    fn tell(mut self, wishes: Vec<(Wish, usize)>) -> Vec<FileAct> {
        let first = [(Wish::Seek(3, libc::SEEK_SET), 0), (Wish::More, 0)];
        first.into_iter().chain(wishes).flat_map(|(wish, choice)| self.act(wish, choice)).collect()
    }

    fn act(&mut self, wish: Wish, choice: usize) -> Vec<FileAct> {
        let has = |open: &Option<Vec<Fd>>| open.as_ref().is_some_and(|list| !list.is_empty());
        let able: Vec<usize> = (0..self.open.len()).filter(|who| has(&self.open[*who])).collect();
        let Some(&who) = able.get(choice % able.len().max(1)) else { return Vec::new() };
        let mine = self.open[who].clone().unwrap_or_default();
        let fd = mine[choice / 8 % mine.len()];
        match wish {
            Wish::More => return self.more(who),
            Wish::Open => {
                let new = self.name(who);
                return vec![FileAct::Open(who, new)];
            }
            Wish::Dup => {
                let new = self.name(who);
                return vec![FileAct::Dup(who, fd, new)];
            }
            _ => {}
        }
        vec![match wish {
            Wish::Onto(onto, _) if mine[onto % mine.len()] == fd => return Vec::new(),
            Wish::Onto(onto, cloexec) => FileAct::Onto(who, fd, mine[onto % mine.len()], cloexec),
            Wish::Read(len) => FileAct::Read(who, fd, len),
            Wish::Write(data) => FileAct::Write(who, fd, data),
            Wish::Seek(at, whence) => FileAct::Seek(who, fd, at, whence),
            Wish::Flags(flags) => FileAct::Flags(who, fd, flags),
            Wish::Close => {
                self.open[who] = Some(mine.into_iter().filter(|open| *open != fd).collect());
                FileAct::Close(who, fd)
            }
            _ if who == 0 => return Vec::new(),
            _ => {
                self.open[who] = None;
                FileAct::Exit(who)
            }
        }]
    }

    fn more(&mut self, parent: usize) -> Vec<FileAct> {
        let new = self.open.len();
        if new == PROCESSES {
            return Vec::new();
        }
        if self.origin == Origin::Opened {
            self.open.push(Some(Vec::new()));
            let fd = self.name(new);
            return vec![FileAct::Start(new), FileAct::Open(new, fd)];
        }
        self.open.push(self.open[parent].clone());
        vec![FileAct::Fork(parent, new)]
    }

    fn name(&mut self, who: usize) -> Fd {
        self.named += 1;
        let fd = Fd::Named(self.named);
        self.open[who].get_or_insert_default().push(fd);
        fd
    }
}

/// An open file description as POSIX has it: an offset and status flags.
#[derive(Clone, Copy, Default)]
struct Description {
    offset: usize,
    flags: i32,
}

struct Process<'l> {
    actor: Actor<'l>,
    /// Its descriptors, and the index of the description behind each.
    open: Vec<(Fd, usize)>,
}

struct Stage<'l> {
    lab: &'l Lab,
    path: Path,
    file: Vec<u8>,
    descriptions: Vec<Description>,
    processes: Vec<Process<'l>>,
}

impl FileScript {
    /// Plays it; after each act every descriptor of every process is at the offset of the description behind it, and has its flags at the end.
    ///
    /// # Errors
    /// A violation where a call answers otherwise than it should.
    pub fn play(&self, lab: &Lab) -> Verdict {
        let contents = Data::pattern(self.contents, self.size);
        let (path, fd) = lab.new_file(&contents)?;
        let worker = Process { actor: lab.worker(), open: vec![(fd, 0)] };
        let start = Description { offset: self.size.get(), flags: 0 };
        let mut stage =
            Stage { lab, path, file: contents.to_vec(), descriptions: vec![start], processes: vec![worker] };
        for act in &self.acts {
            stage.perform(act)?;
            stage.offsets_are_right()?;
        }
        stage.flags_are_right()?;
        stage.contents_are_right()
    }
}

impl<'l> Stage<'l> {
    fn behind(&mut self, who: usize, fd: Fd) -> (Actor<'l>, &mut Description) {
        let process = &self.processes[who];
        let index = process.open.iter().find(|(open, _)| *open == fd).map_or(0, |(_, index)| *index);
        (process.actor, &mut self.descriptions[index])
    }

    fn index(&self, who: usize, fd: Fd) -> usize {
        self.processes[who].open.iter().find(|(open, _)| *open == fd).map_or(0, |(_, index)| *index)
    }

    fn perform(&mut self, act: &FileAct) -> Verdict {
        let (lab, size) = (self.lab, self.file.len());
        match *act {
            FileAct::Fork(parent, _) => {
                let Process { actor, ref open } = self.processes[parent];
                let open = open.clone();
                self.processes.push(Process { actor: lab.fork_from(actor.id(), true)?, open });
            }
            FileAct::Start(_) => self.processes.push(Process { actor: lab.peer()?, open: Vec::new() }),
            FileAct::Open(who, fd) => {
                let (path, flags) = (self.path, libc::O_RDWR as u32);
                self.processes[who].actor.call(Call::Open { path, flags, mode: 0, fd }).prepared()?;
                self.descriptions.push(Description::default());
                self.processes[who].open.push((fd, self.descriptions.len() - 1));
            }
            FileAct::Dup(who, of, fd) => {
                let index = self.index(who, of);
                self.processes[who].actor.call(Call::Dup { of, fd }).prepared()?;
                self.processes[who].open.push((fd, index));
            }
            FileAct::Onto(who, of, onto, cloexec) => {
                let index = self.index(who, of);
                let process = &mut self.processes[who];
                process.actor.dup_onto(of, onto, cloexec)?;
                process.open.iter_mut().filter(|(fd, _)| *fd == onto).for_each(|open| open.1 = index);
            }
            FileAct::Read(who, fd, len) => {
                let (actor, description) = self.behind(who, fd);
                let from = description.offset.min(size);
                let to = (from + len).min(size);
                description.offset += to - from;
                actor.read(fd, len).must_equal(&self.file[from..to])?;
            }
            FileAct::Write(who, fd, ref data) => {
                let (actor, description) = self.behind(who, fd);
                let from = if description.flags & libc::O_APPEND != 0 { size } else { description.offset };
                let to = from + data.len();
                description.offset = to;
                actor.write(fd, data).must_return(data.len() as u64)?;
                self.file.resize(size.max(to), 0);
                data.fill(&mut self.file[from..to]);
            }
            FileAct::Seek(who, fd, by, whence) => {
                let (actor, description) = self.behind(who, fd);
                let base = match whence {
                    libc::SEEK_SET => 0,
                    libc::SEEK_CUR => description.offset,
                    _ => size,
                };
                match base.checked_add_signed(by as isize) {
                    Some(offset) => {
                        description.offset = offset;
                        actor.lseek(fd, by, whence).must_return(offset as u64)?;
                    }
                    None => actor.lseek(fd, by, whence).must_fail(libc::EINVAL)?,
                }
            }
            FileAct::Flags(who, fd, flags) => {
                let (actor, description) = self.behind(who, fd);
                description.flags = flags;
                actor.fcntl(fd, libc::F_SETFL, flags as u64).prepared()?;
            }
            FileAct::Close(who, fd) => {
                let process = &mut self.processes[who];
                process.open.retain(|(open, _)| *open != fd);
                process.actor.close(fd).prepared()?;
            }
            FileAct::Exit(who) => {
                let process = &mut self.processes[who];
                process.open.clear();
                process.actor.call(Call::Exit { status: 0 }).must_exit(0)?;
            }
        }
        Ok(())
    }

    fn every(&self, check: impl Fn(Actor<'l>, Fd, Description) -> Verdict) -> Verdict {
        let mut all = self.processes.iter().flat_map(|process| process.open.iter().map(move |open| (process, open)));
        all.try_for_each(|(process, (fd, index))| check(process.actor, *fd, self.descriptions[*index]))
    }

    fn offsets_are_right(&self) -> Verdict {
        self.every(|actor, fd, description| {
            let offset = actor.lseek(fd, 0, libc::SEEK_CUR).value()?;
            let expected = description.offset as u64;
            match offset == expected {
                true => Ok(()),
                false => self.lab.must(false, &format!("an offset of {}", Size(description.offset)), || {
                    Size(offset as usize).to_string()
                }),
            }
        })
    }

    fn flags_are_right(&self) -> Verdict {
        const STATUS: u64 = (libc::O_APPEND | libc::O_NONBLOCK) as u64;
        self.every(|actor, fd, description| {
            let flags = actor.fcntl(fd, libc::F_GETFL, 0).value()? & STATUS;
            let words = "as many open file descriptions, each with an offset and status flags of its own";
            self.lab.must(flags == description.flags as u64, words, || format!("status flags {flags:#o} behind {fd:?}"))
        })
    }

    fn contents_are_right(&self) -> Verdict {
        self.every(|actor, fd, _| actor.pread(fd, self.file.len() + 1, 0).must_equal(&self.file))
    }
}

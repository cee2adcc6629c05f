//! From drawn numbers to calls: biased so that a call hits what earlier ones made.

use std::collections::HashMap;
use std::fmt;

use crate::kernel::call::{ActorId, At, Below, Call, Fd, MapId, MmapArgs, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED, FIXED_NOREPLACE, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::verbs::{NO_FD, request};
use crate::model::{NEVER_OPEN, Object, PipeState, World};

/// How many pages of the arena sequences use.
pub const ARENA: usize = 24;
/// How many names of files and FIFOs there are at most.
const PATHS: usize = 4;
/// How many pages a file grows to at most.
const FILE_PAGES: usize = 6;

/// One call in the raw: who and what, as numbers that mean something only in the world they meet.
///
/// Smaller numbers mean simpler calls, so that shrinking them does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Op {
    who: u8,
    kind: u8,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
}

impl From<(u8, u8, u16, u16, u16, u16)> for Op {
    fn from((who, kind, a, b, c, d): (u8, u8, u16, u16, u16, u16)) -> Op {
        Op { who, kind, a: a.into(), b: b.into(), c: c.into(), d: d.into() }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.who, self.kind)
    }
}

/// What the driver remembers of names beyond what the model needs.
#[derive(Debug, Default)]
pub struct Known {
    /// The length of each mapping, in pages.
    pub extents: HashMap<MapId, usize>,
    /// Names that were given to files, whether they still have one or not.
    pub paths: Vec<Path>,
    /// How many processes there may be.
    pub processes: usize,
    /// A number for each store, so that no two store the same bytes.
    pub ink: u32,
}

/// The kinds of calls, and how often each is drawn, out of 256.
const KINDS: [(Kind, usize); 27] = [
    (Kind::Open, 14),
    (Kind::Store, 26),
    (Kind::Load, 20),
    (Kind::Mmap, 31),
    (Kind::Write, 14),
    (Kind::Read, 14),
    (Kind::Pwrite, 8),
    (Kind::Pread, 6),
    (Kind::Ftruncate, 12),
    (Kind::Munmap, 10),
    (Kind::Mprotect, 12),
    (Kind::Fork, 6),
    (Kind::Lseek, 5),
    (Kind::Close, 8),
    (Kind::Dup, 5),
    (Kind::Dup2, 3),
    (Kind::Pipe, 9),
    (Kind::Msync, 6),
    (Kind::DontNeed, 5),
    (Kind::Mremap, 6),
    (Kind::CompareExchange, 6),
    (Kind::Unlink, 4),
    (Kind::Rename, 5),
    (Kind::Mkfifo, 3),
    (Kind::Status, 10),
    (Kind::Poll, 5),
    (Kind::Exit, 3),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Open,
    Store,
    Load,
    Mmap,
    Write,
    Read,
    Pwrite,
    Pread,
    Ftruncate,
    Munmap,
    Mprotect,
    Fork,
    Lseek,
    Close,
    Dup,
    Dup2,
    Pipe,
    Msync,
    DontNeed,
    Mremap,
    CompareExchange,
    Unlink,
    Rename,
    Mkfifo,
    Status,
    Poll,
    Exit,
}

impl Op {
    fn kind(self) -> Kind {
        let mut left = usize::from(self.kind);
        for (kind, weight) in KINDS {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Kind::Load
    }

    /// Who does what in this world; `None` where there is nothing to do it to.
    pub fn choose(self, lab: &Lab, world: &World, known: &mut Known) -> Option<(ActorId, Call)> {
        let ready: Vec<ActorId> = (0..world.processes.len() as u16)
            .map(ActorId)
            .filter(|who| world.process(*who).alive && world.process(*who).blocked.is_none())
            .collect();
        let who = ready[usize::from(self.who) % ready.len()];
        let chooser = Chooser { world, who, op: self };
        let call = self.call(lab, world, known, chooser).or_else(|| chooser.beginning(lab, known))?;
        Some((who, call))
    }

    fn call(self, lab: &Lab, world: &World, known: &mut Known, chooser: Chooser<'_>) -> Option<Call> {
        let Op { a, b, c, d, .. } = self;
        Some(match self.kind() {
            Kind::Open => chooser.open(lab, known)?,
            Kind::Fork if world.processes.len() < known.processes => {
                Call::Fork { actor: ActorId(world.processes.len() as u16), survives: true }
            }
            Kind::Fork => return None,
            Kind::Mmap => Call::Mmap { args: chooser.mmap()?, map: lab.new_map() },
            Kind::Store => {
                let (at, len) = chooser.place(known)?;
                known.ink += 1;
                Call::Store { at, data: Data::pattern(known.ink * 2 + 1, len) }
            }
            Kind::Load => {
                let (at, len) = chooser.place(known)?;
                Call::Load { at, len }
            }
            Kind::CompareExchange => {
                let (at, _) = chooser.place(known)?;
                let at = match at {
                    At::Map(map, distance) => At::Map(map, distance & !3),
                    At::Arena(distance) => At::Arena(distance & !3),
                    other => other,
                };
                Call::CompareExchange { at, old: if d.is_multiple_of(2) { 0 } else { d as u32 }, new: 0x0101_0101 }
            }
            Kind::Write => {
                known.ink += 1;
                let fd = chooser.descriptor()?;
                Call::Write { fd, data: Data::pattern(known.ink * 2, chooser.amount(fd)) }
            }
            Kind::Read => Call::Read { fd: chooser.descriptor()?, len: chooser.count().max(1) },
            Kind::Pwrite => {
                known.ink += 1;
                let data = Data::pattern(known.ink * 2, chooser.count());
                Call::Pwrite { fd: chooser.file()?, data, offset: chooser.position() }
            }
            Kind::Pread => Call::Pread { fd: chooser.file()?, len: chooser.count(), offset: chooser.position() },
            Kind::Ftruncate => Call::Ftruncate { fd: chooser.file()?, len: chooser.position() },
            Kind::Munmap => {
                let (at, len) = chooser.range(known)?;
                Call::Munmap { at, len: if d % 32 == 31 { Size::ZERO } else { len } }
            }
            Kind::Mprotect => {
                let (at, len) = chooser.range(known)?;
                Call::Mprotect { at, len, prot: [READ, READ_WRITE, NONE][d % 3] }
            }
            Kind::Msync => {
                let (at, len) = chooser.range(known)?;
                let flags =
                    [libc::MS_ASYNC, libc::MS_ASYNC | libc::MS_INVALIDATE, libc::MS_SYNC | libc::MS_ASYNC][d % 3];
                Call::Msync { at, len, flags: flags as u32 }
            }
            Kind::DontNeed => {
                let (at, len) = chooser.range(known)?;
                Call::Madvise { at, len, advice: libc::MADV_DONTNEED as u32 }
            }
            Kind::Mremap => chooser.mremap(lab, known)?,
            Kind::Lseek => {
                let whence = [libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END][a % 3];
                let sign = if c.is_multiple_of(4) { -1 } else { 1 };
                Call::Lseek { fd: chooser.file()?, offset: sign * chooser.position().get() as i64, whence }
            }
            Kind::Close => Call::Close { fd: if a % 16 == 15 { NEVER_OPEN } else { chooser.descriptor()? } },
            Kind::Dup => Call::Dup { of: chooser.any_descriptor()?, fd: lab.new_fd() },
            Kind::Dup2 => {
                let onto = Chooser { op: Op { b: d, ..self }, ..chooser }.descriptor()?;
                Call::Dup2 { of: chooser.any_descriptor()?, onto, cloexec: false }
            }
            Kind::Pipe => {
                let flags = [libc::O_NONBLOCK, 0][a % 2] as u32;
                Call::Pipe { read: lab.new_fd(), write: lab.new_fd(), flags }
            }
            Kind::Mkfifo if known.paths.is_empty() || known.paths.len() < PATHS && a % 4 != 3 => {
                Call::Mkfifo { path: lab.new_path(), mode: 0o600, below: Below::Nothing }
            }
            Kind::Mkfifo => {
                Call::Mkfifo { path: *known.paths.get(a % known.paths.len())?, mode: 0o600, below: Below::Nothing }
            }
            Kind::Unlink => Call::Unlink { path: *known.paths.get(a % known.paths.len().max(1))? },
            Kind::Rename => {
                let from = *known.paths.get(a % known.paths.len().max(1))?;
                let to = known.paths[b % known.paths.len()];
                if from == to {
                    return None;
                }
                Call::Rename { from, to }
            }
            Kind::Status => chooser.status()?,
            Kind::Poll => {
                let fd = chooser.pipe()?;
                match a % 2 {
                    0 => Call::Poll { fd, events: libc::POLLIN | libc::POLLOUT },
                    _ => Call::Fionread { fd },
                }
            }
            Kind::Exit if chooser.who != ActorId(0) && chooser.parent_listens() => {
                Call::Exit { status: (a % 100) as i32 }
            }
            Kind::Exit => return None,
        })
    }
}

#[derive(Clone, Copy)]
struct Chooser<'w> {
    world: &'w World,
    who: ActorId,
    op: Op,
}

impl Chooser<'_> {
    /// Whether somebody can be asked how this process ended.
    fn parent_listens(self) -> bool {
        match self.world.process(self.who).parent {
            Some(parent) => self.world.process(parent).blocked.is_none(),
            None => true,
        }
    }

    /// Where a call found nothing to act on: a file, for those that follow.
    fn beginning(self, lab: &Lab, known: &Known) -> Option<Call> {
        let flags = libc::O_RDWR | libc::O_CREAT | [0, libc::O_APPEND][self.op.c % 2];
        let wanted = known.paths.len() < PATHS && !matches!(self.op.kind(), Kind::Fork | Kind::Exit);
        wanted.then(|| Call::Open { path: lab.new_path(), flags: flags as u32, mode: 0o600, fd: lab.new_fd() })
    }

    fn open(self, lab: &Lab, known: &Known) -> Option<Call> {
        let Op { a, b, c, d, .. } = self.op;
        let (read, append) = (libc::O_RDWR, libc::O_RDWR | libc::O_APPEND);
        let flags = [read, read, libc::O_RDONLY, libc::O_WRONLY, append][a % 5]
            | [0, 0, libc::O_TRUNC, libc::O_NONBLOCK][b % 4];
        let new = known.paths.is_empty() || known.paths.len() < PATHS && a.is_multiple_of(5) && d.is_multiple_of(2);
        let path = if new { lab.new_path() } else { *known.paths.get(c % known.paths.len())? };
        let flags = match new {
            false if b % 8 == 7 => flags | libc::O_CREAT | libc::O_EXCL,
            false => flags,
            true => flags | libc::O_CREAT,
        };
        Some(Call::Open { path, flags: flags as u32, mode: 0o600, fd: lab.new_fd() })
    }

    /// Half of the time of a pipe, if there is one: they are emptied and filled, and lose their ends, by many calls on one.
    fn descriptor(self) -> Option<Fd> {
        let pipe = if (self.op.a / 4).is_multiple_of(2) { self.pipe() } else { None };
        pipe.or_else(|| self.pick(|_| true))
    }

    fn pipe(self) -> Option<Fd> {
        self.pick(|object| matches!(object, Object::Pipe(_)))
    }

    /// One in so many is of nothing.
    fn any_descriptor(self) -> Option<Fd> {
        if self.op.b % 32 == 31 { Some(NEVER_OPEN) } else { self.descriptor() }
    }

    /// A descriptor for a call that files answer: of a pipe only now and then.
    fn file(self) -> Option<Fd> {
        match self.op.b % 32 {
            30 => self.descriptor(),
            31 => Some(NEVER_OPEN),
            _ => self.pick(|object| matches!(object, Object::File(_))),
        }
    }

    fn pick(self, wanted: impl Fn(Object) -> bool) -> Option<Fd> {
        let open = self.world.process(self.who).descriptors.iter();
        let open = open.filter(|(_, index)| wanted(self.world.open_files[**index].object));
        let mut names: Vec<u16> = open.map(|(name, _)| *name).collect();
        names.sort_unstable_by(|one, two| two.cmp(one));
        names.get(self.op.b % names.len().max(1)).map(|name| Fd::Named(*name))
    }

    fn pipe_of(&self, fd: Fd) -> Option<&PipeState> {
        match self.world.open_file(self.who, fd)?.object {
            Object::Pipe(pipe) => self.world.pipes.get(pipe),
            Object::File(_) => None,
        }
    }

    /// How many bytes to write: now and then all that a pipe still takes.
    fn amount(self, fd: Fd) -> usize {
        let left = self.pipe_of(fd).map_or(0, |pipe| (pipe.capacity * page()).saturating_sub(pipe.len()));
        if self.op.d.is_multiple_of(4) && left > 0 { left } else { self.count() }
    }

    fn status(self) -> Option<Call> {
        let Op { a, c, d, .. } = self.op;
        let fd = self.any_descriptor()?;
        let is_pipe = self.pipe_of(fd).is_some();
        if is_pipe && d % 2 == 1 {
            let size = page() * (1 + c % 8) - d % 3;
            return Some(Call::Fcntl { fd, command: libc::F_SETPIPE_SZ, argument: size as u64 });
        }
        if c % 3 == 2 {
            return Some(Call::Fcntl { fd, command: libc::F_GETFL, argument: 0 });
        }
        let flags = [0, libc::O_NONBLOCK, libc::O_APPEND, libc::O_NONBLOCK | libc::O_APPEND][a % 4];
        let flags = if is_pipe { flags & !libc::O_APPEND } else { flags };
        Some(Call::Fcntl { fd, command: libc::F_SETFL, argument: flags as u64 })
    }

    fn count(self) -> usize {
        let near = [1, 8, 17, page(), page() - 1, page() + 1, page() / 2, 2 * page() + 5];
        near[self.op.c % near.len()]
    }

    fn position(self) -> Size {
        let count = self.op.d % (FILE_PAGES + 1);
        let near = [0, 1, page() - 1, page() / 2, 17][(self.op.d / 8) % 5];
        Size((pages(count).get() + near).min(pages(FILE_PAGES).get()))
    }

    fn mapping(self, known: &Known) -> Option<(MapId, usize)> {
        let mut mappings: Vec<MapId> = self.world.process(self.who).mappings.keys().copied().collect();
        mappings.sort_unstable_by(|one, two| two.cmp(one));
        let map = *mappings.get(self.op.a % mappings.len().max(1))?;
        Some((map, *known.extents.get(&map)?))
    }

    /// Where to load or store, inside of a mapping or of the arena, and how many bytes.
    fn place(self, known: &Known) -> Option<(At, usize)> {
        let Op { b, c, d, .. } = self.op;
        let len = [1, 2, 8, 17, page() - 1, page(), page() + 1, 3 * page()][c % 8];
        let (extent, at): (usize, &dyn Fn(usize) -> At) = if b % 16 == 15 {
            (pages(ARENA).get(), &At::Arena)
        } else {
            let (map, count) = self.mapping(known)?;
            (pages(count).get(), &move |distance| At::Map(map, distance as isize))
        };
        let start = pages(d % 8).get() + [0, 1, page() - 1, page() / 2, page() - 8][(d / 8) % 5];
        let start = start % extent;
        Some((at(start), len.min(extent - start)))
    }

    /// Whole pages of a mapping or of the arena.
    fn range(self, known: &Known) -> Option<(At, Size)> {
        let Op { b, c, d, .. } = self.op;
        if b % 8 == 7 {
            let from = c % ARENA;
            return Some((At::Arena(pages(from).get()), pages((1 + d % 4).min(ARENA - from))));
        }
        let (map, count) = self.mapping(known)?;
        let from = c % count;
        let len = (1 + d % 4).min(count - from);
        let odd = if b % 16 == 6 { 1 } else { 0 };
        Some((At::Map(map, (pages(from).get() + odd) as isize), Size(pages(len).get() - odd)))
    }

    fn mmap(self) -> Option<MmapArgs> {
        let Op { a, b, c, d, .. } = self.op;
        let prot: Prot = [READ_WRITE, READ_WRITE, READ, NONE][(b / 4) % 4];
        let sharing = [SHARED, PRIVATE][c % 2];
        let len = pages(1 + (d / 4) % 4) - [0, 1, page() - 1][(d / 16) % 3];
        let of_file = !a.is_multiple_of(3);
        let fd = if of_file { self.file()? } else { NO_FD };
        let backing = if of_file { sharing } else { sharing | crate::kernel::names::ANONYMOUS };
        let offset = if of_file { pages((c / 2) % 4) } else { Size::ZERO };
        let args = request(len, prot, backing, fd).offset(offset);
        let place = At::Arena(pages((d / 64) % (ARENA - 4)).get());
        Some(match (a / 3) % 8 {
            0..4 => args.fixed(place),
            4 => args.hint(place),
            5 => args.hint(self.hole(args.len.in_pages()).unwrap_or(place)).and(FIXED_NOREPLACE),
            6 if d % 32 == 31 => args.length(0),
            6 if d % 32 == 30 && of_file => args.offset(offset + 1_usize),
            6 if d % 32 == 29 => args.fd(NEVER_OPEN),
            _ => args,
        })
        .filter(|args| !args.flags.has(FIXED) || matches!(args.at, At::Arena(_)))
    }

    /// Where in the arena nothing is mapped, for every other such request.
    fn hole(self, count: usize) -> Option<At> {
        let process = self.world.process(self.who);
        let start = process.arena / page();
        let free = |from: &usize| (*from..from + count).all(|index| !process.pages.contains_key(&(start + index)));
        let from = (0..=ARENA - count).find(free).filter(|_| self.op.c % 4 != 3)?;
        Some(At::Arena(pages(from).get()))
    }

    fn mremap(self, lab: &Lab, known: &Known) -> Option<Call> {
        let (map, count) = self.mapping(known)?;
        let at = At::Map(map, 0);
        let address = self.world.address(self.who, at)?;
        if !self.world.is_uniform(self.who, address, count) {
            return None;
        }
        let Op { c, d, .. } = self.op;
        let new = pages(1 + d % 6);
        let fixed = At::Arena(pages((d / 8) % (ARENA - 6)).get());
        let (flags, to) = match c % 8 {
            0..3 => (libc::MREMAP_MAYMOVE, At::Null),
            3..5 => (0, At::Null),
            5 if d % 8 == 7 => (libc::MREMAP_FIXED, fixed),
            _ => (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, fixed),
        };
        Some(Call::Mremap { at, old: pages(count), new, flags: flags as u32, to, map: lab.new_map() })
    }
}

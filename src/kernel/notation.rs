//! How a call reads in a trace: strace's notation, with names in the place of addresses and numbers.

use std::fmt;

use super::call::{ActorId, At, Below, Call, Confinement, Disposition, Fd, Library, MapId, MmapArgs, Path, Width};
use super::names::{self, Bits};
use super::page::{Size, signed};

impl Width {
    /// The number of bytes.
    pub fn bytes(self) -> usize {
        match self {
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
            Width::Eight => 8,
        }
    }
}

/// The flags of open(2) in C's notation.
pub fn open_flags(flags: u32) -> String {
    let access = match flags as i32 & libc::O_ACCMODE {
        libc::O_RDONLY => "O_RDONLY",
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "3",
    };
    let large = if flags & names::LARGEFILE == 0 { "" } else { "|O_LARGEFILE" };
    match flags & !(libc::O_ACCMODE as u32 | names::LARGEFILE) {
        0 => format!("{access}{large}"),
        rest => format!("{access}|{}{large}", Bits(names::OPEN_FLAGS, rest, "")),
    }
}

fn whence(whence: i32) -> &'static str {
    match whence {
        libc::SEEK_SET => "SEEK_SET",
        libc::SEEK_CUR => "SEEK_CUR",
        libc::SEEK_END => "SEEK_END",
        _ => "?",
    }
}

fn fcntl(fd: Fd, command: i32, argument: u64) -> String {
    let flags = open_flags(argument as u32);
    match command {
        libc::F_GETFL => format!("fcntl({fd:?}, F_GETFL)"),
        libc::F_SETFL => format!("fcntl({fd:?}, F_SETFL, {flags})"),
        libc::F_GETFD => format!("fcntl({fd:?}, F_GETFD)"),
        libc::F_SETFD => format!("fcntl({fd:?}, F_SETFD, {argument})"),
        libc::F_GETPIPE_SZ => format!("fcntl({fd:?}, F_GETPIPE_SZ)"),
        libc::F_SETPIPE_SZ => format!("fcntl({fd:?}, F_SETPIPE_SZ, {})", Size(argument as usize)),
        libc::F_ADD_SEALS => format!("fcntl({fd:?}, F_ADD_SEALS, {argument:#x})"),
        _ => format!("fcntl({fd:?}, {command}, {argument})"),
    }
}

fn advice(advice: u32) -> String {
    match advice as i32 {
        libc::MADV_NORMAL => "MADV_NORMAL".into(),
        libc::MADV_DONTNEED => "MADV_DONTNEED".into(),
        libc::MADV_WILLNEED => "MADV_WILLNEED".into(),
        libc::MADV_DONTFORK => "MADV_DONTFORK".into(),
        libc::MADV_DOFORK => "MADV_DOFORK".into(),
        libc::MADV_NOHUGEPAGE => "MADV_NOHUGEPAGE".into(),
        libc::MADV_HUGEPAGE => "MADV_HUGEPAGE".into(),
        other => other.to_string(),
    }
}

fn resource(resource: u32) -> &'static str {
    match resource {
        r if r == libc::RLIMIT_NOFILE => "RLIMIT_NOFILE",
        r if r == libc::RLIMIT_MEMLOCK => "RLIMIT_MEMLOCK",
        r if r == libc::RLIMIT_AS => "RLIMIT_AS",
        r if r == libc::RLIMIT_FSIZE => "RLIMIT_FSIZE",
        r if r == libc::RLIMIT_DATA => "RLIMIT_DATA",
        _ => "RLIMIT_?",
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Open { path, flags, mode, .. } if flags & libc::O_CREAT as u32 != 0 => {
                write!(f, "open(\"{path}\", {}, 0{mode:03o})", open_flags(*flags))
            }
            Call::Open { path, flags, .. } => write!(f, "open(\"{path}\", {})", open_flags(*flags)),
            Call::OpenPath { path, flags, .. } => write!(f, "open(\"{path}\", {})", open_flags(*flags)),
            Call::Memfd { .. } => write!(f, "memfd_create(\"m\", MFD_CLOEXEC)"),
            Call::Close { fd } => write!(f, "close({fd:?})"),
            Call::Dup { of, .. } => write!(f, "dup({of:?})"),
            Call::Dup2 { of, onto, cloexec: false } => write!(f, "dup2({of:?}, {onto:?})"),
            Call::Dup2 { of, onto, cloexec: true } => write!(f, "dup3({of:?}, {onto:?}, O_CLOEXEC)"),
            Call::Lseek { fd, offset, whence: from } => {
                let sign = if *offset < 0 { "-" } else { "" };
                write!(f, "lseek({fd:?}, {sign}{}, {})", Size(offset.unsigned_abs() as usize), whence(*from))
            }
            Call::Read { fd, len } => write!(f, "read({fd:?}, buf, {})", Size(*len)),
            Call::ReadAll { fd, reads } => {
                write!(f, "read({fd:?}, buf, ")?;
                for size in reads.sizes.iter().take(3) {
                    write!(f, "{}, ", Size(*size))?;
                }
                write!(f, "...) to the end")
            }
            Call::Write { fd, data } => write!(f, "write({fd:?}, {data:?}, {})", Size(data.len())),
            Call::Pread { fd, len, offset } => write!(f, "pread({fd:?}, buf, {}, {offset})", Size(*len)),
            Call::Pwrite { fd, data, offset } => write!(f, "pwrite({fd:?}, {data:?}, {}, {offset})", Size(data.len())),
            Call::Ftruncate { fd, len } => write!(f, "ftruncate({fd:?}, {len})"),
            Call::Truncate { path, len } => write!(f, "truncate(\"{path}\", {len})"),
            Call::Fsync { fd } => write!(f, "fsync({fd:?})"),
            Call::Fstat { fd } => write!(f, "fstat({fd:?})"),
            Call::Stat { path } => write!(f, "stat(\"{path}\")"),
            Call::Access { path } => write!(f, "access(\"{path}\", F_OK)"),
            Call::Unlink { path } => write!(f, "unlink(\"{path}\")"),
            Call::Rename { from, to } => write!(f, "rename(\"{from}\", \"{to}\")"),
            Call::Link { from, to } => write!(f, "link(\"{from}\", \"{to}\")"),
            Call::Symlink { target, path } => write!(f, "symlink(\"{target}\", \"{path}\")"),
            Call::Mkdir { path, mode } => write!(f, "mkdir(\"{path}\", 0{mode:03o})"),
            Call::Entries => write!(f, "readdir(\".\")"),
            Call::Rmdir { path } => write!(f, "rmdir(\"{path}\")"),
            Call::Mkfifo { path, mode, below } => {
                let suffix = if *below == Below::LongName { "/x[NAME_MAX+1]".into() } else { below.suffix() };
                write!(f, "mkfifo(\"{path}{suffix}\", 0{mode:03o})")
            }
            Call::Umask { mask } => write!(f, "umask(0{mask:03o})"),
            Call::Fcntl { fd, command, argument } => write!(f, "{}", fcntl(*fd, *command, *argument)),
            Call::Fionread { fd } => write!(f, "ioctl({fd:?}, FIONREAD)"),
            Call::Cachestat { fd, offset, len } => {
                write!(f, "cachestat({fd:?}, {{{offset}, {len}}}) nr_dirty+nr_writeback")
            }
            Call::Mmap { args, .. } => write!(f, "{args:?}"),
            Call::Munmap { at, len } => write!(f, "munmap({at:?}, {len})"),
            Call::Mprotect { at, len, prot } => write!(f, "mprotect({at:?}, {len}, {prot:?})"),
            Call::Mremap { at, old, new, flags, to, .. } => {
                write!(f, "mremap({at:?}, {old}, {new}, {flags:#x}, {to:?})")
            }
            Call::Msync { at, len, flags } => {
                write!(f, "msync({at:?}, {len}, {})", Bits(names::MSYNC_FLAGS, *flags, "0"))
            }
            Call::Madvise { at, len, advice: a } => write!(f, "madvise({at:?}, {len}, {})", advice(*a)),
            Call::Mincore { at, len } => write!(f, "mincore({at:?}, {len})"),
            Call::Mlock { at, len } => write!(f, "mlock({at:?}, {len})"),
            Call::Munlock { at, len } => write!(f, "munlock({at:?}, {len})"),
            Call::Load { at, len } => write!(f, "load({at:?}, {})", Size(*len)),
            Call::Store { at, data } => write!(f, "store({at:?}, {data:?})"),
            Call::LoadWord { at, width } => write!(f, "load_u{}({at:?})", width.bytes() * 8),
            Call::StoreWord { at, width, value } => write!(f, "store_u{}({at:?}, {value:#x})", width.bytes() * 8),
            Call::Execute { at } => write!(f, "call({at:?})"),
            Call::StoreReturn { at } => write!(f, "store({at:?}, return instruction)"),
            Call::CompareExchange { at, old, new } => write!(f, "compare_exchange({at:?}, {old}, {new})"),
            Call::FetchAdd { at, add, times: 1 } => write!(f, "fetch_add({at:?}, {add})"),
            Call::FetchAdd { at, add, times } => write!(f, "{times} x fetch_add({at:?}, {add})"),
            Call::LockedAdd { lock, at, add, times } => {
                write!(f, "{times} x {{ lock({lock:?}); {at:?} += {add}; unlock }}")
            }
            Call::PipeAt { at, .. } => write!(f, "pipe({at:?})"),
            Call::Pipe { flags: 0, .. } => write!(f, "pipe()"),
            Call::Pipe { flags, .. } => write!(f, "pipe2({})", Bits(names::OPEN_FLAGS, *flags, "0")),
            Call::Poll { fd, events } => write!(f, "poll({fd:?}, {events:#x}, 0)"),
            Call::Socketpair { .. } => write!(f, "socketpair(AF_UNIX, SOCK_STREAM)"),
            Call::SendFd { over, fd } => write!(f, "sendmsg({over:?}, SCM_RIGHTS {fd:?})"),
            Call::ReceiveFd { over, .. } => write!(f, "recvmsg({over:?}, SCM_RIGHTS)"),
            Call::Adopt { of, .. } => write!(f, "recvmsg(SCM_RIGHTS {of:?})"),
            Call::Special { kind, .. } => write!(f, "{}", format!("{kind:?}()").to_lowercase()),
            Call::Fork { .. } => write!(f, "fork()"),
            Call::Peer { .. } => write!(f, "fork(), execve(\"peer\")"),
            Call::Exit { status } => write!(f, "_exit({status})"),
            Call::Kill { actor, signal } => write!(f, "kill({actor:?}, {})", names::signal(*signal)),
            Call::Wait { actor } => write!(f, "waitpid({actor:?})"),
            Call::Signal { signal, disposition } => {
                let signal = names::signal(*signal);
                match disposition {
                    Disposition::Default => write!(f, "signal({signal}, SIG_DFL)"),
                    Disposition::Ignore => write!(f, "signal({signal}, SIG_IGN)"),
                    Disposition::Handle => write!(f, "signal({signal}, handler)"),
                    Disposition::Block => write!(f, "sigprocmask(SIG_BLOCK, {signal})"),
                }
            }
            Call::SignalCount => write!(f, "signals handled"),
            Call::Limit { resource: r, soft } => write!(f, "setrlimit({}, {})", resource(*r), Size(*soft as usize)),
            Call::DropPrivileges => write!(f, "setresuid(nobody)"),
            Call::PageFaults => write!(f, "getrusage() page faults"),
            Call::Touch { at, len, store: false } => write!(f, "page faults of loads({at:?}, {len})"),
            Call::Touch { at, len, store: true } => write!(f, "page faults of stores({at:?}, {len})"),
            Call::Smaps { at, key } => write!(f, "smaps({at:?}, {key})"),
            Call::Confine(Confinement::ChannelOnly) => {
                write!(f, "seccomp(only read, write, exit and the allocator's calls)")
            }
            Call::Status { key } => write!(f, "/proc/self/status {key}"),
            Call::Tmpfs { options, noexec } => {
                let flags = if *noexec { "MS_NOEXEC" } else { "0" };
                write!(f, "unshare(CLONE_NEWNS), mount(\"tmpfs\", \".\", \"tmpfs\", {flags}, \"{options}\")")
            }
            Call::Confine(Confinement::NoMmap) => write!(f, "seccomp(no mmap)"),
            Call::Reply { at, len, rounds } => {
                write!(f, "seccomp(only exit), {rounds} x complement({at:?}, {})", Size(*len))
            }
            Call::Await { at, value } => write!(f, "load_u32({at:?}) until {value}"),
            Call::ReadOther { actor, at, len } => write!(f, "process_vm_readv({actor:?}, {at:?}, {})", Size(*len)),
            Call::Exec { tool, .. } => write!(f, "execve({tool:?})"),
            Call::ExecSelf => write!(f, "execve(\"actor\")"),
            Call::Library(Library::Mmap { args, .. }) => write!(f, "libc: {args:?}"),
            Call::Library(Library::Malloc { len }) => write!(f, "free(malloc({len}))"),
            Call::Library(Library::PipeBuf { fd }) => write!(f, "fpathconf({fd:?}, _PC_PIPE_BUF)"),
            Call::Library(Library::PageSize) => write!(f, "sysconf(_SC_PAGESIZE)"),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a successful call made, as its result reads in a trace: `fd1`, `m2`, or both ends of a pipe.
pub fn made(call: &Call) -> Option<String> {
    match call {
        Call::Open { fd, .. }
        | Call::OpenPath { fd, .. }
        | Call::Memfd { fd }
        | Call::Dup { fd, .. }
        | Call::ReceiveFd { fd, .. }
        | Call::Adopt { fd, .. }
        | Call::Special { fd, .. } => Some(format!("{fd:?}")),
        Call::Dup2 { onto, .. } => Some(format!("{onto:?}")),
        Call::Pipe { read, write, .. } | Call::PipeAt { read, write, .. } => Some(format!("[{read:?}, {write:?}]")),
        Call::Socketpair { one, two } => Some(format!("[{one:?}, {two:?}]")),
        Call::Mmap { map, .. } | Call::Mremap { map, .. } | Call::Library(Library::Mmap { map, .. }) => {
            Some(format!("{map:?}"))
        }
        Call::Fork { actor, .. } | Call::Peer { actor } => Some(format!("{actor:?}")),
        _ => None,
    }
}

/// The actor that an actor's own line of a trace begins with; nothing for the worker.
pub fn prefix(actor: ActorId) -> String {
    match actor.0 {
        0 => String::new(),
        _ => format!("{actor:?}: "),
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fd::Named(n) => write!(f, "fd{n}"),
            Fd::Number(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Debug for MapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "worker"),
            n => write!(f, "p{n}"),
        }
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            At::Null => write!(f, "NULL"),
            At::Map(map, at) => {
                write!(f, "{map:?}")?;
                signed(at, f)
            }
            At::Arena(at) => {
                write!(f, "arena")?;
                signed(at as isize, f)
            }
            At::Number(at) => write!(f, "{}", Size(at)),
            At::Variable(segment, at) => {
                write!(f, "{}", format!("{segment:?}").to_lowercase())?;
                signed(at as isize, f)
            }
        }
    }
}

impl fmt::Debug for MmapArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MmapArgs { at, len, prot, flags, fd, offset } = self;
        write!(f, "mmap({at:?}, {len}, {prot:?}, {flags:?}, {fd:?}, {offset})")
    }
}

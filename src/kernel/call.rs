//! Calls as data: what a process is told to do, in names instead of addresses and numbers.
//!
//! A call names files, descriptors, mappings and actors by the order in which a case made them, so that the same
//! call can be performed by any process, printed, replayed, or written as C.

use serde::{Deserialize, Serialize};

use super::data::Data;
use super::names::{Flags, Prot};
use super::page::Size;

/// A file of the case, by the order of its making: `f1`, in the current directory of every actor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path(pub u16);

/// A descriptor of the case, or a number that is meant literally.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fd {
    /// The descriptor that the case made as the n-th; it keeps its name when it has been closed.
    Named(u16),
    /// This very number, such as -1.
    Number(i32),
}

/// A mapping of the case, by the order of its making.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MapId(pub u16);

/// A process that performs calls; 0 is the worker itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActorId(pub u16);

/// An address, in terms that hold in any process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum At {
    /// NULL.
    Null,
    /// So many bytes from where a mapping began, before it or after it.
    Map(MapId, isize),
    /// So many bytes into the address range that the worker keeps for placement.
    Arena(usize),
    /// This very number.
    Number(usize),
    /// So many bytes into variables of the program itself, the same in every process that was forked and not started.
    Variable(Segment, usize),
}

/// What a path has as its last component, behind a name of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Below {
    /// Nothing: the name itself.
    Nothing,
    /// A short name.
    Name,
    /// One byte more than NAME_MAX allows (limits.h).
    LongName,
}

impl Below {
    /// What is appended to the name.
    pub fn suffix(self) -> String {
        match self {
            Below::Nothing => String::new(),
            Below::Name => "/x".into(),
            Below::LongName => format!("/{}", "x".repeat(libc::NAME_MAX as usize + 1)),
        }
    }
}

/// Where variables of the program lie that live as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Segment {
    /// Initialised ones: the program file, mapped privately.
    Data,
    /// Those that begin as zeros: memory without a file.
    Bss,
}

impl At {
    /// So many bytes further on.
    pub fn plus(self, distance: impl Into<Size>) -> At {
        let distance = distance.into().get();
        match self {
            At::Null => At::Number(distance),
            At::Map(map, at) => At::Map(map, at.wrapping_add(distance as isize)),
            At::Arena(at) => At::Arena(at.wrapping_add(distance)),
            At::Number(at) => At::Number(at.wrapping_add(distance)),
            At::Variable(segment, at) => At::Variable(segment, at.wrapping_add(distance)),
        }
    }

    /// So many bytes before.
    pub fn minus(self, distance: impl Into<Size>) -> At {
        self.plus(Size(distance.into().get().wrapping_neg()))
    }
}

/// The six arguments of mmap(2).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MmapArgs {
    /// addr.
    pub at: At,
    /// length, in bytes.
    pub len: Size,
    /// prot.
    pub prot: Prot,
    /// flags.
    pub flags: Flags,
    /// fd.
    pub fd: Fd,
    /// offset, in bytes.
    pub offset: Size,
}

/// How a stream is read until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// The lengths asked for, one after the other and then from the first again, in bytes.
    pub sizes: Vec<usize>,
    /// How many reads there are of these.
    pub often: usize,
    /// The length asked for from there on, in bytes.
    pub then: usize,
    /// A read that gives no multiple of this is the last, in bytes.
    pub unit: usize,
    /// When so many bytes have come, or more, there is no further read.
    pub most: usize,
}

/// What an actor does with a signal (sigaction(2), sigprocmask(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposition {
    /// SIG_DFL, and not blocked.
    Default,
    /// SIG_IGN.
    Ignore,
    /// A handler that counts.
    Handle,
    /// SIG_DFL and blocked.
    Block,
}

/// The widths of one access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Width {
    /// One byte.
    One,
    /// Two bytes.
    Two,
    /// Four bytes.
    Four,
    /// Eight bytes.
    Eight,
}

/// One system call or access to memory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the arguments of the manual page that each variant names")]
pub enum Call {
    /// open(2).
    Open { path: Path, flags: u32, mode: u32, fd: Fd },
    /// memfd_create(2).
    Memfd { fd: Fd },
    /// open(2) of something that every machine has, such as /dev/zero, or of another absolute path.
    OpenPath { path: String, flags: u32, fd: Fd },
    /// close(2).
    Close { fd: Fd },
    /// dup(2).
    Dup { of: Fd, fd: Fd },
    /// dup2(2), or dup3(2) with O_CLOEXEC: `onto` names the same open file as `of` afterwards.
    Dup2 { of: Fd, onto: Fd, cloexec: bool },
    /// lseek(2).
    Lseek { fd: Fd, offset: i64, whence: i32 },
    /// read(2).
    Read { fd: Fd, len: usize },
    /// read(2) again and again, to the end of what there is to read; all bytes together.
    ReadAll { fd: Fd, reads: Reads },
    /// write(2).
    Write { fd: Fd, data: Data },
    /// pread(2).
    Pread { fd: Fd, len: usize, offset: Size },
    /// pwrite(2).
    Pwrite { fd: Fd, data: Data, offset: Size },
    /// ftruncate(2).
    Ftruncate { fd: Fd, len: Size },
    /// truncate(2).
    Truncate { path: Path, len: Size },
    /// fsync(2).
    Fsync { fd: Fd },
    /// fstat(2).
    Fstat { fd: Fd },
    /// stat(2); lstat makes no difference here, since a case makes no symbolic links.
    Stat { path: Path },
    /// access(2) with F_OK.
    Access { path: Path },
    /// unlink(2).
    Unlink { path: Path },
    /// rename(2).
    Rename { from: Path, to: Path },
    /// link(2).
    Link { from: Path, to: Path },
    /// symlink(2), with a name in the same directory for its contents.
    Symlink { target: Path, path: Path },
    /// mkdir(2).
    Mkdir { path: Path, mode: u32 },
    /// readdir(3): how many entries the current directory has.
    Entries,
    /// rmdir(2).
    Rmdir { path: Path },
    /// mkfifo(3), that is mknod(2) with S_IFIFO, of the path or below it.
    Mkfifo { path: Path, mode: u32, below: Below },
    /// umask(2).
    Umask { mask: u32 },
    /// fcntl(2) with a command whose argument is a number.
    Fcntl { fd: Fd, command: i32, argument: u64 },
    /// ioctl_pipe(2), FIONREAD.
    Fionread { fd: Fd },
    /// cachestat(2): pages of the file that are cached and dirty, or being written back.
    Cachestat { fd: Fd, offset: Size, len: Size },

    /// mmap(2).
    Mmap { args: MmapArgs, map: MapId },
    /// munmap(2).
    Munmap { at: At, len: Size },
    /// mprotect(2).
    Mprotect { at: At, len: Size, prot: Prot },
    /// mremap(2).
    Mremap { at: At, old: Size, new: Size, flags: u32, to: At, map: MapId },
    /// msync(2).
    Msync { at: At, len: Size, flags: u32 },
    /// madvise(2).
    Madvise { at: At, len: Size, advice: u32 },
    /// mincore(2): a byte for each page, 1 where it is resident.
    Mincore { at: At, len: Size },
    /// mlock(2).
    Mlock { at: At, len: Size },
    /// munlock(2).
    Munlock { at: At, len: Size },
    /// Loads bytes, each once.
    Load { at: At, len: usize },
    /// Stores bytes, each once.
    Store { at: At, data: Data },
    /// One load of this width.
    LoadWord { at: At, width: Width },
    /// One store of this width.
    StoreWord { at: At, width: Width, value: u64 },
    /// Calls the code at an address; what is there should be a return instruction.
    Execute { at: At },
    /// Puts the return instruction of this machine there, for a later [`Call::Execute`].
    StoreReturn { at: At },
    /// An atomic compare and exchange of four bytes.
    CompareExchange { at: At, old: u32, new: u32 },
    /// An atomic addition to four bytes, `times` over.
    FetchAdd { at: At, add: u32, times: u32 },
    /// A plain load, addition and store of four bytes, `times` over, each while it holds a lock that is four bytes of memory too.
    LockedAdd { lock: At, at: At, add: u32, times: u32 },

    /// pipe(2), or pipe2(2) with flags.
    Pipe { read: Fd, write: Fd, flags: u32 },
    /// pipe(2) with an array at this address, which may be a bad one.
    PipeAt { at: At, read: Fd, write: Fd },
    /// poll(2) of one descriptor, without waiting.
    Poll { fd: Fd, events: i16 },
    /// socketpair(2), AF_UNIX.
    Socketpair { one: Fd, two: Fd },
    /// unix(7), SCM_RIGHTS: hands a descriptor over a socket.
    SendFd { over: Fd, fd: Fd },
    /// unix(7), SCM_RIGHTS: takes a descriptor from a socket.
    ReceiveFd { over: Fd, fd: Fd },
    /// unix(7), SCM_RIGHTS: takes a descriptor of the worker's over the actor's own channel.
    Adopt { of: Fd, fd: Fd },
    /// eventfd(2), epoll_create(2), socket(2): descriptors of other kinds.
    Special { kind: Special, fd: Fd },

    /// fork(2); `survives`: the child is meant to outlive its parent.
    Fork { actor: ActorId, survives: bool },
    /// fork(2) and execve(2): a program of its own, which has nothing of the worker's.
    Peer { actor: ActorId },
    /// _exit(2).
    Exit { status: i32 },
    /// kill(2).
    Kill { actor: ActorId, signal: i32 },
    /// waitpid(2) for one child.
    Wait { actor: ActorId },
    /// sigaction(2) and sigprocmask(2) for one signal.
    Signal { signal: i32, disposition: Disposition },
    /// How often the handler of [`Disposition::Handle`] ran since it was asked for.
    SignalCount,
    /// setrlimit(2), soft limit.
    Limit { resource: u32, soft: u64 },
    /// setresuid(2) and setresgid(2) to an unprivileged user, giving up every capability.
    DropPrivileges,
    /// getrusage(2): page faults since the start, minor and major together.
    PageFaults,
    /// One byte of each page is loaded or stored; the value is how many page faults that took (getrusage(2)).
    Touch { at: At, len: Size, store: bool },
    /// The line of /proc/self/smaps (proc(5)) with this key, for the mapping that holds the address.
    Smaps { at: At, key: String },
    /// The line of /proc/self/status (proc(5)) with this key.
    Status { key: String },
    /// unshare(2) and mount(2): the current directory becomes a tmpfs of the process's own, which ends with it.
    Tmpfs { options: String, noexec: bool },
    /// seccomp(2): from here on only the calls that a topic names are allowed; see [`Confinement`].
    Confine(Confinement),
    /// The loads and stores of a program with no system call but exit_group (seccomp(2)): `rounds` times it waits until
    /// the four bytes at `at` say the next odd number, puts the complement of the `len` bytes behind them in their place,
    /// and says the next even number; then it exits with 0.
    Reply { at: At, len: usize, rounds: u32 },
    /// Loads four bytes until they say this, for some seconds at most: what they said in the end.
    Await { at: At, value: u32 },
    /// process_vm_readv(2) of another actor, at an address of that actor.
    ReadOther { actor: ActorId, at: At, len: usize },
    /// execve(2) of this program in the form of a small tool that a case needs.
    Exec { tool: Vec<String>, keep: Vec<(Fd, i32)> },
    /// execve(2) of this program, which goes on as the same actor: what it still has are descriptors, under their numbers.
    ExecSelf,
    /// A function of the C library, not of the kernel.
    Library(Library),
}

/// Functions of the C library that the documents speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Library {
    /// mmap(3p): what a C program calls; a result of MAP_FAILED is the errno, whatever it is.
    Mmap {
        /// Its arguments.
        args: MmapArgs,
        /// The mapping, should there be one.
        map: MapId,
    },
    /// malloc(3), a store to every byte, and free(3): 1 for a pointer, 0 for NULL with a size of 0.
    Malloc {
        /// The size, in bytes.
        len: Size,
    },
    /// fpathconf(3), _PC_PIPE_BUF.
    PipeBuf {
        /// The descriptor.
        fd: Fd,
    },
    /// sysconf(3), _SC_PAGESIZE.
    PageSize,
}

/// Descriptors that are no files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Special {
    /// eventfd(2).
    Eventfd,
    /// epoll_create1(2).
    Epoll,
    /// socket(2), AF_UNIX, SOCK_STREAM.
    Socket,
}

/// What an actor gives up (seccomp(2)); a call that is not allowed kills it with SIGSYS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// Everything but what its channel takes: read, write, memory of its own, and exit.
    ChannelOnly,
    /// Everything but mmap.
    NoMmap,
}

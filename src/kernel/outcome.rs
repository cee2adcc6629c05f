//! What became of a call.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::data::Excerpt;
use super::names;
use super::page::{Size, signed};

/// What a process saw of one call, or what its parent saw of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It succeeded with this value; 0 where it has none.
    Value(u64),
    /// mmap or mremap succeeded: the address.
    Mapped(usize),
    /// It failed with this errno.
    Refused(i32),
    /// Bytes that were read, loaded or peeked at; fewer than asked for where the call says so.
    Bytes(#[serde(with = "super::whole")] Vec<u8>),
    /// What stat says.
    Stat(Stat),
    /// An access to memory ended in a signal.
    Fault(Fault),
    /// The process was ended by this signal.
    Died(i32),
    /// The process ended with this exit status.
    Exited(i32),
    /// The call has not returned: the process sleeps in it.
    Blocked,
    /// The process neither answered nor ended nor sleeps, for as long as a case may take.
    Silent,
    /// The machine lacks what the call needs, and this is what.
    Lacking(Lack),
}

impl From<std::io::Error> for Outcome {
    fn from(error: std::io::Error) -> Outcome {
        Outcome::Refused(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A signal in the place of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// si_signo.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_addr, as a distance from the address that the call named, in bytes.
    pub at: isize,
    /// How many bytes had been loaded or stored before it.
    pub done: usize,
}

/// The fields of struct stat (stat(3type)) that a claim may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// st_mode: type and permissions.
    pub mode: u32,
    /// st_size, in bytes.
    pub size: i64,
    /// st_nlink.
    pub links: u64,
    /// st_ino.
    pub inode: u64,
    /// Whether st_dev is the number of a block device: its major number is not 0, which stands for none.
    pub on_device: bool,
}

/// What a machine may lack: the closed list of reasons for a skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// No more descriptors (RLIMIT_NOFILE, file-max).
    Descriptors,
    /// No more processes (RLIMIT_NPROC, pids cgroup).
    Processes,
    /// No memory or address space left within the limits.
    Memory,
    /// No space in the directory under test, or it takes no writes.
    Space,
    /// The directory under test has gone.
    Directory,
    /// No /proc.
    Proc,
    /// No /dev/zero.
    DevZero,
    /// No /dev/null.
    DevNull,
    /// No memfd_create.
    Memfd,
    /// No cachestat (Linux before 6.5).
    Cachestat,
    /// No AF_UNIX sockets or no descriptors over them.
    Sockets,
    /// No seccomp filters.
    Seccomp,
    /// No huge pages of the size asked for are free.
    HugePages,
    /// No file system with a device behind the directory under test.
    Device,
    /// No DAX in the directory under test.
    Dax,
    /// The directory under test takes no FIFOs.
    Fifos,
    /// The caller has not the privilege.
    Privilege,
    /// The caller has a privilege that hides what is asked.
    Unprivileged,
    /// The locked-memory limit (RLIMIT_MEMLOCK).
    LockedMemory,
    /// The pipe limits of the user (pipe-user-pages-soft, pipe-max-size).
    PipePages,
    /// The hardware or the ABI of this machine has no such thing.
    Machine,
    /// The release of the kernel has no such thing.
    Release,
    /// The file system under test has rules of its own here.
    FileSystem,
    /// The system refuses the call as a matter of policy (seccomp, security module, vm.overcommit_memory).
    Policy,
}

impl Lack {
    /// The reason, and what would provide what is missing.
    pub fn hint(self) -> (&'static str, &'static str) {
        match self {
            Lack::Descriptors => ("too few descriptors", "raise RLIMIT_NOFILE (ulimit -n)"),
            Lack::Processes => ("no further process could be made", "raise RLIMIT_NPROC or pids.max"),
            Lack::Memory => ("too little memory or address space", "raise RLIMIT_AS, RLIMIT_DATA or memory.max"),
            Lack::Space => ("the directory under test takes no data", "free space, or name another with --dir"),
            Lack::Directory => ("the directory under test has gone", "name one that stays with --dir"),
            Lack::Proc => ("no /proc", "mount -t proc proc /proc"),
            Lack::DevZero => ("no /dev/zero", "mknod /dev/zero c 1 5"),
            Lack::DevNull => ("no /dev/null", "mknod /dev/null c 1 3"),
            Lack::Memfd => ("no memfd_create", "allow the system call, or CONFIG_MEMFD_CREATE"),
            Lack::Cachestat => {
                ("no cachestat, so dirty pages cannot be counted", "Linux 6.5 or later, and allow the system call")
            }
            Lack::Sockets => ("no descriptors over AF_UNIX sockets", "CONFIG_UNIX, and allow the system calls"),
            Lack::Seccomp => ("no seccomp filters", "CONFIG_SECCOMP_FILTER"),
            Lack::HugePages => ("no free huge pages of that size", "reserve some: vm.nr_hugepages"),
            Lack::Device => ("no device behind the directory under test", "name a directory on a disk with --dir"),
            Lack::Dax => ("no DAX in the directory under test", "mount ext4 or xfs with -o dax on persistent memory"),
            Lack::Fifos => ("the directory under test takes no FIFOs", "name another with --dir"),
            Lack::Privilege => ("the caller is not privileged", "run as root, or with the capability"),
            Lack::Unprivileged => ("the caller is privileged and cannot give it up", "run as an ordinary user"),
            Lack::LockedMemory => ("the limit of locked memory", "raise RLIMIT_MEMLOCK (ulimit -l)"),
            Lack::PipePages => {
                ("the limits on pipe pages", "close pipes of this user, or raise fs.pipe-user-pages-soft")
            }
            Lack::Machine => ("this machine has no such thing", "another architecture"),
            Lack::Release => ("this release of the kernel has no such thing", "a later release"),
            Lack::FileSystem => {
                ("the file system under test has rules of its own", "name another directory with --dir")
            }
            Lack::Policy => {
                ("the system refuses the call as a policy", "allow it in seccomp, security module or sysctl")
            }
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, hint) = self.hint();
        write!(f, "{reason} (to run it: {hint})")
    }
}

impl Outcome {
    /// How many bytes a trace keeps of contents that are as they should be.
    pub const KEPT: usize = 64;

    /// Success without a value.
    pub const DONE: Outcome = Outcome::Value(0);

    /// The errno, if it is one.
    pub fn errno(&self) -> Option<i32> {
        match *self {
            Outcome::Refused(errno) => Some(errno),
            _ => None,
        }
    }

    /// Whether the call came back with success.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Value(_) | Outcome::Mapped(_) | Outcome::Bytes(_) | Outcome::Stat(_))
    }

    /// The same outcome with long contents cut: what a trace keeps.
    pub fn brief(&self) -> Outcome {
        match self {
            Outcome::Bytes(list) if list.len() > Outcome::KEPT => Outcome::Bytes(list[..Outcome::KEPT].to_vec()),
            other => other.clone(),
        }
    }
}

/// Addresses and numbers differ from run to run: what is shown of an outcome does not.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value(0) => write!(f, "0"),
            Outcome::Value(value) => write!(f, "{}", Size(*value as usize)),
            Outcome::Mapped(_) => write!(f, "an address"),
            Outcome::Refused(errno) => write!(f, "{}", names::errno(*errno)),
            Outcome::Bytes(list) => write!(f, "{}", Excerpt(list)),
            Outcome::Stat(stat) => write!(f, "{stat}"),
            Outcome::Fault(fault) => write!(f, "{fault}"),
            Outcome::Died(signal) => write!(f, "killed by {}", names::signal(*signal)),
            Outcome::Exited(status) => write!(f, "exited with {status}"),
            Outcome::Blocked => write!(f, "blocked"),
            Outcome::Silent => write!(f, "has not come back"),
            Outcome::Lacking(lack) => write!(f, "not possible here: {}", lack.hint().0),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { signal, code, at, .. } = *self;
        write!(f, "{} {} at +", names::signal(signal), names::code(signal, code))?;
        match at {
            0.. => write!(f, "{}", Size(at.unsigned_abs())),
            _ => signed(at, f),
        }
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.mode & libc::S_IFMT {
            libc::S_IFIFO => "S_IFIFO",
            libc::S_IFREG => "S_IFREG",
            libc::S_IFDIR => "S_IFDIR",
            libc::S_IFCHR => "S_IFCHR",
            libc::S_IFSOCK => "S_IFSOCK",
            _ => "?",
        };
        let mode = self.mode & !libc::S_IFMT;
        write!(f, "{{{kind}|0{mode:03o}, size {}, links {}}}", Size(self.size as usize), self.links)
    }
}

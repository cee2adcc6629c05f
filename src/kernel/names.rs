//! Numbers of the ABI, and the names that a person reads in their place.

use std::fmt;

/// Declares a table from numbers to names that stays in step with libc's constants.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident: $type:ty = $($constant:ident)*) => {
        $(#[$doc])*
        pub const $name: &[($type, &str)] = &[$((libc::$constant as $type, stringify!($constant))),*];
    };
}

table! {
    /// errno(3).
    ERRNOS: i32 = EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
    EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EOVERFLOW EOPNOTSUPP
    ENOTSOCK EMSGSIZE ENOBUFS ETIMEDOUT ECONNREFUSED EALREADY ESTALE EDQUOT ECONNRESET
}

table! {
    /// signal(7).
    SIGNALS: i32 = SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGSYS
}

table! {
    /// mmap(2), prot.
    PROTS: u32 = PROT_READ PROT_WRITE PROT_EXEC
}

table! {
    /// mmap(2), flags, less the sharing type, which is a number and not a set of bits.
    MAP_FLAGS: u32 = MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK
    MAP_STACK MAP_HUGETLB MAP_SYNC MAP_FIXED_NOREPLACE MAP_DENYWRITE MAP_EXECUTABLE
}

table! {
    /// msync(2), flags.
    MSYNC_FLAGS: u32 = MS_ASYNC MS_INVALIDATE MS_SYNC
}

table! {
    /// mremap(2), flags.
    MREMAP_FLAGS: u32 = MREMAP_MAYMOVE MREMAP_FIXED
}

table! {
    /// open(2), flags, less the access mode.
    OPEN_FLAGS: u32 = O_CREAT O_EXCL O_TRUNC O_APPEND O_NONBLOCK O_DIRECTORY O_CLOEXEC O_PATH
}

/// O_LARGEFILE as F_GETFL tells it (fcntl(2)): the kernel's bit, where libc's constant is 0 on 64-bit machines.
pub const LARGEFILE: u32 = if cfg!(target_arch = "aarch64") {
    0o400_000
} else if cfg!(any(target_arch = "powerpc64", target_arch = "powerpc")) {
    0o200_000
} else {
    0o100_000
};

/// The name of an errno, or its number.
pub fn errno(number: i32) -> String {
    named(ERRNOS, number).map_or_else(|| format!("errno {number}"), str::to_owned)
}

/// The name of a signal, or its number.
pub fn signal(number: i32) -> String {
    named(SIGNALS, number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

/// The name of a si_code of SIGSEGV or SIGBUS (sigaction(2)), or its number.
pub fn code(signal: i32, code: i32) -> String {
    let name = match (signal, code) {
        (libc::SIGSEGV, 1) => "SEGV_MAPERR",
        (libc::SIGSEGV, 2) => "SEGV_ACCERR",
        (libc::SIGSEGV, 3) => "SEGV_BNDERR",
        (libc::SIGSEGV, 4) => "SEGV_PKUERR",
        (libc::SIGBUS, 1) => "BUS_ADRALN",
        (libc::SIGBUS, 2) => "BUS_ADRERR",
        (libc::SIGBUS, 3) => "BUS_OBJERR",
        (_, 0) => "SI_USER",
        (_, 0x80) => "SI_KERNEL",
        _ => return format!("si_code {code}"),
    };
    name.to_owned()
}

fn named(table: &[(i32, &'static str)], number: i32) -> Option<&'static str> {
    table.iter().find(|row| row.0 == number).map(|row| row.1)
}

/// A set of flag bits in C's notation.
pub struct Bits<'a>(pub &'a [(u32, &'static str)], pub u32, pub &'a str);

impl fmt::Display for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bits(table, value, none) = *self;
        let mut left = value;
        let mut separator = "";
        for &(bits, name) in table {
            if bits != 0 && left & bits == bits {
                write!(f, "{separator}{name}")?;
                separator = "|";
                left &= !bits;
            }
        }
        match (left, separator) {
            (0, "") => write!(f, "{none}"),
            (0, _) => Ok(()),
            _ => write!(f, "{separator}{left:#x}"),
        }
    }
}

/// The access rights of a mapping: a bitwise OR of PROT_READ, PROT_WRITE and PROT_EXEC (mmap(2)).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Prot(pub u32);

/// No access (PROT_NONE).
pub const NONE: Prot = Prot(0);
/// PROT_READ.
pub const READ: Prot = Prot(libc::PROT_READ as u32);
/// PROT_WRITE.
pub const WRITE: Prot = Prot(libc::PROT_WRITE as u32);
/// PROT_EXEC.
pub const EXEC: Prot = Prot(libc::PROT_EXEC as u32);
/// PROT_READ|PROT_WRITE.
pub const READ_WRITE: Prot = Prot(READ.0 | WRITE.0);

impl Prot {
    /// Whether all rights of `other` are among these.
    pub fn has(self, other: Prot) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Prot {
    type Output = Prot;
    fn bitor(self, other: Prot) -> Prot {
        Prot(self.0 | other.0)
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bits(PROTS, self.0, "PROT_NONE"))
    }
}

/// The flags of mmap: one sharing type and any number of bits (mmap(2)).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Flags(pub u32);

/// MAP_SHARED.
pub const SHARED: Flags = Flags(libc::MAP_SHARED as u32);
/// MAP_PRIVATE.
pub const PRIVATE: Flags = Flags(libc::MAP_PRIVATE as u32);
/// MAP_SHARED_VALIDATE.
pub const SHARED_VALIDATE: Flags = Flags(libc::MAP_SHARED_VALIDATE as u32);
/// MAP_ANONYMOUS.
pub const ANONYMOUS: Flags = Flags(libc::MAP_ANONYMOUS as u32);
/// MAP_FIXED.
pub const FIXED: Flags = Flags(libc::MAP_FIXED as u32);
/// MAP_FIXED_NOREPLACE.
pub const FIXED_NOREPLACE: Flags = Flags(libc::MAP_FIXED_NOREPLACE as u32);
/// MAP_LOCKED.
pub const LOCKED: Flags = Flags(libc::MAP_LOCKED as u32);
/// MAP_DENYWRITE, which has long had no effect.
pub const DENYWRITE: Flags = Flags(libc::MAP_DENYWRITE as u32);
/// MAP_EXECUTABLE, which has long had no effect.
pub const EXECUTABLE: Flags = Flags(libc::MAP_EXECUTABLE as u32);
/// MAP_NORESERVE.
pub const NORESERVE: Flags = Flags(libc::MAP_NORESERVE as u32);
/// MAP_POPULATE.
pub const POPULATE: Flags = Flags(libc::MAP_POPULATE as u32);
/// MAP_NONBLOCK.
pub const NONBLOCK: Flags = Flags(libc::MAP_NONBLOCK as u32);
/// MAP_STACK.
pub const STACK: Flags = Flags(libc::MAP_STACK as u32);
/// MAP_SYNC.
pub const SYNC: Flags = Flags(libc::MAP_SYNC as u32);
/// MAP_HUGETLB.
pub const HUGETLB: Flags = Flags(libc::MAP_HUGETLB as u32);
/// MAP_UNINITIALIZED; with MAP_HUGETLB the bit is a part of the page size.
pub const UNINITIALIZED: Flags = Flags(1 << HUGE_SHIFT);
/// The bit that is MAP_32BIT on x86-64, MAP_NORESERVE on POWER and nothing elsewhere.
pub const LOW_2GIB: Flags = Flags(0x40);
/// MAP_DROPPABLE, a sharing type (Linux 6.11).
pub const DROPPABLE: Flags = Flags(8);

/// MAP_HUGE_SHIFT: where the base-2 logarithm of a huge page's size stands, in six bits.
const HUGE_SHIFT: u32 = 26;

impl Flags {
    /// The bits of the sharing type (MAP_TYPE).
    pub const TYPE: u32 = 0xf;

    /// Whether all bits of `other` are among these; for the sharing type use [`Flags::sharing`].
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The sharing type alone.
    pub fn sharing(self) -> Flags {
        Flags(self.0 & Flags::TYPE)
    }

    /// The same bits with another sharing type.
    pub fn with_sharing(self, sharing: Flags) -> Flags {
        Flags(self.0 & !Flags::TYPE | sharing.0)
    }

    /// MAP_HUGETLB with pages of 2 to the power of `log` bytes, such as MAP_HUGE_2MB for 21.
    pub const fn huge(log: u32) -> Flags {
        Flags(libc::MAP_HUGETLB as u32 | log << HUGE_SHIFT)
    }

    /// Whether stores reach what is mapped: MAP_SHARED or MAP_SHARED_VALIDATE.
    pub fn is_shared(self) -> bool {
        matches!(self.sharing(), SHARED | SHARED_VALIDATE)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sharing() {
            SHARED => write!(f, "MAP_SHARED")?,
            PRIVATE => write!(f, "MAP_PRIVATE")?,
            SHARED_VALIDATE => write!(f, "MAP_SHARED_VALIDATE")?,
            Flags(other) => write!(f, "{other:#x}")?,
        }
        let size = if self.has(HUGETLB) { self.0 >> HUGE_SHIFT } else { 0 };
        match self.0 & !Flags::TYPE & !(size << HUGE_SHIFT) {
            0 => Ok(()),
            rest if rest == UNINITIALIZED.0 => write!(f, "|MAP_UNINITIALIZED"),
            rest => write!(f, "|{}", Bits(MAP_FLAGS, rest, "")),
        }?;
        if size == 0 { Ok(()) } else { write!(f, "|{size}<<MAP_HUGE_SHIFT") }
    }
}

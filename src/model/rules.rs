//! The rules that the model predicts by, each with its source.

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $cite:literal;)*) => {
        /// A rule of the model. One can be planted as wrong, to see that it is noticed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the text of each rule is data: see Rule::text")]
        pub enum Rule { $($name),* }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$name),*];

            /// What it says.
            pub fn text(self) -> &'static str {
                match self { $(Rule::$name => $text),* }
            }

            /// Where it stands.
            pub fn cite(self) -> &'static str {
                match self { $(Rule::$name => $cite),* }
            }
        }
    };
}

rules! {
    MapGranted: "a mapping of a descriptor with the rights, or of anonymous memory, is granted", "mmap(2), RETURN VALUE";
    MapLengthZero: "a mapping of length 0 is refused", "mmap(2), ERRORS, EINVAL; POSIX mmap, ERRORS, [EINVAL]";
    MapOffset: "an offset that is no multiple of the page size is refused", "mmap(2), ERRORS, EINVAL";
    MapBadDescriptor: "a file mapping needs an open descriptor", "mmap(2), ERRORS, EBADF";
    MapWriteOnly: "a descriptor that is not open for reading cannot be mapped", "mmap(2), ERRORS, EACCES";
    MapSharedWrite: "a shared writable mapping needs a descriptor open for writing", "mmap(2), ERRORS, EACCES";
    MapPipe: "a pipe cannot be mapped", "mmap(2), ERRORS, ENODEV and EACCES";
    MapFixed: "MAP_FIXED maps at the address given and replaces what was there", "mmap(2), MAP_FIXED";
    MapNoReplace: "MAP_FIXED_NOREPLACE refuses a range in which something is mapped", "mmap(2), ERRORS, EEXIST";
    MapPlace: "without MAP_FIXED a mapping is placed on page boundaries where nothing else is", "mmap(2), addr";
    Unmap: "munmap takes away the pages of its range, and a hole in it is no error", "munmap(2); POSIX munmap, DESCRIPTION";
    UnmapUnaligned: "munmap refuses an address that is not page-aligned", "munmap(2), ERRORS, EINVAL";
    UnmapZero: "munmap refuses length 0", "munmap(2), ERRORS, EINVAL";
    Protect: "mprotect gives the pages of its range these rights", "mprotect(2)";
    ProtectHole: "mprotect over a hole is ENOMEM", "mprotect(2), ERRORS, ENOMEM";
    ProtectBefore: "mprotect that is refused at a page has changed the pages before it", "mprotect(2), ERRORS";
    ProtectAccess: "a shared mapping of a descriptor open for reading only cannot be made writable", "mprotect(2), ERRORS, EACCES";
    ProtectUnaligned: "mprotect refuses an address that is not page-aligned", "mprotect(2), ERRORS, EINVAL";
    Remap: "mremap keeps the contents, and new pages show what lies behind them", "mremap(2), DESCRIPTION";
    RemapInPlace: "without MREMAP_MAYMOVE a mapping stays where it is, and cannot grow over another", "mremap(2), MREMAP_MAYMOVE; ERRORS, ENOMEM";
    RemapFixed: "MREMAP_FIXED moves a mapping to the address given and replaces what was there", "mremap(2), MREMAP_FIXED";
    RemapOverlap: "MREMAP_FIXED without MREMAP_MAYMOVE, or onto the old range, is refused", "mremap(2), ERRORS, EINVAL";
    Sync: "msync of mapped pages succeeds", "msync(2)";
    SyncHole: "msync over a hole is ENOMEM", "msync(2), ERRORS, ENOMEM";
    DontNeedUnaligned: "madvise refuses an address that is not page-aligned", "madvise(2), ERRORS, EINVAL";
    SyncFlags: "MS_ASYNC together with MS_SYNC, and an address that is not page-aligned, are refused", "msync(2), ERRORS, EINVAL";
    DontNeed: "MADV_DONTNEED drops private changes: the pages show what lies behind them again", "madvise(2), MADV_DONTNEED";
    DontNeedHole: "madvise over a hole is ENOMEM", "madvise(2), ERRORS, ENOMEM";
    Load: "a load gives what was stored there last", "POSIX mmap, DESCRIPTION";
    Store: "a store to writable memory succeeds", "mmap(2), PROT_WRITE";
    Unmapped: "an access to an address where nothing is mapped is SIGSEGV, SEGV_MAPERR", "sigaction(2), si_code";
    Forbidden: "an access against the rights of the page is SIGSEGV, SEGV_ACCERR", "sigaction(2), si_code; mmap(2), SIGSEGV";
    BeyondFile: "an access to a page wholly beyond the end of the file is SIGBUS, BUS_ADRERR", "mmap(2), SIGBUS; POSIX mmap, DESCRIPTION";
    CompareExchange: "compare and exchange sees what is there, and stores only if it is as expected", "POSIX mmap, DESCRIPTION";
    SharedReachesFile: "a store to a shared mapping is seen by read and by every mapping of the file", "mmap(2), MAP_SHARED";
    PrivateStays: "a store to a private mapping stays with the process", "mmap(2), MAP_PRIVATE";
    WriteReachesMappings: "what write puts into a file is seen through its shared mappings", "mmap(2), MAP_SHARED";
    AnonymousZero: "anonymous memory starts as zeros", "mmap(2), MAP_ANONYMOUS";
    PrivateUntouched: "a private page that nobody has stored to shows what the file holds there, or has held since", "mmap(2), MAP_PRIVATE; POSIX mmap, DESCRIPTION";
    TailZero: "beyond the end of the file its last page holds zeros, or what was stored there", "mmap(2), DESCRIPTION; POSIX mmap, DESCRIPTION";
    ShrinkDropsCopies: "private copies of pages beyond a new, smaller end of the file are gone", "ftruncate(3p), DESCRIPTION";
    GrownZero: "bytes that a growing file gains read as zero", "ftruncate(2), DESCRIPTION; POSIX ftruncate";
    Open: "a file that is there opens with the rights of its owner", "open(2)";
    OpenMissing: "a file that is not there does not open without O_CREAT", "open(2), ERRORS, ENOENT";
    OpenExclusive: "O_CREAT with O_EXCL refuses a file that is there", "open(2), ERRORS, EEXIST";
    OpenTruncate: "O_TRUNC empties the file", "open(2), O_TRUNC";
    Close: "close succeeds on an open descriptor", "close(2)";
    BadDescriptor: "a descriptor that is not open is EBADF", "close(2), read(2), write(2), ERRORS, EBADF";
    Duplicate: "a duplicate shares offset and flags with its original", "dup(2); POSIX dup, DESCRIPTION";
    Seek: "lseek sets the offset and returns it", "lseek(2), RETURN VALUE";
    SeekNegative: "lseek to before the beginning is refused", "lseek(2), ERRORS, EINVAL";
    SeekPipe: "a pipe has no offset", "lseek(2), ERRORS, ESPIPE";
    Read: "read gives the bytes from the offset on, at most to the end of the file, and moves the offset", "read(2); POSIX read";
    ReadAccess: "read needs a descriptor open for reading", "read(2), ERRORS, EBADF";
    Write: "write puts its bytes at the offset, or at the end with O_APPEND, and moves the offset", "write(2); POSIX write";
    WriteAccess: "write needs a descriptor open for writing", "write(2), ERRORS, EBADF";
    Positioned: "pread and pwrite leave the offset alone", "pread(2)";
    Truncate: "ftruncate sets the size and leaves the offset alone", "ftruncate(2)";
    TruncateAccess: "ftruncate needs a descriptor open for writing", "ftruncate(2), ERRORS, EINVAL";
    Size: "fstat gives the size that the last change left", "stat(2)";
    Unlink: "unlink takes the name away and leaves the open file and its mappings", "unlink(2)";
    UnlinkMissing: "a name that is not there cannot be unlinked", "unlink(2), ERRORS, ENOENT";
    Rename: "rename gives a file another name, and takes that name from what had it", "rename(2)";
    Pipe: "pipe yields a read end and a write end", "pipe(2)";
    PipeWrite: "a write of at most PIPE_BUF bytes is taken whole, or EAGAIN if there is no room", "pipe(7), PIPE_BUF; POSIX write";
    PipeRead: "a read of a pipe gives what was written first, at most what is there", "pipe(7); POSIX read";
    PipeEmpty: "a non-blocking read of an empty pipe with writers is EAGAIN", "read(2), ERRORS, EAGAIN";
    PipeBlocks: "a blocking read of an empty pipe with writers waits", "pipe(7), I/O on pipes and FIFOs";
    PipeReleased: "a waiting reader gets the bytes that are written", "pipe(7), I/O on pipes and FIFOs";
    PipeEnd: "a read of an empty pipe without writers is the end of file", "pipe(7), I/O on pipes and FIFOs";
    PipeBroken: "a write to a pipe without readers is EPIPE, and SIGPIPE unless that is ignored", "pipe(7); POSIX write, [EPIPE]";
    PipeCapacity: "F_GETPIPE_SZ gives the capacity, F_SETPIPE_SZ sets it to a power of two of pages", "pipe(7), Pipe capacity";
    Poll: "poll reports data, room, and the absence of the other end", "poll(2)";
    Fork: "a forked child has copies of memory and descriptors, and shares files, offsets and shared mappings", "fork(2)";
    Wait: "wait gives the status with which a child ended", "wait(2)";
    Flags: "O_NONBLOCK and O_APPEND belong to the open file description", "fcntl(2), F_SETFL";
    StatusFlags: "F_GETFL gives the access mode and the status flags of the open file description", "fcntl(2), F_GETFL; POSIX fcntl, DESCRIPTION";
    Fifo: "mkfifo makes a name for a pipe, and refuses a name that is taken", "mkfifo(3), fifo(7)";
    FifoOpen: "a FIFO opens for reading at once with O_NONBLOCK, and for writing only with a reader, else ENXIO", "fifo(7)";
    FifoWaits: "without O_NONBLOCK the opening of a FIFO for one end waits for the other", "fifo(7); POSIX open, O_NONBLOCK";
    FifoReleased: "an opening of a FIFO that waits ends when the other end is opened", "fifo(7); POSIX open, O_NONBLOCK";
}

//! Which pairs of call and situation a kernel can reach: what a long enough run has to meet.

/// How many processes live, in words.
pub(super) const ALIVE: [&str; 4] = ["one process", "two processes", "three processes", "four processes"];

/// What an address may lie in.
const PAGES: &[&str] = &[
    "PROT_NONE",
    "beyond the file",
    "private anonymous, stored to",
    "private anonymous, untouched",
    "private file, last page",
    "private file, stored to",
    "private file, untouched",
    "shared file",
    "shared file, last page",
];

/// PROT_NONE apart: a mapping without rights is not moved.
const MOVED: &[&str] = PAGES.split_at(1).1;

const FILES: &[&str] = &[
    "file",
    "file, duplicated",
    "file, mapped",
    "file, mapped, duplicated",
    "appending file",
    "appending file, duplicated",
    "appending file, mapped",
    "appending file, mapped, duplicated",
];

/// What an end of a pipe may be of; a pipe with neither end has no descriptor to ask by.
const PIPES: &[&str] = &[
    "empty pipe",
    "empty pipe without writers",
    "full pipe",
    "partly full pipe",
    "pipe with data, without writers",
    "pipe without readers",
];

/// A read of an empty pipe that has writers is refused, or waits.
const READABLE: &[&str] =
    &["empty pipe without writers", "full pipe", "partly full pipe", "pipe with data, without writers"];

const NAMES: &[&str] = &["FIFO", "file that is not open", "mapped file", "open file"];

/// Kinds of mappings, each with each of [`PLACES`].
const MAPPINGS: [&str; 4] = ["private anonymous", "private file", "shared anonymous", "shared file"];
const PLACES: [&str; 4] = ["anywhere", "fixed", "fixed, nothing there", "hint"];

/// The situations of each call but mmap.
const CELLS: &[(&str, &[&[&str]])] = &[
    ("FIONREAD", &[PIPES]),
    ("close", &[FILES, PIPES, &["EBADF"]]),
    ("compare-exchange", &[PAGES, &["nothing mapped"]]),
    ("dup", &[FILES, PIPES, &["EBADF"]]),
    ("dup2", &[FILES, PIPES, &["EBADF"]]),
    ("fcntl F_GETFL", &[FILES, PIPES, &["EBADF"]]),
    ("fcntl F_SETFL", &[FILES, PIPES, &["EBADF"]]),
    // The size of a pipe that holds something is not asked for.
    ("fcntl F_SETPIPE_SZ", &[&["empty pipe", "empty pipe without writers", "pipe without readers"]]),
    ("ftruncate", &[FILES, &["EBADF", "EINVAL"]]),
    ("load", &[PAGES, &["nothing mapped"]]),
    ("lseek", &[FILES, &["EBADF", "EINVAL", "ESPIPE"]]),
    ("madvise", &[PAGES, &["EINVAL", "ENOMEM"]]),
    ("mkfifo", &[&["new name", "EEXIST"]]),
    ("mmap", &[&["EACCES", "EBADF", "EEXIST", "EINVAL", "ENODEV"]]),
    ("mprotect", &[PAGES, &["EACCES", "EINVAL", "ENOMEM"]]),
    ("mremap", &[MOVED, &["EINVAL", "ENOMEM"]]),
    ("msync", &[PAGES, &["EINVAL", "ENOMEM"]]),
    ("munmap", &[PAGES, &["EINVAL", "nothing mapped"]]),
    ("open", &[NAMES, &["EEXIST", "ENOENT", "ENXIO", "new name"]]),
    ("poll", &[PIPES]),
    ("pread", &[FILES, &["EBADF", "ESPIPE"]]),
    ("pwrite", &[FILES, &["EBADF", "ESPIPE"]]),
    ("read", &[FILES, READABLE, &["EAGAIN", "EBADF"]]),
    ("rename", &[NAMES, &["ENOENT"]]),
    ("store", &[PAGES, &["nothing mapped"]]),
    ("unlink", &[NAMES, &["ENOENT"]]),
    ("write", &[FILES, &["EAGAIN", "EBADF", "empty pipe", "partly full pipe", "pipe without readers"]]),
];

/// Those that sequences of at most so many processes can reach.
pub(super) fn reachable(processes: usize) -> Vec<(String, String)> {
    let mut cells: Vec<(String, String)> = Vec::new();
    let mut add = |call: &str, situation: String| cells.push((call.into(), situation));
    for (call, groups) in CELLS {
        groups.iter().copied().flatten().for_each(|situation| add(call, (*situation).into()));
    }
    for mapping in MAPPINGS {
        PLACES.iter().for_each(|place| add("mmap", format!("{mapping}, {place}")));
    }
    let alive = &ALIVE[..processes.clamp(1, ALIVE.len())];
    alive.iter().for_each(|count| add("pipe", (*count).into()));
    if processes > 1 {
        alive[..alive.len() - 1].iter().for_each(|count| add("fork", (*count).into()));
        alive[1..].iter().for_each(|count| add("exit", (*count).into()));
        add("read", "waits".into());
        add("open", "waits".into());
    }
    cells.sort_unstable();
    cells
}

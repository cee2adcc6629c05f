//! What surrounds the suite's own processes: its program file, its limits, its allocator.
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program file is started for workers and peers, where that is not the running one (a test is not).
pub fn set_program(path: PathBuf) {
    let _ = PROGRAM.set(path);
}

/// The program file that workers and peers are started from: the running one, found without /proc if need be.
pub fn program() -> PathBuf {
    PROGRAM
        .get_or_init(|| {
            std::env::current_exe().unwrap_or_else(|_| {
                let name = rustix::param::linux_execfn();
                let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()));
                std::path::absolute(&path).unwrap_or(path)
            })
        })
        .clone()
}

/// Keeps the allocator to the heap (brk), where the C library allows it: memory that it maps could land in the very hole that a case looks into.
pub fn quiet_allocator() {
    #[cfg(target_env = "gnu")]
    {
        const ROOM: libc::c_int = 8 << 20;
        // SAFETY: mallopt changes settings of the allocator and no memory; a value that it does not take it ignores.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, ROOM);
        }
        grow_heap();
    }
}

/// Takes the room now that [`quiet_allocator`] asks for, and not between a call and the look at its effect.
#[cfg(target_env = "gnu")]
fn grow_heap() {
    const MORE_THAN_LEFT: usize = 64 << 10;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(MORE_THAN_LEFT)));
}

/// Gives the pages of the heap back that hold nothing, and takes new ones for what comes: a child inherits every page, and pays for it.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim releases memory that is in nobody's use.
        unsafe { libc::malloc_trim(0) };
        grow_heap();
    }
}

/// One heap for all threads: others would each reserve more address space than a limit may leave (mallopt(3), M_ARENA_MAX).
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes settings of the allocator and no memory.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Writing beyond a limit of size is an errno and no death (getrlimit(2), RLIMIT_FSIZE).
pub fn survive_size_limits() {
    // SAFETY: SIG_IGN runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Files are made with the mode that is asked for, whatever umask the suite was started with.
pub fn usual_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// No core files, however a process of the suite dies (core(5)).
pub fn no_core_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    // A limit of 1 and not of 0: a core_pattern that is a pipe is used whatever a limit of 0 says, and is not at 1 (core(5)).
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum });
}

/// Signals as the suite needs them, whatever it was started with: a file size limit is an errno, and nothing is blocked.
pub fn calm_signals() {
    // SAFETY: SIG_IGN and SIG_DFL run no code, and an empty set is a set.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The file that a parent left open under this number when it started this program; none if the number is -1.
pub fn inherited_file(number: i32) -> Option<std::fs::File> {
    // SAFETY: the parent passed this descriptor for this use, and nothing else has taken it.
    (number >= 0).then(|| unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

/// Keeps descriptors from the programs that this process starts.
pub fn keep_from_exec(numbers: &[i32]) {
    for number in numbers {
        // SAFETY: fcntl of a descriptor number touches no memory.
        unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Touches as much of the stack as a case may use, so that it does not grow between a call and the look at its effect.
pub fn deepen_stack() {
    const DEPTH: usize = 256 << 10;
    const LEAST: u64 = 1 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Stack).current;
    // Not in the caller's frame: that would be as large whether the limit allows it or not.
    #[inline(never)]
    fn touch() {
        std::hint::black_box([1_u8; DEPTH]);
    }
    if limit.is_none_or(|limit| limit >= LEAST) {
        touch();
    }
}

/// Stays when the terminal or a user asks the runner to end: for the one process that cleans up after it.
pub fn ignore_requests_to_end() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: SIG_IGN runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

static OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_output() {
    // SAFETY: fcntl of a descriptor number touches no memory.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    OUTPUT_CLOSED.store(flags < 0, Ordering::Relaxed);
}

// SAFETY: the function takes nothing and needs nothing of Rust's runtime, before whose start it is called.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK_AT_OUTPUT: extern "C" fn() = look_at_output;

/// Whether the program was started with its standard output closed; Rust's runtime puts /dev/null in its place before `main`.
pub fn output_was_closed() -> bool {
    // The reference keeps the entry from being left out when the program is linked.
    std::hint::black_box(&LOOK_AT_OUTPUT);
    OUTPUT_CLOSED.load(Ordering::Relaxed)
}

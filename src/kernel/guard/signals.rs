//! The signals of a faulting access: their handlers, the stack these run on, and the way back to
//! the default.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{SIGBUS, SIGILL, SIGPIPE, SIGSEGV, SIGTRAP, c_int, sigset_t};

/// The signals that an access may raise.
pub const FAULTS: [c_int; 4] = [SIGSEGV, SIGBUS, SIGILL, SIGTRAP];

// linux/auxvec.h. The largest signal frame of this processor, where the kernel tells: with wide
// vector or matrix registers it exceeds the constant MINSIGSTKSZ.
const AT_MINSIGSTKSZ: libc::c_ulong = 51;

const HANDLER_STACK: usize = 64 << 10;

pub type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

thread_local! {
    // Without a destructor, so that handlers may use it, and a thread that ends leaves its stack to
    // the kernel's care.
    static STACK: Cell<(*mut c_void, usize)> = const { Cell::new((ptr::null_mut(), 0)) };
}

/// Sends the four signals to `handler`, on an alternate stack, and unblocks them.
pub fn catch(handler: Handler) -> io::Result<()> {
    alternate_stack()?;
    for signal in FAULTS {
        // SA_NODEFER: a handler that is to die of the signal sends it again, and must not block it.
        action(signal, handler as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER)?;
    }
    unblock()
}

/// Gives `signal` its default action. Async-signal-safe.
pub fn default(signal: c_int) -> io::Result<()> {
    action(signal, libc::SIG_DFL, 0)
}

pub fn default_disposition() {
    for signal in FAULTS.into_iter().chain([SIGPIPE]) {
        default(signal).expect("sigaction takes every signal but SIGKILL and SIGSTOP");
    }
    mask(libc::SIG_SETMASK, &[]).expect("sigprocmask takes every mask");
}

#[inline]
pub fn inherited() {
    default(SIGPIPE).expect("sigaction takes every signal but SIGKILL and SIGSTOP");
}

/// Unblocks the four signals.
pub fn unblock() -> io::Result<()> {
    mask(libc::SIG_UNBLOCK, &FAULTS)
}

fn action(signal: c_int, handler: libc::sighandler_t, flags: c_int) -> io::Result<()> {
    // SAFETY: every field of a sigaction may be zero: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = flags as _;
    // SAFETY: `handler` is SIG_DFL or a function that takes what `flags` says.
    check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })
}

fn mask(how: c_int, signals: &[c_int]) -> io::Result<()> {
    let mut set = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for &signal in signals {
        // SAFETY: the set is initialized.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set is initialized, and the old one is not asked for.
    check(unsafe { libc::sigprocmask(how, set.as_ptr(), ptr::null_mut()) })
}

fn alternate_stack() -> io::Result<()> {
    if STACK.get().0.is_null() {
        // SAFETY: getauxval only looks the value up; 0 means that the kernel does not say.
        let frame = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
        // Leaked: the kernel keeps its address for as long as the thread lives.
        let stack = vec![0_u8; HANDLER_STACK + frame].leak();
        STACK.set((stack.as_mut_ptr().cast(), stack.len()));
    }
    let (base, size) = STACK.get();
    let stack = libc::stack_t { ss_sp: base, ss_flags: 0, ss_size: size };
    // SAFETY: the stack was leaked for this thread alone.
    check(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

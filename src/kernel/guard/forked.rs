//! Accesses tried by a forked child first, for machines without assembly.
//!
//! The child makes the access; if it faults, its handler sends the siginfo through a pipe. If it
//! does not, the parent makes the access as well, and that is the one that counts. What the child
//! leaves behind is harmless: it stores the bytes that the parent stores next, and where a second
//! time would count it writes back the value it read. Memory that a child does not inherit
//! (MADV_DONTFORK, MADV_WIPEONFORK) is beyond this method.

use std::ffi::c_void;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use libc::{c_int, siginfo_t};

use super::Fault;
use super::signals;

pub const FAST: bool = false;

// Set in the child only.
static REPORTS: AtomicI32 = AtomicI32::new(-1);
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Signal (0: none), code, address, accesses made before it.
type Report = [usize; 4];

/// A byte-aligned value, for addresses that are not aligned.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// An integer that is accessed in one instruction if it is aligned.
pub trait Width: Copy {}

impl Width for u8 {}
impl Width for u16 {}
impl Width for u32 {}
impl Width for u64 {}

pub fn install() -> io::Result<()> {
    signals::catch(report)?;
    // Only the children are to handle them, on the stack that they inherit. Here they are to kill.
    signals::FAULTS.into_iter().try_for_each(signals::default)
}

pub fn load<T: Width>(addr: usize, into: &mut [T]) -> Result<(), (usize, Fault)> {
    if into.is_empty() {
        return Ok(());
    }
    let places = (0..into.len()).map(|index| addr.wrapping_add(index * size_of::<T>()));
    let tried = attempt(|| {
        for place in places.clone() {
            black_box(read::<T>(place));
            MADE.fetch_add(1, Ordering::Relaxed);
        }
    });
    let made = tried.map_or_else(|(made, _)| made, |()| into.len());
    for (place, value) in places.zip(&mut into[..made]) {
        *value = read(place);
    }
    tried
}

pub fn store<T: Width>(addr: usize, from: &[T]) -> Result<(), (usize, Fault)> {
    if from.is_empty() {
        return Ok(());
    }
    let places = (0..from.len()).map(|index| addr.wrapping_add(index * size_of::<T>()));
    let tried = attempt(|| {
        for (place, &value) in places.clone().zip(from) {
            write(place, value);
            MADE.fetch_add(1, Ordering::Relaxed);
        }
    });
    let made = tried.map_or_else(|(made, _)| made, |()| from.len());
    for (place, &value) in places.zip(&from[..made]) {
        write(place, value);
    }
    tried
}

pub fn compare_exchange_u32(addr: usize, old: u32, new: u32) -> Result<u32, Fault> {
    let exchange = |new| {
        let order = Ordering::SeqCst;
        let seen = atomic(addr).compare_exchange(old, new, order, order);
        seen.unwrap_or_else(|seen| seen)
    };
    attempt(|| {
        black_box(exchange(old));
    })
    .map_err(|(_, fault)| fault)?;
    Ok(exchange(new))
}

pub fn fetch_add_u32(addr: usize, n: u32) -> Result<u32, Fault> {
    // Adding 0 would not do: compilers make a load of it.
    attempt(|| {
        let order = Ordering::SeqCst;
        let mut value = atomic(addr).load(order);
        while let Err(seen) = atomic(addr).compare_exchange(value, value, order, order) {
            value = seen;
        }
    })
    .map_err(|(_, fault)| fault)?;
    Ok(atomic(addr).fetch_add(n, Ordering::SeqCst))
}

pub fn execute(addr: usize) -> Result<(), Fault> {
    let call = || {
        // SAFETY: function pointers are addresses where RETURN is known.
        let code = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn()>(addr) };
        // SAFETY: it returns, or the child that tries it first does not come here a second time.
        unsafe { code() }
    };
    attempt(call).map_err(|(_, fault)| fault)?;
    call();
    Ok(())
}

fn read<T: Width>(addr: usize) -> T {
    if (addr as *const T).is_aligned() {
        // SAFETY: a child has read here, or is about to find out.
        unsafe { ptr::read_volatile(addr as *const T) }
    } else {
        // SAFETY: as above.
        unsafe { ptr::read_volatile(addr as *const Unaligned<T>) }.0
    }
}

fn write<T: Width>(addr: usize, value: T) {
    if (addr as *const T).is_aligned() {
        // SAFETY: a child has written here, or is about to find out.
        unsafe { ptr::write_volatile(addr as *mut T, value) }
    } else {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(addr as *mut Unaligned<T>, Unaligned(value)) }
    }
}

fn atomic<'a>(addr: usize) -> &'a AtomicU32 {
    // SAFETY: a child has found the address usable, or is about to find out.
    unsafe { AtomicU32::from_ptr(addr as *mut u32) }
}

/// Runs `access` in a child.
///
/// # Errors
///
/// The fault that ended it, and what it had counted in [`MADE`].
///
/// # Panics
///
/// When there is no pipe or no child to be had.
fn attempt(access: impl FnOnce()) -> Result<(), (usize, Fault)> {
    let (reports, sender) = pipe();
    // SAFETY: the child calls async-signal-safe functions and `access` alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the arguments are those of this option.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        REPORTS.store(sender.as_raw_fd(), Ordering::Relaxed);
        MADE.store(0, Ordering::Relaxed);
        if signals::catch(report).is_ok() {
            access();
            send([0; 4]);
        }
        // SAFETY: it ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) }
    }
    assert!(child > 0, "fork for a guarded access: {}", io::Error::last_os_error());

    drop(sender);
    let mut bytes = [0; size_of::<Report>()];
    let heard = File::from(reports).read_exact(&mut bytes);
    let status = wait(child);
    if heard.is_err() {
        let signal = libc::WTERMSIG(status);
        let (code, addr) = (0, 0);
        return Err((0, Fault { signal, code, addr }));
    }
    // SAFETY: a report is any four words.
    let [signal, code, addr, made] = unsafe { std::mem::transmute::<[u8; size_of::<Report>()], Report>(bytes) };
    if signal == 0 {
        return Ok(());
    }
    let (signal, code) = (signal as i32, code as i32);
    Err((made, Fault { signal, code, addr }))
}

unsafe extern "C" fn report(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t for SA_SIGINFO, and an address with these signals.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    send([signal as usize, code as usize, addr, MADE.load(Ordering::Relaxed)]);
    // SAFETY: it ends the child without running what belongs to the parent.
    unsafe { libc::_exit(0) }
}

fn send(report: Report) {
    let pipe = REPORTS.load(Ordering::Relaxed);
    // SAFETY: the report is as long as that.
    unsafe { libc::write(pipe, report.as_ptr().cast(), size_of::<Report>()) };
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: there is room for two descriptors.
    let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert!(result == 0, "pipe for a guarded access: {}", io::Error::last_os_error());
    // SAFETY: the descriptors are new, and nobody else's.
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }).into()
}

/// Wait status, 0 if someone ignores SIGCHLD and there is none.
fn wait(child: libc::pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    status
}

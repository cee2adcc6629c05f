//! Accesses by assembly, one instruction each, and the handler that ends those that fault.
//!
//! The contract with the machine's file: the code between `start` and `end` has changed neither
//! stack nor saved registers when it faults, and `exit` returns the number of accesses not made.
//! `execute` writes its stack pointer to the place it is given before it leaves for foreign code,
//! and zero after; with that stack pointer, `execute_exit` returns 1.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;

use libc::{SIGTRAP, c_int, siginfo_t};

use super::Fault;
use super::machine::{PROGRAM_COUNTER, STACK_POINTER};
use super::signals;

pub const FAST: bool = true;

// The assembly passes addresses in whole registers, and the frames it reads are those of 64-bit
// processes.
const _: () = assert!(size_of::<usize>() == 8, "build with --cfg guard_forked");

unsafe extern "C" {
    static mmap_conformance_guard_start: u8;
    static mmap_conformance_guard_end: u8;
    static mmap_conformance_guard_exit: u8;
    static mmap_conformance_guard_execute_exit: u8;
    fn mmap_conformance_guard_load_8(addr: usize, into: *mut u8, count: usize) -> usize;
    fn mmap_conformance_guard_load_16(addr: usize, into: *mut u16, count: usize) -> usize;
    fn mmap_conformance_guard_load_32(addr: usize, into: *mut u32, count: usize) -> usize;
    fn mmap_conformance_guard_load_64(addr: usize, into: *mut u64, count: usize) -> usize;
    fn mmap_conformance_guard_store_8(addr: usize, from: *const u8, count: usize) -> usize;
    fn mmap_conformance_guard_store_16(addr: usize, from: *const u16, count: usize) -> usize;
    fn mmap_conformance_guard_store_32(addr: usize, from: *const u32, count: usize) -> usize;
    fn mmap_conformance_guard_store_64(addr: usize, from: *const u64, count: usize) -> usize;
    fn mmap_conformance_guard_compare_exchange_32(addr: usize, old: u32, new: u32, seen: *mut u32) -> usize;
    fn mmap_conformance_guard_fetch_add_32(addr: usize, n: u32, seen: *mut u32) -> usize;
    fn mmap_conformance_guard_execute(addr: usize, stack_pointer: *mut usize) -> usize;
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault { signal: 0, code: 0, addr: 0 }) };
    // Zero but while foreign code runs.
    static STACK_POINTER_OF_EXECUTE: Cell<usize> = const { Cell::new(0) };
}

/// An integer that is accessed in one instruction.
pub trait Width: Sized {
    const LOAD: unsafe extern "C" fn(usize, *mut Self, usize) -> usize;
    const STORE: unsafe extern "C" fn(usize, *const Self, usize) -> usize;
}

macro_rules! widths {
    ($($int:ty, $load:ident, $store:ident;)*) => {$(
        impl Width for $int {
            const LOAD: unsafe extern "C" fn(usize, *mut Self, usize) -> usize = $load;
            const STORE: unsafe extern "C" fn(usize, *const Self, usize) -> usize = $store;
        }
    )*};
}

widths! {
    u8, mmap_conformance_guard_load_8, mmap_conformance_guard_store_8;
    u16, mmap_conformance_guard_load_16, mmap_conformance_guard_store_16;
    u32, mmap_conformance_guard_load_32, mmap_conformance_guard_store_32;
    u64, mmap_conformance_guard_load_64, mmap_conformance_guard_store_64;
}

pub fn install() -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    let handler = super::machine::mmap_conformance_guard_enter;
    signals::catch(handler)
}

#[inline]
pub fn load<T: Width>(addr: usize, into: &mut [T]) -> Result<(), (usize, Fault)> {
    if into.is_empty() {
        return Ok(());
    }
    // SAFETY: `into` has room for as many as are asked for, at least one.
    let left = unsafe { T::LOAD(addr, into.as_mut_ptr(), into.len()) };
    all_made(into.len(), left)
}

#[inline]
pub fn store<T: Width>(addr: usize, from: &[T]) -> Result<(), (usize, Fault)> {
    if from.is_empty() {
        return Ok(());
    }
    // SAFETY: `from` holds as many as are asked for, at least one.
    let left = unsafe { T::STORE(addr, from.as_ptr(), from.len()) };
    all_made(from.len(), left)
}

pub fn compare_exchange_u32(addr: usize, old: u32, new: u32) -> Result<u32, Fault> {
    let mut seen = 0;
    // SAFETY: `seen` outlives the call.
    match unsafe { mmap_conformance_guard_compare_exchange_32(addr, old, new, &mut seen) } {
        0 => Ok(seen),
        _ => Err(FAULT.get()),
    }
}

pub fn fetch_add_u32(addr: usize, n: u32) -> Result<u32, Fault> {
    let mut seen = 0;
    // SAFETY: `seen` outlives the call.
    match unsafe { mmap_conformance_guard_fetch_add_32(addr, n, &mut seen) } {
        0 => Ok(seen),
        _ => Err(FAULT.get()),
    }
}

pub fn execute(addr: usize) -> Result<(), Fault> {
    let place = STACK_POINTER_OF_EXECUTE.with(Cell::as_ptr);
    // SAFETY: the place is this thread's own and lives as long as the thread.
    match unsafe { mmap_conformance_guard_execute(addr, place) } {
        0 => Ok(()),
        _ => Err(FAULT.get()),
    }
}

#[inline]
fn all_made(count: usize, left: usize) -> Result<(), (usize, Fault)> {
    if left == 0 { Ok(()) } else { Err((count - left, FAULT.get())) }
}

pub unsafe extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t for SA_SIGINFO, and an address with these signals.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // What kill(2) and its like send has a code of 0 or below, wherever it interrupts us.
    let sent = code <= 0;
    if !sent {
        // SAFETY: the offset lies inside the ucontext that the kernel passes for SA_SIGINFO.
        let program_counter = unsafe { context.byte_add(PROGRAM_COUNTER).cast::<usize>() };
        // SAFETY: as above.
        let stack_pointer = unsafe { context.byte_add(STACK_POINTER).cast::<usize>() };

        let saved = STACK_POINTER_OF_EXECUTE.replace(0);
        let start = &raw const mmap_conformance_guard_start as usize;
        let end = &raw const mmap_conformance_guard_end as usize;
        // SAFETY: both are aligned registers of the frame, which is ours to change up to the return
        // from the handler.
        unsafe {
            if saved != 0 {
                FAULT.set(Fault { signal, code, addr });
                *stack_pointer = saved;
                *program_counter = &raw const mmap_conformance_guard_execute_exit as usize;
                return;
            }
            if (start..end).contains(&*program_counter) {
                FAULT.set(Fault { signal, code, addr });
                *program_counter = &raw const mmap_conformance_guard_exit as usize;
                return;
            }
        }
    }

    // Nobody's fault but the program's: it is to die of this signal. The instruction faults again
    // on return, but for one that was sent, and for a trap, which is reported behind its
    // instruction.
    let _ = signals::default(signal);
    if sent || signal == SIGTRAP {
        // SAFETY: async-signal-safe; it kills here and now, as SA_NODEFER leaves the signal
        // unblocked.
        unsafe { libc::raise(signal) };
    }
}

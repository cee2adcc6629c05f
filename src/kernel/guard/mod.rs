//! Memory access that outlives the signals it may raise.
//!
//! Each access ends in a value or in a [`Fault`]. Where there is assembly for the machine, one that
//! does not fault costs about a nanosecond and one that does the price of a signal: the handler
//! finds the interrupted instruction among ours and moves the program counter to their exit.
//! Elsewhere, or built with `--cfg guard_forked`, a forked child makes each access first.
//!
//! The process survives any address. Storing to memory that Rust itself owns breaks the program all
//! the same: keep to mappings made for the purpose.

use std::io;

#[cfg_attr(
    all(
        not(guard_forked),
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "s390x",
            all(target_arch = "powerpc64", target_endian = "little"),
        ),
    ),
    path = "trapped.rs"
)]
#[cfg_attr(
    not(all(
        not(guard_forked),
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "s390x",
            all(target_arch = "powerpc64", target_endian = "little"),
        ),
    )),
    path = "forked.rs"
)]
mod backend;

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
#[cfg_attr(target_arch = "s390x", path = "s390x.rs")]
#[cfg_attr(all(target_arch = "powerpc64", target_endian = "little"), path = "powerpc64le.rs")]
#[cfg_attr(guard_forked, expect(dead_code, reason = "the fallback reads no signal frame"))]
mod machine;

mod signals;

#[cfg(test)]
mod tests;

/// What a signal said of the access that raised it: sigaction(2), "The siginfo_t argument to a
/// SA_SIGINFO handler".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `si_signo`: SIGSEGV or SIGBUS; from [`execute`], SIGILL and SIGTRAP as well.
    pub signal: i32,
    /// `si_code`: SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, ...; 0 if a child of the forked fallback
    /// died unheard.
    pub code: i32,
    /// `si_addr` as the kernel gave it: the byte accessed, on s390x the first byte of its page.
    pub addr: usize,
}

/// Whether an access costs nanoseconds. False where a child is forked for each.
pub const FAST: bool = backend::FAST;

/// Machine code of a bare return, as a function without arguments; empty where it is not known.
pub const RETURN: &[u8] = machine::RETURN;

// So many words go through a buffer at a time: a few cache lines, but where each load is a fork,
// many.
const STAGE: usize = if FAST { 64 } else { 1024 };
const WORD: usize = size_of::<u64>();

/// Makes the calling thread ready for the other functions: handlers for SIGSEGV, SIGBUS, SIGILL and
/// SIGTRAP on an alternate stack, and none of these blocked. May be called again at any time; what
/// fork(2) inherits stays in force.
///
/// A fault of any other code then kills the process by that signal, as if there were no handler.
///
/// # Errors
///
/// Those of sigaltstack(2), sigaction(2) and sigprocmask(2).
pub fn install() -> io::Result<()> {
    backend::install()
}

/// Gives SIGSEGV, SIGBUS, SIGILL, SIGTRAP and SIGPIPE (which Rust's runtime ignores) their default
/// action and empties the signal mask: what a process does that is to die as the documents
/// describe. A guarded access kills from here on, up to the next [`install`].
pub fn default_disposition() {
    signals::default_disposition();
}

/// What [`default_disposition`] and [`install`] do, in a child that a process with [`install`] in force has forked, without a
/// second call for what it inherits.
#[inline]
pub fn inherited() {
    signals::inherited();
}

/// Loads `into.len()` bytes from `addr` on, each of them once: 8 aligned bytes at a time, but for
/// the ends.
///
/// # Errors
///
/// The first fault. The bytes before it have been loaded.
pub fn load(addr: usize, into: &mut [u8]) -> Result<(), Fault> {
    load_counted(addr, into).map_err(|(_, fault)| fault)
}

/// As [`load`].
///
/// # Errors
///
/// The first fault, and the number of bytes loaded before the access that raised it.
pub fn load_counted(addr: usize, into: &mut [u8]) -> Result<(), (usize, Fault)> {
    let (head, words) = split(addr, into.len());
    let (first, rest) = into.split_at_mut(head);
    let (middle, last) = rest.split_at_mut(words * WORD);
    backend::load(addr, first)?;

    let mut done = head;
    for bytes in middle.chunks_mut(STAGE * WORD) {
        let mut stage = [0_u64; STAGE];
        let stage = &mut stage[..bytes.len() / WORD];
        let result = backend::load(addr.wrapping_add(done), stage);
        let loaded = result.map_or_else(|(words, _)| words, |()| stage.len());
        for (bytes, word) in bytes.chunks_exact_mut(WORD).zip(&stage[..loaded]) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        done += loaded * WORD;
        result.map_err(|(_, fault)| (done, fault))?;
    }

    backend::load(addr.wrapping_add(done), last).map_err(|(bytes, fault)| (done + bytes, fault))
}

/// Stores `bytes` from `addr` on, each of them once: 8 aligned bytes at a time, but for the ends.
///
/// # Errors
///
/// The first fault. The bytes before it have been stored.
pub fn store(addr: usize, bytes: &[u8]) -> Result<(), Fault> {
    store_counted(addr, bytes).map_err(|(_, fault)| fault)
}

/// As [`store`].
///
/// # Errors
///
/// The first fault, and the number of bytes stored before the access that raised it.
pub fn store_counted(addr: usize, bytes: &[u8]) -> Result<(), (usize, Fault)> {
    let (head, words) = split(addr, bytes.len());
    let (first, rest) = bytes.split_at(head);
    let (middle, last) = rest.split_at(words * WORD);
    backend::store(addr, first)?;

    let mut done = head;
    for bytes in middle.chunks(STAGE * WORD) {
        let mut stage = [0_u64; STAGE];
        let stage = &mut stage[..bytes.len() / WORD];
        for (word, bytes) in stage.iter_mut().zip(bytes.chunks_exact(WORD)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of a word"));
        }
        backend::store(addr.wrapping_add(done), stage).map_err(|(words, fault)| (done + words * WORD, fault))?;
        done += bytes.len();
    }

    backend::store(addr.wrapping_add(done), last).map_err(|(bytes, fault)| (done + bytes, fault))
}

/// Bytes before the first aligned word, and whole words after them.
fn split(addr: usize, len: usize) -> (usize, usize) {
    let head = (addr.wrapping_neg() % WORD).min(len);
    (head, (len - head) / WORD)
}

macro_rules! single {
    ($($load:ident, $store:ident, $int:ty;)*) => {$(
        #[doc = concat!("One load of a `", stringify!($int), "`. Alignment is the caller's matter.")]
        ///
        /// # Errors
        ///
        /// The fault it raised.
        #[inline]
        pub fn $load(addr: usize) -> Result<$int, Fault> {
            let mut value = [0];
            match backend::load(addr, &mut value) {
                Ok(()) => Ok(value[0]),
                Err((_, fault)) => Err(fault),
            }
        }

        #[doc = concat!("One store of a `", stringify!($int), "`. Alignment is the caller's matter.")]
        ///
        /// # Errors
        ///
        /// The fault it raised.
        #[inline]
        pub fn $store(addr: usize, value: $int) -> Result<(), Fault> {
            backend::store(addr, &[value]).map_err(|(_, fault)| fault)
        }
    )*};
}

single! {
    load_u8, store_u8, u8;
    load_u16, store_u16, u16;
    load_u32, store_u32, u32;
    load_u64, store_u64, u64;
}

/// Stores `new` if the value is `old`, atomically and sequentially consistent. Returns the value
/// seen. Whether it needs leave to write when the value is another depends on the machine: on
/// x86-64 and s390x it does.
///
/// # Errors
///
/// The fault it raised.
pub fn compare_exchange_u32(addr: usize, old: u32, new: u32) -> Result<u32, Fault> {
    backend::compare_exchange_u32(addr, old, new)
}

/// Adds `n`, atomically and sequentially consistent, wrapping around. Returns the value before.
///
/// # Errors
///
/// The fault it raised.
pub fn fetch_add_u32(addr: usize, n: u32) -> Result<u32, Fault> {
    backend::fetch_add_u32(addr, n)
}

/// Calls the code at `addr`, which is expected to be [`RETURN`]. Code that faults is survived too,
/// if it leaves the thread pointer alone; code that neither returns nor faults is not.
///
/// # Errors
///
/// The fault raised by fetching the code or by running it.
pub fn execute(addr: usize) -> Result<(), Fault> {
    backend::execute(addr)
}

/// Makes code that was just stored at `addr` fit to be executed there by this thread: `len` bytes,
/// which must be readable (where caches have to be written back; else nothing is done for the
/// rest).
pub fn sync_instruction_cache(addr: usize, len: usize) {
    unsafe extern "C" {
        fn mmap_conformance_guard_sync(addr: usize, end: usize);
    }
    // SAFETY: cache maintenance changes no memory.
    unsafe { mmap_conformance_guard_sync(addr, addr.wrapping_add(len)) }
}

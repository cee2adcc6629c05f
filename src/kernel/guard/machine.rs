//! Machines without assembly: what the forked fallback has to know of them.

/// x86: `ret`; LoongArch: `jirl $zero, $ra, 0`. Empty elsewhere: code cannot be put to the test
/// there.
pub const RETURN: &[u8] = if cfg!(target_arch = "x86") {
    &[0xc3]
} else if cfg!(target_arch = "loongarch64") {
    &0x4c00_0020_u32.to_le_bytes()
} else {
    &[]
};

/// Nothing to do where code is run by a child only forked after it was stored, on machines with
/// coherent caches.
#[unsafe(no_mangle)]
extern "C" fn mmap_conformance_guard_sync(_addr: usize, _end: usize) {
    #[cfg(target_arch = "loongarch64")]
    // SAFETY: a barrier changes no state that the program sees.
    unsafe {
        core::arch::asm!("ibar 0")
    }
}

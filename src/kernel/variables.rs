//! Variables of the program itself: memory that a process has without asking for it.

use std::sync::atomic::AtomicU8;

use super::call::Segment;
use super::page::Size;

/// How many bytes of each kind there are.
pub const LENGTH: Size = Size(1 << 17);

/// What the initialised ones hold at first.
pub const INITIAL: u8 = b'v';

// Atomic, so that they lie where the program may write; only guarded accesses ever touch them.
static DATA: [AtomicU8; LENGTH.0] = [const { AtomicU8::new(INITIAL) }; LENGTH.0];
static BSS: [AtomicU8; LENGTH.0] = [const { AtomicU8::new(0) }; LENGTH.0];

/// The address of the first.
pub(super) fn start(segment: Segment) -> usize {
    match segment {
        Segment::Data => &raw const DATA as usize,
        Segment::Bss => &raw const BSS as usize,
    }
}

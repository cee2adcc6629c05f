//! Variables of the program itself: memory that a process has without asking for it.

use std::sync::atomic::AtomicU8;

use super::call::Segment;
use super::page::page;

/// How many bytes are initialised: few, since they are in the program file.
const DATA_LENGTH: usize = 1 << 17;
/// How many bytes begin as zeros.
const BSS_LENGTH: usize = 20 << 16;

// Atomic, so that they lie where the program may write; only guarded accesses ever touch them.
static DATA: [AtomicU8; DATA_LENGTH] = [const { AtomicU8::new(b'v') }; DATA_LENGTH];
static BSS: [AtomicU8; BSS_LENGTH] = [const { AtomicU8::new(0) }; BSS_LENGTH];

impl Segment {
    /// So many pages' worth of variables there are, on every machine.
    pub fn pages(self) -> usize {
        const LARGEST_PAGE: usize = 1 << 16;
        let length = match self {
            Segment::Data => DATA_LENGTH,
            Segment::Bss => BSS_LENGTH,
        };
        length / page().max(LARGEST_PAGE)
    }

    /// Where they begin.
    pub(super) fn start(self) -> usize {
        match self {
            Segment::Data => &raw const DATA as usize,
            Segment::Bss => &raw const BSS as usize,
        }
    }
}

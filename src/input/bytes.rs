//! Lengths, positions, contents and edits.

use std::fmt;

use proptest::prelude::*;

use super::shrinking::towards_zero;
use super::{Gen, drawn, reach};
use crate::kernel::data::Data;
use crate::kernel::page::{Size, pages};

/// So many bytes above a page boundary, and never on one: next to it on either side, at sectors and other round numbers up to
/// half a page, or anywhere.
pub fn off_boundary() -> BoxedStrategy<Size> {
    const SECTOR: usize = 512;
    let distance = prop_oneof![
        2 => Just(1),
        2 => Just(reach()),
        2 => (0..=reach().ilog2()).prop_map(|power| 1 << power),
        2 => (1..=reach() / SECTOR).prop_map(|count| count * SECTOR),
        3 => 1..reach(),
    ]
    .boxed();
    (distance, prop::bool::ANY)
        .prop_map(|(distance, below)| if below { pages(1) - distance } else { Size(distance) })
        .boxed()
}

/// The distance from a page boundary: none, one byte, few, any, and to either side.
fn near_boundary() -> BoxedStrategy<isize> {
    let reach = reach() as isize;
    let distance = prop_oneof![
        4 => Just(0),
        2 => prop::sample::select(vec![1, -1, 7, -7, 8, -8]),
        3 => 1 - reach..reach,
    ];
    towards_zero(distance).boxed()
}

/// So many pages, mostly few: 0 to `most`.
fn page_count(most: usize) -> BoxedStrategy<usize> {
    let few = most.min(4);
    if most <= few {
        return (0..=most).boxed();
    }
    let count = prop_oneof![
        6 => 0..=few,
        3 => few..=most.min(20),
        1 => few..=most,
    ];
    towards_zero(count).boxed()
}

/// Any number of bytes up to `most` pages, most of them near page boundaries; shrinks to whole pages, then to fewer.
pub fn any_size(least: usize, most: usize) -> BoxedStrategy<Size> {
    (near_boundary(), page_count(most))
        .prop_map(move |(distance, count)| {
            let size = pages(count).get().saturating_add_signed(distance);
            Size(size.clamp(least, pages(most).get().max(least)))
        })
        .boxed()
}

/// Lengths from 1 byte to `most` pages.
pub fn lengths(most: usize) -> Gen<Size> {
    drawn(
        format!("lengths from one byte to {most} pages, most of them few and near page boundaries"),
        any_size(1, most),
    )
}

/// Lengths of whole pages, at least one.
pub fn page_lengths(most: usize) -> Gen<Size> {
    drawn(format!("lengths of 1 to {most} whole pages"), page_count(most).prop_map(|count| pages(count.max(1))))
}

/// Which bytes a file or memory holds at first; always even, so that no edit shares a byte with it.
pub fn content_seed() -> BoxedStrategy<u32> {
    (0_u32..1000).prop_map(|seed| seed * 2).boxed()
}

/// Bytes that are stored or written somewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    /// From the first byte of the file or mapping.
    pub at: Size,
    /// What is put there; never the bytes of any file's first contents.
    pub data: Data,
}

impl Edit {
    /// The first byte beyond it.
    pub fn end(&self) -> Size {
        self.at + self.data.len()
    }

    /// Applies it to a model, a list of bytes that reaches as far.
    pub fn apply(&self, model: &mut [u8]) {
        self.data.fill(&mut model[self.at.get()..self.end().get()]);
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.data, self.at)
    }
}

/// An edit that lies inside of `len` bytes: at the first and last byte, across page boundaries, of all of it, anywhere.
pub fn edit_within(len: Size) -> BoxedStrategy<Edit> {
    let len = len.get().max(1);
    // No remainder of a division by the length: it would differ with the page size, and so would the rows of a snapshot.
    let inside = match len <= reach() {
        true => (0..len).boxed(),
        false => any_size(0, Size(len).in_pages()).prop_map(move |at| at.get().min(len - 1)).boxed(),
    };
    let at = prop_oneof![2 => Just(0), 2 => Just(len - 1), 8 => inside];
    let size = prop_oneof![3 => Just(1), 2 => Just(8), 4 => any_size(1, 2).prop_map(Size::get), 1 => Just(len)];
    (at, size, 0_u32..1000)
        .prop_map(move |(at, size, seed)| Edit { at: Size(at), data: Data::at(seed * 2 + 1, at, size.min(len - at)) })
        .boxed()
}

/// Some edits inside of `len` bytes, one at least.
pub fn edits_within(len: Size, most: usize) -> BoxedStrategy<Vec<Edit>> {
    prop::collection::vec(edit_within(len), 1..=most).boxed()
}

/// A range: where it begins and how long it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub at: Size,
    /// Its length, in bytes.
    pub len: Size,
}

impl Range {
    /// The first byte beyond it.
    pub fn end(self) -> Size {
        self.at + self.len
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.at, self.end())
    }
}

/// Page ranges inside of so many pages: all, first, last, middle, any.
pub fn page_range(count: usize) -> BoxedStrategy<Range> {
    let count = count.max(1);
    let range = |(from, to): (usize, usize)| Range { at: pages(from), len: pages(to - from) };
    prop_oneof![
        1 => Just((0, count)),
        1 => (1..=count).prop_map(|to| (0, to)),
        1 => (0..count).prop_map(move |from| (from, count)),
        4 => (0..count, 0..count).prop_map(|(one, two)| (one.min(two), one.max(two) + 1)),
    ]
    .prop_map(range)
    .boxed()
}

//! Ranges whose length takes more than 31 or 32 bits, or lies just below.

use libc::ENOMEM;
use proptest::prelude::*;

use crate::input::{Gen, drawn};
use crate::kernel::data::Data;
use crate::kernel::names::{NONE, NORESERVE, PRIVATE, Prot, READ};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous};
use crate::lab::{Lab, Map};

/// What an int, and what an unsigned int, cannot hold.
const INT: Size = Size(1 << 31);
const UNSIGNED: Size = Size(1 << 32);

/// Whole pages, 2 to 8 GiB and some more or less.
pub(super) fn large_lengths() -> Gen<Size> {
    let len = (31_u32..34, 0..64_usize, prop::bool::ANY).prop_map(|(power, rest, below)| {
        let base = Size(1 << power);
        if below && power > 31 { base - pages(rest) } else { base + pages(rest) }
    });
    drawn("lengths of 2 GiB and more", len).also([
        UNSIGNED,
        INT,
        UNSIGNED + pages(1),
        INT + pages(1),
        UNSIGNED - pages(1),
        UNSIGNED * 2 + pages(3),
        UNSIGNED * 4 - pages(1),
    ])
}

/// Private memory of so many pages, and one before and one behind them, which takes up addresses alone.
fn reserved(lab: &Lab, len: Size, prot: Prot) -> Verdict<Map> {
    let (answer, map) = lab.try_map(anonymous(len + pages(2), prot, PRIVATE).and(NORESERVE));
    match map {
        None if answer.outcome().errno() == Some(ENOMEM) => lab.lacking(Lack::Memory),
        None => answer.prepared().and_then(|()| lab.lacking(Lack::Memory)),
        Some(map) => Ok(map),
    }
}

/// Distances into the range, behind the page before it, at which a length that lost its upper bits would show.
fn places(len: Size) -> impl Iterator<Item = Size> {
    [Size::ZERO, INT, UNSIGNED, len - pages(1), len - 1].into_iter().filter(move |at| *at < len).map(|at| pages(1) + at)
}

/// All of the range is gone, and the page on either side is there.
pub(super) fn unmapped(lab: &Lab, len: Size) -> Verdict {
    let map = reserved(lab, len, READ)?;
    lab.munmap(map.at(pages(1)), len).must_return(0_u64)?;
    places(len).try_for_each(|at| lab.load(map.at(at), 1).must_be_unmapped(0))?;
    lab.load(map.at(pages(1) - 8), 8).must_hold(&Data::zeros(8))?;
    lab.load(map.at(pages(1) + len), 8).must_hold(&Data::zeros(8))
}

/// All of the range has its new rights, and the page on either side those that it had.
pub(super) fn protected(lab: &Lab, len: Size, from: Prot, to: Prot) -> Verdict {
    let map = reserved(lab, len, from)?;
    let permits = |at: Size, prot: Prot| match prot {
        NONE => lab.load(map.at(at), 1).must_be_forbidden(0),
        _ => lab.load(map.at(at), 1).must_hold(&Data::zeros(1)),
    };
    lab.mprotect(map.at(pages(1)), len, to).must_return(0_u64)?;
    places(len).try_for_each(|at| permits(at, to))?;
    permits(pages(1) - 1, from)?;
    permits(pages(1) + len, from)
}

/// The last page of the range is a hole, which msync must not overlook.
pub(super) fn hole_at_the_end(lab: &Lab, len: Size) -> Verdict {
    let map = reserved(lab, len, READ)?;
    lab.msync(map.at(pages(1)), len, libc::MS_ASYNC).must_return(0_u64)?;
    lab.munmap(map.at(len), pages(1)).must_return(0_u64)?;
    lab.msync(map.at(pages(1)), len, libc::MS_ASYNC).must_fail(ENOMEM)
}

//! Windows on one file that continue each other in memory as they do in the file.

use proptest::prelude::*;

use crate::input::{Gen, any_sharing, content_seed, drawn};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::pages;
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// Three windows of `count` pages each, from page `first` of a file on, and the order in which they are mapped.
#[derive(Clone, Debug)]
pub(super) struct SideBySide {
    order: [usize; 3],
    count: usize,
    first: usize,
    sharing: Flags,
    contents: u32,
}

/// A kernel may make one mapping of neighbours: to the mapping below, to the one above, and to both at once.
pub(super) fn side_by_side() -> Gen<SideBySide> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let strategy = (prop::sample::select(orders.to_vec()), 1..4_usize, 0..4_usize, any_sharing(), content_seed())
        .prop_map(|(order, count, first, sharing, contents)| SideBySide { order, count, first, sharing, contents });
    let each = orders.into_iter().flat_map(|order| {
        [SHARED, PRIVATE].map(|sharing| SideBySide { order, count: 1, first: 1, sharing, contents: 2 })
    });
    drawn("three windows that continue each other, mapped in any order", strategy).also(each)
}

pub(super) fn laid_in_order(lab: &Lab, windows: &SideBySide) -> Verdict {
    const PLACE: usize = 9;
    let SideBySide { order, count, first, sharing, contents } = *windows;
    let (base, whole) = (At::Arena(pages(PLACE).get()), pages(3 * count));
    let (_, fd) = lab.new_file(&Data::pattern(contents, pages(first) + whole))?;
    for index in order {
        let at = At::Arena(pages(PLACE + index * count).get());
        let offset = pages(first + index * count);
        lab.map(request(pages(count), READ_WRITE, sharing, fd).offset(offset).fixed(at))?;
    }
    let before = Data::at(contents, pages(first), whole);
    lab.load(base, whole).must_hold(&before)?;
    let stored = Data::at(contents + 1, pages(first), whole);
    lab.store(base, &stored).must_succeed()?;
    lab.load(base, whole).must_hold(&stored)?;
    lab.pread(fd, whole, pages(first)).must_hold(if sharing == SHARED { &stored } else { &before })
}

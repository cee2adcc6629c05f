//! Addresses that are asked for without MAP_FIXED.

use std::fmt;

use proptest::prelude::*;

use super::arguments::must_behave;
use super::placement::{NEAR, must_keep_out};
use crate::claim::{Claim, WHAT, claim, linux, posix, unspecified};
use crate::input::{Gen, Range, Request, any_mapping, any_size, drawn, off_boundary, page_range};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NORESERVE, POPULATE, PRIVATE, READ_WRITE};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![hint(), hint_rounding()]
}

/// Over how many pages the mappings lie that hints are about.
const SPAN: usize = 24;

/// A mapping asked for near a hole between mappings.
#[derive(Clone, PartialEq, Eq)]
struct Hinted {
    mapping: Request,
    /// In the arena, inside of a mapping.
    hole: Range,
    /// In the arena, too.
    hint: Size,
    besides: Flags,
    /// Over how many pages the mappings lie that the hole is in.
    span: usize,
}

impl fmt::Debug for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hint arena+{}, hole {:?}, {:?}", self.hint, self.hole, self.mapping)?;
        if self.besides == Flags::default() { Ok(()) } else { write!(f, ", {:?}", self.besides) }
    }
}

/// First of all, long mappings at a hole that is shorter, and at none, with each flag beside.
fn hinted() -> Gen<Hinted> {
    let long = |at: usize, count: usize, besides| Hinted {
        mapping: Request::of_length(pages(12)),
        hole: Range { at: pages(NEAR + 4), len: pages(count) },
        hint: pages(NEAR + at),
        besides,
        span: SPAN,
    };
    // Most of it would fit into the hole.
    let longer = Hinted {
        mapping: Request::of_length(pages(90)),
        hole: Range { at: pages(NEAR + 4), len: pages(70) },
        span: 100,
        ..long(4, 1, Flags::default())
    };
    // All of it would fit but the last page.
    let by_one = Hinted { mapping: Request::of_length(pages(4)), ..long(4, 3, Flags::default()) };
    let flags = [Flags::default(), POPULATE, NORESERVE];
    drawn("hints at, in and next to a hole between mappings", any_hinted())
        .also(flags.into_iter().flat_map(move |besides| [long(4, 3, besides), long(8, 1, besides)]))
        .also([longer, by_one])
}

fn any_hinted() -> BoxedStrategy<Hinted> {
    let hint = |hole: Range| {
        prop_oneof![
            2 => Just(hole.at),
            1 => Just(hole.at - 1),
            1 => Just(hole.at - pages(1)),
            1 => Just(hole.end()),
            1 => Just(hole.end() - 1),
            1 => Just(hole.end() - pages(1)),
            3 => any_size(0, NEAR + SPAN + 2),
        ]
    };
    // A long mapping is no better than its hint.
    let long = any_size(7, SPAN).prop_map(Request::of_length);
    let mapping = prop_oneof![5 => any_mapping(), 1 => long];
    let besides = prop_oneof![3 => Just(Flags::default()), 1 => Just(POPULATE), 1 => Just(NORESERVE)];
    (mapping, page_range(SPAN), besides)
        .prop_flat_map(move |(mapping, range, besides)| {
            let hole = Range { at: pages(NEAR) + range.at, ..range };
            (Just(mapping), Just(hole), hint(hole)).prop_map(move |(mapping, hole, hint)| Hinted {
                mapping,
                hole,
                hint,
                besides,
                span: SPAN,
            })
        })
        .boxed()
}

fn hint() -> Claim {
    claim("mmap.addr.hint")
        .states("An address other than NULL without MAP_FIXED is advice: the mapping may come to lie elsewhere, and never over one that exists.")
        .documents([WHAT.at("mmap, addr")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, MAP_FIXED not set"), linux("mmap(2), DESCRIPTION, addr")])
        .for_all(hinted(), |lab, hinted| {
            let Hinted { mapping, hole, hint, besides, span } = hinted;
            let whole = Range { at: pages(NEAR), len: pages(span) };
            let around = lab.map(anonymous(whole.len, READ_WRITE, PRIVATE).fixed(At::Arena(whole.at.get())))?;
            lab.store(around.start(), &Data::at(1, whole.at, whole.len)).prepared()?;
            lab.hole(hole.at, hole.len);
            let args = mapping.prepare(lab)?.and(besides);
            let map = lab.map(args.hint(At::Arena(hint.get())))?;
            must_keep_out(lab, map, Some(hole))?;
            let first = hint.round_down();
            if hole.at <= first && first < hole.end() && first + map.extent() <= hole.end() {
                let followed = map.address == lab.address(At::Arena(first.get()));
                lab.fact("a hint at pages that are free", if followed { "is followed" } else { "is not followed" });
            }
            must_behave(lab, &mapping, map)?;
            mapping.must_share_with(lab, map, args.fd)?;
            for (from, to) in [(whole.at, hole.at), (hole.end(), whole.end())] {
                if from < to {
                    lab.load(At::Arena(from.get()), to - from).must_hold(&Data::at(1, from, to - from))?;
                }
            }
            Ok(())
        })
        .part("far away", drawn("hints near the ends of address spaces", (any_mapping(), far_hints())), |lab, (mapping, hint)| {
            let map = lab.map(mapping.prepare(lab)?.hint(At::Null.plus(hint)))?;
            must_keep_out(lab, map, None)?;
            must_behave(lab, &mapping, map)
        })
        .one_in(4)
}

/// Next to powers of two from 2^39 on, where address spaces end, and to 2^64.
fn far_hints() -> BoxedStrategy<Size> {
    (39_u32..=64, any_size(0, 4), prop::bool::ANY)
        .prop_map(|(power, distance, below)| {
            let base = Size(1_usize.checked_shl(power).unwrap_or(0));
            if below || base == Size::ZERO { base - distance - 1 } else { base + distance }
        })
        .boxed()
}

fn hint_rounding() -> Claim {
    let holes = (any_mapping(), 0_usize..4, any_size(0, 6), 0_usize..3);
    let lowest = (0.0..1.0_f64).prop_map(Fraction);
    claim("mmap.addr.hint-rounding")
        .states("A hint that does not lie on a page boundary is moved to whichever boundary is closest.")
        .documents([WHAT.at("mmap, addr")])
        .refuted(
            "The hint is rounded down, even when the next boundary is closer; below one page it becomes NULL, and below \
             the lowest permitted address it is raised to that.",
        )
        .basis([
            unspecified("mmap, DESCRIPTION, MAP_FIXED not set"),
            linux("mmap(2), DESCRIPTION, addr"),
            linux("linux 7.2, mm/mmap.c, round_hint_to_min()"),
        ])
        .part("into a hole", drawn("hints at any byte of a hole, with room behind", holes), |lab, (mapping, before, hint, behind)| {
            let args = mapping.prepare(lab)?;
            let hole = Range { at: pages(NEAR), len: pages(before) + hint.round_down() + mapping.len.round_up() + pages(behind + 1) };
            lab.hole(hole.at, hole.len);
            let wish = hole.at + pages(before) + hint;
            let map = lab.map(args.hint(At::Arena(wish.get())))?;
            let down = lab.address(At::Arena(wish.round_down().get()));
            lab.must(map.address == down, "the page boundary below the hint", || {
                format!("{:+} bytes from it", map.address.wrapping_sub(down) as isize)
            })?;
            must_behave(lab, &mapping, map)
        })
        .part("below one page", drawn("hints at any byte of the first page", off_boundary()), |lab, hint| {
            let floor = lowest_hint(lab)?;
            let map = lab.map(anonymous(pages(1), READ_WRITE, PRIVATE).hint(At::Null.plus(hint)))?;
            let seen = || format!("{:#x}", map.address);
            lab.must(map.address != 0, "not NULL", seen)?;
            lab.must(Some(map.address) != floor, "a place as for NULL, and not the lowest one permitted", seen)?;
            lab.load(map.start(), pages(1)).must_hold(&Data::zeros(pages(1)))
        })
        .one_in(4)
        .part("below the lowest address", drawn("hints between the first page and the lowest permitted address", lowest).also([Fraction(0.0)]), |lab, part| {
            let Some(floor) = lowest_hint(lab)? else { return lab.lacking(Lack::Machine) };
            lab.fact("the lowest address that a hint leads to", Size(floor));
            let hint = page() + (part.0 * (floor - page()) as f64) as usize;
            let map = lab.map(anonymous(pages(1), READ_WRITE, PRIVATE).hint(At::Number(hint)))?;
            lab.must(map.address == floor, "the lowest permitted address", || format!("{:#x}", map.address))?;
            lab.load(map.start(), pages(1)).must_hold(&Data::zeros(pages(1)))
        })
        .one_in(4)
        .part("below the lowest address, unprivileged", drawn("hints of the first pages", any_size(page(), 3)), |lab, hint| {
            let child = lab.fork()?;
            child.drop_privileges()?;
            let map = child.map(anonymous(pages(1), READ_WRITE, PRIVATE).hint(At::Null.plus(hint)))?;
            child.load(map.start(), pages(1)).must_hold(&Data::zeros(pages(1)))
        })
        .one_in(16)
}

/// How far it is from the first page to the lowest permitted address.
#[derive(Clone, Copy)]
struct Fraction(f64);

impl fmt::Debug for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % of the way from the first page", self.0 * 100.0)
    }
}

/// Where a hint of one page leads; `None` where that is no low address, so that something of the program's own lies there.
fn lowest_hint(lab: &Lab) -> Verdict<Option<usize>> {
    const LOW: usize = 1 << 20;
    let map = lab.map(anonymous(pages(1), READ_WRITE, PRIVATE).hint(At::Number(page())))?;
    lab.must(map.address >= page(), "a place not below the hint", || format!("{:#x}", map.address))?;
    lab.unmap(map)?;
    Ok((map.address <= LOW).then_some(map.address))
}

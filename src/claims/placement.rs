//! Where a mapping lands, and what lies beside it.

use std::fmt;

use proptest::prelude::*;

use super::arguments::must_be_a_page_address;
use crate::claim::{Claim, DAY8, IPC, SHM, WHAT, claim, linux, posix};
use crate::input::{Range, Window, any_sharing, any_size, any_window, drawn};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED_NOREPLACE, Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![null(), start_returned()]
}

/// What lies in the page next to a range of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Nothing at all.
    Hole,
    /// A mapping that holds a pattern.
    Mapping,
    /// A mapping that permits nothing.
    NoAccess,
}

/// What lies on both sides of a range of the arena.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbours {
    before: Neighbour,
    behind: Neighbour,
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} before, {:?} behind", self.before, self.behind)
    }
}

/// All that can lie on both sides of a range.
pub(super) fn neighbours() -> BoxedStrategy<Neighbours> {
    let one = || prop::sample::select(vec![Neighbour::Hole, Neighbour::Mapping, Neighbour::NoAccess]);
    (one(), one()).prop_map(|(before, behind)| Neighbours { before, behind }).boxed()
}

impl Neighbours {
    /// Nothing on both sides.
    pub(super) const HOLES: Neighbours = Neighbours { before: Neighbour::Hole, behind: Neighbour::Hole };

    fn each(self, at: Size, extent: Size) -> [(Neighbour, Size); 2] {
        [(self.before, at - pages(1)), (self.behind, at + extent)]
    }

    /// Makes them, around a range of whole pages that begins `at` bytes into the arena.
    pub(super) fn put_around(self, lab: &Lab, at: Size, extent: Size) -> Verdict {
        for (neighbour, place) in self.each(at, extent) {
            match neighbour {
                Neighbour::Hole => {
                    lab.hole(place, pages(1));
                }
                Neighbour::Mapping => {
                    let map = lab.map(anonymous(pages(1), READ_WRITE, PRIVATE).fixed(At::Arena(place.get())))?;
                    lab.store(map.start(), &Data::at(0, place, pages(1))).prepared()?;
                }
                Neighbour::NoAccess => {}
            }
        }
        Ok(())
    }

    /// They are what they were, to the byte next to the range.
    pub(super) fn must_be_as_they_were(self, lab: &Lab, at: Size, extent: Size) -> Verdict {
        for (neighbour, place) in self.each(at, extent) {
            let start = At::Arena(place.get());
            match neighbour {
                Neighbour::Hole => {
                    lab.load(start, 1).must_be_unmapped(0)?;
                    lab.load(start.plus(pages(1) - 1), 1).must_be_unmapped(0)?;
                }
                Neighbour::Mapping => lab.load(start, pages(1)).must_hold(&Data::at(0, place, pages(1)))?,
                Neighbour::NoAccess => {
                    lab.load(start, 1).must_be_forbidden(0)?;
                    lab.load(start.plus(pages(1) - 1), 1).must_be_forbidden(0)?;
                }
            }
        }
        Ok(())
    }
}

/// A mapping at an address of the kernel's choice, or the unmapping of a part of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Map(Size, Flags),
    /// Of the mapping of this number, from this page, so many pages: each in a circle.
    Unmap(usize, usize, usize),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Map(len, flags) => write!(f, "map {len} {flags:?}"),
            Step::Unmap(which, from, count) => write!(f, "unmap {}p at {from}p of #{which}", count + 1),
        }
    }
}

/// What is left of a mapping; it holds the pattern of its seed, counted from the start of the mapping.
#[derive(Clone, Copy)]
struct Piece {
    map: Map,
    seed: u32,
    /// From the start of the mapping.
    from: Size,
    len: Size,
}

impl Piece {
    fn overlaps(self, map: Map) -> bool {
        let start = map.address.wrapping_sub(self.map.address.wrapping_add(self.from.get()));
        start < self.len.get() || start.wrapping_neg() < map.extent().get()
    }
}

fn null() -> Claim {
    let map = |count| Step::Map(pages(count), PRIVATE);
    // The hole that was made last is too small by a page.
    let too_small = vec![map(9), Step::Unmap(0, 3, 1), map(3), map(2), map(1)];
    let at_the_start = vec![map(4), map(4), Step::Unmap(1, 0, 0), map(2), Step::Unmap(0, 3, 0), map(2)];
    let step = prop_oneof![
        3 => (any_size(1, 30), any_sharing()).prop_map(|(len, sharing)| Step::Map(len, sharing)),
        2 => (0_usize..8, 0_usize..8, 0_usize..6).prop_map(|(which, from, count)| Step::Unmap(which, from, count)),
    ];
    let steps = drawn("mappings made and unmapped in part, in any order", prop::collection::vec(step, 1..14));
    claim("mmap.addr.null")
        .states(
            "Given a NULL address the kernel picks the place, and the place it picks overlaps no mapping that exists.",
        )
        .documents([DAY8.at("mmap, addr"), SHM.at("mmap, addr"), IPC.at("mmap, addr"), WHAT.at("mmap, addr")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_FIXED not set"),
            linux("mmap(2), DESCRIPTION, addr"),
            linux("mmap(2), VERSIONS"),
        ])
        .for_all(steps.also([too_small, at_the_start]), |lab, steps| {
            let mut pieces = Vec::new();
            for (index, step) in (0_u32..).zip(steps) {
                match step {
                    Step::Map(len, sharing) => pieces.push(map_anywhere(lab, &pieces, index, len, sharing)?),
                    Step::Unmap(..) if pieces.is_empty() => {}
                    Step::Unmap(which, from, count) => unmap_a_part(lab, &mut pieces, which, from, count)?,
                }
            }
            for piece in pieces {
                let kept = Data::at(piece.seed, piece.from, piece.len);
                lab.load(piece.map.at(piece.from), piece.len).must_hold(&kept)?;
            }
            Ok(())
        })
}

fn map_anywhere(lab: &Lab, pieces: &[Piece], index: u32, len: Size, sharing: Flags) -> Verdict<Piece> {
    let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
    must_be_a_page_address(lab, map)?;
    if let Some(other) = pieces.iter().find(|piece| piece.overlaps(map)) {
        let seen = || format!("{:?} overlaps {:?} by its bytes from {}", map.id, other.map.id, other.from);
        lab.must(false, "a place where nothing was mapped", seen)?;
    }
    must_keep_out(lab, map, None)?;
    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
    let seed = index * 2 + 1;
    lab.store(map.start(), &Data::pattern(seed, map.extent())).must_succeed()?;
    Ok(Piece { map, seed, from: Size::ZERO, len: map.extent() })
}

fn unmap_a_part(lab: &Lab, pieces: &mut Vec<Piece>, which: usize, from: usize, count: usize) -> Verdict {
    let index = which % pieces.len();
    let piece = pieces.swap_remove(index);
    let whole = piece.len.in_pages();
    let first = from % whole;
    let (head, gone) = (pages(first), pages((count + 1).min(whole - first)));
    lab.munmap(piece.map.at(piece.from + head), gone).must_succeed()?;
    let tail = Piece { from: piece.from + head + gone, len: piece.len - head - gone, ..piece };
    pieces.extend([Piece { len: head, ..piece }, tail].into_iter().filter(|left| left.len != Size::ZERO));
    Ok(())
}

/// The mapping lies in the hole of the arena as a whole, or nowhere in the arena, which is a mapping itself.
pub(super) fn must_keep_out(lab: &Lab, map: Map, hole: Option<Range>) -> Verdict {
    let (start, end) = (lab.address(At::Arena(0)), lab.address(At::Arena(0)) + pages(lab.arena_pages()).get());
    let (from, to) = (map.address, map.address.wrapping_add(map.extent().get()));
    let in_hole = hole.is_some_and(|hole| from >= start + hole.at.get() && to <= start + hole.end().get());
    lab.must(to <= start || from >= end || in_hole, "a place where nothing was mapped", || {
        format!("{:?} lies at arena{:+} and overlaps what is mapped there", map.id, from.wrapping_sub(start) as isize)
    })
}

/// Where in the arena mappings are placed, in pages.
pub(super) const NEAR: usize = 8;

/// How an address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Null,
    HintAtHole,
    HintAtMapping,
    Fixed,
    FixedNoReplace,
}

fn start_returned() -> Claim {
    let way =
        prop::sample::select(vec![Way::Null, Way::HintAtHole, Way::HintAtMapping, Way::Fixed, Way::FixedNoReplace]);
    let inputs = (any_window(12), any_sharing(), way, neighbours());
    claim("mmap.addr.start-returned")
        .states("The return value is where the mapping begins, with or without an address asked for.")
        .documents([SHM.at("mmap, addr")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, pa"), linux("mmap(2), DESCRIPTION, addr")])
        .for_all(
            drawn("windows on files, with and without an address", inputs),
            |lab, (window, sharing, way, around)| begins_where_it_says(lab, &window, sharing, way, around),
        )
}

/// The first byte at the address is the first of the window, and the mapping ends where it should.
fn begins_where_it_says(lab: &Lab, window: &Window, sharing: Flags, way: Way, around: Neighbours) -> Verdict {
    let (at, extent) = (pages(NEAR), window.len.round_up());
    let place = At::Arena(at.get());
    // A place of the kernel's choice may be in a hole beside the one meant, so that none is made then.
    let chosen = matches!(way, Way::Null | Way::HintAtMapping);
    if !chosen {
        around.put_around(lab, at, extent)?;
    }
    let (_, fd) = lab.new_file(&window.file())?;
    let args = request(window.len, READ_WRITE, sharing, fd).offset(window.offset);
    if matches!(way, Way::HintAtHole | Way::FixedNoReplace) {
        lab.hole(at, extent);
    }
    let map = lab.map(match way {
        Way::Null => args,
        Way::HintAtHole | Way::HintAtMapping => args.hint(place),
        Way::Fixed => args.fixed(place),
        Way::FixedNoReplace => args.hint(place).and(FIXED_NOREPLACE),
    })?;
    let there = map.address == lab.address(place);
    if matches!(way, Way::Fixed | Way::FixedNoReplace) {
        lab.must(there, "the address that was asked for", || format!("{:#x}", map.address))?;
    }
    let mut contents = window.file().to_vec();
    let shown = contents.len().min((window.offset + extent).get()) - window.offset.get();
    let mut view = contents[window.offset.get()..][..shown].to_vec();
    view.resize(extent.get(), 0);
    lab.load(map.start(), extent).must_equal(&view)?;
    let ends = [(Size::ZERO, Data::repeat(1, 1)), (window.len - 1, Data::repeat(2, 1))];
    for (distance, byte) in &ends {
        lab.store(map.at(*distance), byte).must_succeed()?;
        if sharing == SHARED {
            byte.fill(&mut contents[(window.offset + *distance).get()..][..1]);
        }
    }
    lab.pread(fd, window.size, 0).must_equal(&contents)?;
    if !chosen {
        around.must_be_as_they_were(lab, at, extent)?;
    }
    lab.munmap(map.start(), window.len).must_succeed()?;
    lab.load(map.start(), 1).must_be_unmapped(0)?;
    lab.load(map.end().minus(1), 1).must_be_unmapped(0)
}

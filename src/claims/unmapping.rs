//! munmap: what it accepts, what it takes away, and what it leaves.

use libc::EINVAL;
use proptest::prelude::*;

use super::each_number::{self, each_number};
use super::large_ranges::{self, large_lengths};
use crate::claim::{Claim, DAY8, Depends, IPC, MAPIO, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Cut, Gen, Layout, Piece, Stretch, any_layout, any_request, any_sharing, any_size, drawn, each,
    layouts_and_cuts, many_pages, reach,
};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::names::{PRIVATE, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![result(), length(), address(), releases()]
}

fn result() -> Claim {
    claim("munmap.result")
        .states("munmap returns 0 on success, and -1 with errno on failure.")
        .documents([WHAT.at("munmap"), DAY8.at("listing 1")])
        .holds()
        .basis([posix("munmap, RETURN VALUE"), linux("mmap(2), RETURN VALUE")])
        .part("success", stretches(3, 1), |lab, (layout, cuts)| unmapped_one_by_one(lab, &layout, &cuts).map(drop))
        .one_in(2)
        .part("failure", stretches(2, 1).and(refused_ranges()), |lab, ((layout, cuts), wrong)| {
            let stretch = layout.lay(lab)?;
            let (at, len) = wrong.range(&stretch, cuts[0]);
            lab.munmap(at, len).must_fail(EINVAL)?;
            stretch.must_be_as_modelled(lab)
        })
}

/// What is wrong with a range that munmap refuses.
#[derive(Clone, Copy)]
enum Wrong {
    Unaligned(Size),
    Empty,
    UnalignedAndEmpty(Size),
    /// A length so many bytes short of 2^64.
    Overlong(Size),
    /// A range that ends so many bytes beyond the last address there is, or before.
    EndsAt(isize),
    /// A range in the last page of all addresses.
    LastPage,
}

impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Unaligned(by) => write!(f, "{by} off a page"),
            Wrong::Empty => write!(f, "length 0"),
            Wrong::UnalignedAndEmpty(by) => write!(f, "length 0, {by} off a page"),
            Wrong::Overlong(short) => write!(f, "length 2^64-{short}"),
            Wrong::EndsAt(0) => write!(f, "up to the end of all addresses"),
            Wrong::EndsAt(by) => write!(f, "up to {by:+} of the end of all addresses"),
            Wrong::LastPage => write!(f, "the last page of all addresses"),
        }
    }
}

impl Wrong {
    /// The range to ask for in the place of a good one.
    fn range(self, stretch: &Stretch, cut: Cut) -> (At, Size) {
        let (at, len) = (stretch.at(cut.from), cut.len());
        match self {
            Wrong::Unaligned(by) => (at.plus(by), len),
            Wrong::Empty => (at, Size::ZERO),
            Wrong::UnalignedAndEmpty(by) => (at.plus(by), Size::ZERO),
            Wrong::Overlong(short) => (at, Size::ZERO - short),
            Wrong::EndsAt(by) => (at, Size(by as usize) - stretch.address(cut.from)),
            Wrong::LastPage => (At::Number(Size::ZERO.get().wrapping_sub(page())), pages(1)),
        }
    }
}

/// Ranges that a kernel must refuse and that reach, if it does not, where they should not.
///
/// The addresses of s390x end a page short of 2^64 (asm/processor.h, TASK_SIZE_MAX): there is no smaller length that every
/// machine refuses.
fn refused_ranges() -> Gen<Wrong> {
    let off = prop_oneof![prop::sample::select(vec![1, 2, 4, 8]), 1..reach()].prop_flat_map(|by| {
        prop::sample::select(vec![
            Wrong::Unaligned(Size(by)),
            Wrong::Unaligned(pages(1) - by),
            Wrong::UnalignedAndEmpty(Size(by)),
        ])
    });
    let top = (1..reach()).prop_flat_map(|by| {
        prop::sample::select(vec![Wrong::Overlong(Size(by)), Wrong::EndsAt(by as isize), Wrong::EndsAt(-(by as isize))])
    });
    let strategy = prop_oneof![
        4 => off,
        1 => Just(Wrong::Empty),
        2 => top,
        1 => Just(Wrong::EndsAt(0)),
        1 => Just(Wrong::Overlong(pages(1))),
        1 => Just(Wrong::LastPage),
    ];
    drawn("each wrong: unaligned, empty, longer than the addresses that there are", strategy)
}

/// Nothing is mapped on any page where the mapping was.
pub(super) fn must_be_a_hole(lab: &Lab, map: Map) -> Verdict {
    for index in 0..map.len.in_pages() {
        lab.load(map.at(pages(index)), 1).must_be_unmapped(0)?;
        lab.load(map.at(pages(index + 1) - 1), 1).must_be_unmapped(0)?;
    }
    Ok(())
}

fn length() -> Claim {
    claim("munmap.length-must-match")
        .states("munmap has to be given the length that mmap was given.")
        .documents([IPC.at("munmap, length"), SHM.at("munmap"), WHAT.at("munmap")])
        .refuted(
            "Any length inside the address space is accepted and rounded up to whole pages; unmapping a part keeps the rest, \
             and holes are no error. Length 0, and a range beyond the end of the address space, are EINVAL.",
        )
        .basis([
            posix("munmap, DESCRIPTION"),
            posix("munmap, ERRORS, [EINVAL]"),
            linux("mmap(2), munmap()"),
            linux("mmap(2), ERRORS, ENOMEM"),
            linux("linux 7.2, mm/vma.c, do_vmi_munmap()"),
        ])
        .part("the same length", any_request(), |lab, request| {
            let map = lab.map(request.prepare(lab)?)?;
            lab.munmap(map.start(), request.len).must_return(0_u64)?;
            must_be_a_hole(lab, map)
        })
        .part("another length", other_lengths(), |lab, (layout, short)| {
            let mut stretch = layout.lay(lab)?;
            let to = (1 + short.in_pages()).min(stretch.count() - 1);
            let cut = Cut { from: 1, to, short: pages(to - 1).less(short).get() };
            lab.munmap(stretch.at(1), cut.len()).must_return(0_u64)?;
            stretch.vacate(cut);
            stretch.must_be_as_modelled(lab)?;
            stretch.files_must_be_as_modelled(lab)
        })
        .part("a length beyond the address space", each("powers of two", [57, 58, 60, 62, 63]), |lab, power: u32| {
            if cfg!(target_arch = "s390x") {
                // Its addresses end a page short of 2^64 (asm/processor.h, TASK_SIZE_MAX): such a range is a good one.
                return lab.lacking(Lack::Machine);
            }
            let map = lab.map(anonymous(pages(3), READ_WRITE, PRIVATE).fixed(At::Arena(0)))?;
            lab.store(map.start(), &Data::pattern(1, map.len)).prepared()?;
            lab.munmap(map.at(pages(1)), 1_usize << power).must_fail(EINVAL)?;
            lab.load(map.start(), map.len).must_hold(&Data::pattern(1, map.len))
        })
        .depends_on([Depends::Machine])
        .part("no length, or one of almost 2^64", stretches(2, 1).also([out_of_three(&[1])]).and(too_long()), |lab, input| {
            let ((layout, cuts), wrong) = input;
            let stretch = layout.lay(lab)?;
            let (at, len) = wrong.range(&stretch, cuts[0]);
            lab.munmap(at, len).must_fail(EINVAL)?;
            stretch.must_be_as_modelled(lab)
        })
}

/// One mapping with a hole behind it and another mapping behind that, and lengths from its first byte on: shorter, as long, longer.
fn other_lengths() -> Gen<(Layout, Size)> {
    let strategy = (any_layout_of_one(), any_size(1, 24));
    drawn(
        "a mapping, a hole, a mapping, a hole; lengths from the first mapping's address on, from one byte to all of it",
        strategy,
    )
}

fn any_layout_of_one() -> BoxedStrategy<Layout> {
    any_layout(1)
        .prop_flat_map(|layout| (Just(layout), 1_usize..4, 1_usize..6, any_sharing()))
        .prop_map(|(mut layout, hole, behind, sharing)| {
            layout.pieces.extend([
                (hole, Piece::Hole),
                (behind, Piece::Mapped(Backing::Anonymous, sharing)),
                (2, Piece::Hole),
            ]);
            layout
        })
        .boxed()
}

fn too_long() -> Gen<Wrong> {
    let list = [0, 1, 17].map(|short| Wrong::Overlong(Size(short) + 1)).into_iter().chain([
        Wrong::Empty,
        Wrong::Overlong(pages(1) - 1),
        Wrong::Overlong(pages(1)),
        Wrong::EndsAt(0),
        Wrong::EndsAt(1),
        Wrong::EndsAt(-1),
        Wrong::LastPage,
    ]);
    let all: Vec<Wrong> = list.collect();
    drawn(
        "length 0, lengths of almost 2^64, and those up to the end of all addresses",
        prop::sample::select(all.clone()),
    )
    .also(all)
}

fn address() -> Claim {
    claim("munmap.address-must-match")
        .states("munmap has to be given an address that mmap returned.")
        .documents([IPC.at("munmap, addr"), SHM.at("munmap"), WHAT.at("munmap")])
        .refuted("Any page-aligned address will do: in the middle of a mapping, in a hole, in one of several mappings.")
        .basis([
            posix("munmap, DESCRIPTION"),
            unspecified("munmap, DESCRIPTION, last paragraph"),
            linux("mmap(2), munmap()"),
        ])
        .part("an address that mmap returned", stretches(4, 1), |lab, (layout, _)| {
            let mut stretch = layout.lay(lab)?;
            let mut from = 1;
            for (count, piece) in &layout.pieces {
                if *piece != Piece::Hole {
                    let cut = Cut { from, to: from + count, short: 0 };
                    lab.munmap(stretch.at(from), cut.len()).must_return(0_u64)?;
                    stretch.vacate(cut);
                    stretch.must_be_as_modelled(lab)?;
                }
                from += count;
            }
            stretch.files_must_be_as_modelled(lab)
        })
        .one_in(2)
        .part("another address", stretches(5, 3), |lab, (layout, cuts)| {
            unmapped_one_by_one(lab, &layout, &cuts).map(drop)
        })
        .one_in(2)
        .part("in a hole", stretches(3, 2), |lab, (layout, cuts)| {
            let mut stretch = layout.lay(lab)?;
            for cut in cuts {
                lab.munmap(stretch.at(cut.from), cut.len()).must_return(0_u64)?;
                stretch.vacate(cut);
                lab.munmap(stretch.at(cut.from), cut.len()).must_return(0_u64)?;
                lab.munmap(stretch.at(cut.to - 1), 1).must_return(0_u64)?;
                stretch.must_be_as_modelled(lab)?;
            }
            Ok(())
        })
}

fn releases() -> Claim {
    claim("munmap.releases")
        .states("munmap releases exactly the pages of the range; their neighbours keep their contents.")
        .documents([DAY8.at("munmap"), SHM.at("munmap"), IPC.at("munmap"), MAPIO.at("notes"), WHAT.at("munmap")])
        .holds()
        .basis([posix("munmap, DESCRIPTION"), linux("mmap(2), munmap()")])
        .part("pages", stretches(6, 4).also([out_of_three(&[3, 1])]).also_long(long_ones()), |lab, (layout, cuts)| {
            let mut stretch = unmapped_one_by_one(lab, &layout, &cuts)?;
            // What is left works as it did: it is stored to, and what is shared reaches its file.
            stretch.store_to_what_is_left(lab, &layout)?;
            stretch.must_be_as_modelled(lab)?;
            stretch.files_must_be_as_modelled(lab)
        })
        .part("each number of pages", each_number(), each_number::unmapped)
        .part("2 GiB and more", large_lengths(), large_ranges::unmapped)
        .one_in(8)
        .part("used again", stretches(3, 1).and(each("each sharing type", [SHARED, PRIVATE])), |lab, input| {
            let ((layout, cuts), sharing) = input;
            let mut stretch = layout.lay(lab)?;
            let cut = cuts[0];
            lab.munmap(stretch.at(cut.from), cut.len()).must_return(0_u64)?;
            stretch.vacate(cut);
            let map = lab.map(anonymous(cut.len(), READ_WRITE, sharing).fixed(stretch.at(cut.from)))?;
            lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
            lab.munmap(map.start(), 1).must_return(0_u64)?;
            lab.munmap(map.start(), map.len).must_return(0_u64)?;
            stretch.must_be_as_modelled(lab)?;
            stretch.files_must_be_as_modelled(lab)
        })
        .part("in one process only", stretches(4, 2).and(each("by", [By::Parent, By::Child])), |lab, input| {
            let ((layout, cuts), by) = input;
            let before = layout.lay(lab)?;
            let child = lab.fork()?;
            let mut after = before.clone();
            for cut in cuts {
                let (at, len) = (after.at(cut.from), cut.len());
                match by {
                    By::Parent => lab.munmap(at, len),
                    By::Child => child.munmap(at, len),
                }
                .must_return(0_u64)?;
                after.vacate(cut);
            }
            let (parent, child_model) = if by == By::Parent { (&after, &before) } else { (&before, &after) };
            parent.must_be_as_modelled(lab)?;
            child_model.must_be_as_modelled(child)?;
            before.files_must_be_as_modelled(child)
        })
        .one_in(8)
}

/// Which of two processes unmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Parent,
    Child,
}

/// After each range has been unmapped every page of the stretch and around it is looked at, and in the end the files are.
fn unmapped_one_by_one(lab: &Lab, layout: &Layout, cuts: &[Cut]) -> Verdict<Stretch> {
    let mut stretch: Stretch = layout.lay(lab)?;
    for cut in cuts {
        lab.munmap(stretch.at(cut.from), cut.len()).must_return(0_u64)?;
        stretch.vacate(*cut);
        stretch.must_be_as_modelled(lab)?;
    }
    stretch.files_must_be_as_modelled(lab)?;
    Ok(stretch)
}

pub(super) fn stretches(pieces: usize, cuts: usize) -> Gen<(Layout, Vec<Cut>)> {
    drawn(
        format!("up to {pieces} mappings and holes side by side, and page ranges, up to {cuts}, that cut across them"),
        layouts_and_cuts(pieces, cuts),
    )
}

/// One mapping of three pages, and which of them are cut out, one after the other.
fn out_of_three(pages: &[usize]) -> (Layout, Vec<Cut>) {
    let pieces = vec![(3, Piece::Mapped(Backing::Anonymous, PRIVATE))];
    let layout = Layout { first: 3, pieces, contents: 2, short: 0, stored: false };
    (layout, pages.iter().map(|from| Cut { from: *from, to: from + 1, short: 0 }).collect())
}

/// One mapping of many pages, unmapped as a whole or but for a few pages at either end.
fn long_ones() -> [(Layout, Vec<Cut>); 2] {
    let long = |backing, sharing, from, to| {
        let pieces = vec![(many_pages(), Piece::Mapped(backing, sharing))];
        let layout = Layout { first: 3, pieces, contents: 2, short: 0, stored: false };
        (layout, vec![Cut { from, to, short: 0 }])
    };
    let all = many_pages() + 1;
    [long(Backing::Anonymous, PRIVATE, 1, all), long(Backing::File, SHARED, 4, all - 3)]
}

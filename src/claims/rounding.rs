//! Whole pages are mapped, whatever the length.

use proptest::prelude::*;

use super::each_number::{self, each_number};
use super::placement::{Neighbours, neighbours};
use crate::claim::{Claim, WHAT, claim, linux, posix, unspecified};
use crate::input::{Edit, Gen, Request, any_mapping, any_size, drawn, edits_within};
use crate::kernel::call::{At, MmapArgs};
use crate::kernel::data::Data;
use crate::kernel::names::{NONE, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![rounded_up()]
}

/// A readable and writable mapping, what surrounds it, and edits in all of its pages.
#[derive(Clone, Debug)]
struct Rounded {
    mapping: Request,
    place: Place,
    between: Neighbours,
    edits: Vec<Edit>,
}

/// Who chooses where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// MAP_FIXED.
    Fixed,
    /// A hint at a hole that is as large.
    Hint,
    /// The kernel, where a larger mapping has just been unmapped.
    Null,
}

fn rounded_up() -> Claim {
    claim("mmap.length.rounded-up")
        .states("The length may be any number of bytes: whole pages are mapped, so it is in effect rounded up to the page size.")
        .documents([WHAT.at("mmap, length")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, page size paragraph"),
            unspecified("mmap, RATIONALE: references past the end of the area asked for"),
            linux("mmap(2), NOTES"),
            linux("linux 7.2, mm/mmap.c, do_mmap()"),
        ])
        .for_all(any_rounded(6), |lab, rounded| whole_pages_are_mapped(lab, &rounded))
        .part("each number of pages", each_number(), each_number::mapped)
        .part("many pages", any_rounded(300), |lab, rounded| whole_pages_are_mapped(lab, &rounded))
        .one_in(16)
}

fn any_rounded(most: usize) -> Gen<Rounded> {
    let mapping = (any_mapping(), any_size(1, most), 0_usize..3).prop_map(|(mapping, len, further)| {
        // The file reaches to the last page of the mapping, ends there or goes on.
        let size = mapping.offset + (len - 1).round_down() + pages(further) + 1 + mapping.size;
        Request { len, prot: READ_WRITE, size, ..mapping }
    });
    let strategy = mapping.prop_flat_map(|mapping| {
        let edits = edits_within(mapping.len.round_up(), 3);
        let place = prop::sample::select(vec![Place::Fixed, Place::Hint, Place::Null]);
        (Just(mapping), place, neighbours(), edits).prop_map(|(mapping, place, between, edits)| Rounded {
            mapping,
            place,
            between,
            edits,
        })
    });
    let edges = [pages(1) + 1, pages(2) - 1, pages(3) + 1, pages(5) - 1, pages(16), pages(33) + 1, pages(129) - 1];
    let named = edges.into_iter().filter(move |len| *len <= pages(most)).map(|len| Rounded {
        mapping: Request::of_length(len),
        place: Place::Fixed,
        between: Neighbours::HOLES,
        edits: vec![Edit { at: len - 1, data: Data::at(1, len - 1, 1) }],
    });
    drawn(format!("mappings of one byte to {most} pages, and what lies before and behind them"), strategy).also(named)
}

/// Every byte of the last page belongs to the mapping, and the next page does not.
///
/// A place of the kernel's choice may be in a hole beside the one meant, so that none is made then.
fn whole_pages_are_mapped(lab: &Lab, Rounded { mapping, place, between, edits }: &Rounded) -> Verdict {
    let at = pages(8);
    let among = (*place != Place::Null).then_some(*between);
    if let Some(between) = among {
        between.put_around(lab, at, mapping.len.round_up())?;
    }
    let args = mapping.prepare(lab)?;
    let map = match place {
        Place::Fixed => lab.map(args.fixed(At::Arena(at.get())))?,
        Place::Hint => lab.map(args.hint(lab.hole(at, mapping.len)))?,
        Place::Null => map_where_there_is_room(lab, args)?,
    };
    let mut view = mapping.view();
    lab.load(map.start(), map.extent()).must_equal(&view)?;
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut view);
    }
    let last = Data::repeat(1, 1);
    lab.store(map.end().minus(1), &last).must_succeed()?;
    last.fill(&mut view[map.extent().get() - 1..]);
    lab.load(map.start(), map.extent()).must_equal(&view)?;
    if let Some(between) = among {
        between.must_be_as_they_were(lab, at, map.extent())?;
    }
    if mapping.backing.is_file() {
        let mut contents = Data::pattern(mapping.contents, mapping.size).to_vec();
        if mapping.sharing == SHARED {
            let from = mapping.offset.get();
            let shown = (contents.len() - from).min(view.len());
            contents[from..from + shown].copy_from_slice(&view[..shown]);
        }
        lab.pread(args.fd, mapping.size + 1, 0).must_equal(&contents)?;
    }
    Ok(())
}

/// A mapping at an address of the kernel's choice; of a larger range that was unmapped just before, it takes up its own pages and no more.
fn map_where_there_is_room(lab: &Lab, args: MmapArgs) -> Verdict<Map> {
    let room = lab.map(anonymous(args.len.round_up() + pages(2), NONE, PRIVATE))?;
    lab.unmap(room)?;
    let map = lab.map(args)?;
    let taken = map.address..map.address + map.extent().get();
    let mut rest = (0..room.len.get()).step_by(page()).filter(|start| !taken.contains(&(room.address + start)));
    lab.aside(|| rest.try_for_each(|start| lab.load(room.at(start), 1).must_be_unmapped(0)))?;
    Ok(map)
}

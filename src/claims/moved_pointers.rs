//! munmap and pointers into a mapping that have been moved.

use libc::EINVAL;
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Cut, Edit, Gen, Request, any_backing, any_sharing, any_size, drawn, edits_within, page_range, reach,
};
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE};
use crate::kernel::page::{Size, page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;
use crate::lab::{Lab, Map};

use super::unmapping::{must_be_a_hole, stretches};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![moved_pointer(), moved_pointer_stores(), saved_pointer()]
}

fn moved_pointer() -> Claim {
    claim("munmap.moved-pointer")
        .states("munmap on a pointer that has been moved on fails.")
        .documents([DAY8.at("note 2"), IPC.at("question 1"), MAPIO.at("notes")])
        .qualified(
            "EINVAL, with the mapping intact, for an address that is not page-aligned; \
             one moved by whole pages is accepted, and unmaps another range than was meant.",
        )
        .basis([
            unspecified("munmap, DESCRIPTION and ERRORS, may fail, [EINVAL]"),
            linux("mmap(2), munmap()"),
            linux("mmap(2), ERRORS, EINVAL"),
            posix("munmap, DESCRIPTION"),
        ])
        .part("moved by bytes", stretches(2, 1).and(distances()), |lab, ((layout, cuts), distance)| {
            let stretch = layout.lay(lab)?;
            let moved = stretch.at(cuts[0].from).plus(distance);
            for len in [cuts[0].len(), cuts[0].len().less(distance), Size(1), Size::ZERO] {
                lab.munmap(moved, len).must_fail(EINVAL)?;
            }
            stretch.must_be_as_modelled(lab)
        })
        .part("moved by whole pages", stretches(3, 1), |lab, (layout, cuts)| {
            let mut stretch = layout.lay(lab)?;
            let length = layout.pieces[0].0;
            let moved = 2 + cuts[0].from % (stretch.count() - 2);
            let reached = Cut { from: moved, to: (moved + length).min(stretch.count()), short: cuts[0].short };
            lab.munmap(stretch.at(moved), reached.len()).must_return(0_u64)?;
            stretch.vacate(reached);
            stretch.must_be_as_modelled(lab)?;
            stretch.files_must_be_as_modelled(lab)
        })
}

/// How far a pointer is moved so that it does not point to the beginning of a page: as ++ moves it, and otherwise.
fn distances() -> Gen<Size> {
    let bytes = prop_oneof![prop::sample::select(vec![1_usize, 2, 4, 8]), 1..reach()];
    let strategy = (0_usize..3, bytes, any::<bool>())
        .prop_map(|(count, by, back)| pages(count) + if back { Size(page() - by) } else { Size(by) });
    drawn("the pointer moved by some bytes that are no whole pages", strategy)
}

fn moved_pointer_stores() -> Claim {
    claim("munmap.moved-pointer-stores")
        .states("Stores through a pointer that has been moved on go where it points now.")
        .documents([DAY8.at("note 2")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, pa"), linux("mmap(2), DESCRIPTION")])
        .for_all(written_mappings(), |lab, (request, edits)| {
            let (map, mut model) = mapped(lab, &request)?;
            let mut pointer = map.start();
            for edit in &edits {
                pointer = map.at(edit.at);
                lab.store(pointer, &edit.data).must_succeed()?;
                edit.apply(&mut model);
                if !edit.at.is_whole() {
                    lab.munmap(pointer, request.len).must_fail(EINVAL)?;
                }
                lab.load(map.start(), model.len()).must_equal(&model)?;
            }
            let last = edits.last().map_or(0, |edit| edit.at.get());
            lab.load(pointer, model.len() - last).must_equal(&model[last..])
        })
}

/// Readable and writable mappings of every backing, and what is stored to them.
fn written_mappings() -> Gen<(Request, Vec<Edit>)> {
    let parts = (any_backing(), any_size(1, 12), 0_usize..4, any_sharing());
    let strategy = parts.prop_flat_map(|(backing, len, offset, sharing)| {
        let offset = if backing == Backing::DevZero { Size::ZERO } else { pages(offset) };
        let request = Request { backing, contents: 2, size: offset + len, len, prot: READ_WRITE, sharing, offset };
        (Just(request), edits_within(len, 5))
    });
    drawn("mappings of every backing and length; some stores, each at another place", strategy)
}

/// The mapping, with the bytes that it shows.
fn mapped(lab: &Lab, request: &Request) -> Verdict<(Map, Vec<u8>)> {
    let map = lab.map(request.prepare(lab)?)?;
    let mut model = vec![0; map.extent().get()];
    if request.backing.is_file() {
        let shown = request.len.get();
        Data::at(request.contents, request.offset, shown).fill(&mut model[..shown]);
    }
    Ok((map, model))
}

fn saved_pointer() -> Claim {
    let inputs = written_mappings().and(drawn("a range whose rights change", page_range(12)));
    claim("munmap.saved-pointer")
        .states("munmap on the saved original address succeeds, whatever was done to copies of the pointer.")
        .documents([DAY8.at("note 2"), IPC.at("question 1"), MAPIO.at("notes")])
        .holds()
        .basis([posix("munmap, DESCRIPTION"), linux("mmap(2), munmap()")])
        .for_all(inputs, |lab, ((request, edits), range)| {
            let (map, mut model) = mapped(lab, &request)?;
            for edit in &edits {
                lab.store(map.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut model);
                let moved = if edit.at.is_whole() { edit.at + 4 } else { edit.at };
                lab.munmap(map.at(moved), request.len).must_fail(EINVAL)?;
            }
            // From here on the kernel keeps the mapping in up to three parts.
            if range.end() <= map.extent() {
                lab.mprotect(map.at(range.at), range.len, READ).prepared()?;
            }
            lab.load(map.start(), model.len()).must_equal(&model)?;
            lab.munmap(map.start(), request.len).must_return(0_u64)?;
            must_be_a_hole(lab, map)
        })
}

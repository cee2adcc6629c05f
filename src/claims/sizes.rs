//! Files that are empty, or too short, when they are mapped.

use libc::EINVAL;
use proptest::prelude::*;

use super::resizing::{Means, Named, means, must_have_room};
use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, claim, linux, posix, unspecified};
use crate::input::{Backing, Edit, Gen, any_sharing, any_size, drawn, edit_within, file_backing};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![empty_refused(), must_be_sized_first()]
}

fn empty_refused() -> Claim {
    claim("file.empty-refused")
        .states("A file of size 0, such as one newly created, cannot be mapped.")
        .documents([
            DAY8.at("note 1"),
            IPC.at("mmap, fd"),
            IPC.at("question 5"),
            MAPIO.at("notes"),
            MAPIO.at("first listing"),
        ])
        .refuted(
            "Length 0 is what is refused. With a length above 0 an empty file is mapped, and touching it is SIGBUS until the \
             file has grown.",
        )
        .basis([
            posix("mmap, RATIONALE: a region larger than the object can be mapped"),
            posix("mmap, ERRORS, [EINVAL]: a zero len"),
            posix("mmap, DESCRIPTION, end of an object"),
            linux("mmap(2), ERRORS: none for an empty file"),
            linux("mmap(2), Signals, SIGBUS"),
        ])
        .part("with a length above 0", empties(), empty_files_are_mapped)
        .part("with the file's own size as length", own_sizes(), length_zero_is_what_fails)
}

fn must_be_sized_first() -> Claim {
    claim("file.must-be-sized-first")
        .states(
            "A new file has to be given a size, with truncate or ftruncate, before what is mapped of it can be used.",
        )
        .documents([DAY8.at("note 1"), IPC.at("question 5"), MAPIO.at("notes"), SHM.at("steps")])
        .holds()
        .basis([
            posix("mmap, RATIONALE: references do not extend the object"),
            posix("mmap, DESCRIPTION, end of an object"),
            unspecified("mmap, DESCRIPTION: parts added after mmap"),
            unspecified("mmap(2), NOTES: pages that correspond to added parts"),
            linux("linux 7.2, mm/filemap.c, filemap_fault(): the size is looked at at each fault"),
        ])
        .part("sized before mmap", sized(), usable_when_sized)
        .part("sized after mmap, step by step", growths(), usable_as_it_grows)
}

/// An empty file, a mapping of it, and the size that it gets later.
#[derive(Clone, Copy, Debug)]
struct Empty {
    backing: Backing,
    len: Size,
    offset: Size,
    prot: Prot,
    sharing: Flags,
    grown: Size,
}

fn empties() -> Gen<Empty> {
    let prot = prop::sample::select(vec![READ, WRITE, READ_WRITE]);
    let offset = prop_oneof![2 => Just(0), 1 => 1_usize..4].prop_map(pages);
    let parts = (file_backing(), any_size(1, 20), offset, prot, any_sharing(), any_size(1, 20));
    drawn(
        "mappings of empty files: lengths from one byte to 20 pages, page offsets, protections, sharing types",
        parts.prop_map(|(backing, len, offset, prot, sharing, grown)| Empty {
            backing,
            len,
            offset,
            prot,
            sharing,
            grown,
        }),
    )
}

fn empty_files_are_mapped(lab: &Lab, input: Empty) -> Verdict {
    let Empty { backing, len, offset, prot, sharing, grown } = input;
    must_have_room(lab, backing, grown)?;
    let fd = backing.open(lab, &Data::zeros(0))?;
    let answer = lab.try_map(request(len, prot, sharing, fd).offset(offset));
    let Some(map) = answer.1 else { return answer.0.must_succeed() };
    answer.0.must_succeed()?;
    ends_at(lab, map, prot, Size::ZERO)?;
    lab.must(lab.size(fd)? == Size::ZERO, "touching it does not make it longer", || "it has a size".into())?;
    lab.ftruncate(fd, grown).prepared()?;
    ends_at(lab, map, prot, grown.less(offset))
}

/// Up to `size` and on to the end of its page the mapping is there and zero; every page behind it is beyond the file.
fn ends_at(lab: &Lab, map: Map, prot: Prot, size: Size) -> Verdict {
    let inside = size.round_up().min(map.extent());
    if prot.has(READ) {
        lab.load(map.start(), inside).must_hold(&Data::zeros(inside))?;
    }
    for page in inside.in_pages()..map.len.in_pages() {
        let (first, last) = (map.at(pages(page)), map.at(pages(page + 1) - 1));
        if prot.has(READ) {
            lab.load(first, 1).must_be_beyond_the_file(0)?;
            lab.load(last, 1).must_be_beyond_the_file(0)?;
        }
        if prot.has(WRITE) {
            lab.store(first, &Data::repeat(1, 1)).must_be_beyond_the_file(0)?;
            lab.store(last, &Data::repeat(1, 1)).must_be_beyond_the_file(0)?;
        }
    }
    if prot.has(WRITE) && inside.get() > 0 {
        lab.store(map.at(inside - 1), &Data::repeat(0, 1)).prepared()?;
    }
    Ok(())
}

fn own_sizes() -> Gen<(Backing, Prot, Flags)> {
    let prot = prop::sample::select(crate::input::all_prots());
    drawn("empty files, protections and sharing types", (file_backing(), prot, any_sharing()))
}

/// A program that takes the length from stat asks for nothing, and that is refused; one byte is not.
fn length_zero_is_what_fails(lab: &Lab, (backing, prot, sharing): (Backing, Prot, Flags)) -> Verdict {
    let fd = backing.open(lab, &Data::zeros(0))?;
    let size = lab.size(fd)?;
    lab.mmap(request(size, prot, sharing, fd)).must_fail(EINVAL)?;
    lab.mmap(request(1, READ, sharing, fd)).must_succeed()
}

fn sized() -> Gen<(Backing, Means, Size, Edit)> {
    let sizes = any_size(1, 20).prop_flat_map(|size| (Just(size), edit_within(size)));
    let strategy =
        (file_backing(), means(), sizes).prop_map(|(backing, means, (size, edit))| (backing, means, size, edit));
    drawn("sizes from one byte to 20 pages, how they are given, and an edit", strategy)
}

fn usable_when_sized(lab: &Lab, (backing, means, size, edit): (Backing, Means, Size, Edit)) -> Verdict {
    must_have_room(lab, backing, size)?;
    let file = Named::open(lab, backing, &Data::zeros(0))?;
    let unsized_map = lab.map(request(size, READ_WRITE, SHARED, file.fd))?;
    lab.load(unsized_map.start(), 1).must_be_beyond_the_file(0)?;
    lab.unmap(unsized_map)?;
    file.resize(lab, means, size)?;
    let map = lab.map(request(size, READ_WRITE, SHARED, file.fd))?;
    let mut model = Data::zeros(size).to_vec();
    lab.store(map.at(edit.at), &edit.data).prepared()?;
    edit.apply(&mut model);
    lab.load(map.start(), size).must_equal(&model)?;
    lab.pread(file.fd, size + 1, 0).must_equal(&model)
}

/// A mapping that may begin beyond the end of its file, and the sizes to which the file grows.
#[derive(Clone, Debug)]
struct Growth {
    backing: Backing,
    size: Size,
    len: Size,
    offset: Size,
    steps: Vec<(Means, Size)>,
}

fn growths() -> Gen<Growth> {
    let steps = prop::collection::vec((means(), any_size(1, 12)), 1..=4);
    let size = prop_oneof![1 => Just(Size::ZERO), 1 => any_size(1, 4)];
    let offset = prop_oneof![2 => Just(0), 1 => 1_usize..6].prop_map(pages);
    let parts = (file_backing(), size, any_size(1, 14), offset, steps);
    drawn(
        "mappings of files that are empty or shorter, and one to four sizes to which the files grow",
        parts.prop_map(|(backing, size, len, offset, mut steps)| {
            steps.iter_mut().for_each(|step| step.1 = step.1.max(size));
            steps.sort_by_key(|step| step.1);
            Growth { backing, size, len, offset, steps }
        }),
    )
}

fn usable_as_it_grows(lab: &Lab, growth: Growth) -> Verdict {
    let Growth { backing, size, len, offset, steps } = growth;
    must_have_room(lab, backing, pages(14))?;
    let file = Named::open(lab, backing, &Data::zeros(size))?;
    let map = lab.map(request(len, READ_WRITE, SHARED, file.fd).offset(offset))?;
    ends_at(lab, map, READ_WRITE, size.less(offset))?;
    for (means, size) in steps {
        file.resize(lab, means, size)?;
        ends_at(lab, map, READ_WRITE, size.less(offset))?;
    }
    Ok(())
}

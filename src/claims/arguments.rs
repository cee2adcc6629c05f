//! What mmap returns, and the sharing type that it asks for.

use libc::EINVAL;
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{Backing, Edit, Gen, Request, any_mapping, any_request, drawn, each, edits_within, lengths};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![address(), exactly_one_sharing_type()]
}

fn address() -> Claim {
    claim("mmap.result.address")
        .states(
            "A successful mmap gives the first address of the new mapping, and bytes stored there can be loaded again.",
        )
        .documents([
            DAY8.at("mmap, return value"),
            IPC.at("mmap, return value"),
            SHM.at("mmap, addr"),
            WHAT.at("mmap, result"),
        ])
        .holds()
        .basis([
            posix("mmap, RETURN VALUE"),
            posix("mmap, DESCRIPTION, prot table"),
            linux("mmap(2), RETURN VALUE"),
            linux("mmap(2), DESCRIPTION, addr"),
        ])
        .for_all(mappings_and_edits(), |lab, (request, edits)| {
            let map = lab.map(request.prepare(lab)?)?;
            must_behave(lab, &request, map)?;
            stores_must_last(lab, &request, map, &edits)
        })
        .part("many pages", lengths(600), |lab, len| {
            let map = lab.map(anonymous(len, READ_WRITE, PRIVATE))?;
            must_be_a_page_address(lab, map)?;
            let data = Data::pattern(1, map.extent());
            lab.store(map.start(), &data).must_succeed()?;
            lab.load(map.start(), map.extent()).must_hold(&data)
        })
        .one_in(8)
}

/// Mappings of every kind, and edits inside of what each has behind its pages.
fn mappings_and_edits() -> Gen<(Request, Vec<Edit>)> {
    drawn(
        "mappings of every kind, and edits at any place in them",
        any_mapping().prop_flat_map(|request| {
            let reach = Size(request.view().len());
            (Just(request), edits_within(reach, 3))
        }),
    )
}

pub(super) fn must_be_a_page_address(lab: &Lab, map: Map) -> Verdict {
    let seen = || format!("{:#x}", map.address);
    lab.must(map.address != 0 && Size(map.address).is_whole(), "an address on a page boundary, and not NULL", seen)
}

/// The mapping shows what it was asked to show, and permits what it was asked to permit.
///
/// Nothing is asked of pages wholly beyond a file's end, nor of what a right brings with it that was not asked for: these
/// have claims of their own.
pub(super) fn must_behave(lab: &Lab, request: &Request, map: Map) -> Verdict {
    must_be_a_page_address(lab, map)?;
    let view = request.view();
    if view.is_empty() {
        return Ok(());
    }
    let last = Size(view.len() - 1);
    if request.prot == Prot::default() {
        for start in (0..view.len()).step_by(pages(1).get()) {
            lab.load(map.at(start), 1).must_be_forbidden(0)?;
        }
        return lab.store(map.at(last), &Data::repeat(1, 1)).must_be_forbidden(0);
    }
    if request.prot.has(READ) {
        lab.load(map.start(), view.len()).must_equal(&view)?;
    }
    if request.prot.has(WRITE) {
        // The byte that is there: the contents stay what they were.
        let in_file = request.backing.is_file() && request.offset + last < request.size;
        let same = if in_file { Data::at(request.contents, request.offset + last, 1) } else { Data::zeros(1) };
        return lab.store(map.at(last), &same).must_succeed();
    }
    if request.prot.has(READ) {
        return lab.store(map.at(last), &Data::repeat(1, 1)).must_be_forbidden(0);
    }
    Ok(())
}

/// What is stored is what is loaded, and nothing else has changed.
fn stores_must_last(lab: &Lab, request: &Request, map: Map, edits: &[Edit]) -> Verdict {
    let mut view = request.view();
    if !request.prot.has(WRITE) || view.is_empty() {
        return Ok(());
    }
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut view);
        if request.prot.has(READ) {
            lab.load(map.at(edit.at), edit.data.len()).must_hold(&edit.data)?;
        }
    }
    lab.mprotect(map.start(), map.len, READ_WRITE).must_succeed()?;
    lab.load(map.start(), view.len()).must_equal(&view)
}

fn exactly_one_sharing_type() -> Claim {
    /// MAP_DROPPABLE, since Linux 6.11 a sharing type of its own.
    const DROPPABLE: u32 = 8;
    claim("mmap.sharing.exactly-one")
        .states("One and only one of MAP_SHARED and MAP_PRIVATE must be given.")
        .documents([SHM.at("mmap, flags")])
        .qualified(
            "Neither is EINVAL, but both bits together are MAP_SHARED_VALIDATE since Linux 4.15 and give a shared \
             mapping of a file (EINVAL with MAP_ANONYMOUS).",
        )
        .basis([
            posix("mmap, ERRORS, [EINVAL] (flags)"),
            unspecified("mmap, DESCRIPTION, MAP_SHARED and MAP_PRIVATE: both together"),
            linux("mmap(2), The flags argument"),
            linux("mmap(2), ERRORS, EINVAL (flags)"),
            linux("include/uapi/linux/mman.h, MAP_SHARED_VALIDATE and MAP_DROPPABLE"),
        ])
        .part("neither", any_request(), |lab, request| {
            let args = request.prepare(lab)?;
            lab.mmap(args.sharing(Flags::default())).must_fail(EINVAL)?;
            must_behave(lab, &request, lab.map(args)?)
        })
        .part("another type", unknown_types(DROPPABLE), |lab, (request, sharing)| {
            let args = request.prepare(lab)?;
            lab.mmap(args.sharing(sharing)).must_fail(EINVAL)?;
            must_behave(lab, &request, lab.map(args)?)
        })
        .one_in(2)
        .part("one", files_and_edits(), |lab, (file, edits)| must_share(lab, &file, file.sharing, &edits))
        .part("both, a file", files_and_edits(), |lab, (file, edits)| must_share(lab, &file, SHARED | PRIVATE, &edits))
        .part("both, no file", any_request(), |lab, request| {
            let request = request.of(Backing::Anonymous);
            let args = request.prepare(lab)?;
            lab.mmap(args.sharing(SHARED | PRIVATE)).must_fail(EINVAL)?;
            must_behave(lab, &request, lab.map(args)?)
        })
        .one_in(2)
}

fn unknown_types(but: u32) -> Gen<(Request, Flags)> {
    let types: Vec<u32> = (4..=15).filter(|number| *number != but).collect();
    any_request().and(each("sharing types 4 to 15 but 8", types)).map(|(request, number)| (request, Flags(number)))
}

/// Readable and writable mappings of files that have something behind their pages, and edits inside of them.
pub(super) fn files_and_edits() -> Gen<(Request, Vec<Edit>)> {
    let files = (any_mapping(), prop::bool::ANY, 0_usize..4).prop_map(|(request, memfd, further)| {
        let backing = if memfd { Backing::Memfd } else { Backing::File };
        Request { backing, prot: READ_WRITE, size: request.offset + pages(further) + 1 + request.size, ..request }
    });
    drawn(
        "readable and writable windows on files, and edits in them",
        files.prop_flat_map(|file| {
            let inside = file.size.less(file.offset).get().min(file.len.round_up().get());
            (Just(file), edits_within(Size(inside), 3))
        }),
    )
}

/// The file takes every store of a shared mapping, and none of a private one; the mapping shows them in any case.
pub(super) fn must_share(lab: &Lab, file: &Request, sharing: Flags, edits: &[Edit]) -> Verdict {
    let fd = file.backing.open(lab, &Data::pattern(file.contents, file.size))?;
    let map = lab.map(request(file.len, READ_WRITE, sharing, fd).offset(file.offset))?;
    let mut contents = Data::pattern(file.contents, file.size).to_vec();
    let mut view = file.view();
    lab.load(map.start(), view.len()).must_equal(&view)?;
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut view);
        if sharing != PRIVATE {
            edit.apply(&mut contents[file.offset.get()..]);
        }
    }
    lab.load(map.start(), view.len()).must_equal(&view)?;
    lab.pread(fd, file.size, 0).must_equal(&contents)
}

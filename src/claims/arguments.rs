//! What mmap returns, and the sharing type that it asks for.

use libc::{EACCES, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOVERFLOW};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Edit, Gen, Request, any_mapping, any_request, drawn, each, edits_within, lengths, off_boundary,
};
use crate::kernel::call::{At, Call, Fd, Library, MmapArgs};
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED_NOREPLACE, Flags, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, bytes, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![address(), failed(), exactly_one_sharing_type()]
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

/// A reason to refuse a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// length is 0.
    NoLength,
    /// length, rounded up to pages, is more than a number can be: so many bytes are left.
    LengthOverflows(Size),
    /// length is more than any address space has in one piece: so many pages are left.
    LengthBeyondMemory(usize),
    /// offset is so many bytes off a page boundary.
    OffsetOff(Size),
    /// The descriptor has been closed.
    Closed,
    /// The descriptor is -1.
    NoDescriptor,
    /// No sharing type.
    NoSharing,
    /// MAP_FIXED at an address that is so many bytes off a page boundary.
    AddressOff(Size),
    /// MAP_FIXED_NOREPLACE over a mapping.
    Occupied,
    /// The window ends beyond the largest offset of a file: it begins 2 to the power of so many pages before 2^64.
    OffsetOverflows(u32),
    /// The descriptor is open for reading only, the mapping shared and writable.
    ReadOnly,
    /// The descriptor is open for writing only.
    WriteOnly,
    /// The descriptor is the read end of a pipe.
    Pipe,
}

impl Flaw {
    fn errno(self) -> i32 {
        match self {
            Flaw::NoLength | Flaw::OffsetOff(_) | Flaw::NoSharing | Flaw::AddressOff(_) => EINVAL,
            Flaw::LengthOverflows(_) | Flaw::LengthBeyondMemory(_) => ENOMEM,
            Flaw::Closed | Flaw::NoDescriptor => EBADF,
            Flaw::Occupied => EEXIST,
            Flaw::OffsetOverflows(_) => EOVERFLOW,
            Flaw::ReadOnly | Flaw::WriteOnly => EACCES,
            Flaw::Pipe => ENODEV,
        }
    }

    /// Whether it is one for this mapping only if a file is mapped.
    fn needs_a_file(self) -> bool {
        use Flaw::*;
        matches!(self, Closed | NoDescriptor | OffsetOverflows(_) | ReadOnly | WriteOnly)
    }

    /// The same arguments, but for the flaw; `taken` is a mapping that exists.
    fn put_into(self, lab: &Lab, good: MmapArgs, taken: Map) -> Verdict<MmapArgs> {
        Ok(match self {
            Flaw::NoLength => good.length(0),
            Flaw::LengthOverflows(less) => good.length(Size::ZERO - less),
            Flaw::LengthBeyondMemory(left) => good.length(Size::ZERO - pages(left)).offset(0),
            Flaw::OffsetOff(bytes) => good.offset(good.offset + bytes),
            Flaw::Closed => {
                lab.close(good.fd).prepared()?;
                good
            }
            Flaw::NoDescriptor => good.fd(NO_FD),
            Flaw::NoSharing => good.sharing(Flags::default()),
            Flaw::AddressOff(bytes) => good.fixed(taken.at(bytes)),
            Flaw::Occupied => good.hint(taken.start()).and(FIXED_NOREPLACE),
            Flaw::OffsetOverflows(power) => good.offset(Size::ZERO - pages(1 << power)),
            Flaw::ReadOnly => good.fd(reopened(lab, libc::O_RDONLY)?).sharing(SHARED).prot(good.prot | WRITE),
            Flaw::WriteOnly => good.fd(reopened(lab, libc::O_WRONLY)?),
            Flaw::Pipe => good.fd(lab.pipe(0)?.0).sharing(PRIVATE).prot(Prot(good.prot.0 & READ_WRITE.0)),
        })
    }
}

/// A descriptor of a new file, open in this way.
fn reopened(lab: &Lab, flags: i32) -> Verdict<Fd> {
    let path = lab.file(&Data::pattern(0, pages(1)))?;
    lab.open(path, flags)
}

/// Reasons that put another in no doubt: each is the only flaw of the call.
fn any_flaw() -> BoxedStrategy<Flaw> {
    prop_oneof![
        Just(Flaw::NoLength),
        off_boundary().prop_map(Flaw::LengthOverflows),
        (0_u32..20).prop_map(|power| Flaw::LengthBeyondMemory(1 << power)),
        off_boundary().prop_map(Flaw::OffsetOff),
        Just(Flaw::Closed),
        Just(Flaw::NoDescriptor),
        Just(Flaw::NoSharing),
        off_boundary().prop_map(Flaw::AddressOff),
        Just(Flaw::Occupied),
        (0..=NEGATIVE).prop_map(Flaw::OffsetOverflows),
        Just(Flaw::ReadOnly),
        Just(Flaw::WriteOnly),
        Just(Flaw::Pipe),
    ]
    .boxed()
}

/// 2^64 less 2^47 pages is a negative number to whoever takes it for one, with pages of up to 64 KiB.
const NEGATIVE: u32 = 47;

/// Mappings that would be granted, and one reason each to refuse them.
fn flawed_requests() -> Gen<(Request, Flaw)> {
    let strategy = (any_mapping(), any_flaw()).prop_map(|(request, flaw)| match flaw {
        flaw if flaw.needs_a_file() && !request.backing.is_file() => (request.of(Backing::File), flaw),
        Flaw::Pipe if request.backing == Backing::Anonymous => (request.of(Backing::Memfd), flaw),
        _ => (request, flaw),
    });
    let of_a_file = Request::of_length(pages(2)).of(Backing::File);
    drawn("mappings that would be granted, and one flaw in each", strategy).also(
        [
            Flaw::NoLength,
            Flaw::LengthOverflows(bytes(1)),
            Flaw::LengthBeyondMemory(1),
            Flaw::OffsetOff(bytes(1)),
            Flaw::Closed,
            Flaw::NoDescriptor,
            Flaw::NoSharing,
            Flaw::AddressOff(bytes(1)),
            Flaw::Occupied,
            Flaw::OffsetOverflows(0),
            Flaw::OffsetOverflows(2),
            Flaw::OffsetOverflows(NEGATIVE),
            Flaw::ReadOnly,
            Flaw::WriteOnly,
            Flaw::Pipe,
        ]
        .map(|flaw| (of_a_file, flaw)),
    )
}

fn failed() -> Claim {
    claim("mmap.result.failed")
        .states("A mmap that fails yields MAP_FAILED, which is all bits one and not NULL, sets errno, and makes no mapping.")
        .documents([
            DAY8.at("mmap, return value"),
            DAY8.at("parent and child, comment in the listing"),
            IPC.at("mmap, return value"),
            MAPIO.at("notes"),
            WHAT.at("mmap, result"),
        ])
        .holds()
        .basis([
            posix("mmap, RETURN VALUE"),
            posix("mmap, RATIONALE"),
            linux("mmap(2), RETURN VALUE"),
            unspecified("mmap, DESCRIPTION, last paragraph: what a failed MAP_FIXED has unmapped"),
        ])
        .for_all(flawed_requests(), |lab, (request, flaw)| {
            let taken = occupied(lab, Size::ZERO)?;
            let good = request.prepare(lab)?;
            must_behave(lab, &request, lab.map(good)?)?;
            let bad = flaw.put_into(lab, good, taken)?;
            lab.mmap(bad).must_fail(flaw.errno())?;
            must_be_untouched(lab, taken)?;
            must_not_linger(lab)
        })
        .part("in C", flawed_requests(), |lab, (request, flaw)| {
            let taken = occupied(lab, Size::ZERO)?;
            let args = flaw.put_into(lab, request.prepare(lab)?, taken)?;
            let map = lab.new_map();
            Calls::call(lab, Call::Library(Library::Mmap { args, map })).must_fail(flaw.errno())?;
            must_be_untouched(lab, taken)
        })
        .one_in(4)
        .part("in other processes", flawed_requests(), |lab, (request, flaw)| refused_to_others(lab, &request, flaw))
        .one_in(16)
        .part("over a mapping", flaws_over_a_mapping(), |lab, (request, flaw, at)| {
            let taken = occupied(lab, request.len)?;
            let good = request.prepare(lab)?;
            let bad = flaw.put_into(lab, good.fixed(taken.at(at)), taken)?;
            lab.mmap(bad).must_fail(flaw.errno())?;
            must_be_untouched(lab, taken)
        })
}

/// A child, its child and a program of its own are refused as the worker is.
fn refused_to_others(lab: &Lab, request: &Request, flaw: Flaw) -> Verdict {
    let taken = occupied(lab, Size::ZERO)?;
    let good = request.prepare(lab)?;
    // Each closes the descriptor for itself: a number that is free at fork may be taken by what processes are led by.
    let bad = if flaw == Flaw::Closed { good } else { flaw.put_into(lab, good, taken)? };
    let child = lab.fork()?;
    for who in [child, lab.fork_from(child.id(), false)?] {
        if flaw == Flaw::Closed {
            who.close(good.fd).prepared()?;
        }
        who.mmap(bad).must_fail(flaw.errno())?;
        who.load(taken.start(), taken.len).must_hold(&Data::pattern(0, taken.len))?;
    }
    if matches!(flaw, Flaw::AddressOff(_) | Flaw::Occupied | Flaw::Closed) {
        // These are about what a stranger does not have.
        return Ok(());
    }
    let stranger = lab.peer()?;
    let theirs = if bad.fd == NO_FD { bad } else { bad.fd(stranger.adopt(bad.fd)?) };
    stranger.mmap(theirs).must_fail(flaw.errno())
}

/// A mapping in the arena that holds a pattern, longer by two pages than `len`.
fn occupied(lab: &Lab, len: Size) -> Verdict<Map> {
    let at = At::Arena(pages(2).get());
    let map = lab.map(anonymous(len.round_up() + pages(2), READ_WRITE, PRIVATE).fixed(at))?;
    lab.store(map.start(), &Data::pattern(0, map.len)).prepared()?;
    Ok(map)
}

/// What follows a refusal is as if it had not been: the next mapping of a file is shared with it.
fn must_not_linger(lab: &Lab) -> Verdict {
    let (_, fd) = lab.new_file(&Data::pattern(2, pages(1)))?;
    let map = lab.map(request(pages(1), READ_WRITE, SHARED, fd))?;
    let data = Data::pattern(3, 8);
    lab.store(map.start(), &data).must_succeed()?;
    lab.pread(fd, data.len(), 0).must_hold(&data)
}

fn must_be_untouched(lab: &Lab, taken: Map) -> Verdict {
    lab.load(taken.start(), taken.len).must_hold(&Data::pattern(0, taken.len))
}

/// MAP_FIXED over a mapping, refused with an errno that promises that nothing was unmapped (EINVAL or EBADF).
fn flaws_over_a_mapping() -> Gen<(Request, Flaw, Size)> {
    let flaw = prop_oneof![
        Just(Flaw::NoLength),
        off_boundary().prop_map(Flaw::OffsetOff),
        Just(Flaw::Closed),
        Just(Flaw::NoDescriptor),
        Just(Flaw::NoSharing),
        off_boundary().prop_map(Flaw::AddressOff),
    ];
    let strategy = (any_mapping(), flaw, 0..3_usize).prop_map(|(request, flaw, at)| {
        let backing = if flaw.needs_a_file() { Backing::File } else { request.backing };
        (request.of(backing), flaw, pages(at))
    });
    drawn("MAP_FIXED over a mapping, with a flaw that unmaps nothing", strategy)
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

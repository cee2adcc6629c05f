//! What a mmap that is refused returns, and what it leaves as it was.

use libc::{EACCES, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOVERFLOW};
use proptest::prelude::*;

use super::arguments::must_behave;
use crate::claim::{Claim, DAY8, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{Backing, Gen, Request, any_mapping, drawn, off_boundary};
use crate::kernel::call::{At, Call, Fd, Library, MmapArgs};
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED_NOREPLACE, Flags, PRIVATE, Prot, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, bytes, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![failed()]
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

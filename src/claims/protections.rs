//! What the rights of a mapping permit: set by mmap, or later by mprotect, range by range.

use libc::SIGSEGV;

use super::each_number::{self, each_number};
use super::large_ranges::{self, large_lengths};
use super::rights::{a_hole_ends_it, holed, misplaced, unaligned_is_refused};
use crate::claim::{Claim, IPC, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::patchwork::{Change, Patchwork, changed_to, forbidden, forbidden_by_key, given};
use crate::input::{
    Backing, Edit, Range, Window, any_backing, any_sharing, any_window, drawn, edits_within, many_pages, reach,
};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use proptest::prelude::*;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![read(), write(), none(), read_needed()]
}

fn read() -> Claim {
    claim("perm.prot-read")
        .states("PROT_READ lets contents be loaded; a store into such a mapping is a fault, and changes nothing.")
        .documents([WHAT.at("mmap, prot"), WHAT.at("listing, variant 1"), SHM.at("mmap, prot"), IPC.at("mmap, prot")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, prot"),
            posix("<signal.h>, SIGSEGV, SEGV_ACCERR"),
            linux("mmap(2), Signals, SIGSEGV"),
            linux("mprotect(2), DESCRIPTION; ERRORS, EINVAL and ENOMEM"),
        ])
        .part("set by mmap", given(READ).also(each_backing(READ)), |lab, work| as_asked(lab, &work))
        .one_in(2)
        .part(
            "set by mprotect",
            changed_to(READ).also(each_place(READ_WRITE, READ)).also_long(many(READ_WRITE, READ)),
            |lab, work| as_asked(lab, &work),
        )
        .part("each number of pages", each_number(), |lab, count| each_number::protected(lab, count, READ))
        .part("2 GiB and more", large_lengths(), |lab, len| large_ranges::protected(lab, len, NONE, READ))
        .one_in(8)
        .part("mprotect of a range that begins inside a page", misplaced(changed_to(READ)), unaligned_is_refused)
        .one_in(4)
        .part("mprotect across a hole", holed(changed_to(READ)), a_hole_ends_it)
        .one_in(4)
        .part("a store kills", drawn("windows on files and a place in them", window_and_edit()), a_store_kills)
        .one_in(16)
}

fn write() -> Claim {
    claim("perm.prot-write")
        .states("PROT_WRITE lets contents be changed.")
        .documents([WHAT.at("mmap, prot"), SHM.at("mmap, prot"), IPC.at("mmap, prot")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, prot table"),
            linux("mmap(2), DESCRIPTION, prot"),
            linux("mprotect(2), DESCRIPTION"),
        ])
        .part("set by mmap", given(READ_WRITE).also(each_backing(READ_WRITE)), |lab, work| as_asked(lab, &work))
        .one_in(2)
        .part(
            "set by mprotect",
            changed_to(READ_WRITE).also(each_place(READ, READ_WRITE)).also_long(many(READ, READ_WRITE)),
            |lab, work| as_asked(lab, &work),
        )
        .part("given back", changed_to(READ_WRITE), |lab, work| taken_and_given_back(lab, &work))
}

fn none() -> Claim {
    claim("perm.prot-none")
        .states("Memory with PROT_NONE permits no access: no load, no store, no execution.")
        .documents([WHAT.at("mmap, prot"), SHM.at("mmap, prot"), IPC.at("mmap, prot")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, prot"),
            linux("mmap(2), DESCRIPTION, prot"),
            linux("mprotect(2), DESCRIPTION"),
        ])
        .part("set by mmap", given(NONE).also(each_backing(NONE)), |lab, work| as_asked(lab, &work))
        .one_in(2)
        .part(
            "set by mprotect",
            changed_to(NONE).also(each_place(READ_WRITE, NONE)).also_long(many(READ_WRITE, NONE)),
            |lab, work| as_asked(lab, &work),
        )
        .part("each number of pages", each_number(), |lab, count| each_number::protected(lab, count, NONE))
        .part("2 GiB and more", large_lengths(), |lab, len| large_ranges::protected(lab, len, READ, NONE))
        .one_in(8)
        .part("any access kills", drawn("mappings of any backing with PROT_NONE", closed()), any_access_kills)
        .one_in(16)
}

fn read_needed() -> Claim {
    claim("perm.read-needed-to-operate")
        .states("To work on mapped memory one needs the right to read it.")
        .documents([IPC.at("mmap, prot")])
        .refuted(
            "Stores through PROT_WRITE alone work. Whether loads do too is left to the machine: they do on x86-64, arm64, \
             POWER, s390x and riscv64, and not under User-Mode Linux.",
        )
        .basis([
            posix("mmap, DESCRIPTION, prot"),
            unspecified("mmap, DESCRIPTION, prot: other accesses than those asked for may be permitted, but no store \
                         without PROT_WRITE and none at all under PROT_NONE"),
            linux("mmap(2), VERSIONS"),
        ])
        .part("stores without PROT_READ", given(WRITE).also(each_backing(WRITE)), |lab, work| as_asked(lab, &work))
        .one_in(2)
        .part("stores after PROT_READ was taken", changed_to(WRITE).also(each_place(READ_WRITE, WRITE)).also_long(many(READ_WRITE, WRITE)), |lab, work| as_asked(lab, &work))
        .part("loads", drawn("anonymous and file memory with PROT_WRITE", writable()), loads_are_left_open)
}

/// Small mappings of every backing and sharing type, to be tried always.
fn each_backing(prot: Prot) -> Vec<Patchwork> {
    let backings = [Backing::File, Backing::Anonymous, Backing::Memfd, Backing::DevZero];
    let kinds = backings.into_iter().flat_map(|backing| [SHARED, PRIVATE].map(|sharing| (backing, sharing)));
    kinds
        .zip([1, 2, 3, 1, 3, 2, 1, 5])
        .map(|((backing, sharing), count)| Patchwork::plain(backing, sharing, count, prot))
        .collect()
}

/// One mapping, of which a range changes its rights: all, the first, the last, the middle page, or nothing.
fn each_place(from: Prot, to: Prot) -> Vec<Patchwork> {
    let range = |first, count| Range { at: pages(first), len: pages(count) };
    let places = [range(0, 3), range(0, 1), range(2, 1), range(1, 1), range(1, 0)];
    let of = |backing, sharing, range| Patchwork::plain(backing, sharing, 3, from).then(range, to);
    let files = [SHARED, PRIVATE].into_iter().flat_map(|sharing| places.map(|range| of(Backing::File, sharing, range)));
    let memory = places[..2].iter().map(|range| of(Backing::Anonymous, PRIVATE, *range).stored());
    files.chain(memory).collect()
}

/// Mappings of many pages, of which all change their rights, or all but a few at either end.
fn many(from: Prot, to: Prot) -> [Patchwork; 2] {
    let range = |first, count| Range { at: pages(first), len: pages(count) };
    let count = many_pages();
    [(Backing::Anonymous, PRIVATE, range(0, count)), (Backing::File, SHARED, range(3, count - 5))]
        .map(|(backing, sharing, range)| Patchwork::plain(backing, sharing, count, from).then(range, to))
}

fn as_asked(lab: &Lab, work: &Patchwork) -> Verdict {
    work.lay(lab)?.must_be_as_asked(lab)
}

/// Rights that are taken from all and given back leave the memory as it was, stores included.
fn taken_and_given_back(lab: &Lab, work: &Patchwork) -> Verdict {
    let mut laid = work.lay(lab)?;
    let all = Range { at: Size::ZERO, len: Size(laid.bytes.len()) };
    for prot in [NONE, READ_WRITE, READ, READ_WRITE] {
        lab.mprotect(laid.base, all.len, prot).prepared()?;
        laid.note(Change { range: all, prot });
    }
    laid.must_be_as_asked(lab)
}

fn window_and_edit() -> BoxedStrategy<(Window, Edit)> {
    any_window(6)
        .prop_flat_map(|window| edits_within(window.len, 1).prop_map(move |mut edits| (window, edits.remove(0))))
        .boxed()
}

fn a_store_kills(lab: &Lab, (window, edit): (Window, Edit)) -> Verdict {
    let (_, fd) = lab.new_file(&window.file())?;
    let map = lab.map(request(window.len, READ, SHARED, fd).offset(window.offset))?;
    let child = lab.fork()?;
    child.load(map.start(), window.len).must_hold(&window.view())?;
    child.unguarded()?;
    child.store(map.at(edit.at), &edit.data).must_die_of(SIGSEGV)?;
    lab.load(map.start(), window.len).must_hold(&window.view())?;
    lab.pread(fd, window.size, 0).must_hold(&window.file())
}

/// What is accessed, how long it is, and where.
type Access = (Backing, Flags, usize, usize, usize);

fn closed() -> BoxedStrategy<Access> {
    (any_backing(), any_sharing(), 1..6_usize, any::<prop::sample::Index>(), 0..3_usize)
        .prop_map(|(backing, sharing, count, index, kind)| (backing, sharing, count, index.index(count), kind))
        .boxed()
}

fn any_access_kills(lab: &Lab, (backing, sharing, count, number, kind): Access) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(2, pages(count)))?;
    let map = lab.map(request(pages(count), NONE, sharing | backing.flags(), fd))?;
    let child = lab.fork()?;
    child.unguarded()?;
    let at = map.at(pages(number));
    match kind {
        0 => child.load(at, 1).must_die_of(SIGSEGV)?,
        1 => child.store(at, &Data::repeat(1, 1)).must_die_of(SIGSEGV)?,
        _ => child.execute(at).must_die_of(SIGSEGV)?,
    }
    lab.load(at, 1).must_be_forbidden(0)
}

fn writable() -> BoxedStrategy<(bool, usize, Size)> {
    (any::<bool>(), 1..6_usize, (0..reach()).prop_map(Size)).boxed()
}

/// A load gives the byte that was stored, or SIGSEGV.
fn loads_are_left_open(lab: &Lab, (file, count, place): (bool, usize, Size)) -> Verdict {
    let args = match file {
        true => request(pages(count), WRITE, SHARED, lab.new_file(&Data::pattern(2, pages(count)))?.1),
        false => anonymous(pages(count), WRITE, PRIVATE),
    };
    let map = lab.map(args)?;
    let at = map.at(pages(count - 1) + place);
    lab.store(at, &Data::repeat(9, 1)).must_succeed()?;
    let answer = lab.load(at, 1);
    lab.fact("a load with PROT_WRITE alone", answer.outcome());
    answer.may(&[Expect::Bytes(vec![9]), forbidden(), forbidden_by_key()])
}

//! Accesses that end in a signal: beyond the mapping, after munmap; and what the death of a process leaves whole.

use libc::{O_RDONLY, SIGBUS, SIGSEGV};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::patchwork::forbidden;
use crate::input::{
    Backing, Edit, Gen, Range, Request, Window, any_backing, any_request, any_sharing, any_size, any_window,
    content_seed, drawn, edit_within, page_range, reach,
};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map, SEGV_MAPERR};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![beyond_mapping(), death(), after_munmap()]
}

fn beyond_mapping() -> Claim {
    claim("fault.beyond-mapping")
        .states("An access past the mapping is a segmentation fault: of 100 bytes mapped, one page can be used.")
        .documents([IPC.at("question 7"), MAPIO.at("notes")])
        .qualified("Up to the end of its last page there is no fault; past it comes SIGSEGV, unless something else is mapped there.")
        .basis([
            unspecified("mmap, RATIONALE: references past what was asked for"),
            posix("mmap, DESCRIPTION, page size paragraph"),
            posix("<signal.h>, SEGV_MAPERR"),
            linux("mmap(2), NOTES"),
            linux("sigaction(2), si_code for SIGSEGV"),
        ])
        .part("all of the last page", ends(), the_last_page_is_whole)
        .part("nothing behind it", ends(), past_it_is_nothing)
        .part("a neighbour behind it", ends().and(drawn("the neighbour's rights", neighbour())), past_it_is_the_neighbour)
}

fn death() -> Claim {
    claim("fault.core-dump-death")
        .states("Such a fault ends the process through its signal; other processes and the file take no harm.")
        .documents([DAY8.at("note 3"), WHAT.at("listing, variant 1")])
        .holds()
        .basis([
            posix("<signal.h>, default actions"),
            posix("_Exit, Consequences of Process Termination"),
            linux("signal(7), Standard signals"),
        ])
        .part(
            "by any fault, with others about",
            drawn("ways to fault, and windows on a file", ends_of_life()),
            others_live_on,
        )
        .one_in(8)
}

fn after_munmap() -> Claim {
    claim("fault.after-munmap")
        .states("After munmap the region is gone, and touching it is a fault.")
        .documents([DAY8.at("munmap"), SHM.at("munmap"), MAPIO.at("notes"), WHAT.at("munmap")])
        .holds()
        .basis([posix("munmap, DESCRIPTION"), linux("mmap(2), munmap()")])
        .part("where the kernel placed it", unmapped(), gone_where_the_kernel_placed_it)
        .part("between other mappings", unmapped(), gone_between_others)
        .part("in one process of two", unmapped(), gone_for_one_alone)
        .one_in(16)
}

/// A mapping and a file or memory behind it that has all its pages.
#[derive(Clone, Copy)]
struct Ended {
    backing: Backing,
    sharing: Flags,
    len: Size,
    contents: u32,
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}, {:?}", self.backing, self.len, self.sharing)
    }
}

impl Ended {
    /// The mapping, `at` bytes into the arena, with what it holds: the file ends with the mapping's length.
    fn place(&self, lab: &Lab, at: Size) -> Verdict<(Map, Vec<u8>)> {
        let data = Data::pattern(self.contents, self.len);
        let fd = self.backing.open(lab, &data)?;
        let args = request(self.len, READ_WRITE, self.sharing | self.backing.flags(), fd);
        let map = lab.map(args.fixed(At::Arena(at.get())))?;
        let mut bytes = if self.backing.is_file() { data.to_vec() } else { Vec::new() };
        bytes.resize(map.extent().get(), 0);
        Ok((map, bytes))
    }
}

fn ends() -> Gen<Ended> {
    let strategy = (any_backing(), any_sharing(), any_size(1, 20), content_seed())
        .prop_map(|(backing, sharing, len, contents)| Ended { backing, sharing, len, contents });
    let document = Ended { backing: Backing::File, sharing: SHARED, len: Size(100), contents: 2 };
    drawn("mappings of one byte to 20 pages, of every backing", strategy)
        .also([document, Ended { backing: Backing::Anonymous, ..document }])
}

/// Where the mappings of this topic begin in the arena.
const PLACE: usize = 9;

/// Every byte of it can be loaded and stored; what lies behind the end of a file is zero.
fn the_last_page_is_whole(lab: &Lab, ended: Ended) -> Verdict {
    let (map, bytes) = ended.place(lab, pages(PLACE))?;
    lab.load(map.start(), map.extent()).must_equal(&bytes)?;
    let rest = Data::at(1, ended.len, map.extent() - ended.len);
    lab.store(map.at(ended.len), &rest).must_succeed()?;
    lab.store(map.at(map.extent() - 1), &Data::repeat(7, 1)).must_succeed()?;
    let mut stored = bytes;
    rest.fill(&mut stored[ended.len.get()..]);
    stored[map.extent().get() - 1] = 7;
    lab.load(map.start(), map.extent()).must_equal(&stored)
}

fn past_it_is_nothing(lab: &Lab, ended: Ended) -> Verdict {
    let (map, bytes) = ended.place(lab, pages(PLACE))?;
    lab.hole(pages(PLACE) + map.extent(), page());
    lab.hole(pages(PLACE - 1), page());
    for at in [Size(0), Size(page() - 1)] {
        lab.load(map.end().plus(at), 1).must_be_unmapped(0)?;
        lab.store(map.end().plus(at), &Data::repeat(1, 1)).must_be_unmapped(0)?;
        lab.load(map.start().minus(at + 1), 1).must_be_unmapped(0)?;
    }
    lab.execute(map.end()).must_be_unmapped(0)?;
    // An access that begins inside loads up to the end, and faults at the first byte beyond it.
    let inside = map.extent().get().min(3);
    lab.load(map.end().minus(inside), inside + 5).must_be_unmapped(inside)?;
    lab.load(map.start(), map.extent()).must_equal(&bytes)
}

fn neighbour() -> BoxedStrategy<Prot> {
    prop::sample::select(vec![NONE, READ, READ_WRITE]).boxed()
}

/// No fault at all, or the fault of the neighbour's rights; stores go to the neighbour.
fn past_it_is_the_neighbour(lab: &Lab, (ended, prot): (Ended, Prot)) -> Verdict {
    let (map, bytes) = ended.place(lab, pages(PLACE))?;
    let args = anonymous(page(), prot, PRIVATE);
    let next = lab.map(args.fixed(At::Arena((pages(PLACE) + map.extent()).get())))?;
    let over = lab.load(map.end().minus(1), 2);
    if prot.has(READ) {
        over.must_equal(&[bytes[bytes.len() - 1], 0])?;
    } else {
        over.must_be_forbidden(1)?;
    }
    let over = lab.store(map.end().minus(1), &Data::repeat(7, 2));
    if prot == READ_WRITE {
        over.must_succeed()?;
        lab.load(next.start(), 1).must_equal(&[7])?;
    } else {
        over.must_be_forbidden(1)?;
    }
    lab.load(map.end().minus(1), 1).must_equal(&[7])
}

/// How a process comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fatal {
    StoreToReadOnly,
    LoadOfNone,
    LoadOfNothing,
    StoreToNothing,
    StoreBeyondFile,
    LoadBeyondFile,
    ExecuteNothing,
}

fn ends_of_life() -> BoxedStrategy<(Fatal, Window, Edit, bool)> {
    use Fatal::*;
    let kinds =
        [StoreToReadOnly, LoadOfNone, LoadOfNothing, StoreToNothing, StoreBeyondFile, LoadBeyondFile, ExecuteNothing];
    (prop::sample::select(kinds.to_vec()), any_window(6), any::<bool>())
        .prop_flat_map(|(kind, window, by_peer)| {
            edit_within(window.len).prop_map(move |edit| (kind, window, edit, by_peer))
        })
        .boxed()
}

/// The victim's earlier store stays; its parent, its sibling, its own child and a stranger go on, and so does the file.
fn others_live_on(lab: &Lab, (kind, window, edit, by_peer): (Fatal, Window, Edit, bool)) -> Verdict {
    let (path, fd) = lab.new_file(&window.file())?;
    let args = request(window.len, READ_WRITE, SHARED, fd).offset(window.offset);
    let map = lab.map(args)?;
    let sibling = lab.fork()?;
    let (victim, own) = if by_peer {
        let peer = lab.peer()?;
        let fd = peer.open(path, libc::O_RDWR)?;
        (peer, peer.map(args.fd(fd))?)
    } else {
        (lab.fork()?, map)
    };
    let heir = lab.fork_from(victim.id(), true)?;
    victim.store(own.at(edit.at), &edit.data).must_succeed()?;
    die(victim, kind, path)?;
    let mut bytes = window.view().to_vec();
    edit.apply(&mut bytes);
    lab.load(map.start(), window.len).must_equal(&bytes)?;
    sibling.load(map.start(), window.len).must_equal(&bytes)?;
    heir.load(own.start(), window.len).must_equal(&bytes)?;
    heir.store(own.start(), &Data::repeat(5, 1)).must_succeed()?;
    bytes[0] = 5;
    sibling.load(map.start(), window.len).must_equal(&bytes)?;
    let mut file = window.file().to_vec();
    file[window.offset.get()..][..bytes.len()].copy_from_slice(&bytes);
    lab.pread(fd, file.len() + 1, 0).must_equal(&file)
}

fn die(victim: Actor<'_>, kind: Fatal, path: crate::kernel::call::Path) -> Verdict {
    let byte = Data::repeat(1, 1);
    let private = |prot| victim.map(anonymous(page(), prot, PRIVATE));
    match kind {
        Fatal::StoreToReadOnly | Fatal::LoadOfNone => {
            let map = private(if kind == Fatal::LoadOfNone { NONE } else { READ })?;
            victim.unguarded()?;
            match kind {
                Fatal::LoadOfNone => victim.load(map.start(), 1).must_die_of(SIGSEGV),
                _ => victim.store(map.start(), &byte).must_die_of(SIGSEGV),
            }
        }
        Fatal::LoadOfNothing | Fatal::StoreToNothing | Fatal::ExecuteNothing => {
            victim.unguarded()?;
            // The page at 0 is never mapped by itself (mmap_min_addr, proc_sys_vm(5)).
            match kind {
                Fatal::LoadOfNothing => victim.load(At::Null, 1).must_die_of(SIGSEGV),
                Fatal::StoreToNothing => victim.store(At::Null, &byte).must_die_of(SIGSEGV),
                _ => victim.execute(At::Null).must_die_of(SIGSEGV),
            }
        }
        Fatal::StoreBeyondFile | Fatal::LoadBeyondFile => {
            let end = victim.stat(path).stat()?.size as usize;
            let fd = victim.open(path, O_RDONLY)?;
            let map = victim.map(request(page(), READ_WRITE, PRIVATE, fd).offset(Size(end).round_up()))?;
            victim.unguarded()?;
            match kind {
                Fatal::StoreBeyondFile => victim.store(map.start(), &byte).must_die_of(SIGBUS),
                _ => victim.load(map.start(), 1).must_die_of(SIGBUS),
            }
        }
    }
}

/// A mapping, the pages of it that are unmapped, and a place in each page.
type Cut = ((Request, Range), Size);

fn unmapped() -> Gen<Cut> {
    let place = prop_oneof![2 => Just(0), 1 => Just(page() - 1), 1 => 0..reach()].prop_map(Size);
    any_request()
        .and(drawn("a range of its pages", page_range(6)))
        .map(within)
        .and(drawn("a place in each page", place))
}

/// The range, moved into the mapping; the file behind has all pages.
fn within((request, range): (Request, Range)) -> (Request, Range) {
    let count = request.len.in_pages();
    let first = range.at.in_pages() % count;
    let len = range.len.in_pages().min(count - first);
    let prot = Prot(request.prot.0 & !EXEC.0 | READ.0);
    let size = request.offset + request.len.round_up();
    (Request { size, prot, ..request }, Range { at: pages(first), len: pages(len) })
}

fn unmap_and_look(lab: &Lab, map: Map, (_, range): (Request, Range), place: Size) -> Verdict {
    let before = lab.load(map.start(), map.extent()).bytes()?;
    lab.munmap(map.at(range.at), range.len).must_succeed()?;
    let nothing = Expect::Fault { signal: SIGSEGV, code: SEGV_MAPERR, at: 0 };
    for number in 0..map.len.in_pages() {
        let at = pages(number);
        if (range.at..range.end()).contains(&at) {
            lab.load(map.at(at + place), 1).checked(&nothing)?;
            lab.store(map.at(at + place), &Data::repeat(1, 1)).checked(&nothing)?;
            lab.execute(map.at(at)).checked(&nothing)?;
        } else {
            lab.load(map.at(at), page()).checked(&Expect::Bytes(before[at.get()..][..page()].to_vec()))?;
        }
    }
    lab.must(true, "what was unmapped is SIGSEGV SEGV_MAPERR, and the rest is as it was", String::new)
}

fn gone_where_the_kernel_placed_it(lab: &Lab, (cut, place): Cut) -> Verdict {
    let map = lab.map(cut.0.prepare(lab)?)?;
    unmap_and_look(lab, map, cut, place)
}

fn gone_between_others(lab: &Lab, (cut, place): Cut) -> Verdict {
    let map = lab.map(cut.0.prepare(lab)?.fixed(At::Arena(pages(PLACE).get())))?;
    unmap_and_look(lab, map, cut, place)?;
    // The neighbours are the arena's own pages, which permit nothing.
    lab.load(map.start().minus(1), 1).checked(&forbidden())?;
    lab.load(map.end(), 1).checked(&forbidden())
}

fn gone_for_one_alone(lab: &Lab, (cut, place): Cut) -> Verdict {
    let map = lab.map(cut.0.prepare(lab)?)?;
    let child = lab.fork()?;
    let before = lab.load(map.start(), map.extent()).bytes()?;
    unmap_and_look(lab, map, cut, place)?;
    child.load(map.start(), map.extent()).must_equal(&before)
}

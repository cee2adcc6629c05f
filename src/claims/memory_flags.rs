//! Flags that say how memory is provided: populating, reserving, clearing. Locking is in `locking`.

use libc::ENOMEM;
use proptest::prelude::*;

use crate::claim::{Claim, Depends, WHAT, claim, linux, unspecified};
use crate::input::patchwork::beyond_the_file;
use crate::input::{Backing, Gen, Request, any_request, any_sharing, any_size, drawn};
use crate::kernel::call::At;
use crate::kernel::data::Data;
use crate::kernel::machine;
use crate::kernel::names::{
    Flags, NONBLOCK, NONE, NORESERVE, POPULATE, PRIVATE, Prot, READ, READ_WRITE, SHARED, UNINITIALIZED,
};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![noreserve(), populate(), uninitialized()]
}

fn noreserve() -> Claim {
    claim("flag.noreserve")
        .states("MAP_NORESERVE governs whether swap space is reserved.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_NORESERVE; BUGS"),
            linux("proc_sys_vm(5), overcommit_memory"),
            linux("proc_pid_smaps(5), VmFlags, nr"),
        ])
        .part("it shows in the mapping", any_request(), |lab, wanted| shows_in_the_mapping(lab, false, wanted))
        .one_in(8)
        .part("in a child", any_request(), |lab, wanted| shows_in_the_mapping(lab, true, wanted))
        .one_in(32)
        .part("more than can be reserved", too_large(), |lab, much| {
            lab.aside(|| granted_without_reserve(lab, much))?;
            lab.must(true, "what is refused without the flag is granted and usable with it", String::new)
        })
        .one_in(8)
        .part("it changes nothing else", any_request(), |lab, wanted| {
            let args = wanted.prepare(lab)?;
            let map = lab.map(args.and(NORESERVE))?;
            works(lab, map, &wanted)?;
            wanted.must_share_with(lab, map, args.fd)
        })
}

fn populate() -> Claim {
    claim("flag.populate")
        .states("MAP_POPULATE fills in the mapping's pages beforehand.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([linux("mmap(2), MAP_POPULATE and MAP_NONBLOCK"), linux("getrusage(2), ru_minflt")])
        .part("readable pages need no fault", populated(), |lab, wanted| no_fault_is_left(lab, lab.worker(), wanted))
        .part("in a child", populated(), |lab, wanted| no_fault_is_left(lab, lab.fork()?, wanted))
        .one_in(16)
        .part("pages that may not be read are left out", populated(), nothing_is_filled_in)
        .part("pages beyond the end of the file are left out", any_request(), the_call_succeeds)
        .depends_on([Depends::FileSystem])
}

fn uninitialized() -> Claim {
    claim("flag.uninitialized")
        .states("MAP_UNINITIALIZED keeps an anonymous mapping from being cleared.")
        .documents([WHAT.at("mmap, flags")])
        .qualified(
            "Only in kernels built for it, which have no MMU. Everywhere else it is ignored, and the pages are zero.",
        )
        .basis([
            linux("mmap(2), MAP_UNINITIALIZED"),
            unspecified("mm/Kconfig, MMAP_ALLOW_UNINITIALIZED: needs a kernel without MMU"),
        ])
        .part("ignored: pages are zero", dirtied(), pages_are_zero)
        .part("ignored: files show their contents", any_request(), |lab, wanted| {
            let map = lab.map(wanted.prepare(lab)?.and(UNINITIALIZED))?;
            works(lab, map, &wanted)
        })
}

/// The mapping holds what it is to hold, and takes stores.
fn works(lab: &Lab, map: Map, wanted: &Request) -> Verdict {
    let view = wanted.view();
    lab.mprotect(map.start(), map.len, READ_WRITE).must_succeed()?;
    lab.load(map.start(), view.len()).must_equal(&view)?;
    lab.store(map.start(), &Data::pattern(1, view.len())).must_succeed()?;
    lab.load(map.start(), view.len()).must_hold(&Data::pattern(1, view.len()))
}

fn has_flag(flags: &str, flag: &str) -> bool {
    flags.split_ascii_whitespace().any(|word| word == flag)
}

/// Whether the machine reserves memory whatever a mapping asks for (vm.overcommit_memory 2).
fn reserves_always() -> bool {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2")
}

fn shows_in_the_mapping(lab: &Lab, in_a_child: bool, wanted: Request) -> Verdict {
    if reserves_always() {
        return lab.lacking(Lack::Policy);
    }
    let args = wanted.prepare(lab)?;
    let who = if in_a_child { lab.fork()? } else { lab.worker() };
    for args in [args, args.fixed(At::Arena(0))] {
        let with = who.map(args.and(NORESERVE))?;
        let flags = who.smaps(with.start(), "VmFlags")?;
        lab.must(has_flag(&flags, "nr"), "VmFlags has nr with MAP_NORESERVE", || flags.clone())?;
    }
    let without = who.map(args)?;
    let flags = who.smaps(without.start(), "VmFlags")?;
    lab.must(!has_flag(&flags, "nr"), "and has it not without", || flags.clone())
}

fn too_large() -> Gen<(Size, Flags)> {
    drawn("a length beyond what can be reserved, and a few pages", ((0..64_usize).prop_map(pages), any_sharing()))
}

/// The least power of two that the machine has addresses for, but will not reserve memory for.
fn refused_length(lab: &Lab, sharing: Flags) -> Verdict<Size> {
    const FIRST: u32 = 30;
    const LAST: u32 = 46;
    for log in FIRST..=LAST {
        let len = Size(1 << log);
        let (answer, map) = lab.try_map(anonymous(len, READ_WRITE, sharing));
        if answer.outcome().errno() == Some(ENOMEM) {
            return Ok(len);
        }
        answer.prepared()?;
        if let Some(map) = map {
            lab.unmap(map)?;
        }
    }
    // Where everything is granted (vm.overcommit_memory 1) the flag has nothing to do.
    lab.lacking(Lack::Policy)
}

fn granted_without_reserve(lab: &Lab, (more, sharing): (Size, Flags)) -> Verdict {
    if reserves_always() {
        return lab.lacking(Lack::Policy);
    }
    let len = refused_length(lab, sharing)? + more;
    let (addresses, map) = lab.try_map(anonymous(len, NONE, PRIVATE).and(NORESERVE));
    if addresses.outcome().errno() == Some(ENOMEM) {
        // The refusal was one of addresses.
        return lab.lacking(Lack::Memory);
    }
    addresses.prepared()?;
    map.map_or(Ok(()), |map| lab.unmap(map))?;
    lab.mmap(anonymous(len, READ_WRITE, sharing)).must_fail(ENOMEM)?;
    let map = lab.map(anonymous(len, READ_WRITE, sharing).and(NORESERVE))?;
    for at in [Size(0), len - page() + 17_usize, Size(len.get() / 2)] {
        lab.store(map.at(at), &Data::pattern(1, 8)).must_succeed()?;
        lab.load(map.at(at), 8).must_hold(&Data::pattern(1, 8))?;
    }
    Ok(())
}

/// Where a mapping is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    Hint,
    Fixed,
}

/// Memory that is populated: what, how many pages, how it may be used.
#[derive(Clone, Copy)]
struct Populated {
    backing: Backing,
    sharing: Flags,
    len: Size,
    offset: Size,
    prot: Prot,
    also: Flags,
    place: Place,
}

impl std::fmt::Debug for Populated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Populated { backing, sharing, len, offset, prot, also, place } = self;
        write!(f, "{backing:?}: {len} at {offset}, {prot:?}, {:?}", *sharing | *also)?;
        if *place == Place::Anywhere { Ok(()) } else { write!(f, ", {place:?}") }
    }
}

fn populated() -> Gen<Populated> {
    let backing = prop::sample::select(vec![Backing::Anonymous, Backing::File, Backing::Memfd]);
    let also = prop_oneof![3 => Just(Flags::default()), 1 => Just(NORESERVE)];
    let prot = prop::sample::select(vec![READ, READ_WRITE]);
    let place = prop_oneof![3 => Just(Place::Anywhere), 1 => Just(Place::Hint), 1 => Just(Place::Fixed)];
    let strategy = (backing, any_sharing(), any_size(1, 64), 0..3_usize, prot, also, place).prop_map(
        |(backing, sharing, len, offset, prot, also, place)| {
            let offset = if backing.is_file() { pages(offset) } else { Size::ZERO };
            Populated { backing, sharing, len, offset, prot, also, place }
        },
    );
    let one = Populated {
        backing: Backing::Anonymous,
        sharing: PRIVATE,
        len: pages(3),
        offset: Size(0),
        prot: READ_WRITE,
        also: Flags::default(),
        place: Place::Anywhere,
    };
    drawn("fresh mappings of one byte to 64 pages", strategy).also([
        one,
        Populated { place: Place::Hint, ..one },
        Populated { place: Place::Fixed, ..one },
        Populated { prot: READ, ..one },
        Populated { sharing: SHARED, ..one },
        Populated { backing: Backing::File, sharing: SHARED, ..one },
        Populated { backing: Backing::File, ..one },
        Populated { len: pages(200), ..one },
        Populated { backing: Backing::File, sharing: SHARED, len: pages(200), ..one },
    ])
}

impl Populated {
    /// A fresh mapping with these rights.
    fn map<'l>(&self, who: impl Calls<'l>, prot: Prot, flags: Flags) -> Verdict<Map> {
        let fd = self.backing.open(who, &Data::pattern(2, self.offset + self.len))?;
        let args = request(self.len, prot, self.sharing | self.backing.flags() | self.also, fd).offset(self.offset);
        let args = match self.place {
            Place::Anywhere => args,
            Place::Hint => args.hint(At::Arena(0)),
            Place::Fixed => args.fixed(At::Arena(0)),
        };
        who.map(args.and(flags))
    }

    /// Whether stores too are promised to need no fault: private memory that may be written gets pages of its own.
    fn is_filled_for_stores(&self) -> bool {
        self.sharing == PRIVATE && self.prot == READ_WRITE
    }
}

/// How often a mapping is made anew before a page fault counts: pages of a machine short of memory may be taken away again.
const TRIES: usize = 8;

fn no_fault_is_left(lab: &Lab, who: Actor<'_>, wanted: Populated) -> Verdict {
    if !crate::kernel::guard::FAST {
        // Where accesses are made by children their page faults are not the worker's.
        return lab.lacking(Lack::Machine);
    }
    // First without: a child takes page faults of its own in its first calls.
    let plain = wanted.map(who, wanted.prot, Flags::default())?;
    let faults = who.touch(plain.start(), plain.len, false).value()?;
    lab.must(faults > 0, "without the flag the first loads take some", || "none".into())?;
    who.unmap(plain)?;
    for store in [false, true] {
        if store && !wanted.is_filled_for_stores() {
            continue;
        }
        let mut faults = 0;
        for _ in 0..TRIES {
            let map = wanted.map(who, wanted.prot, POPULATE)?;
            faults = who.touch(map.start(), map.len, store).value()?;
            who.unmap(map)?;
            if faults == 0 {
                break;
            }
            lab.repeats();
        }
        let words = if store { "the first stores take no page fault" } else { "the first loads take no page fault" };
        lab.must(faults == 0, words, || format!("{faults} page faults in each of {TRIES} tries"))?;
    }
    Ok(())
}

/// PROT_NONE is not populated: given rights later, its pages take their faults then; nor does MAP_NONBLOCK populate.
fn nothing_is_filled_in(lab: &Lab, wanted: Populated) -> Verdict {
    if !crate::kernel::guard::FAST {
        return lab.lacking(Lack::Machine);
    }
    let map = wanted.map(lab, NONE, POPULATE)?;
    lab.load(map.start(), 1).must_be_forbidden(0)?;
    lab.mprotect(map.start(), map.len, READ).must_succeed()?;
    let faults = lab.touch(map.start(), map.len, false).value()?;
    lab.must(faults > 0, "the first loads take page faults", || "none".into())?;
    let map = wanted.map(lab, wanted.prot, POPULATE | NONBLOCK)?;
    let faults = lab.touch(map.start(), map.len, false).value()?;
    lab.must(faults > 0, "and so they do with MAP_POPULATE|MAP_NONBLOCK", || "none".into())
}

/// What cannot be populated is no error, and what can holds what it should.
fn the_call_succeeds(lab: &Lab, wanted: Request) -> Verdict {
    let args = wanted.prepare(lab)?;
    let map = lab.map(args.and(POPULATE))?;
    works(lab, map, &wanted)?;
    wanted.must_share_with(lab, map, args.fd)?;
    let end = Size(wanted.view().len());
    let huge = machine::directory_in_huge_pages() || machine::memfd_in_huge_pages();
    if end >= map.extent() || huge {
        return Ok(());
    }
    lab.load(map.at(end), 1).checked(&beyond_the_file())
}

fn dirtied() -> Gen<(Size, Flags)> {
    drawn("lengths, and the sharing type", (any_size(1, 64), any_sharing()))
}

/// Also right after pages full of other bytes have been given back.
fn pages_are_zero(lab: &Lab, (len, sharing): (Size, Flags)) -> Verdict {
    let before = lab.map(anonymous(len, READ_WRITE, sharing))?;
    lab.store(before.start(), &Data::pattern(1, before.extent())).must_succeed()?;
    lab.unmap(before)?;
    let args = anonymous(len, READ_WRITE, sharing).and(UNINITIALIZED);
    let map = lab.map(args)?;
    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
    let populated = lab.map(args.and(POPULATE))?;
    lab.load(populated.start(), map.extent()).must_hold(&Data::zeros(map.extent()))
}

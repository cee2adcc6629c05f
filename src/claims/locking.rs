//! MAP_LOCKED: memory that stays, and who may have it.

use libc::{EAGAIN, EBUSY, EINVAL, EPERM, MADV_DONTNEED, MS_INVALIDATE, RLIMIT_MEMLOCK};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, WHAT, claim, linux, posix};
use crate::input::{Gen, Request, any_request, drawn, reach};
use crate::kernel::call::{At, Call};
use crate::kernel::names::{LOCKED, NONE, PRIVATE, Prot, READ, READ_WRITE};
use crate::kernel::page::{Size, page, pages};
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![locked()]
}

fn locked() -> Claim {
    claim("flag.locked")
        .states("MAP_LOCKED locks the pages in memory.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_LOCKED; ERRORS, EAGAIN"),
            linux("getrlimit(2), RLIMIT_MEMLOCK"),
            linux("mm/mmap.c, do_mmap(): EPERM where nothing may be locked at all"),
            linux("mincore(2), DESCRIPTION"),
            linux("madvise(2), ERRORS, EINVAL; msync(2), ERRORS, EBUSY"),
            posix("fork, DESCRIPTION, memory locks"),
        ])
        .part(
            "locked and resident",
            readable().and(drawn("with MAP_FIXED", any::<bool>()).also([false])),
            locked_and_resident,
        )
        .depends_on([Depends::Privilege])
        .part("it counts what is locked", any_request(), counted_as_locked)
        .one_in(4)
        .depends_on([Depends::Privilege])
        .part("PROT_NONE counts, and is not resident", lengths_in_pages(), none_counts)
        .one_in(4)
        .depends_on([Depends::Privilege])
        .part("a child has no locks", any_request(), a_child_has_none)
        .one_in(16)
        .depends_on([Depends::Privilege])
        .part("an unprivileged process at its limit", limits(), limited)
        .one_in(8)
        .depends_on([Depends::Privilege])
}

/// Mappings that may be loaded from.
fn readable() -> Gen<Request> {
    any_request().map(|wanted| Request { prot: wanted.prot | READ, ..wanted }).also([Request::of_length(pages(40))])
}

fn lengths_in_pages() -> Gen<usize> {
    drawn("numbers of pages", 1..16_usize)
}

/// Pages that were resident once may be looked at again a few times: without the lock they could go, with it they may not.
const LOOKS: usize = 3;

/// Resident at once, as far as there is something behind the pages, and not to be given up before it is unlocked.
fn locked_and_resident(lab: &Lab, (wanted, fixed): (Request, bool)) -> Verdict {
    let args = wanted.prepare(lab)?.and(LOCKED);
    let map = lab.map(if fixed { args.fixed(At::Arena(0)) } else { args })?;
    let view = wanted.view();
    let filled = Size(view.len());
    for _ in 0..LOOKS {
        lab.mincore(map.start(), filled).must_equal(&vec![1; filled.in_pages()])?;
    }
    lab.load(map.start(), filled).must_equal(&view)?;
    lab.mprotect(map.start(), map.len, READ).must_succeed()?;
    refuses_to_go(lab, map, true)?;
    lab.munlock(map.start(), map.len).must_succeed()?;
    refuses_to_go(lab, map, false)?;
    lab.load(map.start(), filled).must_equal(&view)
}

/// Locked memory cannot be dropped (madvise(2)) or invalidated (msync(2)).
fn refuses_to_go(lab: &Lab, map: Map, locked: bool) -> Verdict {
    for number in 0..map.len.in_pages() {
        let at = map.at(pages(number));
        let invalidate = lab.msync(at, page(), MS_INVALIDATE);
        let drop = lab.madvise(at, page(), MADV_DONTNEED);
        if locked {
            invalidate.checked(&Expect::Refused(EBUSY))?;
            drop.checked(&Expect::Refused(EINVAL))?;
        } else {
            invalidate.checked(&Expect::Success)?;
            drop.checked(&Expect::Success)?;
        }
    }
    let words = if locked { "every page refuses to go" } else { "unlocked, every page may go" };
    lab.must(true, words, String::new)
}

/// The memory that a process has locked (proc_pid_status(5), VmLck).
fn locked_memory<'l>(who: impl Calls<'l>) -> Verdict<Size> {
    let text = who.status("VmLck")?;
    let kilobytes: usize = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(Size(kilobytes << 10))
}

fn must_have_locked<'l>(lab: &Lab, who: impl Calls<'l>, expected: Size, words: &str) -> Verdict {
    let seen = locked_memory(who)?;
    lab.must(seen == expected, words, || format!("{seen}"))
}

/// The whole pages of the mapping are counted, while it is there.
fn counted_as_locked(lab: &Lab, wanted: Request) -> Verdict {
    let before = locked_memory(lab)?;
    let map = lab.map(wanted.prepare(lab)?.and(LOCKED))?;
    must_have_locked(lab, lab, before + map.extent(), "VmLck grows by the mapping's pages")?;
    let flags = lab.smaps(map.start(), "VmFlags")?;
    lab.must(flags.split(' ').any(|flag| flag == "lo"), "VmFlags has lo", || flags.clone())?;
    let plain = lab.map(wanted.prepare(lab)?)?;
    must_have_locked(lab, lab, before + map.extent(), "a mapping without the flag does not count")?;
    lab.unmap(plain)?;
    lab.unmap(map)?;
    must_have_locked(lab, lab, before, "and none counts when it is unmapped")
}

fn none_counts(lab: &Lab, count: usize) -> Verdict {
    let before = locked_memory(lab)?;
    let map = lab.map(anonymous(pages(count), NONE, PRIVATE).and(LOCKED))?;
    must_have_locked(lab, lab, before + map.extent(), "VmLck grows by the mapping's pages")?;
    lab.mincore(map.start(), map.len).must_equal(&vec![0; count])
}

fn a_child_has_none(lab: &Lab, wanted: Request) -> Verdict {
    let map = lab.map(wanted.prepare(lab)?.and(LOCKED))?;
    let child = lab.fork()?;
    must_have_locked(lab, child, Size::ZERO, "VmLck is 0 in the child")?;
    child.msync(map.start(), map.len, MS_INVALIDATE).must_succeed()?;
    lab.msync(map.start(), map.len, MS_INVALIDATE).must_fail(EBUSY)
}

/// A limit, and mappings that are made under it, one after the other.
#[derive(Clone)]
struct Limited {
    limit: Size,
    wanted: Vec<(usize, Prot)>,
}

impl std::fmt::Debug for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "limit {}:", self.limit)?;
        self.wanted.iter().try_for_each(|(count, prot)| write!(f, " {count}p {prot:?}"))
    }
}

fn limits() -> Gen<Limited> {
    let limit = (0..5_usize, prop_oneof![3 => Just(0), 1 => Just(1), 1 => 0..reach()]);
    let prot = prop::sample::select(vec![NONE, READ, READ_WRITE]);
    let strategy = (limit, prop::collection::vec((1..5_usize, prot), 1..5))
        .prop_map(|((count, more), wanted)| Limited { limit: pages(count) + more, wanted });
    let at = |limit, count| Limited { limit, wanted: vec![(count, READ_WRITE), (1, NONE)] };
    drawn("limits of some pages and bytes, and mappings under them", strategy).also([
        at(Size(0), 1),
        at(Size(1), 1),
        at(pages(2), 2),
        at(pages(2), 3),
        at(pages(3) - 1, 2),
    ])
}

/// EPERM where the limit is 0, EAGAIN above it, and success up to it; what is unmapped counts no more.
fn limited(lab: &Lab, limited: Limited) -> Verdict {
    let child = lab.fork()?;
    child.call(Call::DropPrivileges).prepared()?;
    // The hard limit may be lower than what was asked for.
    let limit = child.limit(RLIMIT_MEMLOCK, limited.limit.get() as u64)?;
    let mut total = 0;
    let mut maps = Vec::new();
    for (count, prot) in limited.wanted {
        let expect = within_limit(limit, total + count);
        if let Some(map) = lock_some(child, count, prot, &expect)? {
            total += count;
            maps.push(map);
        }
    }
    let Some(first) = maps.first() else { return Ok(()) };
    child.unmap(*first)?;
    let count = first.len.in_pages();
    lock_some(child, count, READ_WRITE, &within_limit(limit, total)).map(drop)?;
    // Without the flag there is no limit.
    child.map(anonymous(pages(20), READ_WRITE, PRIVATE)).map(drop)
}

fn within_limit(limit: u64, count: usize) -> Expect {
    match limit / page() as u64 {
        _ if limit == 0 => Expect::Refused(EPERM),
        room if count as u64 <= room => Expect::Success,
        _ => Expect::Refused(EAGAIN),
    }
}

fn lock_some(child: Actor<'_>, count: usize, prot: Prot, expect: &Expect) -> Verdict<Option<Map>> {
    let (answer, map) = child.try_map(anonymous(pages(count), prot, PRIVATE).and(LOCKED));
    answer.must(expect)?;
    Ok(map)
}

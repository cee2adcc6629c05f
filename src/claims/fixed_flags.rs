//! Flags that say where: MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT.

use libc::{EEXIST, EINVAL, ENOMEM, EOPNOTSUPP};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::patchwork::forbidden;
use crate::input::{Backing, Gen, Range, Request, any_request, any_sharing, content_seed, drawn, page_range, reach};
use crate::kernel::call::{At, Fd};
use crate::kernel::data::Data;
use crate::kernel::machine;
use crate::kernel::names::{
    FIXED, FIXED_NOREPLACE, Flags, LOW_2GIB, NONBLOCK, NONE, NORESERVE, POPULATE, PRIVATE, READ, READ_WRITE, SHARED,
    SHARED_VALIDATE, STACK, WRITE,
};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![exact(), discouraged(), low_addresses()]
}

fn exact() -> Claim {
    claim("flag.fixed-exact")
        .states("With MAP_FIXED the address is taken literally.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_FIXED"),
            posix("mmap, ERRORS, [EINVAL] and [ENOMEM]"),
            linux("mmap(2), MAP_FIXED"),
            unspecified("mmap, DESCRIPTION: only XSI systems must support it"),
        ])
        .part("any page of a range", any_request().and(places()).and(harmless()), placed_exactly)
        .part("inside a mapping of the case", in_the_middle(), placed_inside_a_mapping)
        .part("an address inside a page", any_request().and(misplaced()), unaligned_is_refused)
        .part("an address beyond all addresses", any_request().and(beyond()), beyond_is_refused)
}

fn discouraged() -> Claim {
    claim("flag.fixed-discouraged")
        .states("MAP_FIXED is not recommended.")
        .documents([SHM.at("mmap, flags")])
        .qualified(
            "Advice cannot be tested, its reason can: MAP_FIXED silently replaces what lies in the range. Over a range reserved \
             beforehand it is safe, and MAP_FIXED_NOREPLACE refuses with EEXIST instead.",
        )
        .basis([
            posix("mmap, APPLICATION USAGE; DESCRIPTION, MAP_FIXED"),
            linux("mmap(2), MAP_FIXED; Using MAP_FIXED safely"),
            linux("mmap(2), MAP_FIXED_NOREPLACE; ERRORS, EEXIST"),
        ])
        .part("MAP_FIXED replaces", overlaps(), replaced)
        .part("MAP_FIXED_NOREPLACE refuses", overlaps(), refused_over_something)
        .part(
            "MAP_FIXED_NOREPLACE where nothing is",
            any_request().also([Request::of_length(pages(90))]).and(places().also([pages(3)])),
            placed_in_a_hole,
        )
}

fn low_addresses() -> Claim {
    claim("flag.32bit")
        .states("MAP_32BIT exists on x86-64 alone, and places the mapping in the first 2 GiB.")
        .documents([WHAT.at("mmap, flags")])
        .holds()
        .basis([
            linux("mmap(2), MAP_32BIT"),
            linux("arch/x86/kernel/sys_x86_64.c, find_start_end()"),
            linux("arch/x86/include/uapi/asm/mman.h: 0x40 is defined there alone; on POWER it is MAP_NORESERVE"),
        ])
        .part("on x86-64", any_request().and(places()).and(harmless()), below_two_gib)
        .depends_on([Depends::Machine])
        .part("on x86-64, in a child", any_request().and(places()), |lab, (wanted, place)| {
            needs_x86(lab)?;
            let args = wanted.prepare(lab)?.and(LOW_2GIB);
            let child = lab.fork()?;
            for at in [At::Null, At::Arena(place.get())] {
                must_lie_below_two_gib(lab, child.map(args.hint(at))?)?;
            }
            Ok(())
        })
        .one_in(16)
        .depends_on([Depends::Machine])
        .part("on x86-64, with MAP_FIXED", any_request().and(places()), ignored_with_fixed)
        .depends_on([Depends::Machine])
        .part("on x86-64, more than there is room for", too_long(), refused_beyond_two_gib)
        .depends_on([Depends::Machine])
        .part("on other machines", any_request(), no_such_flag)
        .depends_on([Depends::Machine])
}

/// A page of the arena, with room behind it.
fn places() -> Gen<Size> {
    let place = prop_oneof![3 => 1..20_usize, 1 => 20..500_usize].prop_map(pages);
    drawn("a page of a range that is kept for it", place)
}

/// Flags that say nothing about the place.
fn harmless() -> Gen<Flags> {
    let any = prop::sample::subsequence(vec![NORESERVE, POPULATE, NONBLOCK, STACK], 1..=2);
    let flags = any.prop_map(|flags| flags.into_iter().fold(Flags::default(), |all, flag| all | flag));
    drawn("other flags besides, or none", prop_oneof![1 => Just(Flags::default()), 1 => flags])
}

fn misplaced() -> Gen<(Size, Flags)> {
    let distance = prop_oneof![2 => Just(1), 2 => Just(page() - 1), 1 => 1..reach()];
    let flags = prop::sample::select(vec![FIXED, FIXED_NOREPLACE, FIXED | FIXED_NOREPLACE]);
    drawn("a distance from the beginning of a page", (distance.prop_map(Size), flags))
}

/// The mapping is at its address and works; the page before and the page behind are what they were.
fn placed_exactly(lab: &Lab, ((wanted, place), besides): ((Request, Size), Flags)) -> Verdict {
    let at = At::Arena(place.get());
    let args = wanted.prepare(lab)?;
    let map = lab.map(args.fixed(at).and(besides))?;
    must_be_at(lab, map, at)?;
    lab.load(map.start().minus(1), 1).must_be_forbidden(0)?;
    lab.load(map.end(), 1).must_be_forbidden(0)?;
    works(lab, map, &wanted)?;
    wanted.must_share_with(lab, map, args.fd)
}

/// The address that mmap returned is the one that was asked for.
fn must_be_at(lab: &Lab, map: Map, at: At) -> Verdict {
    let wanted = lab.address(at);
    lab.must(map.address == wanted, "the mapping is at the very address", || {
        let distance = map.address.wrapping_sub(wanted) as isize;
        format!("{distance} bytes from it")
    })
}

/// What is there is what was asked for: contents, and rights.
fn works(lab: &Lab, map: Map, wanted: &Request) -> Verdict {
    let view = wanted.view();
    lab.mprotect(map.start(), map.len, READ).must_succeed()?;
    lab.load(map.start(), view.len()).must_equal(&view)?;
    if view.len() < map.extent().get() {
        return Ok(());
    }
    lab.store(map.end().minus(1), &Data::repeat(1, 1)).must_be_forbidden(0)
}

/// A page in the middle of three, in shared memory and in private, and any others.
fn in_the_middle() -> Gen<((Request, Size), Flags)> {
    any_request()
        .also([Request::of_length(pages(1))])
        .and(places().also([pages(9), pages(1)]))
        .and(harmless().also([Flags::default()]))
}

fn placed_inside_a_mapping(lab: &Lab, ((wanted, place), besides): ((Request, Size), Flags)) -> Verdict {
    let before = pages(place.in_pages() % 4);
    let len = before + wanted.len.round_up() + pages(1);
    let around = match place.in_pages() % 3 {
        0 => request(len, READ_WRITE, SHARED, lab.memfd(&Data::zeros(len))?),
        _ => anonymous(len, READ_WRITE, PRIVATE),
    };
    let around = lab.map(around)?;
    lab.store(around.start(), &Data::pattern(1, len)).must_succeed()?;
    let args = wanted.prepare(lab)?;
    let map = lab.map(args.fixed(around.at(before)).and(besides))?;
    must_be_at(lab, map, around.at(before))?;
    works(lab, map, &wanted)?;
    wanted.must_share_with(lab, map, args.fd)?;
    lab.load(around.start(), before).must_hold(&Data::pattern(1, before))?;
    let behind = before + map.extent();
    lab.load(around.at(behind), page()).must_hold(&Data::at(1, behind, page()))
}

fn unaligned_is_refused(lab: &Lab, (wanted, (distance, flags)): (Request, (Size, Flags))) -> Verdict {
    let args = wanted.prepare(lab)?;
    let at = At::Arena((pages(9) + distance).get());
    lab.mmap(args.hint(at).and(flags)).must_fail(EINVAL)?;
    let map = lab.map(args.fixed(At::Arena(pages(9).get())))?;
    works(lab, map, &wanted)
}

fn beyond() -> Gen<(usize, Flags)> {
    let flags = prop::sample::select(vec![FIXED, FIXED_NOREPLACE]);
    drawn("one of the last pages of all addresses", (1..40_usize, flags))
}

/// The last page of all is in no address space (s390x has every other), so a length that reaches it is too long.
fn beyond_is_refused(lab: &Lab, (wanted, (last, flags)): (Request, (usize, Flags))) -> Verdict {
    let args = wanted.prepare(lab)?;
    let at = At::Number(pages(last).get().wrapping_neg());
    lab.mmap(args.length(wanted.len.max(pages(last))).hint(at).and(flags)).must_fail(ENOMEM)
}

/// A mapping of some pages, and a range that overlaps it, in part or all.
#[derive(Clone, Copy)]
struct Overlap {
    count: usize,
    /// The new mapping, from a page before the old one on.
    range: Range,
    old: Flags,
    new: Flags,
    file: bool,
    contents: u32,
}

impl std::fmt::Debug for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Overlap { count, range, old, new, file, .. } = self;
        let what = if *file { "file" } else { "anonymous" };
        write!(f, "{range:?}, {new:?}, over [2p, {}p) of a {what} {old:?}", count + 2)
    }
}

fn overlaps() -> Gen<Overlap> {
    let count = prop_oneof![4 => 1..4_usize, 1 => 4..20_usize];
    let strategy = (count, any_sharing(), any_sharing(), any::<bool>(), content_seed())
        .prop_flat_map(|(count, old, new, file, contents)| {
            page_range(count + 4).prop_map(move |range| Overlap { count, range, old, new, file, contents })
        })
        .prop_filter("the ranges overlap", |overlap| {
            overlap.range.at < pages(overlap.count + 2) && overlap.range.end() > pages(2)
        });
    let one = Overlap {
        count: 3,
        range: Range { at: pages(3), len: pages(1) },
        old: SHARED,
        new: PRIVATE,
        file: true,
        contents: 2,
    };
    let range = |at, len| Overlap { range: Range { at: pages(at), len: pages(len) }, ..one };
    drawn("a mapping, and a range that covers it, ends or begins in it, or lies inside", strategy).also([
        one,
        range(2, 3),
        range(2, 1),
        range(4, 1),
        range(1, 2),
        range(4, 2),
        range(0, 7),
        Overlap { count: 100, ..range(90, 3) },
        Overlap { count: 3, ..range(0, 100) },
        Overlap { count: 1, range: Range { at: pages(2), len: pages(100) }, ..one },
    ])
}

impl Overlap {
    /// The old mapping, with a pattern stored to it.
    fn lay(&self, lab: &Lab) -> Verdict<(Map, Option<Fd>)> {
        let len = pages(self.count);
        let (args, fd) = if self.file {
            let (_, fd) = lab.new_file(&Data::pattern(self.contents, len))?;
            (request(len, READ_WRITE, self.old, fd), Some(fd))
        } else {
            (anonymous(len, READ_WRITE, self.old), None)
        };
        let map = lab.map(args.fixed(At::Arena(pages(11).get())))?;
        lab.store(map.start(), &Data::pattern(1, len)).must_succeed()?;
        Ok((map, fd))
    }

    /// Where the new mapping is to be.
    fn place(&self) -> At {
        At::Arena((pages(9) + self.range.at).get())
    }

    /// The bytes of the old mapping, with zeros in the overlapping part.
    fn replaced(&self) -> Vec<u8> {
        let mut bytes = Data::pattern(1, pages(self.count)).to_vec();
        let within = |end: Size| end.less(pages(2)).get().min(bytes.len());
        let (from, to) = (within(self.range.at), within(self.range.end()));
        bytes[from..to].fill(0);
        bytes
    }
}

/// The overlapping part is the new mapping's, without a word; the rest, and a file behind, keep their bytes.
fn replaced(lab: &Lab, overlap: Overlap) -> Verdict {
    let (old, fd) = overlap.lay(lab)?;
    let len = overlap.range.len;
    let new = lab.map(anonymous(len, READ_WRITE, overlap.new).fixed(overlap.place()))?;
    must_be_at(lab, new, overlap.place())?;
    lab.load(new.start(), len).must_hold(&Data::zeros(len))?;
    lab.load(old.start(), old.len).must_equal(&overlap.replaced())?;
    lab.store(new.start(), &Data::pattern(3, len)).must_succeed()?;
    lab.load(new.start(), len).must_hold(&Data::pattern(3, len))?;
    let Some(fd) = fd else { return Ok(()) };
    let kept = if overlap.old == SHARED { 1 } else { overlap.contents };
    lab.pread(fd, old.len, 0).must_hold(&Data::pattern(kept, old.len))
}

/// EEXIST for every overlap, alone and together with MAP_FIXED, and nothing has changed.
fn refused_over_something(lab: &Lab, overlap: Overlap) -> Verdict {
    let (old, _) = overlap.lay(lab)?;
    for prot in [NONE, READ, WRITE, READ_WRITE] {
        let args = anonymous(overlap.range.len, prot, overlap.new).hint(overlap.place());
        lab.mmap(args.and(FIXED_NOREPLACE)).must_fail(EEXIST)?;
        lab.mmap(args.and(FIXED_NOREPLACE | FIXED)).must_fail(EEXIST)?;
    }
    lab.load(old.start(), old.len).must_hold(&Data::pattern(1, old.len))?;
    lab.load(old.start().minus(1), 1).checked(&forbidden())?;
    lab.load(old.end(), 1).checked(&forbidden())
}

/// Into a hole that just fits it goes, to the very address; a page more, to either side, is one too many.
fn placed_in_a_hole(lab: &Lab, (wanted, place): (Request, Size)) -> Verdict {
    let len = wanted.len.round_up();
    let at = lab.hole(place, len);
    let args = wanted.prepare(lab)?.and(FIXED_NOREPLACE);
    lab.mmap(args.length(len + 1).hint(at)).must_fail(EEXIST)?;
    lab.mmap(args.length(len + page()).hint(at.minus(page()))).must_fail(EEXIST)?;
    let map = lab.map(args.hint(at))?;
    must_be_at(lab, map, at)?;
    lab.mmap(args.hint(at)).must_fail(EEXIST)?;
    works(lab, map, &wanted)?;
    wanted.must_share_with(lab, map, args.fd)
}

/// MAP_32BIT means something on x86-64 alone.
fn needs_x86(lab: &Lab) -> Verdict {
    if cfg!(target_arch = "x86_64") { Ok(()) } else { lab.lacking(Lack::Machine) }
}

/// All of it lies below 2 GiB, with a hint from above or none, beside others of its kind; and it works.
fn below_two_gib(lab: &Lab, ((wanted, place), besides): ((Request, Size), Flags)) -> Verdict {
    needs_x86(lab)?;
    let args = wanted.prepare(lab)?.and(LOW_2GIB).and(besides);
    for at in [At::Null, At::Arena(place.get())] {
        let map = lab.map(args.hint(at))?;
        must_lie_below_two_gib(lab, map)?;
        works(lab, map, &wanted)?;
    }
    Ok(())
}

fn must_lie_below_two_gib(lab: &Lab, map: Map) -> Verdict {
    let end = Size(map.address) + map.extent();
    lab.must(end <= TWO_GIB && map.address > 0, "all of it lies below 2 GiB", || format!("it ends at {end}"))
}

const TWO_GIB: Size = Size(1 << 31);

fn ignored_with_fixed(lab: &Lab, (wanted, place): (Request, Size)) -> Verdict {
    needs_x86(lab)?;
    let at = At::Arena(place.get());
    let map = lab.map(wanted.prepare(lab)?.fixed(at).and(LOW_2GIB))?;
    must_be_at(lab, map, at)?;
    works(lab, map, &wanted)
}

fn too_long() -> Gen<(Size, Flags)> {
    let len = prop_oneof![Just(TWO_GIB), (0..64_usize).prop_map(|more| TWO_GIB + pages(more) + 1_usize)];
    drawn("lengths of 2 GiB and more", (len, any_sharing()))
}

fn refused_beyond_two_gib(lab: &Lab, (len, sharing): (Size, Flags)) -> Verdict {
    needs_x86(lab)?;
    if machine::is_user_mode_linux() {
        // It takes the flag and places mappings as it does without.
        return lab.lacking(Lack::Machine);
    }
    let args = anonymous(len, NONE, sharing).and(NORESERVE);
    lab.mmap(args.and(LOW_2GIB)).must_fail(ENOMEM)?;
    lab.map(args).map(drop)
}

/// The bit is unknown to MAP_SHARED_VALIDATE; on POWER it is MAP_NORESERVE.
fn no_such_flag(lab: &Lab, wanted: Request) -> Verdict {
    if cfg!(target_arch = "x86_64") {
        return lab.lacking(Lack::Machine);
    }
    let (_, fd) = lab.new_file(&Data::pattern(wanted.contents, wanted.size))?;
    let args = request(wanted.len, READ, SHARED, fd).and(LOW_2GIB);
    let map = lab.map(args)?;
    works(lab, map, &Request { backing: Backing::File, offset: Size::ZERO, ..wanted })?;
    let answer = lab.mmap(args.sharing(SHARED_VALIDATE));
    if cfg!(target_arch = "powerpc64") { answer.must_succeed() } else { answer.must_fail(EOPNOTSUPP) }
}

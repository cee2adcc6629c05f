//! msync: which ranges and flags it takes, and what MS_INVALIDATE is good for.

use libc::{EBUSY, EINVAL, ENOMEM, MS_ASYNC, MS_INVALIDATE, MS_SYNC};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, SHM, claim, linux, posix};
use crate::input::{Backing, Cut, Edit, Gen, Layout, Piece, Range, Stretch, Window, drawn, each, edits_within, reach};
use crate::kernel::call::{ActorId, At, Call};
use crate::kernel::names::{Flags, NONE, Prot, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

use super::large_ranges::{self, large_lengths};
use super::syncing::{ON_DISKS, clean_file, edited_windows, stretches, synced_stretch, unwritten, whole_stretches};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![invalidate(), arguments()]
}

fn invalidate() -> Claim {
    claim("msync.invalidate")
        .states("MS_INVALIDATE makes other cached copies of the data invalid, so that they show what was written.")
        .documents([SHM.at("msync")])
        .qualified(
            "Linux mappings of one file agree without it: the call makes nothing invalid and succeeds, \
             but over locked pages, where it is EBUSY.",
        )
        .basis([
            posix("msync, DESCRIPTION, MS_INVALIDATE"),
            posix("msync, ERRORS, [EBUSY]"),
            posix("msync, RATIONALE"),
            linux("msync(2), DESCRIPTION, MS_INVALIDATE"),
            linux("msync(2), ERRORS, EBUSY"),
            linux("linux 7.2, mm/msync.c, msync()"),
        ])
        .part("without it", edited_windows(4), |lab, (window, edits)| {
            let fd = Backing::Memfd.open(lab, &window.file())?;
            let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
            let twin = lab.map(request(window.size, READ_WRITE, SHARED, fd))?;
            let mut file = window.file().to_vec();
            for (index, edit) in edits.iter().enumerate() {
                let place = window.offset + edit.at;
                match index % 3 {
                    0 => lab.store(map.at(edit.at), &edit.data),
                    1 => lab.pwrite(fd, &edit.data, place),
                    _ => lab.store(twin.at(place), &edit.data),
                }
                .must_succeed()?;
                edit.data.fill(&mut file[place.get()..][..edit.data.len()]);
                lab.load(twin.start(), file.len()).must_equal(&file)?;
                lab.load(map.start(), window.len).must_equal(&file[window.offset.get()..][..window.len.get()])?;
                lab.pread(fd, file.len() + 1, 0).must_equal(&file)?;
            }
            Ok(())
        })
        .part(
            "with it",
            whole_stretches().and(each("flags", [MS_INVALIDATE | MS_SYNC, MS_INVALIDATE | MS_ASYNC])),
            synced_stretch,
        )
        .part("over locked pages", stretches().and(with_invalidate()), |lab, ((layout, cuts), (flags, lock))| {
            let stretch = layout.lay(lab)?;
            let locked = lock.within(&layout);
            let lock = |locked: Cut| (stretch.at(locked.from), pages(locked.to - locked.from));
            let (at, len) = lock(locked);
            lab.call(ActorId(0), Call::Mlock { at, len }).prepared()?;
            for cut in &cuts {
                must_be_as_ruled(lab, &stretch, *cut, flags, Some(locked))?;
                must_be_as_ruled(lab, &stretch, *cut, flags & !MS_INVALIDATE, Some(locked))?;
            }
            must_be_as_ruled(lab, &stretch, locked, flags, Some(locked))?;
            lab.call(ActorId(0), Call::Munlock { at, len }).prepared()?;
            for cut in &cuts {
                must_be_as_ruled(lab, &stretch, *cut, flags, None)?;
            }
            stretch.must_be_as_modelled(lab)
        })
        .depends_on([Depends::Privilege])
        .part("mapped with MAP_LOCKED", with_invalidate(), |lab, (flags, lock)| {
            let args = anonymous(pages(lock.count), READ_WRITE, SHARED);
            let plain: Map = lab.map(args)?;
            let locked = lab.map(args.and(Flags(libc::MAP_LOCKED as u32)))?;
            lab.msync(plain.start(), plain.len, flags).must_return(0_u64)?;
            for index in 0..lock.count {
                lab.msync(locked.at(pages(index)), 1, flags).must_fail(EBUSY)?;
            }
            lab.msync(locked.start(), locked.len, flags & !MS_INVALIDATE).must_return(0_u64)
        })
        .depends_on([Depends::Privilege])
}

/// Some pages of a mapping that are locked: the mapping by its number among the pieces, the first page in it, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lock {
    piece: usize,
    first: usize,
    count: usize,
}

impl Lock {
    /// Those pages, in a piece of the layout that is mapped.
    fn within(self, layout: &Layout) -> Cut {
        let mapped = mapped(layout);
        let (from, end) = mapped[self.piece % mapped.len()];
        let from = from + self.first % (end - from);
        Cut { from, to: (from + self.count).min(end), short: 0 }
    }
}

/// The pieces of a layout that are mapped: the first page of each, and the page behind its last.
fn mapped(layout: &Layout) -> Vec<(usize, usize)> {
    let mut from = 1;
    let mut mapped = Vec::new();
    for (count, piece) in &layout.pieces {
        if *piece != Piece::Hole {
            mapped.push((from, from + count));
        }
        from += count;
    }
    mapped
}

fn set_rights(lab: &Lab, layout: &Layout, stretch: &Stretch, prot: Prot) -> Verdict {
    let set = |(from, end): (usize, usize)| lab.mprotect(stretch.at(from), pages(end - from), prot).prepared();
    mapped(layout).into_iter().try_for_each(set)
}

fn with_invalidate() -> Gen<(i32, Lock)> {
    let flags = prop::sample::select(vec![MS_INVALIDATE, MS_INVALIDATE | MS_ASYNC, MS_INVALIDATE | MS_SYNC]);
    let lock = (0_usize..4, 0_usize..8, 1_usize..5).prop_map(|(piece, first, count)| Lock { piece, first, count });
    drawn("flags with MS_INVALIDATE; one to four pages that are locked", (flags, lock))
}

/// EBUSY comes before ENOMEM, though the hole be first; both only where the range meets what they speak of.
fn must_be_as_ruled(lab: &Lab, stretch: &Stretch, cut: Cut, flags: i32, locked: Option<Cut>) -> Verdict {
    let answer = lab.msync(stretch.at(cut.from), cut.len(), flags);
    let meets = |locked: Cut| cut.from < locked.to && locked.from < cut.to;
    match (locked.is_some_and(meets) && flags & MS_INVALIDATE != 0, stretch.has_hole(cut)) {
        (true, _) => answer.must_fail(EBUSY),
        (false, true) => answer.must_fail(ENOMEM),
        (false, false) => answer.must_return(0_u64),
    }
}

fn arguments() -> Claim {
    claim("msync.arguments")
        .states("addr and len name a range of memory, and flags takes one of the defined values.")
        .documents([SHM.at("msync")])
        .holds()
        .basis([
            posix("msync, ERRORS, [EINVAL]"),
            posix("msync, ERRORS, [ENOMEM]"),
            linux("msync(2), ERRORS, EINVAL"),
            linux("msync(2), ERRORS, ENOMEM"),
            linux("linux 7.2, mm/msync.c, msync()"),
        ])
        .part("a range", stretches().and(drawn("flags", any_flags())), |lab, ((layout, cuts), flags)| {
            let stretch = layout.lay(lab)?;
            for cut in &cuts {
                must_be_as_ruled(lab, &stretch, *cut, flags, None)?;
            }
            // What may not be accessed is mapped all the same.
            set_rights(lab, &layout, &stretch, NONE)?;
            for cut in cuts {
                must_be_as_ruled(lab, &stretch, cut, flags, None)?;
            }
            set_rights(lab, &layout, &stretch, READ_WRITE)?;
            stretch.must_be_as_modelled(lab)
        })
        .part("what is mapped around a hole is written", holed_files(), |lab, (count, hole, edits)| {
            let contents = Window { size: pages(count), offset: Size::ZERO, len: pages(count), contents: 2 };
            let fd = clean_file(lab, &contents)?;
            let map = lab.map(request(pages(count), READ_WRITE, SHARED, fd).fixed(At::Arena(0)))?;
            for edit in &edits {
                lab.store(map.at(edit.at), &edit.data).prepared()?;
            }
            lab.munmap(map.at(hole.at), hole.len).prepared()?;
            lab.msync(map.start(), map.len, MS_SYNC).must_fail(ENOMEM)?;
            for (from, to) in [(Size::ZERO, hole.at), (hole.end(), map.len)] {
                if from < to {
                    unwritten(lab, fd, from, to - from).must_return(0_u64)?;
                }
            }
            Ok(())
        })
        .one_in(ON_DISKS)
        .depends_on([Depends::FileSystem, Depends::Release])
        .part("an unaligned address", stretches().and(off_a_page()), |lab, ((layout, cuts), (off, flags))| {
            let stretch = layout.lay(lab)?;
            for len in [cuts[0].len(), Size(1), Size::ZERO, Size(usize::MAX)] {
                lab.msync(stretch.at(cuts[0].from).plus(off), len, flags).must_fail(EINVAL)?;
            }
            stretch.must_be_as_modelled(lab)
        })
        .part("an undefined flag", stretches().and(undefined_flags()), |lab, ((layout, cuts), flags)| {
            let stretch = layout.lay(lab)?;
            for len in [cuts[0].len(), Size::ZERO, Size(usize::MAX)] {
                lab.msync(stretch.at(cuts[0].from), len, flags).must_fail(EINVAL)?;
            }
            stretch.must_be_as_modelled(lab)
        })
        .part(
            "a length of 0, or one that rounds up to 2^64",
            stretches().and(empty()),
            |lab, ((layout, cuts), empty)| {
                let stretch = layout.lay(lab)?;
                let (len, flags) = empty;
                for cut in cuts {
                    lab.msync(stretch.at(cut.from), len, flags).must_return(0_u64)?;
                }
                lab.msync(At::Null, len, flags).must_return(0_u64)?;
                stretch.must_be_as_modelled(lab)
            },
        )
        .part("a hole behind 2 GiB and more", large_lengths(), large_ranges::hole_at_the_end)
        .one_in(8)
        .part("a range beyond the address space", stretches().and(each("lengths", too_long())), |lab, input| {
            let ((layout, cuts), len) = input;
            let stretch = layout.lay(lab)?;
            // MS_ASYNC alone stops at the first hole and writes nothing of the worker's.
            lab.msync(stretch.at(cuts[0].from), len, MS_ASYNC).must_fail(ENOMEM)?;
            stretch.must_be_as_modelled(lab)
        })
}

/// Flags that are accepted where nothing is locked.
fn any_flags() -> BoxedStrategy<i32> {
    let list = vec![MS_ASYNC, MS_SYNC, MS_ASYNC | MS_INVALIDATE, MS_SYNC | MS_INVALIDATE, 0, MS_INVALIDATE];
    prop::sample::select(list).boxed()
}

/// A file's pages, a hole among them, and stores.
fn holed_files() -> Gen<(usize, Range, Vec<Edit>)> {
    let strategy = (2_usize..12).prop_flat_map(|count| {
        let hole = (0..count, 1..count).prop_map(move |(from, len)| {
            let to = (from + len).min(count);
            Range { at: pages(from), len: pages(to - from) }
        });
        (Just(count), hole, edits_within(pages(count), 4))
    });
    drawn("files of 2 to 11 pages, mapped with a hole, and stores through them", strategy)
}

fn off_a_page() -> Gen<(Size, i32)> {
    let off = prop_oneof![prop::sample::select(vec![1_usize, 4, 8]), 1..reach()];
    let either = (off, any::<bool>()).prop_map(|(off, back)| if back { pages(1) - off } else { Size(off) });
    drawn("distances from a page; flags", (either, any_flags()))
}

/// At least one bit that msync does not define, with any of those that it does.
fn undefined_flags() -> Gen<i32> {
    let strategy = (any::<i32>(), 3_u32..32, 0_i32..8, any::<bool>()).prop_map(|(many, bit, defined, one)| {
        let undefined = 1_i32.wrapping_shl(bit);
        if one { undefined | defined } else { many & !7 | undefined | defined }
    });
    drawn("flags with one undefined bit or several, and any defined ones", strategy)
}

fn empty() -> Gen<(Size, i32)> {
    let len = prop_oneof![2 => Just(Size::ZERO), 1 => (1..reach()).prop_map(|short| Size::ZERO - short)];
    drawn("length 0, or less than a page short of 2^64; flags", (len, any_flags()))
}

fn too_long() -> Vec<Size> {
    vec![Size::ZERO - pages(1), Size::ZERO - pages(1) - 1, Size::ZERO - pages(5), Size(1 << 63)]
}

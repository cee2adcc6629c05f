//! msync: what it accepts, and what is true when it has returned.

use libc::{EINVAL, MS_ASYNC, MS_INVALIDATE, MS_SYNC};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, MAPIO, SHM, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Cut, Edit, Gen, Layout, Piece, Range, Window, any_window, drawn, each, edits_within, file_backing,
    layouts_and_cuts, page_range, reach,
};
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::answer::Answer;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![makes_consistent(), async_xor_sync(), sync_waits()]
}

/// Every MS_SYNC of a file on a disk waits for that disk: such parts try few cases.
pub(super) const ON_DISKS: usize = 32;

fn makes_consistent() -> Claim {
    claim("msync.makes-consistent")
        .states("msync brings the file on disk and the mapped memory into agreement.")
        .documents([SHM.at("msync"), MAPIO.at("copy, listing")])
        .holds()
        .basis([
            posix("msync, DESCRIPTION"),
            linux("msync(2), DESCRIPTION"),
            linux("cachestat(2), DESCRIPTION"),
            unspecified("msync, DESCRIPTION, shared memory objects"),
        ])
        .part("contents", edited_windows(4).and(each("flags", [MS_SYNC, MS_ASYNC])), |lab, ((window, edits), flags)| {
            synced_edits(lab, Backing::Memfd, window, &edits, flags)
        })
        .part("contents of a file", edited_windows(2), |lab, (window, edits)| {
            synced_edits(lab, Backing::File, window, &edits, MS_SYNC)
        })
        .one_in(ON_DISKS)
        .part("nothing left to be written", edited_windows(2), |lab, (window, edits)| {
            let fd = clean_file(lab, &window)?;
            let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
            for edit in edits {
                lab.store(map.at(edit.at), &edit.data).must_succeed()?;
                lab.msync(map.start(), window.len, MS_SYNC).must_return(0_u64)?;
                unwritten(lab, fd, window.offset, window.reach()).must_return(0_u64)?;
            }
            Ok(())
        })
        .one_in(ON_DISKS)
        .depends_on([Depends::FileSystem, Depends::Release])
        .part("of some pages, with other rights by then", each("ranges", parts_of_six()), |lab, part| {
            let window = Window { size: pages(6), offset: Size::ZERO, len: pages(6), contents: 2 };
            let fd = clean_file(lab, &window)?;
            let map = lab.map(request(window.len, READ_WRITE, SHARED, fd))?;
            lab.store(map.start(), &Data::pattern(1, window.len)).must_succeed()?;
            if part.read_only.len > Size::ZERO {
                lab.mprotect(map.at(part.read_only.at), part.read_only.len, READ).must_succeed()?;
            }
            lab.msync(map.at(part.synced.at), part.synced.len, MS_SYNC).must_return(0_u64)?;
            unwritten(lab, fd, part.synced.at, part.synced.len).must_return(0_u64)
        })
        .depends_on([Depends::FileSystem, Depends::Release])
        .part("of many pages", each("numbers of them", [17_usize, 32, 33, 64, 65, 128, 200]), |lab, count| {
            let window = Window { size: pages(count), offset: Size::ZERO, len: pages(count), contents: 2 };
            let fd = clean_file(lab, &window)?;
            let map = lab.map(request(window.len, READ_WRITE, SHARED, fd))?;
            lab.store(map.start(), &Data::pattern(1, window.len)).must_succeed()?;
            lab.msync(map.start(), window.len, MS_SYNC).must_return(0_u64)?;
            unwritten(lab, fd, Size::ZERO, window.len).must_return(0_u64)
        })
        .depends_on([Depends::FileSystem, Depends::Release])
        .part("by others", each("descendants, and a stranger", Descendant::all()), a_descendant_synchronises)
        .depends_on([Depends::FileSystem, Depends::Release])
}

/// Who synchronises in the place of the worker.
#[derive(Clone, Copy, Debug)]
struct Descendant {
    /// How many children the worker has had by then.
    elder: usize,
    /// It is a child of the last of them.
    grandchild: bool,
    /// It maps the file for itself.
    maps: bool,
    /// It is a program of its own.
    stranger: bool,
}

impl Descendant {
    fn all() -> impl Iterator<Item = Descendant> {
        let births = [(0, false), (1, false), (1, true)];
        births
            .into_iter()
            .flat_map(|(elder, grandchild)| {
                [false, true].map(|maps| Descendant { elder, grandchild, maps, stranger: false })
            })
            .chain([Descendant { elder: 0, grandchild: false, maps: true, stranger: true }])
    }
}

fn a_descendant_synchronises(lab: &Lab, by: Descendant) -> Verdict {
    let window = Window { size: pages(3), offset: Size::ZERO, len: pages(3), contents: 2 };
    let fd = clean_file(lab, &window)?;
    let inherited = lab.map(request(window.len, READ_WRITE, SHARED, fd))?;
    let mut parent = lab.worker();
    for _ in 0..by.elder {
        let child = lab.fork()?;
        if by.grandchild {
            parent = child;
        }
    }
    let actor = if by.stranger { lab.peer()? } else { lab.fork_from(parent.id(), false)? };
    let theirs = if by.stranger { actor.adopt(fd)? } else { fd };
    let own = if by.maps { actor.map(request(window.len, READ_WRITE, SHARED, theirs))? } else { inherited };
    if by.stranger {
        // What it has mapped is synchronised without a descriptor too.
        actor.close(theirs).prepared()?;
    }
    actor.store(own.start(), &Data::pattern(1, window.len)).must_succeed()?;
    actor.msync(own.start(), window.len, MS_SYNC).must_return(0_u64)?;
    unwritten(lab, fd, Size::ZERO, window.len).must_return(0_u64)
}

/// Pages of a mapping of six: those that are read-only by then, and those that are synchronised.
#[derive(Clone, Copy, Debug)]
struct Part {
    read_only: Range,
    synced: Range,
}

/// The ends of a range may lie inside of a mapping, and the range may be of more than one: a change of rights divides it.
fn parts_of_six() -> [Part; 5] {
    let range = |(from, to): (usize, usize)| Range { at: pages(from), len: pages(to - from) };
    let part = |read_only, synced| Part { read_only: range(read_only), synced: range(synced) };
    [part((0, 0), (1, 4)), part((0, 0), (5, 6)), part((2, 4), (0, 6)), part((4, 6), (1, 6)), part((0, 6), (0, 6))]
}

pub(super) fn edited_windows(most: usize) -> Gen<(Window, Vec<Edit>)> {
    let strategy = any_window(20).prop_flat_map(move |window| (Just(window), edits_within(window.len, most)));
    drawn("windows on files of up to 20 pages, and stores through them", strategy)
}

/// After each store and msync the mapping, a second one of the whole file, and read show the same, and what was stored.
fn synced_edits(lab: &Lab, backing: Backing, window: Window, edits: &[Edit], flags: i32) -> Verdict {
    let fd = backing.open(lab, &window.file())?;
    let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
    let twin = lab.map(request(window.size, READ, SHARED, fd))?;
    let mut file = window.file().to_vec();
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        let from = (window.offset + edit.at).get();
        edit.data.fill(&mut file[from..][..edit.data.len()]);
        let page = edit.at.round_down();
        lab.msync(map.at(page), edit.end() - page, flags).must_return(0_u64)?;
        lab.pread(fd, file.len() + 1, 0).must_equal(&file)?;
        lab.load(twin.start(), file.len()).must_equal(&file)?;
        lab.load(map.start(), window.len).must_equal(&file[window.offset.get()..][..window.len.get()])?;
    }
    Ok(())
}

/// A file whose pages are as the disk has them, found by cachestat on a file system where cachestat tells.
pub(super) fn clean_file(lab: &Lab, window: &Window) -> Verdict<Fd> {
    let (_, fd) = lab.new_file(&window.file())?;
    if unwritten(lab, fd, Size::ZERO, window.size).value()? == 0 {
        return lab.lacking(Lack::Device);
    }
    lab.call(ActorId(0), Call::Fsync { fd }).prepared()?;
    if unwritten(lab, fd, Size::ZERO, window.size).value()? != 0 {
        return lab.lacking(Lack::FileSystem);
    }
    Ok(fd)
}

/// How many pages of the file are dirty or on their way to the disk.
pub(super) fn unwritten(lab: &Lab, fd: Fd, offset: Size, len: Size) -> Answer<'_> {
    lab.call(ActorId(0), Call::Cachestat { fd, offset, len })
}

fn async_xor_sync() -> Claim {
    let one = [MS_ASYNC, MS_SYNC, MS_ASYNC | MS_INVALIDATE, MS_SYNC | MS_INVALIDATE];
    claim("msync.async-xor-sync")
        .states("One and only one of MS_ASYNC and MS_SYNC has to be given.")
        .documents([SHM.at("msync")])
        .qualified(
            "Both together is EINVAL. Neither is a mistake by POSIX, but Linux accepts it and takes it for MS_ASYNC.",
        )
        .basis([
            posix("msync, DESCRIPTION, MS_ASYNC"),
            posix("msync, ERRORS, [EINVAL]"),
            linux("msync(2), ERRORS, EINVAL"),
            linux("msync(2), VERSIONS"),
        ])
        .part("one of them", whole_stretches().and(each("flags", one)), synced_stretch)
        .part("both", stretches().and(each("flags", [0, MS_INVALIDATE])), |lab, ((layout, cuts), besides)| {
            let stretch = layout.lay(lab)?;
            let flags = MS_SYNC | MS_ASYNC | besides;
            let at = stretch.at(cuts[0].from);
            lab.msync(at, cuts[0].len(), flags).must_fail(EINVAL)?;
            lab.msync(at, 0, flags).must_fail(EINVAL)?;
            lab.msync(at.plus(1), cuts[0].len(), flags).must_fail(EINVAL)?;
            stretch.must_be_as_modelled(lab)
        })
        .part("neither", whole_stretches().and(each("flags", [0, MS_INVALIDATE])), synced_stretch)
}

/// Stretches with holes, and ranges that cut across them; no files on disks.
pub(super) fn stretches() -> Gen<(Layout, Vec<Cut>)> {
    let strategy = layouts_and_cuts(4, 2).prop_map(|(mut layout, cuts)| {
        for (_, piece) in &mut layout.pieces {
            if let Piece::Mapped(Backing::File, sharing) = *piece {
                *piece = Piece::Mapped(Backing::Memfd, sharing);
            }
        }
        (layout, cuts)
    });
    drawn("mappings of memory and holes side by side, and page ranges that cut across them", strategy)
}

/// The same without holes.
pub(super) fn whole_stretches() -> Gen<(Layout, Vec<Cut>)> {
    let fill = |(mut layout, cuts): (Layout, Vec<Cut>)| {
        for (_, piece) in &mut layout.pieces {
            if *piece == Piece::Hole {
                *piece = Piece::Mapped(Backing::Anonymous, SHARED);
            }
        }
        (layout, cuts)
    };
    stretches().map(fill)
}

/// msync of a range without holes succeeds and changes nothing that is seen.
pub(super) fn synced_stretch(lab: &Lab, ((layout, cuts), flags): ((Layout, Vec<Cut>), i32)) -> Verdict {
    let stretch = layout.lay(lab)?;
    for cut in cuts {
        lab.msync(stretch.at(cut.from), cut.len(), flags).must_return(0_u64)?;
    }
    stretch.must_be_as_modelled(lab)?;
    stretch.files_must_be_as_modelled(lab)
}

fn sync_waits() -> Claim {
    claim("msync.sync-waits")
        .states("MS_SYNC returns after the writing is done, MS_ASYNC at once.")
        .documents([SHM.at("msync")])
        .qualified(
            "After MS_SYNC the pages are clean. MS_ASYNC does return at once, \
             but since Linux 2.6.19 it starts no writing at all.",
        )
        .basis([
            posix("msync, DESCRIPTION, MS_ASYNC"),
            linux("msync(2), DESCRIPTION, MS_SYNC"),
            linux("msync(2), VERSIONS"),
            linux("linux 7.2, mm/msync.c, msync()"),
        ])
        .part("MS_SYNC", dirty_ranges(), |lab, dirty| {
            let window = dirty.window;
            let fd = clean_file(lab, &window)?;
            let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
            for edit in &dirty.edits {
                match dirty.by {
                    By::Mapping => lab.store(map.at(edit.at), &edit.data),
                    By::Child => lab.fork()?.store(map.at(edit.at), &edit.data),
                    By::Write => lab.pwrite(fd, &edit.data, window.offset + edit.at),
                }
                .must_succeed()?;
            }
            let range = dirty.range;
            let flags = if dirty.invalidating { MS_SYNC | MS_INVALIDATE } else { MS_SYNC };
            lab.msync(map.at(range.at), range.len, flags).must_return(0_u64)?;
            let reached = range.len.round_up().min(window.size - window.offset - range.at);
            unwritten(lab, fd, window.offset + range.at, reached).must_return(0_u64)
        })
        .one_in(ON_DISKS)
        .depends_on([Depends::FileSystem, Depends::Release])
        .part("MS_ASYNC", edited_windows(4).and(drawn("a backing", file_backing())), |lab, input| {
            let ((window, edits), backing) = input;
            synced_edits(lab, backing, window, &edits, MS_ASYNC)
        })
}

/// Who makes the pages dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The process that calls msync, through the mapping.
    Mapping,
    /// A child, through the mapping it inherited.
    Child,
    /// pwrite.
    Write,
}

/// A window on a file, what is put into it and how, and the range that is synchronised.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dirty {
    window: Window,
    edits: Vec<Edit>,
    by: By,
    range: Range,
    /// MS_INVALIDATE is given too.
    invalidating: bool,
}

fn dirty_ranges() -> Gen<Dirty> {
    let strategy = any_window(20).prop_flat_map(|window| {
        let by = prop::sample::select(vec![By::Mapping, By::Child, By::Write]);
        let range = (page_range(window.len.in_pages()), 0..reach())
            .prop_map(|(range, short)| Range { len: range.len - short, ..range });
        let edits = edits_within(window.len, 3);
        (edits, by, range, any::<bool>()).prop_map(move |(edits, by, range, invalidating)| Dirty {
            window,
            edits,
            by,
            range,
            invalidating,
        })
    });
    drawn("windows on files of up to 20 pages, what is stored or written there, and ranges of them", strategy)
}

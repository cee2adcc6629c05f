//! When stores get to the disk: neither at once, nor because of munmap.

use proptest::prelude::*;

use crate::claim::{Claim, Depends, SHM, claim, linux, posix, unspecified};
use crate::input::{Edit, Gen, Window, any_size, any_window, drawn, edits_within};
use crate::kernel::call::{Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, READ, READ_WRITE, SHARED, SHARED_VALIDATE};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![written_back_at_munmap(), not_at_once_on_disk()]
}

fn written_back_at_munmap() -> Claim {
    claim("shared.written-back-at-munmap")
        .states("Stores are usually written back to disk only by the call of munmap.")
        .documents([SHM.at("msync")])
        .refuted(
            "munmap writes nothing back: pages stay dirty until the kernel's own writeback, fsync or msync. Other readers of \
             the file saw the store at once, before any of these.",
        )
        .basis([
            unspecified("munmap, DESCRIPTION: only private modifications are spoken of"),
            posix("msync, DESCRIPTION: it is msync that writes"),
            posix("msync, APPLICATION USAGE: the system may write at any time"),
            linux("msync(2), DESCRIPTION: nothing is promised before munmap"),
            linux("cachestat(2), DESCRIPTION"),
        ])
        .for_all(stores(), seen_before_munmap)
        .part("still dirty after munmap", places(), munmap_leaves_pages_dirty)
        .one_in(8)
        .depends_on([Depends::FileSystem, Depends::Release])
}

fn not_at_once_on_disk() -> Claim {
    claim("shared.not-at-once-on-disk")
        .states("A store into the mapping is not put on the disk as it happens.")
        .documents([SHM.at("msync")])
        .holds()
        .basis([
            linux("msync(2), DESCRIPTION: no write-back is promised without it"),
            linux("msync(2), VERSIONS: the kernel tracks dirty pages and flushes them as necessary"),
            unspecified("msync, APPLICATION USAGE: neither dirty nor clean is promised"),
        ])
        .for_all(places(), stored_pages_are_dirty)
        .one_in(8)
        .depends_on([Depends::FileSystem, Depends::Release])
}

fn stores() -> Gen<(Window, Vec<Edit>)> {
    let strategy = any_window(20).prop_flat_map(|window| (Just(window), edits_within(window.reach(), 4)));
    drawn("windows on files and edits in them", strategy)
}

/// Other readers have every byte as soon as it is stored, and munmap changes nothing of what they read.
fn seen_before_munmap(lab: &Lab, (window, edits): (Window, Vec<Edit>)) -> Verdict {
    let (path, fd) = lab.new_file(&window.file())?;
    let reader = lab.open(path, libc::O_RDONLY)?;
    let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
    let onlooker = lab.map(request(window.size, READ, SHARED, reader))?;
    let mut model = window.file().to_vec();
    for edit in &edits {
        lab.store(map.at(edit.at), &edit.data).prepared()?;
        edit.apply(&mut model[window.offset.get()..]);
        lab.pread(reader, window.size + 1, 0).must_equal(&model)?;
        lab.load(onlooker.start(), window.size).must_equal(&model)?;
    }
    lab.unmap(map)?;
    lab.pread(reader, window.size + 1, 0).must_equal(&model)?;
    lab.load(onlooker.start(), window.size).must_equal(&model)
}

/// How often a page is looked for that the kernel has not written back meanwhile, as it may at any time.
const TRIES: usize = 32;

fn places() -> Gen<(Size, Data)> {
    let place = any_size(0, 1).prop_map(|at| at.min(pages(1) - 1));
    drawn(
        "where in a page the store is made",
        (place, 0_u32..1000).prop_map(|(at, seed)| (at, Data::pattern(seed * 2 + 1, Size(8).min(pages(1) - at)))),
    )
}

/// What the looks at fresh pages of a file have shown, as counts.
struct Seen {
    fd: Fd,
    written: usize,
    stored: usize,
    unmapped: usize,
}

/// Looks at so many fresh pages of a file whether they are dirty: after a write, after a store, and after munmap besides.
fn look(lab: &Lab, at: Size, data: &Data, enough: impl Fn(&Seen) -> bool) -> Verdict<Seen> {
    let (_, fd) = lab.new_file(&Data::zeros(0))?;
    lab.ftruncate(fd, pages(2 * TRIES)).prepared()?;
    // The pages of such a file are the device's own: none waits, and Linux 7.2 crashes when asked how many do.
    if lab.aside(|| is_mapped_directly(lab, fd))? {
        return lab.lacking(Lack::FileSystem);
    }
    let mut seen = Seen { fd, written: 0, stored: 0, unmapped: 0 };
    for index in 0..TRIES {
        let (write, store) = (pages(2 * index), pages(2 * index + 1));
        lab.pwrite(fd, data, write + at).prepared()?;
        seen.written += usize::from(dirty(lab, fd, write)?);
        let map = lab.map(request(pages(1), READ_WRITE, SHARED, fd).offset(store))?;
        lab.store(map.at(at), data).prepared()?;
        let before = dirty(lab, fd, store)?;
        lab.unmap(map)?;
        seen.stored += usize::from(before);
        seen.unmapped += usize::from(before && dirty(lab, fd, store)?);
        if enough(&seen) {
            break;
        }
    }
    Ok(seen)
}

/// Whether the page of the file that begins here is dirty now.
fn dirty(lab: &Lab, fd: Fd, page: Size) -> Verdict<bool> {
    Ok(lab.place().call(Call::Cachestat { fd, offset: page, len: pages(1) }).value()? > 0)
}

/// Whether what is stored to the file waits for a disk: a block device bears it.
fn waits_for_a_disk(lab: &Lab, fd: Fd) -> Verdict<bool> {
    Ok(lab.place().call(Call::Fstat { fd }).stat()?.on_device)
}

/// Whether mappings of the file are of the device itself (DAX): MAP_SYNC is granted there alone.
fn is_mapped_directly(lab: &Lab, fd: Fd) -> Verdict<bool> {
    let sync = Flags(libc::MAP_SYNC as u32);
    let (_, direct) = lab.try_map(request(pages(1), READ, SHARED_VALIDATE | sync, fd));
    direct.map_or(Ok(false), |map| lab.unmap(map).map(|()| true))
}

fn stored_pages_are_dirty(lab: &Lab, (at, data): (Size, Data)) -> Verdict {
    let seen = look(lab, at, &data, |seen| seen.stored > 0)?;
    if seen.stored == 0 && seen.written == 0 && !waits_for_a_disk(lab, seen.fd)? {
        return lab.lacking(Lack::Device);
    }
    lab.must(seen.stored > 0, "the page is dirty right after the store", || {
        format!("none of {TRIES} pages was; {} were right after a write", seen.written)
    })
}

fn munmap_leaves_pages_dirty(lab: &Lab, (at, data): (Size, Data)) -> Verdict {
    let seen = look(lab, at, &data, |seen| seen.unmapped > 0)?;
    // Where pages are hardly ever dirty, munmap has nothing to write.
    if seen.unmapped == 0 && seen.stored < TRIES / 2 {
        return lab.lacking(Lack::Device);
    }
    lab.must(seen.unmapped > 0, "the page is still dirty after munmap", || {
        format!("{} pages were dirty before munmap, and none of them after", seen.stored)
    })
}

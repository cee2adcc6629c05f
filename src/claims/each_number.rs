//! What has to hold for each number of pages, and not only for those that are often drawn.

use crate::input::{Backing, Gen, in_turn};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NONE, PRIVATE, Prot, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, request};
use crate::lab::{Lab, Map};

/// The kinds of mapping that are asked about each number.
const KINDS: [(Backing, Flags); 4] =
    [(Backing::Anonymous, PRIVATE), (Backing::File, SHARED), (Backing::Anonymous, SHARED), (Backing::Memfd, PRIVATE)];

/// 1 to 128 pages: as many cases meet every number.
pub(super) fn each_number() -> Gen<Size> {
    in_turn("1 to 128 pages, each number in its turn", (1..=128).map(pages))
}

/// Asks the same of a mapping of each kind that has so many pages, with rights to load and store, and nothing in its file.
fn of_each_kind(lab: &Lab, len: Size, words: &str, ask: impl Fn(Map, bool) -> Verdict) -> Verdict {
    for (backing, sharing) in KINDS {
        lab.in_a_word(&format!("{backing:?}: {words}"), || {
            let fd = if backing.is_file() { backing.open(lab, &Data::zeros(0))? } else { NO_FD };
            if backing.is_file() {
                lab.ftruncate(fd, len).prepared()?;
            }
            let map = lab.map(request(len, READ_WRITE, sharing | backing.flags(), fd))?;
            ask(map, backing.is_file() && sharing == SHARED)?;
            lab.munmap(map.start(), map.len).must_return(0_u64)
        })?;
    }
    Ok(())
}

/// Eight bytes at the beginning and at the end of a range, which tell whose they are.
fn marks(from: Size, len: Size) -> [(Size, Data); 2] {
    [from, from + len - 8].map(|at| (at, Data::at(1, at, 8)))
}

fn store(lab: &Lab, map: Map, marks: &[(Size, Data)]) -> Verdict {
    marks.iter().try_for_each(|(at, data)| lab.store(map.at(*at), data).must_succeed())
}

fn hold(lab: &Lab, map: Map, marks: &[(Size, Data)]) -> Verdict {
    marks.iter().try_for_each(|(at, data)| lab.load(map.at(*at), 8).must_hold(data))
}

/// So many pages in the middle of a mapping are unmapped, and a page on either side stays.
pub(super) fn unmapped(lab: &Lab, count: Size) -> Verdict {
    of_each_kind(lab, count + pages(2), "so many pages go, and their neighbours stay", |map, _| {
        let sides = [marks(Size::ZERO, pages(1)), marks(pages(1) + count, pages(1))].concat();
        store(lab, map, &sides)?;
        store(lab, map, &marks(pages(1), count))?;
        lab.munmap(map.at(pages(1)), count).must_return(0_u64)?;
        for at in [pages(1), pages(1 + count.in_pages() / 2), count + pages(1) - 1] {
            lab.load(map.at(at), 1).must_be_unmapped(0)?;
        }
        hold(lab, map, &sides)
    })
}

/// So many pages in the middle of a mapping get other rights, and then those they had.
pub(super) fn protected(lab: &Lab, count: Size, prot: Prot) -> Verdict {
    of_each_kind(lab, count + pages(2), "so many pages have other rights, and their neighbours as before", |map, _| {
        let inside = marks(pages(1), count);
        store(lab, map, &inside)?;
        lab.mprotect(map.at(pages(1)), count, prot).must_succeed()?;
        for (at, data) in &inside {
            lab.store(map.at(*at), data).must_be_forbidden(0)?;
            match prot {
                NONE => lab.load(map.at(*at), 8).must_be_forbidden(0)?,
                _ => lab.load(map.at(*at), 8).must_hold(data)?,
            }
        }
        store(lab, map, &[marks(Size::ZERO, pages(1)), marks(pages(1) + count, pages(1))].concat())?;
        lab.mprotect(map.at(pages(1)), count, READ_WRITE).must_succeed()?;
        hold(lab, map, &inside)?;
        store(lab, map, &inside)
    })
}

/// So many pages are mapped, the last one too.
pub(super) fn mapped(lab: &Lab, count: Size) -> Verdict {
    of_each_kind(lab, count, "the first and the last of so many pages are there", |map, shared_file| {
        let ends = marks(Size::ZERO, count);
        ends.iter().try_for_each(|(at, _)| lab.load(map.at(*at), 8).must_hold(&Data::zeros(8)))?;
        store(lab, map, &ends)?;
        hold(lab, map, &ends)?;
        if shared_file {
            lab.msync(map.start(), map.len, libc::MS_ASYNC).must_return(0_u64)?;
        }
        Ok(())
    })
}

/// Two pages at this offset are shown by a mapping, and take stores if it is shared.
pub(super) fn at_an_offset(lab: &Lab, offset: Size) -> Verdict {
    let (data, edit) = (Data::at(2, offset, pages(2)), Data::at(1, offset, 8));
    for backing in [Backing::File, Backing::Memfd] {
        for sharing in [SHARED, PRIVATE] {
            lab.in_a_word(&format!("{backing:?}, {sharing:?}: the page at this offset and the next"), || {
                let fd = backing.open(lab, &Data::zeros(0))?;
                lab.pwrite(fd, &data, offset).must_return(pages(2).get() as u64)?;
                let map = lab.map(request(pages(2), READ_WRITE, sharing, fd).offset(offset))?;
                lab.load(map.start(), pages(2)).must_hold(&data)?;
                lab.store(map.start(), &edit).must_succeed()?;
                let there = if sharing == SHARED { edit.clone() } else { Data::at(2, offset, 8) };
                lab.pread(fd, 8, offset).must_hold(&there)?;
                lab.munmap(map.start(), map.len).must_return(0_u64)
            })?;
        }
    }
    Ok(())
}

/// A file of a few bytes gets so many pages, and a page less.
pub(super) fn resized(lab: &Lab, count: Size) -> Verdict {
    for backing in [Backing::File, Backing::Memfd] {
        lab.in_a_word(&format!("{backing:?}: as long as ftruncate says, and zero where nothing was"), || {
            let fd = backing.open(lab, &Data::pattern(2, 10))?;
            lab.ftruncate(fd, count).must_return(0_u64)?;
            let found = lab.size(fd)?;
            lab.must(found == count, "so many pages", || found.to_string())?;
            lab.pread(fd, 16, count - 8).must_hold(&Data::zeros(8))?;
            let map = lab.map(request(count, READ_WRITE, SHARED, fd))?;
            lab.load(map.start(), 10).must_hold(&Data::pattern(2, 10))?;
            let last = Data::at(1, count - 8, 8);
            lab.store(map.at(count - 8), &last).must_succeed()?;
            lab.pread(fd, 16, count - 8).must_hold(&last)?;
            if count > pages(1) {
                lab.ftruncate(fd, count - pages(1)).must_return(0_u64)?;
                lab.load(map.at(count - 8), 8).must_be_beyond_the_file(0)?;
            }
            lab.munmap(map.start(), map.len).must_return(0_u64)
        })?;
    }
    Ok(())
}

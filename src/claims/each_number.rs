//! What has to hold for each number of pages, and not only for those that are often drawn.

use crate::input::{Backing, Gen, in_turn};
use crate::kernel::call::Fd;
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NONE, PRIVATE, Prot, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, request};
use crate::lab::{Lab, Map};

/// The kinds of mapping that are asked about each number.
const KINDS: [(Backing, Flags); 6] = [
    (Backing::Anonymous, PRIVATE),
    (Backing::Anonymous, SHARED),
    (Backing::File, PRIVATE),
    (Backing::File, SHARED),
    (Backing::Memfd, PRIVATE),
    (Backing::Memfd, SHARED),
];

/// 1 to 128 pages: as many cases meet every number.
pub(super) fn each_number() -> Gen<Size> {
    in_turn("1 to 128 pages, each number in its turn", (1..=128).map(pages))
}

/// Asks the same of a mapping of each kind that has so many pages, with rights to load and store, and nothing in its file.
fn of_each_kind(lab: &Lab, len: Size, words: &str, ask: impl Fn(Map, Option<Fd>, Flags) -> Verdict) -> Verdict {
    lab.in_a_word(&format!("of each kind of mapping, {words}"), || {
        KINDS.into_iter().try_for_each(|(backing, sharing)| {
            let file = if backing.is_file() { Some(backing.open(lab, &Data::zeros(0))?) } else { None };
            if let Some(fd) = file {
                lab.ftruncate(fd, len).prepared()?;
            }
            let map = lab.map(request(len, READ_WRITE, sharing | backing.flags(), file.unwrap_or(NO_FD)))?;
            ask(map, file, sharing)?;
            lab.munmap(map.start(), map.len).must_return(0_u64)
        })
    })
}

/// Eight bytes at the beginning and at the end of a range of pages, and at the beginning of its second, its middle
/// and its last two pages, which tell whose they are.
fn marks(from: Size, len: Size) -> Vec<(Size, Data)> {
    let count = len.in_pages();
    let mut begun = vec![0, 1, count / 2, count.saturating_sub(2), count - 1];
    begun.retain(|index| *index < count);
    begun.sort_unstable();
    begun.dedup();
    let ends = begun.into_iter().map(pages).chain([len - 8]);
    ends.map(|at| from + at).map(|at| (at, Data::at(1, at, 8))).collect()
}

fn store(lab: &Lab, map: Map, marks: &[(Size, Data)]) -> Verdict {
    marks.iter().try_for_each(|(at, data)| lab.store(map.at(*at), data).must_succeed())
}

fn hold(lab: &Lab, map: Map, marks: &[(Size, Data)]) -> Verdict {
    marks.iter().try_for_each(|(at, data)| lab.load(map.at(*at), 8).must_hold(data))
}

/// So many pages in the middle of a mapping are unmapped, and a page on either side stays.
pub(super) fn unmapped(lab: &Lab, count: Size) -> Verdict {
    of_each_kind(lab, count + pages(2), "so many pages go, and their neighbours stay", |map, _, _| {
        let sides = [marks(Size::ZERO, pages(1)), marks(pages(1) + count, pages(1))].concat();
        let inside = marks(pages(1), count);
        store(lab, map, &sides)?;
        store(lab, map, &inside)?;
        lab.munmap(map.at(pages(1)), count).must_return(0_u64)?;
        inside.iter().try_for_each(|(at, _)| lab.load(map.at(*at), 1).must_be_unmapped(0))?;
        hold(lab, map, &sides)
    })
}

/// So many pages in the middle of a mapping get other rights, and then those they had.
pub(super) fn protected(lab: &Lab, count: Size, prot: Prot) -> Verdict {
    of_each_kind(
        lab,
        count + pages(2),
        "so many pages have other rights, and their neighbours as before",
        |map, _, _| {
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
        },
    )
}

/// So many pages are mapped, the last one too, and the file has what is stored if the mapping is shared.
pub(super) fn mapped(lab: &Lab, count: Size) -> Verdict {
    of_each_kind(lab, count, "so many pages are there, and in the file if shared", |map, file, sharing| {
        let marks = marks(Size::ZERO, count);
        marks.iter().try_for_each(|(at, _)| lab.load(map.at(*at), 8).must_hold(&Data::zeros(8)))?;
        store(lab, map, &marks)?;
        hold(lab, map, &marks)?;
        lab.msync(map.start(), map.len, libc::MS_ASYNC).must_return(0_u64)?;
        let Some(fd) = file else { return Ok(()) };
        for (at, data) in &marks {
            let there = if sharing == SHARED { data.clone() } else { Data::zeros(8) };
            lab.pread(fd, 8, *at).must_hold(&there)?;
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

//! Stores through MAP_SHARED, and the file.

use proptest::prelude::*;

use super::sharing::{open_backing, read_all, reopen};
use crate::claim::{Claim, DAY8, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Deed, Edit, Gen, How, Views, Who, Window, any_window, drawn, each, edit_within, many_pages,
    views_of_one_process,
};
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED, Flags, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![store_reaches_file()]
}

fn store_reaches_file() -> Claim {
    claim("shared.store-reaches-file")
        .states("What is stored through a MAP_SHARED mapping changes the file.")
        .documents([
            DAY8.at("mmap, flags"),
            DAY8.at("listing 1"),
            IPC.at("mmap, overview and flags"),
            MAPIO.at("intro"),
            WHAT.at("intro"),
        ])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
            unspecified("mmap, APPLICATION USAGE: when read() sees a store"),
        ])
        .for_all(stores(), stored_bytes_are_read)
        .part("by a process that ends", endings(), stored_bytes_outlive_the_process)
        .one_in(4)
        .part("far into the file", far(), far_stores_are_read)
        .one_in(4)
}

/// What is done to a mapping before stores.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Populate,
    LoadAll,
    LoadFirst,
    MprotectTwice,
    WriteOnly,
    Close,
    Unlink,
}

/// What is done to a mapping after them, before the file is read.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    MprotectRead,
    MprotectNone,
    Msync,
    Munmap,
    MunmapLastPage,
    ReplacedByAnonymous,
}

type Stores = (Before, Views, After);

fn stores() -> Gen<Stores> {
    let before = prop::sample::select(vec![
        Before::Nothing,
        Before::Populate,
        Before::LoadAll,
        Before::LoadFirst,
        Before::MprotectTwice,
        Before::WriteOnly,
        Before::Close,
        Before::Unlink,
    ]);
    let after = prop::sample::select(vec![
        After::Nothing,
        After::MprotectRead,
        After::MprotectNone,
        After::Msync,
        After::Munmap,
        After::MunmapLastPage,
        After::ReplacedByAnonymous,
    ]);
    views_of_one_process(20, &[How::Store])
        .and(drawn("what is done to the mappings before and after", (before, after)))
        .also([(large(), (Before::Nothing, After::Munmap))])
        .also_long([(many(), (Before::Nothing, After::Munmap))])
        .map(|(views, (before, after))| (before, views, after))
}

/// One window of hundreds of pages, on its first, middle and last bytes.
fn large() -> Views {
    let size = pages(200) - 3;
    let window = Window { size, offset: pages(1), len: size - pages(1), contents: 8 };
    let at = [Size::ZERO, pages(100) - 1, window.len - 2];
    let edits = at.map(|at| Edit { at, data: Data::at(7, at, 2) });
    let deeds = edits.map(|edit| Deed { eye: 0, how: How::Store, edit });
    Views { backing: Backing::File, eyes: vec![(Who::Worker, window)], deeds: deeds.to_vec() }
}

/// Stores to every eighth page of one that is longer still, and to the last.
fn many() -> Views {
    let count = many_pages();
    let window = Window { size: pages(count + 1), offset: pages(1), len: pages(count), contents: 8 };
    let at = (0..count).step_by(8).map(pages).chain([window.len - 2]);
    let edits = at.map(|at| Edit { at, data: Data::at(7, at, 2) });
    let deeds = edits.map(|edit| Deed { eye: 0, how: How::Store, edit }).collect();
    Views { backing: Backing::File, eyes: vec![(Who::Worker, window)], deeds }
}

fn stored_bytes_are_read(lab: &Lab, (before, views, after): Stores) -> Verdict {
    let contents = views.eyes[0].1.file();
    let (path, fd) = open_backing(lab, views.backing, &contents)?;
    let reader = reopen(lab.place(), path, fd, libc::O_RDONLY)?;
    let mut maps = Vec::new();
    for (_, window) in &views.eyes {
        let prot = if matches!(before, Before::WriteOnly) { WRITE } else { READ_WRITE };
        let args = request(window.len, prot, SHARED, fd).offset(window.offset);
        let map = match before {
            Before::Populate => lab.map(args.and(Flags(libc::MAP_POPULATE as u32)))?,
            _ => lab.map(args)?,
        };
        match before {
            Before::LoadAll => lab.load(map.start(), window.reach()).prepared()?,
            Before::LoadFirst => lab.load(map.start(), 1).prepared()?,
            Before::MprotectTwice => {
                lab.mprotect(map.start(), map.extent(), READ).prepared()?;
                lab.mprotect(map.start(), map.extent(), READ_WRITE).prepared()?;
            }
            _ => {}
        }
        maps.push(map);
    }
    match (before, path) {
        (Before::Unlink, Some(path)) => lab.unlink(path).prepared()?,
        (Before::Close, _) => lab.close(fd).prepared()?,
        _ => {}
    }
    let mut model = contents.to_vec();
    for deed in &views.deeds {
        lab.store(maps[deed.eye].at(deed.edit.at), &deed.edit.data).prepared()?;
        let at = views.place(deed).get();
        deed.edit.data.fill(&mut model[at..][..deed.edit.data.len()]);
        read_all(lab, reader, &model)?;
    }
    for map in maps {
        let last = map.at(map.extent() - pages(1));
        match after {
            After::Nothing => {}
            After::MprotectRead => lab.mprotect(map.start(), map.extent(), READ).prepared()?,
            After::MprotectNone => lab.mprotect(map.start(), map.extent(), Prot(0)).prepared()?,
            After::Msync => lab.msync(map.start(), map.extent(), libc::MS_ASYNC).prepared()?,
            After::Munmap => lab.unmap(map)?,
            After::MunmapLastPage => lab.munmap(last, 1).prepared()?,
            After::ReplacedByAnonymous => {
                lab.map(anonymous(map.extent(), READ, PRIVATE | FIXED).hint(map.start())).map(|_| ())?;
            }
        }
        read_all(lab, reader, &model)?;
    }
    Ok(())
}

/// How a process ends that has stored something.
#[derive(Clone, Copy, Debug)]
enum End {
    Exit,
    Kill,
    Fault,
}

fn endings() -> Gen<(Views, End)> {
    views_of_one_process(8, &[How::Store]).and(each_end())
}

fn each_end() -> Gen<End> {
    drawn("a death by _exit, SIGKILL or SIGSEGV", prop::sample::select(vec![End::Exit, End::Kill, End::Fault]))
}

/// Neither msync nor munmap is needed for the file to hold what was stored by a process that is no more.
fn stored_bytes_outlive_the_process(lab: &Lab, (views, end): (Views, End)) -> Verdict {
    let contents = views.eyes[0].1.file();
    let (path, fd) = open_backing(lab, views.backing, &contents)?;
    let reader = reopen(lab.place(), path, fd, libc::O_RDONLY)?;
    let child = lab.fork()?;
    let mut model = contents.to_vec();
    let mut first = None;
    for (index, (_, window)) in views.eyes.iter().enumerate() {
        let map = child.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
        first.get_or_insert(map);
        for deed in views.deeds.iter().filter(|deed| deed.eye == index) {
            child.store(map.at(deed.edit.at), &deed.edit.data).prepared()?;
            let at = views.place(deed).get();
            deed.edit.data.fill(&mut model[at..][..deed.edit.data.len()]);
        }
    }
    match (end, first) {
        (End::Exit, _) => child.call(Call::Exit { status: 0 }).must_exit(0)?,
        (End::Fault, Some(map)) => {
            child.mprotect(map.start(), map.extent(), READ).prepared()?;
            child.unguarded()?;
            child.store(map.start(), &Data::repeat(1, 1)).must_die_of(libc::SIGSEGV)?;
        }
        _ => child.kill()?,
    }
    read_all(lab, reader, &model)
}

/// Where a window begins that lies beyond what few bits can count.
#[derive(Clone, Copy, Debug)]
enum Far {
    Beyond2GiB,
    Beyond4GiB,
    Across4GiB,
}

fn far() -> Gen<(Far, Window, Edit)> {
    let strategy = any_window(4).prop_flat_map(|window| (Just(window), edit_within(window.reach())));
    each("windows that lie beyond 2 GiB or 4 GiB", [Far::Beyond2GiB, Far::Beyond4GiB, Far::Across4GiB])
        .and(drawn("of one to four pages, and an edit", strategy))
        .map(|(far, (window, edit))| (far, window, edit))
}

/// An offset that was cut to 31 or 32 bits shows the beginning of the file in the place of its end.
fn far_stores_are_read(lab: &Lab, (far, window, edit): (Far, Window, Edit)) -> Verdict {
    let base = match far {
        Far::Beyond2GiB => Size(1 << 31),
        Far::Beyond4GiB => Size(1 << 32),
        Far::Across4GiB => Size(1 << 32) - window.size.round_down().min(pages(1)) - window.offset,
    };
    let (_, fd) = lab.new_file(&Data::at(window.contents, 1, window.size))?;
    lab.pwrite(fd, &window.file(), base).prepared()?;
    let map = lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(base + window.offset))?;
    let mut model = window.file().to_vec();
    let (offset, reach) = (window.offset.get(), window.reach().get());
    lab.load(map.start(), reach).must_equal(&model[offset..][..reach])?;
    lab.store(map.at(edit.at), &edit.data).prepared()?;
    edit.data.fill(&mut model[offset + edit.at.get()..][..edit.data.len()]);
    lab.load(map.start(), reach).must_equal(&model[offset..][..reach])?;
    lab.pread(fd, window.size + 1, base).must_equal(&model)?;
    lab.pread(fd, window.size, 0).must_hold(&Data::at(window.contents, 1, window.size))
}

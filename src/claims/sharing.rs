//! MAP_SHARED: one memory, seen through every mapping, by every process, and by read.

use proptest::prelude::*;

use super::syncing::edited_windows;
use crate::claim::{Claim, IPC, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Edit, Gen, How, Views, Who, Window, any_size, any_window, drawn, edits_within, views_of_one_process,
    views_of_several,
};
use crate::kernel::call::{ActorId, At, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![store_visible_to_peers(), file_write_visible(), same_memory_two_addresses()]
}

fn store_visible_to_peers() -> Claim {
    claim("shared.store-visible-to-peers")
        .states("Stores through a MAP_SHARED mapping are seen by all processes that map the same file.")
        .documents([SHM.at("mmap, flags"), WHAT.at("mmap, flags"), IPC.at("mmap, flags")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("mmap, DESCRIPTION, flags table"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
        ])
        .for_all(views_of_several(20, &[How::Store]), all_see_every_change)
        .one_in(8)
}

fn file_write_visible() -> Claim {
    claim("shared.file-write-visible")
        .states("Mapping and file are one: what write() puts into the file is seen in the mapping.")
        .documents([SHM.at("intro"), WHAT.at("intro"), IPC.at("mmap, flags")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION: the mapping is of the memory object itself"),
            unspecified("mmap, APPLICATION USAGE: other access methods need synchronisation"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
            linux("linux 7.2, mm/filemap.c, filemap_fault()"),
        ])
        .for_all(views_of_one_process(20, &[How::Pwrite, How::Write, How::Store]), all_see_every_change)
        .part("in other processes", views_of_several(20, &[How::Pwrite, How::Write]), all_see_every_change)
        .one_in(8)
        .part("appended", growths(), what_is_appended_is_seen)
        .one_in(4)
}

fn same_memory_two_addresses() -> Claim {
    claim("shared.same-memory-two-addresses")
        .states("Shared memory belongs to no process: each maps the same memory at an address of its own.")
        .documents([SHM.at("intro")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("mmap, RATIONALE, same address in several processes"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
        ])
        .for_all(views_of_one_process(20, &[How::Store]), all_see_every_change)
        .part("at an address of choice in a second process", moved(), moved_mappings_are_one)
        .one_in(4)
        .part("of a file with two names", edited_windows(4), |lab, (window, edits)| {
            two_names_are_one_file(lab, window, &edits)
        })
        .one_in(2)
}

/// A file has a second name, is opened and mapped by each, and loses the first on the way.
fn two_names_are_one_file(lab: &Lab, window: Window, edits: &[Edit]) -> Verdict {
    let mut model = window.file().to_vec();
    let (path, fd) = lab.new_file(&window.file())?;
    let other = lab.new_path();
    lab.link(path, other).prepared()?;
    let fds = [fd, lab.open(other, libc::O_RDWR)?];
    let map = |fd| lab.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset));
    let maps = [map(fds[0])?, map(fds[1])?];
    for (index, edit) in edits.iter().enumerate() {
        lab.store(maps[index % 2].at(edit.at), &edit.data).prepared()?;
        edit.data.fill(&mut model[(window.offset + edit.at).get()..][..edit.data.len()]);
        for (map, fd) in maps.iter().zip(fds) {
            lab.load(map.start(), window.len).must_equal(&model[window.offset.get()..][..window.len.get()])?;
            lab.pread(fd, model.len() + 1, 0).must_equal(&model)?;
        }
        if index == 0 {
            lab.unlink(path).prepared()?;
        }
    }
    Ok(())
}

fn growths() -> Gen<(Size, Vec<Size>)> {
    let strategy = (any_size(1, 8), prop::collection::vec(any_size(1, 2), 1..=3));
    drawn("sizes of a file, and how much is appended to it, up to three times", strategy)
}

/// The mapping is longer than the file, which grows into it through a descriptor with O_APPEND.
fn what_is_appended_is_seen(lab: &Lab, (size, growths): (Size, Vec<Size>)) -> Verdict {
    let mut model = Data::pattern(2, size).to_vec();
    let (path, fd) = lab.new_file(&Data::pattern(2, size))?;
    let whole = growths.iter().fold(size, |sum, more| sum + *more);
    let map = lab.map(request(whole, READ, SHARED, fd))?;
    let end = lab.open(path, libc::O_WRONLY | libc::O_APPEND)?;
    lab.load(map.start(), model.len()).must_equal(&model)?;
    for (seed, more) in (3..).zip(growths) {
        let data = Data::pattern(seed, more);
        lab.write(end, &data).must_return(data.len() as u64)?;
        model.extend(data.to_vec());
        lab.load(map.start(), model.len()).must_equal(&model)?;
    }
    Ok(())
}

/// Everyone maps the file, then each change is made by whoever is to make it, and after each one all look at all they have.
fn all_see_every_change(lab: &Lab, views: Views) -> Verdict {
    let mut scene = Scene::open(lab, views)?;
    scene.all_agree()?;
    for deed in scene.views.deeds.clone() {
        let (who, map, fd) = scene.eyes[deed.eye];
        let len = deed.edit.data.len() as u64;
        match deed.how {
            How::Store => who.store(map.at(deed.edit.at), &deed.edit.data).prepared()?,
            How::Pwrite => who.pwrite(fd, &deed.edit.data, deed.edit.at).must_return(len)?,
            How::Write => {
                who.lseek(fd, deed.edit.at.get() as i64, libc::SEEK_SET).prepared()?;
                who.write(fd, &deed.edit.data).must_return(len)?;
            }
        }
        let at = scene.views.place(&deed).get();
        deed.edit.data.fill(&mut scene.model[at..][..deed.edit.data.len()]);
        scene.all_agree()?;
    }
    Ok(())
}

type By<'l> = (&'l Lab, ActorId);

/// A file with all that see it, and what it should hold.
struct Scene<'l> {
    lab: &'l Lab,
    views: Views,
    eyes: Vec<(By<'l>, Map, Fd)>,
    reader: Fd,
    model: Vec<u8>,
}

impl<'l> Scene<'l> {
    fn open(lab: &'l Lab, views: Views) -> Verdict<Scene<'l>> {
        let contents = views.eyes[0].1.file();
        let (path, own) = open_backing(lab, views.backing, &contents)?;
        let reader = reopen(lab.place(), path, own, libc::O_RDONLY)?;
        let mut eyes: Vec<(By<'l>, Map, Fd)> = Vec::new();
        for (index, (who, window)) in views.eyes.iter().enumerate() {
            let by = match who {
                Who::Worker => lab.place(),
                Who::Heir | Who::Child => lab.fork()?.place(),
                Who::Peer => lab.peer()?.place(),
            };
            let acts = views.acts(index);
            // One who only looks has no more rights than it takes; the first one's mapping is for the heirs as well.
            let (mode, prot) = if acts || index == 0 { (libc::O_RDWR, READ_WRITE) } else { (libc::O_RDONLY, READ) };
            let fd = match who {
                Who::Heir => own,
                _ => reopen(by, path, own, mode)?,
            };
            let map = match who {
                Who::Heir => eyes[0].1,
                _ => by.map(request(window.len, prot, SHARED, fd).offset(window.offset))?,
            };
            let apart = |other: &(By, Map, Fd)| {
                let (one, two) = (map.address, other.1.address);
                one + map.extent().get() <= two || two + other.1.extent().get() <= one
            };
            if *who == Who::Worker {
                lab.must(eyes.iter().all(apart), "each mapping has addresses of its own", || "they overlap".into())?;
            }
            eyes.push((by, map, fd));
        }
        Ok(Scene { lab, views, eyes, reader, model: contents.to_vec() })
    }

    fn all_agree(&self) -> Verdict {
        for ((who, map, _), (_, window)) in self.eyes.iter().zip(&self.views.eyes) {
            let view = &self.model[window.offset.get()..][..window.reach().get()];
            who.load(map.start(), view.len()).must_equal(view)?;
        }
        read_all(self.lab, self.reader, &self.model)
    }
}

/// A new file with its name, if it has one, and a descriptor for reading and writing.
pub(super) fn open_backing(lab: &Lab, backing: Backing, contents: &Data) -> Verdict<(Option<Path>, Fd)> {
    match backing {
        Backing::File => lab.new_file(contents).map(|(path, fd)| (Some(path), fd)),
        _ => Ok((None, backing.open(lab, contents)?)),
    }
}

/// An open file description of one's own, where the file has a name; else another descriptor.
pub(super) fn reopen<'l>(who: impl Calls<'l>, path: Option<Path>, fd: Fd, mode: i32) -> Verdict<Fd> {
    match path {
        Some(path) => who.open(path, mode),
        None => who.dup(fd),
    }
}

/// The file holds these bytes and no more.
pub(super) fn read_all(lab: &Lab, reader: Fd, model: &[u8]) -> Verdict {
    lab.pread(reader, model.len() + 1, 0).must_equal(model)
}

fn moved() -> Gen<(Window, Size, Vec<Edit>)> {
    let strategy = any_window(20).prop_flat_map(|window| {
        let edits = edits_within(window.reach(), 4);
        (Just(window), (1_usize..=40).prop_map(pages), edits)
    });
    drawn("windows, how far from the first mapping the second one lies, and edits by turns", strategy)
}

/// The worker maps the window in its arena, a child maps it some pages further on, each at an address that it chose.
fn moved_mappings_are_one(lab: &Lab, (window, distance, edits): (Window, Size, Vec<Edit>)) -> Verdict {
    let (_, fd) = lab.new_file(&window.file())?;
    let args = request(window.len, READ_WRITE, SHARED, fd).offset(window.offset);
    let here = lab.map(args.fixed(At::Arena(0)))?;
    let child = lab.fork()?;
    let there = child.map(args.fixed(here.at(distance)))?;
    lab.must(there.address == here.address + distance.get(), "the second one lies where it was asked for", || {
        "it lies elsewhere".into()
    })?;
    let mut model = window.file().to_vec();
    let (offset, reach) = (window.offset.get(), window.reach().get());
    for (turn, edit) in edits.iter().enumerate() {
        let (who, map) = if turn % 2 == 0 { (lab.place(), here) } else { (child.place(), there) };
        who.store(map.at(edit.at), &edit.data).prepared()?;
        edit.apply(&mut model[offset..]);
        lab.load(here.start(), reach).must_equal(&model[offset..][..reach])?;
        child.load(there.start(), reach).must_equal(&model[offset..][..reach])?;
    }
    read_all(lab, fd, &model)
}

//! MAP_SHARED: one memory, seen through every mapping, by every process, and by read.

use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Deed, Edit, Gen, How, Views, Who, Window, any_window, drawn, each, edit_within, edits_within,
    views_of_one_process, views_of_several,
};
use crate::kernel::call::{ActorId, At, Call, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{FIXED, Flags, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![store_reaches_file(), store_visible_to_peers(), file_write_visible(), same_memory_two_addresses()]
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
        .one_in(4)
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
fn open_backing(lab: &Lab, backing: Backing, contents: &Data) -> Verdict<(Option<Path>, Fd)> {
    match backing {
        Backing::File => lab.new_file(contents).map(|(path, fd)| (Some(path), fd)),
        _ => Ok((None, backing.open(lab, contents)?)),
    }
}

/// An open file description of one's own, where the file has a name; else another descriptor.
fn reopen<'l>(who: impl Calls<'l>, path: Option<Path>, fd: Fd, mode: i32) -> Verdict<Fd> {
    match path {
        Some(path) => who.open(path, mode),
        None => who.dup(fd),
    }
}

/// The file holds these bytes and no more.
fn read_all(lab: &Lab, reader: Fd, model: &[u8]) -> Verdict {
    lab.pread(reader, model.len() + 1, 0).must_equal(model)
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
        _ => child.kill(),
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

//! MAP_PRIVATE: what is stored stays with the one who stored it.

use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Deed, Edit, Gen, How, Views, Who, Window, any_size, any_window, drawn, edit_within, edits_within,
    file_backing, views_of_one_process, views_of_several,
};
use crate::kernel::call::{ActorId, Call, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![file_unchanged(), invisible_to_peers(), copies_the_file()]
}

fn file_unchanged() -> Claim {
    claim("private.file-unchanged")
        .states("Stores through a MAP_PRIVATE mapping never get into the file.")
        .documents([
            DAY8.at("mmap, flags"),
            IPC.at("mmap, flags"),
            WHAT.at("mmap, flags"),
            WHAT.at("listing, variant 2"),
        ])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_PRIVATE"),
            posix("msync, DESCRIPTION: nothing of a private mapping is written"),
            posix("munmap, DESCRIPTION: private modifications are discarded"),
            linux("mmap(2), The flags argument, MAP_PRIVATE"),
        ])
        .for_all(stores(), nothing_reaches_the_file)
        .part("by a process that ends", deaths(), nothing_is_left_by_the_dead)
        .one_in(4)
}

fn invisible_to_peers() -> Claim {
    claim("private.invisible-to-peers")
        .states(
            "Stores through a MAP_PRIVATE mapping are invisible to every other process and every other mapping of the file.",
        )
        .documents([SHM.at("mmap, flags"), WHAT.at("mmap, flags")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_PRIVATE"),
            posix("fork, DESCRIPTION, memory mappings: stores before it are inherited"),
            linux("mmap(2), The flags argument, MAP_PRIVATE"),
        ])
        .for_all(onlookers(views_of_one_process(20, &[How::Store])), |lab, input| each_sees_its_own(lab, &input))
        .part("in other processes", onlookers(views_of_several(20, &[How::Store])), |lab, input| each_sees_its_own(lab, &input))
        .one_in(8)
}

fn copies_the_file() -> Claim {
    claim("private.copies-the-file")
        .states("A private mapping works on a new copy of the file (copy on write).")
        .documents([IPC.at("mmap, flags")])
        .qualified(
            "No file is created. Pages are copied one at a time at the first store; on Linux pages not yet stored to go on \
             showing the file's later changes, which POSIX leaves open.",
        )
        .basis([
            posix("mmap, DESCRIPTION, MAP_PRIVATE: modifications leave the object alone"),
            unspecified("mmap, DESCRIPTION, MAP_PRIVATE: whether later changes of the object show"),
            unspecified("mmap(2), The flags argument, MAP_PRIVATE"),
            posix("mmap, RATIONALE, MAP_PRIVATE: a real copy may stand in"),
        ])
        .for_all(later_changes(), stored_pages_are_copies)
        .part("a file that shrinks takes the copies along", shrinking(), copies_beyond_the_end_are_gone)
}

/// How a private mapping comes about before it is stored to.
#[derive(Clone, Copy, Debug)]
enum Making {
    Plain,
    ReadOnlyDescriptor,
    Populate,
    LoadAll,
    MprotectWrite,
    Close,
}

fn stores() -> Gen<(Making, Views)> {
    use Making::*;
    let making = prop::sample::select(vec![Plain, ReadOnlyDescriptor, Populate, LoadAll, MprotectWrite, Close]);
    drawn("how the mappings are made", making).and(views_of_one_process(20, &[How::Store]))
}

fn nothing_reaches_the_file(lab: &Lab, (making, views): (Making, Views)) -> Verdict {
    let file = Witness::open(lab, &views)?;
    let fd = match (making, file.path) {
        (Making::ReadOnlyDescriptor, Some(path)) => lab.open(path, libc::O_RDONLY)?,
        _ => lab.dup(file.fd)?,
    };
    let mut maps = Vec::new();
    for (_, window) in &views.eyes {
        let args = request(window.len, READ_WRITE, PRIVATE, fd).offset(window.offset);
        let map = lab.map(match making {
            Making::Populate => args.and(Flags(libc::MAP_POPULATE as u32)),
            Making::MprotectWrite => args.prot(READ),
            _ => args,
        })?;
        match making {
            Making::LoadAll => lab.load(map.start(), window.reach()).prepared()?,
            Making::MprotectWrite => lab.mprotect(map.start(), map.extent(), READ_WRITE).prepared()?,
            _ => {}
        }
        maps.push((map, file.view(window).to_vec()));
    }
    if matches!(making, Making::Close) {
        lab.close(fd).prepared()?;
    }
    for deed in &views.deeds {
        let (map, model) = &mut maps[deed.eye];
        lab.store(map.at(deed.edit.at), &deed.edit.data).prepared()?;
        deed.edit.apply(model);
        file.is_unchanged()?;
    }
    for (map, model) in maps {
        lab.load(map.start(), model.len()).must_equal(&model)?;
        for flags in [libc::MS_ASYNC, libc::MS_SYNC] {
            lab.msync(map.start(), map.extent(), flags).prepared()?;
            file.is_unchanged()?;
        }
        lab.mprotect(map.start(), map.extent(), READ).prepared()?;
        lab.load(map.start(), model.len()).must_equal(&model)?;
        lab.munmap(map.at(map.extent() - pages(1)), 1).prepared()?;
        file.is_unchanged()?;
        lab.unmap(map)?;
        file.is_unchanged()?;
    }
    Ok(())
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Exit,
    Kill,
    Fault,
    /// It becomes another program.
    Exec,
}

fn deaths() -> Gen<(End, Views)> {
    let ends = [End::Exit, End::Kill, End::Fault, End::Exec];
    drawn("an end by _exit, SIGKILL, SIGSEGV or execve", prop::sample::select(ends.to_vec()))
        .also(ends)
        .and(views_of_one_process(8, &[How::Store]).also([both_pages()]))
}

/// A file of two pages, and stores to the first and the last of its bytes.
fn both_pages() -> Views {
    let window = Window { size: pages(2), offset: Size::ZERO, len: pages(2), contents: 4 };
    let edits = [Size::ZERO, window.len - 3].map(|at| Edit { at, data: Data::at(3, at, 3) });
    let deeds = edits.map(|edit| Deed { eye: 0, how: How::Store, edit }).to_vec();
    Views { backing: Backing::File, eyes: vec![(Who::Worker, window)], deeds }
}

fn nothing_is_left_by_the_dead(lab: &Lab, (end, views): (End, Views)) -> Verdict {
    let file = Witness::open(lab, &views)?;
    let child = lab.fork()?;
    let mut last = None;
    for (index, (_, window)) in views.eyes.iter().enumerate() {
        let map = child.map(request(window.len, READ_WRITE, PRIVATE, file.fd).offset(window.offset))?;
        for deed in views.deeds.iter().filter(|deed| deed.eye == index) {
            child.store(map.at(deed.edit.at), &deed.edit.data).prepared()?;
        }
        last = Some(map);
    }
    match (end, last) {
        (End::Exit, _) => child.call(Call::Exit { status: 0 }).must_exit(0)?,
        (End::Exec, _) => child.call(Call::ExecSelf).must_succeed()?,
        (End::Fault, Some(map)) => {
            child.mprotect(map.start(), map.extent(), READ).prepared()?;
            child.unguarded()?;
            child.store(map.start(), &Data::repeat(1, 1)).must_die_of(libc::SIGSEGV)?;
        }
        _ => child.kill()?,
    }
    file.is_unchanged()
}

/// A file that nobody changes: read, and seen through a shared mapping.
struct Witness<'l> {
    lab: &'l Lab,
    path: Option<Path>,
    fd: Fd,
    map: Map,
    contents: Vec<u8>,
}

impl<'l> Witness<'l> {
    fn open(lab: &'l Lab, views: &Views) -> Verdict<Witness<'l>> {
        let contents = views.eyes[0].1.file();
        let (path, fd) = match views.backing {
            Backing::File => lab.new_file(&contents).map(|(path, fd)| (Some(path), fd))?,
            other => (None, other.open(lab, &contents)?),
        };
        let map = lab.map(request(views.size(), READ, SHARED, fd))?;
        Ok(Witness { lab, path, fd, map, contents: contents.to_vec() })
    }

    fn view(&self, window: &Window) -> &[u8] {
        &self.contents[window.offset.get()..][..window.reach().get()]
    }

    fn is_unchanged(&self) -> Verdict {
        self.lab.pread(self.fd, self.contents.len() + 1, 0).must_equal(&self.contents)?;
        self.lab.load(self.map.start(), self.contents.len()).must_equal(&self.contents)
    }
}

/// Views of a file of which the first, those that its heirs have, and some others are private; `late` heirs are forked when
/// they first act, or at the end, and inherit what was stored until then.
#[derive(Clone)]
struct Onlookers {
    views: Views,
    private: [bool; 4],
    late: bool,
}

impl std::fmt::Debug for Onlookers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let private = (0..self.views.eyes.len()).filter(|eye| self.private[*eye]).map(|eye| format!(" #{}", eye + 1));
        write!(f, "{:?}, private:{}", self.views, private.collect::<String>())?;
        if self.late { write!(f, ", heirs forked late") } else { Ok(()) }
    }
}

fn onlookers(views: Gen<Views>) -> Gen<Onlookers> {
    let others = (prop::bool::weighted(0.6), prop::bool::weighted(0.6), prop::bool::weighted(0.6), any::<bool>());
    views.and(drawn("some of the mappings private, stores only through these", others)).map(
        |(mut views, (second, third, fourth, late))| {
            let mut private = [true, second, third, fourth];
            for (eye, (who, _)) in views.eyes.iter().enumerate() {
                private[eye] |= *who == Who::Heir;
            }
            views.deeds.retain(|deed| private[deed.eye]);
            if views.deeds.is_empty() {
                let edit = Edit { at: Size::ZERO, data: Data::pattern(1, 1) };
                views.deeds.push(Deed { eye: 0, how: How::Store, edit });
            }
            Onlookers { views, private, late }
        },
    )
}

/// One who sees the file, the mapping, and what it should show; `None` for an heir that is still to be forked.
type Eye<'l> = Option<((&'l Lab, ActorId), Map, Vec<u8>)>;

fn each_sees_its_own(lab: &Lab, input: &Onlookers) -> Verdict {
    let Onlookers { views, private, late } = input;
    let file = Witness::open(lab, views)?;
    let mut eyes: Vec<Eye<'_>> = Vec::new();
    for (index, (who, window)) in views.eyes.iter().enumerate() {
        let by = match who {
            Who::Worker => lab.place(),
            Who::Heir if *late => {
                eyes.push(None);
                continue;
            }
            Who::Heir | Who::Child => lab.fork()?.place(),
            Who::Peer => lab.peer()?.place(),
        };
        let fd = match (who, file.path) {
            (Who::Peer, Some(path)) => by.open(path, libc::O_RDWR)?,
            _ => file.fd,
        };
        let sharing = if private[index] { PRIVATE } else { SHARED };
        let map = match (who, &eyes.first()) {
            (Who::Heir, Some(Some((_, map, _)))) => *map,
            _ => by.map(request(window.len, READ_WRITE, sharing, fd).offset(window.offset))?,
        };
        eyes.push(Some((by, map, file.view(window).to_vec())));
    }
    for deed in &views.deeds {
        inherit(lab, &mut eyes, deed.eye)?;
        if let Some((who, map, model)) = &mut eyes[deed.eye] {
            who.store(map.at(deed.edit.at), &deed.edit.data).prepared()?;
            deed.edit.apply(model);
        }
        for (who, map, model) in eyes.iter().flatten() {
            who.load(map.start(), model.len()).must_equal(model)?;
        }
        file.is_unchanged()?;
    }
    for eye in 0..eyes.len() {
        inherit(lab, &mut eyes, eye)?;
    }
    for (who, map, model) in eyes.iter().flatten() {
        who.load(map.start(), model.len()).must_equal(model)?;
    }
    // A shared mapping beside private ones is a shared one.
    for (index, (_, window)) in views.eyes.iter().enumerate().filter(|(index, _)| !private[*index]) {
        if let Some((who, map, _)) = &eyes[index] {
            let byte = Data::pattern(1, 1);
            who.store(map.start(), &byte).prepared()?;
            lab.pread(file.fd, 1, window.offset).must_hold(&byte)?;
            lab.load(file.map.at(window.offset), 1).must_hold(&byte)?;
        }
    }
    Ok(())
}

/// Forks an heir, if it has not been yet: it begins with what the first one's mapping shows by now.
fn inherit<'l>(lab: &'l Lab, eyes: &mut [Eye<'l>], eye: usize) -> Verdict {
    if let (None, Some(Some((_, map, model)))) = (&eyes[eye], eyes.first()) {
        eyes[eye] = Some((lab.fork()?.place(), *map, model.clone()));
    }
    Ok(())
}

/// Stores to a private mapping and changes of the file, by turns.
#[derive(Clone, Debug)]
struct LaterChanges {
    backing: Backing,
    window: Window,
    loaded_first: bool,
    turns: Vec<(Edit, Edit)>,
}

fn later_changes() -> Gen<LaterChanges> {
    let strategy = (file_backing(), any_window(20), any::<bool>()).prop_flat_map(|(backing, window, loaded_first)| {
        let turn = (edit_within(window.reach()), edit_within(window.size));
        prop::collection::vec(turn, 1..=3).prop_map(move |turns| LaterChanges { backing, window, loaded_first, turns })
    });
    drawn("windows; by turns a store to the private mapping and a write to the file", strategy)
}

fn stored_pages_are_copies(lab: &Lab, input: LaterChanges) -> Verdict {
    let LaterChanges { backing, window, loaded_first, turns } = input;
    let fd = backing.open(lab, &window.file())?;
    let before = lab.place().call(Call::Fstat { fd }).stat()?;
    let map = lab.map(request(window.len, READ_WRITE, PRIVATE, fd).offset(window.offset))?;
    let (offset, reach) = (window.offset.get(), window.reach().get());
    if loaded_first {
        lab.load(map.start(), reach).prepared()?;
    }
    let mut file = window.file().to_vec();
    let mut memory = file[offset..][..reach].to_vec();
    let mut copied = vec![false; window.len.in_pages()];
    for (store, write) in &turns {
        let touched = store.at.get() / page()..store.end().in_pages();
        // A page that is copied only now is a copy of what it showed until now: the old bytes or the new ones.
        let shown = lab.load(map.start(), reach).bytes()?;
        for index in touched.filter(|index| !copied[*index]).collect::<Vec<_>>() {
            let part = index * page()..((index + 1) * page()).min(reach);
            memory[part.clone()].copy_from_slice(&shown[part]);
            copied[index] = true;
        }
        lab.store(map.at(store.at), &store.data).prepared()?;
        store.apply(&mut memory);
        lab.pwrite(fd, &write.data, write.at).prepared()?;
        let old = file.clone();
        write.apply(&mut file);
        let seen = lab.load(map.start(), reach).bytes()?;
        let wrong = (0..reach).find(|at| match copied[at / page()] {
            true => seen[*at] != memory[*at],
            false => seen[*at] != shown[*at] && seen[*at] != file[offset + at],
        });
        let words = "pages stored to keep their bytes, others show the old ones or the new";
        lab.must(wrong.is_none(), words, || {
            let at = wrong.unwrap_or(0);
            format!("{:#04x} at +{}", seen[at], Size(at))
        })?;
        let changed = |at: &usize| !copied[at / page()] && old[offset + at] != file[offset + at];
        if let Some(at) = (0..reach).find(changed) {
            let follows = if seen[at] == file[offset + at] { "yes" } else { "no" };
            lab.fact("a page not stored to shows the file's later changes", follows);
        }
        lab.pread(fd, file.len() + 1, 0).must_equal(&file)?;
    }
    let after = lab.place().call(Call::Fstat { fd }).stat()?;
    let same = (before.inode, before.links, before.size) == (after.inode, after.links, after.size);
    lab.must(same, "the file is the one it was", || format!("{after}, it was {before}"))
}

fn shrinking() -> Gen<(Backing, Window, Vec<Edit>, Size)> {
    let strategy = (file_backing(), any_window(20)).prop_flat_map(|(backing, window)| {
        let size = any_size(0, window.size.in_pages()).prop_map(move |size| size.min(window.size));
        (Just(backing), Just(window), edits_within(window.reach(), 3), size)
    });
    drawn("windows, stores to the private mapping, and the size that the file is cut to", strategy)
}

fn copies_beyond_the_end_are_gone(
    lab: &Lab,
    (backing, window, edits, size): (Backing, Window, Vec<Edit>, Size),
) -> Verdict {
    let fd = backing.open(lab, &window.file())?;
    let map = lab.map(request(window.len, READ_WRITE, PRIVATE, fd).offset(window.offset))?;
    let mut model = Data::at(window.contents, window.offset, window.reach()).to_vec();
    for edit in &edits {
        lab.store(map.at(edit.at), &edit.data).prepared()?;
        edit.apply(&mut model);
    }
    lab.ftruncate(fd, size).prepared()?;
    let kept = size.less(window.offset).min(window.reach());
    lab.load(map.start(), kept).must_equal(&model[..kept.get()])?;
    for gone in kept.in_pages()..window.len.in_pages() {
        lab.load(map.at(pages(gone)), 1).must_be_beyond_the_file(0)?;
        lab.store(map.at(pages(gone + 1) - 1), &Data::repeat(1, 1)).must_be_beyond_the_file(0)?;
    }
    Ok(())
}

//! How long a mapping lives: beyond its descriptor, its file's name and other processes, until munmap or its process's end.

use libc::{EACCES, EBADF, EBUSY};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix};
use crate::input::{
    Backing, Edit, Gen, Window, any_sharing, any_size, any_window, drawn, each, edit_within, edits_within, file_backing,
};
use crate::kernel::call::{Call, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NONE, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::answer::Answer;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![close_before_munmap(), until_munmap()]
}

fn close_before_munmap() -> Claim {
    claim("lifetime.close-before-munmap")
        .states("Closing the descriptor leaves the mapping as it was until munmap.")
        .documents([DAY8.at("note 5"), IPC.at("question 6"), MAPIO.at("notes")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, extra reference"),
            posix("close, DESCRIPTION, memory mapped file"),
            linux("mmap(2), DESCRIPTION"),
            linux("mmap(2), munmap()"),
        ])
        .for_all(uses(), |lab, use_| {
            let mut scene = Scene::open(lab, &use_)?;
            let second = if use_.second == Second::No { None } else { Some(lab.dup(scene.fd)?) };
            if use_.touched {
                scene.must_show(lab)?;
            }
            let other = Data::pattern(use_.window.contents + 2, use_.window.size);
            match (use_.second, second) {
                (Second::Closed, Some(second)) => {
                    lab.close(second).must_return(0_u64)?;
                    scene.must_show(lab)?;
                }
                (Second::Replaced, Some(onto)) => {
                    let (_, of) = lab.new_file(&other)?;
                    lab.worker().call(Call::Dup2 { of, onto, cloexec: false }).prepared()?;
                }
                _ => {}
            }
            lab.close(scene.fd).must_return(0_u64)?;
            lab.pread(scene.fd, 1, 0).must_fail(EBADF)?;
            // The number that has become free goes to another file, and the mapping must not follow it there.
            let (_, number) = lab.new_file(&other)?;
            scene.edit_all(lab, &use_.edits)?;
            lab.pread(number, other.len() + 1, 0).must_hold(&other)?;
            scene.must_end_with_munmap(lab)
        })
        .part("shared with a child", uses(), |lab, use_| {
            let mut scene = Scene::open(lab, &use_)?;
            lab.close(scene.fd).must_return(0_u64)?;
            let child = lab.fork()?;
            if use_.sharing == SHARED {
                for (index, edit) in use_.edits.iter().enumerate() {
                    match index % 2 {
                        0 => child.store(scene.map.at(edit.at), &edit.data),
                        _ => lab.store(scene.map.at(edit.at), &edit.data),
                    }
                    .must_succeed()?;
                    scene.learn(edit);
                    scene.must_show(lab)?;
                    scene.must_show(child)?;
                }
            } else {
                child.store(scene.map.start(), &use_.edits[0].data).must_succeed()?;
            }
            child.munmap(scene.map.start(), scene.map.len).must_return(0_u64)?;
            scene.must_show(lab)?;
            scene.edit_all(lab, &use_.edits)?;
            scene.must_end_with_munmap(lab)
        })
        .one_in(8)
        .part("rights", uses().and(each("opened with", [libc::O_RDWR, libc::O_RDONLY])), |lab, (use_, access)| {
            let path = lab.file(&use_.window.file())?;
            let fd = lab.open(path, access)?;
            let map = lab.map(request(use_.window.len, READ, SHARED, fd).offset(use_.window.offset))?;
            lab.close(fd).must_return(0_u64)?;
            if access == libc::O_RDONLY {
                lab.mprotect(map.start(), map.len, READ_WRITE).must_fail(EACCES)?;
                lab.mprotect(map.start(), map.len, WRITE).must_fail(EACCES)?;
                return lab.load(map.start(), use_.window.len).must_hold(&use_.window.view());
            }
            lab.mprotect(map.start(), map.len, READ_WRITE).must_return(0_u64)?;
            let edit = &use_.edits[0];
            lab.store(map.at(edit.at), &edit.data).must_succeed()?;
            let again = lab.open(path, libc::O_RDONLY)?;
            lab.pread(again, edit.data.len(), use_.window.offset + edit.at).must_hold(&edit.data)
        })
}

/// A window on a file, how it is mapped, and what is stored through it.
#[derive(Clone, PartialEq, Eq)]
struct Use {
    backing: Backing,
    window: Window,
    sharing: Flags,
    edits: Vec<Edit>,
    /// Whether the mapping has been read before anything happens to its file.
    touched: bool,
    /// A second descriptor, which is closed before the first.
    second: Second,
}

/// How a second descriptor of the same open file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// There is none.
    No,
    /// By close.
    Closed,
    /// Without a close: its number is given to another file.
    Replaced,
}

impl std::fmt::Debug for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Use { backing, window, sharing, edits, touched, second } = self;
        write!(f, "{backing:?} {sharing:?} {window:?}, {edits:?}")?;
        let second = match second {
            Second::No => "",
            Second::Closed => ", a second descriptor closed",
            Second::Replaced => ", a second descriptor replaced",
        };
        write!(f, "{}{second}", if *touched { ", read before" } else { "" })
    }
}

fn uses() -> Gen<Use> {
    let sharing = prop_oneof![2 => Just(SHARED), 1 => any_sharing()];
    let second = prop::sample::select(vec![Second::No, Second::Closed, Second::Replaced]);
    let strategy = (file_backing(), any_window(20), sharing, any::<bool>(), second).prop_flat_map(
        |(backing, window, sharing, touched, second)| {
            edits_within(window.len, 4).prop_map(move |edits| Use { backing, window, sharing, edits, touched, second })
        },
    );
    drawn("windows on files of up to 20 pages, shared and private, and stores through them", strategy)
}

/// A file, a mapping under test, and a second one of the whole file that shows what has become of the file.
struct Scene {
    path: Option<Path>,
    fd: Fd,
    window: Window,
    sharing: Flags,
    map: Map,
    twin: Map,
    file: Vec<u8>,
    view: Vec<u8>,
}

impl Scene {
    fn open(lab: &Lab, of: &Use) -> Verdict<Scene> {
        let window = of.window;
        let (path, fd) = match of.backing {
            Backing::File => lab.new_file(&window.file()).map(|(path, fd)| (Some(path), fd))?,
            _ => (None, lab.memfd(&window.file())?),
        };
        let map = lab.map(request(window.len, READ_WRITE, of.sharing, fd).offset(window.offset))?;
        let twin = lab.map(request(window.size, READ, SHARED, fd))?;
        let file = window.file().to_vec();
        let mut view = file[window.offset.get()..].to_vec();
        view.resize(map.extent().get(), 0);
        Ok(Scene { path, fd, window, sharing: of.sharing, map, twin, file, view })
    }

    /// The models after a store to the mapping.
    fn learn(&mut self, edit: &Edit) {
        edit.apply(&mut self.view);
        if self.sharing == SHARED {
            let from = (self.window.offset + edit.at).get();
            edit.data.fill(&mut self.file[from..][..edit.data.len()]);
        }
    }

    fn must_show<'l>(&self, who: impl Calls<'l>) -> Verdict {
        who.load(self.map.start(), self.view.len()).must_equal(&self.view)?;
        who.load(self.twin.start(), self.file.len()).must_equal(&self.file)
    }

    fn edit_all(&mut self, lab: &Lab, edits: &[Edit]) -> Verdict {
        for edit in edits {
            lab.store(self.map.at(edit.at), &edit.data).must_succeed()?;
            self.learn(edit);
            self.must_show(lab)?;
        }
        Ok(())
    }

    /// munmap ends the mapping, every page of it, and neither the second mapping nor the file.
    fn must_end_with_munmap(&self, lab: &Lab) -> Verdict {
        lab.munmap(self.map.start(), self.map.len).must_return(0_u64)?;
        for index in 0..self.map.len.in_pages() {
            lab.load(self.map.at(pages(index)), 1).must_be_unmapped(0)?;
        }
        lab.load(self.twin.start(), self.file.len()).must_equal(&self.file)?;
        match self.path {
            Some(path) => {
                must_hold(lab, path, &self.file)?;
                self.twin_must_follow(lab, path)
            }
            None => Ok(()),
        }
    }

    /// The second mapping is still one with the file.
    fn twin_must_follow(&self, lab: &Lab, path: Path) -> Verdict {
        let new = Data::pattern(self.window.contents + 3, self.window.size);
        let fd = lab.open(path, libc::O_WRONLY)?;
        lab.pwrite(fd, &new, 0).must_return(new.len() as u64)?;
        lab.load(self.twin.start(), new.len()).must_hold(&new)
    }
}

/// The file of this name holds these bytes and no more.
fn must_hold<'l>(who: impl Calls<'l>, path: Path, bytes: &[u8]) -> Verdict {
    let fd = who.open(path, libc::O_RDONLY)?;
    who.pread(fd, bytes.len() + 1, 0).must_equal(bytes)
}

fn until_munmap() -> Claim {
    let names = [Fate::Unlinked, Fate::Renamed, Fate::Replaced, Fate::Linked];
    claim("lifetime.until-munmap")
        .states("The mapping lives until munmap, or until the process ends.")
        .documents([MAPIO.at("notes")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, extra reference"),
            posix("_Exit, Consequences of Process Termination"),
            posix("exec, DESCRIPTION, memory mappings"),
            posix("unlink, DESCRIPTION"),
            linux("mmap(2), munmap()"),
            linux("F_GET_SEALS(2const), F_SEAL_WRITE"),
        ])
        .part(
            "whatever becomes of the name",
            drawn("the file's name", prop::sample::select(names.to_vec())).and(uses()),
            |lab, (fate, use_)| {
                let mut scene = Scene::open(lab, &Use { backing: Backing::File, ..use_.clone() })?;
                if use_.touched {
                    scene.must_show(lab)?;
                }
                scene.path = fate.befalls(lab, scene.path)?;
                if use_.second != Second::No {
                    lab.close(scene.fd).must_return(0_u64)?;
                }
                scene.must_show(lab)?;
                scene.edit_all(lab, &use_.edits)?;
                scene.must_end_with_munmap(lab)
            },
        )
        .part("until the end", endings_of_several(), sealed_after_the_last)
        .one_in(16)
}

/// What becomes of the name of a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// unlink.
    Unlinked,
    /// rename to another name.
    Renamed,
    /// Another file is renamed over it.
    Replaced,
    /// link to another name, and unlink of the first.
    Linked,
}

impl Fate {
    /// Does it; the name that the file has afterwards.
    fn befalls(self, lab: &Lab, path: Option<Path>) -> Verdict<Option<Path>> {
        let Some(path) = path else { return Ok(None) };
        let other = lab.new_path();
        match self {
            Fate::Unlinked => lab.unlink(path).prepared().map(|()| None),
            Fate::Renamed => lab.rename(path, other).prepared().map(|()| Some(other)),
            Fate::Replaced => {
                let by = lab.file(&"another file".into())?;
                lab.rename(by, path).prepared()?;
                must_hold(lab, path, b"another file")?;
                Ok(None)
            }
            Fate::Linked => {
                lab.link(path, other).prepared()?;
                lab.unlink(path).prepared().map(|()| Some(other))
            }
        }
    }
}

/// How a process or its mapping ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// munmap, and then _exit.
    Munmap,
    /// _exit with the mapping in place.
    Exit,
    /// SIGKILL.
    Kill,
    /// Death by SIGSEGV.
    Fault,
    /// execve: another program, in the same process.
    Exec,
}

impl End {
    pub(super) fn befalls(self, actor: Actor<'_>, map: Map) -> Verdict {
        match self {
            End::Munmap => {
                actor.munmap(map.start(), map.len).must_return(0_u64)?;
                actor.call(Call::Exit { status: 0 }).must_exit(0)
            }
            End::Exit => actor.call(Call::Exit { status: 3 }).must_exit(3),
            End::Kill => actor.kill(),
            End::Fault => {
                actor.unguarded()?;
                actor.mprotect(map.start(), 1, NONE).prepared()?;
                actor.load(map.start(), 1).must_die_of(libc::SIGSEGV)
            }
            End::Exec => actor.call(Call::ExecSelf).prepared(),
        }
    }
}

pub(super) fn any_end(ends: &[End]) -> BoxedStrategy<End> {
    prop::sample::select(ends.to_vec()).boxed()
}

fn endings_of_several() -> Gen<(Size, Vec<(End, Edit)>)> {
    let strategy = any_size(1, 12).prop_flat_map(|len| {
        let end = any_end(&[End::Munmap, End::Exit, End::Kill, End::Fault, End::Exec]);
        (Just(len), prop::collection::vec((end, edit_within(len)), 1..=3))
    });
    drawn("one to three processes that map a file and end, each in its own way", strategy)
}

/// A file without a name that is mapped for writing cannot be sealed against writing: that tells when its last mapping has gone.
fn sealed_after_the_last(lab: &Lab, (len, ends): (Size, Vec<(End, Edit)>)) -> Verdict {
    let contents = Data::pattern(2, len);
    let fd = lab.memfd(&contents)?;
    let mut model = contents.to_vec();
    let mut actors = Vec::new();
    for (end, edit) in &ends {
        let actor = lab.fork()?;
        let map = actor.map(request(len, READ_WRITE, SHARED, fd))?;
        actor.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut model);
        actors.push((actor, map, *end));
    }
    for (actor, map, end) in actors {
        seal(lab, fd).must_fail(EBUSY)?;
        if len.in_pages() > 1 {
            actor.munmap(map.at(pages(1)), pages(1)).must_return(0_u64)?;
            seal(lab, fd).must_fail(EBUSY)?;
        }
        end.befalls(actor, map)?;
        lab.pread(fd, len + 1, 0).must_equal(&model)?;
    }
    // Whoever looks at a process in /proc keeps its memory for that moment.
    const LOOKERS_ON: usize = 1000;
    for _ in 0..LOOKERS_ON {
        let answer = seal(lab, fd);
        if answer.outcome().errno() != Some(EBUSY) {
            return answer.must_return(0_u64);
        }
    }
    seal(lab, fd).must_return(0_u64)
}

fn seal(lab: &Lab, fd: Fd) -> Answer<'_> {
    lab.fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE as u64)
}

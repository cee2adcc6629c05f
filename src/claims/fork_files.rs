//! What a forked child has of its parent's descriptors and mappings made later.

use libc::{EBADF, F_GETFD, F_SETFD, FD_CLOEXEC, O_CREAT, O_RDWR, SEEK_CUR, SEEK_SET};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix};
use crate::input::*;
use crate::kernel::call::{Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![mapping_after_fork(), descriptor_shared(), reopened_file()]
}

fn mapping_after_fork() -> Claim {
    claim("fork.mapping-after-fork")
        .states("For related processes the mapping has to exist before the child does.")
        .documents([IPC.at("related processes"), MAPIO.at("first listing, comment")])
        .qualified("It has to if it is anonymous. A file that both map after fork is shared all the same, and so is a memfd whose descriptor was inherited or sent.")
        .basis([
            posix("fork, DESCRIPTION, memory mappings"),
            linux("fork(2), DESCRIPTION"),
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            linux("memfd_create(2), DESCRIPTION"),
        ])
        .part("of no file", latecomers(), |lab, late| only_those_born_later_have_it(lab, &late))
        .one_in(16)
        .part("of a file", meetings(), |lab, (meeting, means)| all_map_after_fork(lab, &meeting, means))
        .one_in(16)
}

fn descriptor_shared() -> Claim {
    claim("fork.descriptor-shared")
        .states("Parent and child share the open file behind an inherited descriptor, its offset and status flags included.")
        .documents([DAY8.at("files"), DAY8.at("parent and child, list")])
        .holds()
        .basis([
            posix("fork, DESCRIPTION, file descriptors"),
            linux("fork(2), DESCRIPTION, on open file descriptors"),
            posix("exec, DESCRIPTION, file descriptors"),
            linux("fcntl(2), File descriptor flags"),
        ])
        .part("offset and status flags", scripts(Origin::Inherited), |lab, script| script.play(lab))
        .one_in(4)
        .part("not FD_CLOEXEC", legacies(), |lab, legacy| descriptor_flags_are_its_own(lab, &legacy))
        .one_in(32)
}

fn reopened_file() -> Claim {
    claim("fork.reopened-file")
        .states("Descriptors that were opened apart on one file have offsets of their own and see the same bytes, so that the file carries data from child to parent.")
        .documents([DAY8.at("files")])
        .holds()
        .basis([
            posix("open, DESCRIPTION"),
            posix("write, DESCRIPTION, on a later read()"),
            linux("open(2), Open file descriptions"),
        ])
        .part("as many as wanted", scripts(Origin::InheritedOrOpened), |lab, script| script.play(lab))
        .one_in(4)
        .part("the document's program", messages(), |lab, (text, first)| the_child_writes_and_the_parent_reads(lab, text, first))
        .one_in(8)
}

/// Who of a worker, two children and a grandchild maps memory of no file, and where.
#[derive(Clone, Copy, Debug)]
struct Late {
    backing: Backing,
    maker: usize,
    range: Range,
}

fn latecomers() -> Gen<Late> {
    let backing = prop_oneof![Just(Backing::Anonymous), Just(Backing::DevZero)];
    let strategy =
        (backing, 0..4_usize, page_range(20)).prop_map(|(backing, maker, range)| Late { backing, maker, range });
    drawn("memory of no file that a worker, a child, its child or a second child maps after all are born", strategy)
}

/// A shared mapping made late is the maker's alone, and that of the children which the maker has later.
fn only_those_born_later_have_it(lab: &Lab, late: &Late) -> Verdict {
    let Late { backing, maker, range: Range { at, len } } = *late;
    let hole = lab.hole(at, len);
    let first = lab.fork()?;
    let family = [lab.worker(), first, lab.fork_from(first.id(), false)?, lab.fork()?];
    let maker = family[maker];
    let fd = backing.open(maker, &Data::zeros(0))?;
    maker.map(request(len, READ_WRITE, SHARED | backing.flags(), fd).fixed(hole))?;
    maker.store(hole, &Data::pattern(1, len)).prepared()?;
    for other in family.iter().filter(|other| other.id() != maker.id()) {
        other.load(hole, 1).must_be_unmapped(0)?;
        other.store(hole.plus(len - 1), &Data::repeat(1, 1)).must_be_unmapped(0)?;
    }
    for seed in [3, 5] {
        let later = lab.fork_from(maker.id(), false)?;
        later.load(hole, len).must_hold(&Data::pattern(seed - 2, len))?;
        later.store(hole, &Data::pattern(seed, len)).must_succeed()?;
        maker.load(hole, len).must_hold(&Data::pattern(seed, len))?;
    }
    Ok(())
}

/// How processes come by a file after fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// Each opens it by its name.
    Name,
    /// By a descriptor that was inherited.
    Inheritance,
    /// A memfd, by a descriptor that was inherited.
    InheritedMemfd,
    /// A memfd that the worker makes after fork and sends (SCM_RIGHTS).
    SentMemfd,
}

fn meetings() -> Gen<(Meeting, Means)> {
    let means = [Means::Name, Means::Inheritance, Means::InheritedMemfd, Means::SentMemfd];
    let strategy = (any_meeting(20, 4), prop::sample::select(means.to_vec()));
    drawn("files that a worker, a child, its child and a second child map after all are born", strategy)
}

fn all_map_after_fork(lab: &Lab, meeting: &Meeting, means: Means) -> Verdict {
    let contents = meeting.windows[0].file();
    let (path, inherited) = match means {
        Means::Name | Means::Inheritance => {
            let (path, fd) = lab.new_file(&contents)?;
            (Some(path), fd)
        }
        Means::InheritedMemfd => (None, lab.memfd(&contents)?),
        Means::SentMemfd => (None, Fd::Number(-1)),
    };
    let first = lab.fork()?;
    let family = [lab.worker(), first, lab.fork_from(first.id(), false)?, lab.fork()?];
    let memfd = if means == Means::SentMemfd { lab.memfd(&contents)? } else { inherited };
    let mut seats = Vec::new();
    for (member, window) in family.into_iter().zip(&meeting.windows) {
        let fd = match (means, path) {
            (Means::Name, Some(path)) => member.open(path, O_RDWR)?,
            (Means::SentMemfd, _) if member.id() != lab.worker().id() => member.adopt(memfd)?,
            _ => memfd,
        };
        seats.push((member, member.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?));
    }
    let file = meeting.hold(lab, &seats, |_| true)?;
    lab.pread(memfd, meeting.size(), 0).must_equal(&file)
}

fn scripts(origin: Origin) -> Gen<FileScript> {
    drawn("files, and what up to four processes of a family do with descriptors for them", any_file_script(origin))
        .also(plain_file_scripts(origin))
}

/// How a descriptor is prepared for exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// dup2 leaves it open.
    Dup2,
    /// dup3 with O_CLOEXEC has it closed.
    Dup3Cloexec,
    /// The parent sets FD_CLOEXEC before fork.
    ParentSets,
    /// The child sets FD_CLOEXEC after fork.
    ChildSets,
    /// The child takes back the FD_CLOEXEC that it inherited.
    ChildClears,
}

impl Way {
    fn child_keeps(self) -> bool {
        matches!(self, Way::Dup2 | Way::ChildClears)
    }

    fn parent_has_the_flag(self) -> bool {
        matches!(self, Way::Dup3Cloexec | Way::ParentSets | Way::ChildClears)
    }
}

/// Descriptors for one file that a child inherits and takes through exec.
#[derive(Clone, Debug)]
struct Legacy {
    ways: Vec<Way>,
    numbers: Numbers,
    of_a_child: bool,
    at: Size,
}

/// Which numbers the descriptors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// Such as any limit allows.
    Small,
    /// About the ends of the words in which a kernel may keep a bit for each.
    OfLaterWords,
}

impl Numbers {
    fn all(self) -> Vec<i32> {
        match self {
            Numbers::Small => (16..32).rev().collect(),
            Numbers::OfLaterWords => vec![64, 63, 128, 127, 65],
        }
    }
}

fn legacies() -> Gen<Legacy> {
    let ways = [Way::Dup2, Way::Dup3Cloexec, Way::ParentSets, Way::ChildSets, Way::ChildClears];
    let legacy = |(ways, numbers, of_a_child, at)| Legacy { ways, numbers, of_a_child, at };
    let some = prop::collection::vec(prop::sample::select(ways.to_vec()), 1..6);
    let numbers = prop::sample::select(vec![Numbers::Small, Numbers::OfLaterWords]);
    let strategy = (some, numbers, any::<bool>(), any_size(0, 3));
    drawn(
        "one to five descriptors, each kept from exec or not in a way of its own; a child or a child's child",
        strategy.prop_map(legacy),
    )
    .also([Numbers::Small, Numbers::OfLaterWords].map(|numbers| Legacy {
        ways: ways.to_vec(),
        numbers,
        of_a_child: false,
        at: Size(3),
    }))
}

/// FD_CLOEXEC is each process's own, and exec closes by it; what stays open is the same open file as the parent's.
fn descriptor_flags_are_its_own(lab: &Lab, legacy: &Legacy) -> Verdict {
    let contents = Data::pattern(2, pages(4));
    let (_, fd) = lab.new_file(&contents)?;
    let mut numbers: Vec<(Fd, Way)> = Vec::new();
    for way in &legacy.ways {
        let taken: Vec<Fd> = numbers.iter().map(|(number, _)| *number).collect();
        let number = lab.free_number(legacy.numbers.all(), &taken)?;
        let cloexec = matches!(way, Way::Dup3Cloexec | Way::ChildClears);
        let made = lab.worker().call(Call::Dup2 { of: fd, onto: number, cloexec });
        if made.outcome().errno() == Some(EBADF) && legacy.numbers == Numbers::OfLaterWords {
            // Beyond the limit.
            return lab.lacking(Lack::Descriptors);
        }
        made.prepared()?;
        if *way == Way::ParentSets {
            lab.fcntl(number, F_SETFD, FD_CLOEXEC as u64).prepared()?;
        }
        numbers.push((number, *way));
    }
    let child = lab.fork()?;
    let child = if legacy.of_a_child { lab.fork_from(child.id(), false)? } else { child };
    for (number, way) in &numbers {
        match way {
            Way::ChildSets => child.fcntl(*number, F_SETFD, FD_CLOEXEC as u64).prepared()?,
            Way::ChildClears => child.fcntl(*number, F_SETFD, 0).prepared()?,
            _ => {}
        }
        child.fcntl(*number, F_GETFD, 0).must_return(u64::from(!way.child_keeps()))?;
        lab.fcntl(*number, F_GETFD, 0).must_return(u64::from(way.parent_has_the_flag()))?;
    }
    lab.lseek(fd, legacy.at.get() as i64, SEEK_SET).prepared()?;
    child.call(Call::ExecSelf).must_succeed()?;
    let mut at = legacy.at;
    for (number, way) in &numbers {
        if way.child_keeps() {
            child.lseek(*number, 0, SEEK_CUR).must_return(at.get() as u64)?;
            child.read(*number, 5).must_hold(&Data::at(2, at, 5))?;
            at += Size(5);
            lab.lseek(fd, 0, SEEK_CUR).must_return(at.get() as u64)?;
        } else {
            child.lseek(*number, 0, SEEK_CUR).must_fail(EBADF)?;
        }
        lab.lseek(*number, 0, SEEK_CUR).must_return(at.get() as u64)?;
    }
    Ok(())
}

fn messages() -> Gen<(Text, bool)> {
    drawn("texts; whether the parent opens before the child has written", (any_text(3), any::<bool>()))
        .also([(Text::Said("---test for shared fd---\n"), false), (Text::Said(""), true)])
}

/// Both open the file after fork; the child writes and ends, the parent reads from the beginning.
fn the_child_writes_and_the_parent_reads(lab: &Lab, text: Text, first: bool) -> Verdict {
    let path = lab.file(&Data::zeros(0))?;
    let child = lab.fork()?;
    let early = if first { Some(lab.open(path, O_RDWR)?) } else { None };
    let written = text.characters();
    let fd = child.open(path, O_RDWR | O_CREAT)?;
    child.write(fd, &written.clone().into()).must_return(written.len() as u64)?;
    child.call(Call::Exit { status: 0 }).must_exit(0)?;
    let fd = match early {
        Some(fd) => fd,
        None => lab.open(path, O_RDWR)?,
    };
    lab.read(fd, written.len() + 1).must_equal(&written)?;
    lab.read(fd, 1).must_equal(&[])
}

//! Making a FIFO: with which mode, over what, and what it looks like.

use libc::{EACCES, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, O_NONBLOCK, O_RDONLY, O_WRONLY};
use proptest::prelude::*;

use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, any_count, drawn, each};
use crate::kernel::call::{Below, Call, Path};
use crate::kernel::data::Data;
use crate::kernel::outcome::Lack;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::stream::Stream;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![create(), listed_as_file(), exists_check()]
}

fn create() -> Claim {
    claim("fifo.create")
        .states("mkfifo makes a FIFO at a path with a mode, given as for open; it returns 0, or -1 with errno.")
        .documents([IPC.at("fifo, function")])
        .holds()
        .basis([
            posix("mkfifo, DESCRIPTION"),
            posix("mkfifo, RETURN VALUE"),
            posix("mkfifo, ERRORS"),
            linux("mkfifo(3), DESCRIPTION"),
            linux("mknod(2), DESCRIPTION"),
        ])
        .part("mode", modes(), mode_less_umask)
        .one_in(2)
        .part("refused", each("what stands in the way", Obstacle::ALL).and(modes()), nothing_created)
        .one_in(4)
}

fn listed_as_file() -> Claim {
    claim("fifo.listed-as-file")
        .states("In a listing a FIFO shows as an ordinary file with - for its type.")
        .documents([IPC.at("fifo, listing")])
        .refuted("Its type is S_IFIFO, which ls shows as p. (Nor does the mode in the listing, 0775, fit a FIFO made with 0664.)")
        .basis([
            posix("<sys/stat.h>, S_IFIFO and S_ISFIFO"),
            posix("ls, STDOUT, file type"),
            linux("fifo(7), NOTES"),
            linux("inode(7), file type and mode"),
        ])
        .for_all(modes().and(drawn("bytes in it", any_count(1)).also([Count::bytes(5)])), |lab, (mode, count)| a_type_of_its_own(lab, mode, count))
}

fn exists_check() -> Claim {
    claim("fifo.exists-check")
        .states("access with F_OK tells whether it has to be created.")
        .documents([IPC.at("fifo, function, listing")])
        .holds()
        .basis([
            posix("access, DESCRIPTION, F_OK"),
            linux("access(2), DESCRIPTION and RETURN VALUE"),
            posix("mkfifo, ERRORS, [EEXIST]"),
        ])
        .for_all(modes(), access_tells)
}

/// The mode asked for, and the umask.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mode {
    mode: u32,
    umask: u32,
}

impl std::fmt::Debug for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mode {:#05o}, umask {:#05o}", self.mode, self.umask)
    }
}

fn modes() -> Gen<Mode> {
    let umask = prop_oneof![2 => prop::sample::select(vec![0_u32, 0o022, 0o077, 0o002, 0o777]), 1 => 0_u32..0o1000];
    let strategy = (0_u32..0o1000, umask).prop_map(|(mode, umask)| Mode { mode, umask });
    let all = [(0o664, 0o022), (0o777, 0), (0o777, 0o022), (0o666, 0o111), (0, 0), (0o777, 0o777)];
    drawn("modes of up to 0777 and umasks", strategy).also(all.map(|(mode, umask)| Mode { mode, umask }))
}

/// The umask is a process's own, and the worker keeps its.
fn with_umask(lab: &Lab, umask: u32) -> Verdict<Actor<'_>> {
    let child = lab.fork()?;
    child.call(Call::Umask { mask: umask }).prepared()?;
    Ok(child)
}

fn mode_less_umask(lab: &Lab, mode: Mode) -> Verdict {
    let child = with_umask(lab, mode.umask)?;
    let path = lab.new_path();
    child.mkfifo(path, mode.mode).must_return(0_u64)?;
    let stat = lab.stat(path).stat()?;
    let expected = libc::S_IFIFO | mode.mode & !mode.umask;
    if stat.mode != expected && stat.mode & libc::S_IFMT == libc::S_IFIFO {
        // A default ACL of the directory has its way with every file.
        let other = lab.new_path();
        let (answer, fd) = child.try_open(other, O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode.mode);
        answer.prepared()?;
        let like_a_file = child.call(Call::Fstat { fd }).stat()?.mode & 0o777;
        if like_a_file != mode.mode & !mode.umask && like_a_file == stat.mode & 0o777 {
            return lab.lacking(Lack::FileSystem);
        }
    }
    lab.must(stat.mode == expected, "S_IFIFO and the mode less the umask", || stat.to_string())?;
    lab.must(stat.size == 0 && stat.links == 1, "an empty file with one name", || stat.to_string())?;
    // The same path again, after the first is gone.
    lab.unlink(path).must_succeed()?;
    child.mkfifo(path, mode.mode).must_return(0_u64)?;
    let again = lab.stat(path).stat()?;
    lab.must(again.mode == stat.mode, "made again it is the same", || again.to_string())
}

/// Why a FIFO cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    FifoThere,
    FileThere,
    DirectoryThere,
    NoDirectory,
    BelowAFile,
    BelowAFifo,
    NoPermission,
    LinkToNothing,
    LinkToItself,
    LongName,
}

impl Obstacle {
    const ALL: [Obstacle; 10] = [
        Obstacle::FifoThere,
        Obstacle::FileThere,
        Obstacle::DirectoryThere,
        Obstacle::NoDirectory,
        Obstacle::BelowAFile,
        Obstacle::BelowAFifo,
        Obstacle::NoPermission,
        Obstacle::LinkToNothing,
        Obstacle::LinkToItself,
        Obstacle::LongName,
    ];

    fn errno(self) -> i32 {
        match self {
            Obstacle::FifoThere | Obstacle::FileThere | Obstacle::DirectoryThere | Obstacle::LinkToNothing => EEXIST,
            Obstacle::NoDirectory => ENOENT,
            Obstacle::BelowAFile | Obstacle::BelowAFifo => ENOTDIR,
            Obstacle::NoPermission => EACCES,
            Obstacle::LinkToItself => ELOOP,
            Obstacle::LongName => ENAMETOOLONG,
        }
    }

    /// Where the FIFO is to be: at the place, or below it.
    fn below(self) -> Below {
        match self {
            Obstacle::LongName => Below::LongName,
            _ if self.errno() == EEXIST => Below::Nothing,
            _ => Below::Name,
        }
    }

    /// The path that the FIFO is to have, or that it is to lie below.
    fn place(self, lab: &Lab) -> Verdict<Path> {
        Ok(match self {
            Obstacle::FifoThere | Obstacle::BelowAFifo => lab.new_fifo()?,
            Obstacle::FileThere | Obstacle::BelowAFile => lab.file(&Data::pattern(2, 5))?,
            Obstacle::NoDirectory => lab.new_path(),
            Obstacle::LinkToNothing | Obstacle::LinkToItself => {
                let path = lab.new_path();
                let target = if self == Obstacle::LinkToItself { path } else { lab.new_path() };
                lab.worker().call(Call::Symlink { target, path }).prepared()?;
                path
            }
            Obstacle::DirectoryThere | Obstacle::NoPermission | Obstacle::LongName => {
                let path = lab.new_path();
                lab.worker().call(Call::Mkdir { path, mode: 0o555 }).prepared()?;
                path
            }
        })
    }
}

fn nothing_created(lab: &Lab, (obstacle, mode): (Obstacle, Mode)) -> Verdict {
    let path = obstacle.place(lab)?;
    let child = with_umask(lab, mode.umask)?;
    if obstacle == Obstacle::NoPermission {
        child.call(Call::DropPrivileges).prepared()?;
    }
    let before = (lab.worker().call(Call::Entries).value()?, lab.stat(path).outcome().clone());
    let answer = child.call(Call::Mkfifo { path, mode: mode.mode, below: obstacle.below() });
    if obstacle == Obstacle::NoPermission && answer.outcome().is_success() {
        // The directory lies where access rights are not kept.
        child.call(Call::Unlink { path }).may(&[Expect::Success, Expect::Refused(libc::EISDIR)])?;
        return lab.lacking(Lack::FileSystem);
    }
    answer.must_fail(obstacle.errno())?;
    let after = (lab.worker().call(Call::Entries).value()?, lab.stat(path).outcome().clone());
    lab.must(before == after, "nothing is created, and what was there is as before", || format!("{}", after.1))
}

fn a_type_of_its_own(lab: &Lab, mode: Mode, count: Count) -> Verdict {
    let path = lab.new_path();
    // The worker has to be able to open it.
    lab.mkfifo(path, mode.mode | 0o600).must_return(0_u64)?;
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    let write = lab.open(path, O_WRONLY | O_NONBLOCK)?;
    let stream = Stream { read, write, path: Some(path) };
    let data = Data::pattern(2, count.of(stream.capacity(lab)?).min(libc::PIPE_BUF));
    lab.write(write, &data).must_take(data.len())?;
    let other = lab.new_path();
    lab.worker().call(Call::Rename { from: path, to: other }).must_succeed()?;
    let seen =
        [lab.stat(other), lab.worker().call(Call::Fstat { fd: read }), lab.worker().call(Call::Fstat { fd: write })];
    for answer in seen {
        let stat = answer.stat()?;
        lab.must(stat.mode & libc::S_IFMT == libc::S_IFIFO, "S_IFIFO, which is not S_IFREG", || stat.to_string())?;
    }
    Ok(())
}

fn access_tells(lab: &Lab, mode: Mode) -> Verdict {
    let path = lab.new_path();
    let access = |path| lab.worker().call(Call::Access { path });
    for _ in 0..2 {
        access(path).must_fail(ENOENT)?;
        lab.mkfifo(path, mode.mode).must_return(0_u64)?;
        access(path).must_return(0_u64)?;
        // mkfifo itself tells as well, without a gap between the question and the deed.
        lab.mkfifo(path, mode.mode).must_fail(EEXIST)?;
        access(path).must_return(0_u64)?;
        let other = lab.new_path();
        lab.worker().call(Call::Rename { from: path, to: other }).must_succeed()?;
        access(path).must_fail(ENOENT)?;
        access(other).must_return(0_u64)?;
        lab.unlink(other).must_succeed()?;
        access(other).must_fail(ENOENT)?;
    }
    // Of the type it says nothing.
    access(lab.file(&Data::zeros(0))?).must_return(0_u64)
}

//! A FIFO as a file: how it is made, what it looks like, how it is opened, and what stays of it.

use libc::{EACCES, EEXIST, EINTR, ENOENT, ENOTDIR, ENXIO, ESPIPE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, SIGUSR1};
use proptest::prelude::*;

use super::streams::{Model, Party, play, require};
use crate::claim::{Claim, IPC, claim, linux, posix, unspecified};
use crate::input::{Count, Gen, any_count, drawn, each, scripts, slots};
use crate::kernel::call::{Call, Disposition, Path};
use crate::kernel::data::Data;
use crate::kernel::outcome::{Lack, Outcome};
use crate::lab::Lab;
use crate::lab::actor::{Actor, Begun};
use crate::lab::expect::Expect;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![
        create(),
        listed_as_file(),
        exists_check(),
        same_calls(),
        not_on_disk(),
        file_remains(),
        open_read_blocks(),
        open_write_blocks(),
    ]
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
        .for_all(modes().and(drawn("bytes in it", any_count(1))), |lab, (mode, count)| a_type_of_its_own(lab, mode, count))
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

fn same_calls() -> Claim {
    claim("fifo.same-calls")
        .states("It is opened like a file and used with the same calls as a pipe.")
        .documents([IPC.at("fifo, overview")])
        .holds()
        .basis([
            posix("read, DESCRIPTION; write, DESCRIPTION"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("mkfifo(3), DESCRIPTION"),
            unspecified("open, DESCRIPTION, O_RDWR"),
        ])
        .part("calls", drawn("scripts", scripts(1, 12)), |lab, script| play(lab, Kind::Fifo, &script, 1))
        .part("open", openings(), opened_like_a_file)
}

fn not_on_disk() -> Claim {
    let contents = (slots(), prop::collection::vec(any_count(2), 1..5));
    claim("fifo.not-on-disk")
        .states("The file has a name but no contents: data lives in kernel memory, and the size stays 0.")
        .documents([IPC.at("fifo, differences"), IPC.at("pipe, features")])
        .holds()
        .basis([
            linux("fifo(7), DESCRIPTION"),
            linux("pipe(7), DESCRIPTION"),
            unspecified("<sys/stat.h>, st_size"),
            posix("close, DESCRIPTION"),
        ])
        .for_all(
            drawn("capacities and writes", contents).also([(Some(2), vec![Count::bytes(5)])]),
            |lab, (slots, writes)| the_size_stays_0(lab, slots, &writes),
        )
}

fn file_remains() -> Claim {
    claim("fifo.file-remains")
        .states("The FIFO's file stays when the processes have ended, and can be used again.")
        .documents([IPC.at("fifo, differences")])
        .holds()
        .basis([
            posix("mkfifo, DESCRIPTION"),
            posix("unlink, DESCRIPTION"),
            posix("close, DESCRIPTION"),
            linux("fifo(7), DESCRIPTION"),
        ])
        .part("used again", reuses(), |lab, reuse| stays_and_works(lab, &reuse))
        .one_in(8)
        .part("one end kept", drawn("unread bytes", any_count(1)).also([Count::bytes(5)]), bytes_stay_with_an_end)
        .part("names", drawn("bytes in it", any_count(1)).also([Count::bytes(5)]), names_come_and_go)
}

fn open_read_blocks() -> Claim {
    claim("fifo.open-read-blocks")
        .states("Opening for reading blocks until some process opens for writing.")
        .documents([IPC.at("fifo, notes")])
        .holds()
        .basis([
            posix("open, DESCRIPTION, O_NONBLOCK, FIFO"),
            linux("fifo(7), DESCRIPTION"),
            linux("signal(7), Interruption of system calls and library functions by signal handlers"),
        ])
        .part("blocks", entries(), |lab, entry| waits_for_the_other_side(lab, O_RDONLY, &entry))
        .one_in(8)
        .part("O_NONBLOCK", each("O_RDONLY so many times", 1_usize..4), reads_need_not_wait)
        .part("given up", each("ways to give up", GivenUp::ALL), |lab, how| leaves_nobody_behind(lab, O_RDONLY, how))
}

fn open_write_blocks() -> Claim {
    claim("fifo.open-write-blocks")
        .states("Opening for writing blocks until some process opens for reading.")
        .documents([IPC.at("fifo, notes")])
        .holds()
        .basis([
            posix("open, DESCRIPTION, O_NONBLOCK, FIFO"),
            posix("open, ERRORS, [ENXIO]"),
            linux("fifo(7), DESCRIPTION"),
        ])
        .part("blocks", entries(), |lab, entry| waits_for_the_other_side(lab, O_WRONLY, &entry))
        .one_in(8)
        .part("O_NONBLOCK", each("flags besides", [0, libc::O_TRUNC, libc::O_APPEND]), enxio_without_a_reader)
        .part("given up", each("ways to give up", GivenUp::ALL), |lab, how| leaves_nobody_behind(lab, O_WRONLY, how))
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
}

impl Obstacle {
    const ALL: [Obstacle; 7] = [
        Obstacle::FifoThere,
        Obstacle::FileThere,
        Obstacle::DirectoryThere,
        Obstacle::NoDirectory,
        Obstacle::BelowAFile,
        Obstacle::BelowAFifo,
        Obstacle::NoPermission,
    ];

    fn errno(self) -> i32 {
        match self {
            Obstacle::FifoThere | Obstacle::FileThere | Obstacle::DirectoryThere => EEXIST,
            Obstacle::NoDirectory => ENOENT,
            Obstacle::BelowAFile | Obstacle::BelowAFifo => ENOTDIR,
            Obstacle::NoPermission => EACCES,
        }
    }

    fn is_above(self) -> bool {
        self.errno() != EEXIST
    }

    /// The path that the FIFO is to have, or that it is to lie below.
    fn place(self, lab: &Lab) -> Verdict<Path> {
        Ok(match self {
            Obstacle::FifoThere | Obstacle::BelowAFifo => lab.new_fifo()?,
            Obstacle::FileThere | Obstacle::BelowAFile => lab.file(&Data::pattern(2, 5))?,
            Obstacle::NoDirectory => lab.new_path(),
            Obstacle::DirectoryThere | Obstacle::NoPermission => {
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
    let answer = child.call(Call::Mkfifo { path, mode: mode.mode, below: obstacle.is_above() });
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

/// How one descriptor or two are opened.
#[derive(Clone, Copy, Debug)]
struct Opening {
    both: bool,
    besides: i32,
    count: Count,
}

fn openings() -> Gen<Opening> {
    let flags = vec![0, libc::O_TRUNC, libc::O_APPEND, libc::O_CREAT, libc::O_TRUNC | libc::O_APPEND | libc::O_CREAT];
    let strategy = (any::<bool>(), prop::sample::select(flags.clone()), any_count(1))
        .prop_map(|(both, besides, count)| Opening { both, besides, count });
    let plain = flags
        .into_iter()
        .flat_map(|besides| [false, true].map(|both| Opening { both, besides, count: Count::bytes(5) }));
    drawn("O_RDWR, or O_RDONLY and O_WRONLY, with flags that matter to regular files, and amounts", strategy)
        .also(plain)
}

fn opened_like_a_file(lab: &Lab, opening: Opening) -> Verdict {
    let path = lab.new_fifo()?;
    let first = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    let write = lab.open(path, O_WRONLY | O_NONBLOCK)?;
    let capacity = Stream { read: first, write, path: Some(path) }.resize(lab, Some(2))?;
    let data = Data::pattern(2, opening.count.of(capacity).min(libc::PIPE_BUF));
    lab.write(write, &data).must_take(data.len())?;
    // Neither a second open nor O_TRUNC takes anything away.
    let (read, again) = match opening.both {
        // Left open by POSIX; on Linux it waits for nobody (fifo(7)).
        true => {
            let fd = lab.open(path, O_RDWR | O_NONBLOCK | opening.besides)?;
            (fd, fd)
        }
        false => (lab.open(path, O_RDONLY | O_NONBLOCK)?, lab.open(path, O_WRONLY | O_NONBLOCK | opening.besides)?),
    };
    lab.unread(read).must_take(data.len())?;
    if !data.is_empty() {
        lab.read(read, data.len()).must_yield(&data)?;
    }
    lab.write(again, &Data::pattern(1, 7)).must_return(7_u64)?;
    lab.lseek(again, 0, libc::SEEK_SET).must_fail(ESPIPE)?;
    lab.poll(first, libc::POLLIN).must_return(libc::POLLIN as u64)?;
    let stat = lab.worker().call(Call::Fstat { fd: again }).stat()?;
    lab.must(stat.mode & libc::S_IFMT == libc::S_IFIFO, "fstat says FIFO", || stat.to_string())?;
    let copy = lab.dup(read)?;
    lab.read(copy, 9).must_equal(&Data::pattern(1, 7).to_vec())?;
    lab.close(copy).must_succeed()
}

fn the_size_stays_0(lab: &Lab, slots: Option<usize>, writes: &[Count]) -> Verdict {
    let stream = Kind::Fifo.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, slots)?;
    let Some(path) = stream.path else { return Ok(()) };
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    for count in writes {
        model.write(lab, &party, *count)?;
        for answer in [lab.stat(path), lab.worker().call(Call::Fstat { fd: stream.read })] {
            let stat = answer.stat()?;
            lab.must(stat.size == 0, "its size stays 0", || stat.to_string())?;
        }
        model.check(lab, &party)?;
    }
    lab.close(stream.read).prepared()?;
    lab.close(stream.write).prepared()?;
    // What nobody read is gone with the last end.
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    lab.unread(read).must_return(0_u64)?;
    lab.read(read, 1).must_hold(&Data::zeros(0))
}

/// Uses of one FIFO after another, each by processes that end.
#[derive(Clone, Debug)]
struct Reuse {
    unread: Vec<Count>,
    by: Leaves,
}

/// How a process leaves a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Closing,
    Exiting,
    Killed,
}

fn reuses() -> Gen<Reuse> {
    let ways = [Leaves::Closing, Leaves::Exiting, Leaves::Killed];
    let strategy = (prop::collection::vec(any_count(1), 1..4), prop::sample::select(ways.to_vec()))
        .prop_map(|(unread, by)| Reuse { unread, by });
    let twice = ways.map(|by| Reuse { unread: vec![Count::bytes(5); 2], by });
    drawn("processes that use it one after the other, and leave bytes behind", strategy).also(twice)
}

fn stays_and_works(lab: &Lab, reuse: &Reuse) -> Verdict {
    let path = lab.new_fifo()?;
    let inode = lab.stat(path).stat()?.inode;
    for count in &reuse.unread {
        let user = lab.fork()?;
        let read = user.open(path, O_RDONLY | O_NONBLOCK)?;
        let write = user.open(path, O_WRONLY | O_NONBLOCK)?;
        let stream = Stream { read, write, path: Some(path) };
        user.unread(read).must_return(0_u64)?;
        let data = Data::pattern(2, count.of(stream.resize(user, Some(2))?).min(libc::PIPE_BUF));
        user.write(write, &data).must_take(data.len())?;
        match reuse.by {
            Leaves::Closing => {
                user.close(read).must_succeed()?;
                user.close(write).must_succeed()?;
            }
            Leaves::Exiting => user.call(Call::Exit { status: 0 }).must_exit(0)?,
            Leaves::Killed => {
                lab.worker().call(Call::Kill { actor: user.id(), signal: libc::SIGKILL }).prepared()?;
                user.call(Call::Exit { status: 0 }).must_die_of(libc::SIGKILL)?;
            }
        }
        lab.worker().call(Call::Access { path }).must_return(0_u64)?;
        let stat = lab.stat(path).stat()?;
        lab.must(stat.inode == inode && stat.links == 1, "it is the same file", || stat.to_string())?;
    }
    Ok(())
}

/// As long as one end is open anywhere, what is unread stays.
fn bytes_stay_with_an_end(lab: &Lab, count: Count) -> Verdict {
    let stream = Kind::Fifo.open_nonblocking(lab)?;
    let Some(path) = stream.path else { return Ok(()) };
    let data = Data::pattern(2, count.of(stream.resize(lab, Some(2))?).clamp(1, libc::PIPE_BUF));
    lab.write(stream.write, &data).must_take(data.len())?;
    lab.close(stream.write).prepared()?;
    lab.unread(stream.read).must_take(data.len())?;
    let again = lab.open(path, O_WRONLY | O_NONBLOCK)?;
    lab.write(again, &Data::pattern(1, 1)).must_return(1_u64)?;
    lab.close(stream.read).prepared()?;
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    lab.read(read, data.len()).must_yield(&data)?;
    lab.read(read, 9).must_yield(&Data::pattern(1, 1))?;
    lab.must(true, "what is unread stays with whichever end is left", String::new)
}

/// Two names are one FIFO, a new one under the old name is another, and without a name it works on.
fn names_come_and_go(lab: &Lab, count: Count) -> Verdict {
    let stream = Kind::Fifo.open_nonblocking(lab)?;
    let Some(path) = stream.path else { return Ok(()) };
    let data = Data::pattern(2, count.of(stream.resize(lab, Some(2))?).clamp(1, libc::PIPE_BUF));
    let (second, third) = (lab.new_path(), lab.new_path());
    let linked = lab.worker().call(Call::Link { from: path, to: second });
    if let Outcome::Refused(libc::EPERM | libc::EOPNOTSUPP) = linked.outcome() {
        return lab.lacking(Lack::FileSystem);
    }
    linked.must_succeed()?;
    lab.worker().call(Call::Rename { from: second, to: third }).must_succeed()?;
    let write = lab.open(third, O_WRONLY | O_NONBLOCK)?;
    lab.write(write, &data).must_take(data.len())?;
    lab.read(stream.read, data.len()).must_yield(&data)?;
    lab.unlink(path).must_succeed()?;
    lab.unlink(third).must_succeed()?;
    lab.write(write, &data).must_take(data.len())?;
    lab.mkfifo(path, 0o600).must_return(0_u64)?;
    let other = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    lab.unread(other).must_return(0_u64)?;
    lab.read(other, 1).must_hold(&Data::zeros(0))?;
    lab.read(stream.read, data.len()).must_yield(&data)?;
    lab.must(true, "two names were one FIFO, and the new one under the old name is another", String::new)
}

/// Something that happens at a FIFO where somebody waits in open, and is not what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knock {
    Look,
    OneMoreWaits,
    SecondName,
    OtherFifo,
    SignalIgnored,
}

/// Who opens the other side at last, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opens {
    Worker,
    Child,
    Peer,
    ReadingAndWriting,
    AndClosesAtOnce,
}

/// One or more processes wait in open.
#[derive(Clone, Debug)]
struct Entry {
    meanwhile: Vec<Knock>,
    opens: Opens,
}

fn entries() -> Gen<Entry> {
    use Knock::{Look, OneMoreWaits, OtherFifo, SecondName, SignalIgnored};
    use Opens::{AndClosesAtOnce, Child, Peer, ReadingAndWriting, Worker};
    let knock = prop::sample::select(vec![Look, OneMoreWaits, SecondName, OtherFifo, SignalIgnored]);
    let all = vec![Worker, Child, Peer, ReadingAndWriting, AndClosesAtOnce];
    let strategy = (prop::collection::vec(knock, 0..4), prop::sample::select(all.clone()))
        .prop_map(|(meanwhile, opens)| Entry { meanwhile, opens });
    let each = all.into_iter().map(|opens| Entry { meanwhile: vec![], opens });
    drawn("processes that wait in open, what does not let them in, and the open of the other side that does", strategy)
        .also(each)
        .also([Entry { meanwhile: vec![Look, OneMoreWaits, OneMoreWaits], opens: Worker }])
}

fn waits_for_the_other_side(lab: &Lab, side: i32, entry: &Entry) -> Verdict {
    let path = lab.new_fifo()?;
    let (opener, other) = (lab.fork()?, if entry.opens == Opens::Peer { lab.peer()? } else { lab.fork()? });
    let mut waiting: Vec<(Actor<'_>, Begun<'_>, crate::kernel::call::Fd)> = Vec::new();
    let (begun, fd) = opener.begin_open(path, side);
    begun.must_block()?;
    waiting.push((opener, begun, fd));
    for knock in &entry.meanwhile {
        match knock {
            Knock::Look => {
                lab.stat(path).prepared()?;
                lab.worker().call(Call::Access { path }).prepared()?;
            }
            Knock::OneMoreWaits => {
                let one_more = lab.fork()?;
                let (begun, fd) = one_more.begin_open(path, side);
                waiting.push((one_more, begun, fd));
            }
            Knock::SecondName => {
                let name = lab.new_path();
                lab.worker().call(Call::Rename { from: path, to: name }).prepared()?;
                lab.worker().call(Call::Rename { from: name, to: path }).prepared()?;
            }
            Knock::OtherFifo => {
                Kind::Fifo.open_nonblocking(lab)?;
            }
            Knock::SignalIgnored => {
                lab.worker().call(Call::Kill { actor: opener.id(), signal: libc::SIGURG }).prepared()?;
            }
        }
        for (_, begun, _) in &waiting {
            begun.must_block()?;
        }
    }
    let counterpart = if side == O_RDONLY { O_WRONLY } else { O_RDONLY };
    let who = if entry.opens == Opens::Child || entry.opens == Opens::Peer { other } else { lab.worker() };
    let mode = if entry.opens == Opens::ReadingAndWriting { O_RDWR } else { counterpart };
    // Somebody waits on the other side: this open does not.
    let opened = match who.id() == lab.worker().id() {
        true => who.open(path, mode | O_NONBLOCK)?,
        false => who.open(path, mode)?,
    };
    if entry.opens == Opens::AndClosesAtOnce {
        who.close(opened).prepared()?;
    }
    let mut inside = Vec::new();
    for (actor, begun, fd) in waiting {
        begun.answer().must_succeed()?;
        inside.push((actor, fd));
    }
    if entry.opens == Opens::AndClosesAtOnce {
        return Ok(());
    }
    // And then bytes pass.
    let byte = Data::pattern(1, 1);
    for (actor, fd) in inside {
        let (writer, write, reader, read) =
            if side == O_RDONLY { (who, opened, actor, fd) } else { (actor, fd, who, opened) };
        writer.write(write, &byte).must_return(1_u64)?;
        reader.read(read, 9).must_equal(&byte.to_vec())?;
    }
    Ok(())
}

fn reads_need_not_wait(lab: &Lab, times: usize) -> Verdict {
    let path = lab.new_fifo()?;
    for _ in 0..times {
        let (answer, read) = lab.try_open(path, O_RDONLY | O_NONBLOCK, 0);
        answer.must_succeed()?;
        // Without a writer there is an end and no waiting, and no writer has hung up.
        lab.read(read, 5).must_hold(&Data::zeros(0))?;
        lab.poll(read, libc::POLLIN).must_return(0_u64)?;
    }
    // Readers that do not wait let a writer in.
    let writer = lab.fork()?;
    let write = writer.open(path, O_WRONLY)?;
    writer.write(write, &Data::pattern(1, 1)).must_return(1_u64)
}

fn enxio_without_a_reader(lab: &Lab, besides: i32) -> Verdict {
    let path = lab.new_fifo()?;
    for _ in 0..3 {
        lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0).0.must_fail(ENXIO)?;
    }
    // What failed is no writer to a reader.
    let reader = lab.fork()?;
    let (begun, read) = reader.begin_open(path, O_RDONLY);
    begun.must_block()?;
    // A reader that still waits in open counts.
    let (answer, write) = lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0);
    answer.must_succeed()?;
    begun.answer().must_succeed()?;
    lab.write(write, &Data::pattern(1, 5)).must_return(5_u64)?;
    lab.close(write).prepared()?;
    reader.read(read, 9).must_equal(&Data::pattern(1, 5).to_vec())?;
    reader.read(read, 9).must_hold(&Data::zeros(0))?;
    // With the reader gone it is as before.
    reader.close(read).prepared()?;
    lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0).0.must_fail(ENXIO)
}

/// How a process that waits in open gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenUp {
    Interrupted,
    Killed,
}

impl GivenUp {
    const ALL: [GivenUp; 2] = [GivenUp::Interrupted, GivenUp::Killed];
}

fn leaves_nobody_behind(lab: &Lab, side: i32, how: GivenUp) -> Verdict {
    let path = lab.new_fifo()?;
    for _ in 0..2 {
        let opener = lab.fork()?;
        opener.signal(SIGUSR1, Disposition::Handle)?;
        let (begun, _) = opener.begin_open(path, side);
        begun.must_block()?;
        let signal = if how == GivenUp::Killed { libc::SIGKILL } else { SIGUSR1 };
        lab.worker().call(Call::Kill { actor: opener.id(), signal }).prepared()?;
        match how {
            GivenUp::Interrupted => begun.answer().must_fail(EINTR)?,
            GivenUp::Killed => begun.answer().must_die_of(libc::SIGKILL)?,
        }
    }
    if side == O_RDONLY {
        // No reader is left that would let a writer in.
        return lab.try_open(path, O_WRONLY | O_NONBLOCK, 0).0.must_fail(ENXIO);
    }
    // No writer is left that would let a reader in, or that a reader would wait for.
    let reader = lab.fork()?;
    let (begun, _) = reader.begin_open(path, O_RDONLY);
    begun.must_block()?;
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    let ended = lab.read(read, 1);
    require(lab, matches!(ended.outcome(), Outcome::Bytes(bytes) if bytes.is_empty()), "the end", || "a wait".into())?;
    lab.must(true, "no writer is left behind", String::new)
}

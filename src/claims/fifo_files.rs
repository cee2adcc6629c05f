//! A FIFO as a file: how it is used, and what stays of it.

use libc::{ESPIPE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};
use proptest::prelude::*;

use super::streams::{Model, Party, play};
use crate::claim::{Claim, IPC, claim, linux, posix, unspecified};
use crate::input::{Count, Gen, any_count, drawn, scripts, slots};
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::outcome::{Lack, Outcome};
use crate::lab::Lab;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![same_calls(), not_on_disk(), file_remains()]
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
    lab.write(write, &data).must_take(data.len())?;
    // A FIFO that is refused takes nothing from the one that is there.
    lab.mkfifo(path, 0o600).must_fail(libc::EEXIST)?;
    lab.unlink(path).must_succeed()?;
    lab.unlink(third).must_succeed()?;
    lab.read(stream.read, data.len()).must_yield(&data)?;
    lab.write(write, &data).must_take(data.len())?;
    lab.mkfifo(path, 0o600).must_return(0_u64)?;
    let other = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    lab.unread(other).must_return(0_u64)?;
    lab.read(other, 1).must_hold(&Data::zeros(0))?;
    lab.read(stream.read, data.len()).must_yield(&data)?;
    lab.must(true, "two names were one FIFO, and the new one under the old name is another", String::new)
}

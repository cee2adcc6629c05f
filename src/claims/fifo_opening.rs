//! Opening a FIFO: who waits for whom, and who does not.

use libc::{EINTR, ENXIO, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, SIGUSR1};
use proptest::prelude::*;

use super::streams::require;
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Gen, drawn, each};
use crate::kernel::call::{Call, Disposition, Path};
use crate::kernel::data::Data;
use crate::kernel::outcome::Outcome;
use crate::lab::Lab;
use crate::lab::actor::{Actor, Begun};
use crate::lab::stream::Kind;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![open_read_blocks(), open_write_blocks()]
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
    used: bool,
    meanwhile: Vec<Knock>,
    opens: Opens,
}

fn entries() -> Gen<Entry> {
    use Knock::{Look, OneMoreWaits, OtherFifo, SecondName, SignalIgnored};
    use Opens::{AndClosesAtOnce, Child, Peer, ReadingAndWriting, Worker};
    let knock = prop::sample::select(vec![Look, OneMoreWaits, SecondName, OtherFifo, SignalIgnored]);
    let all = vec![Worker, Child, Peer, ReadingAndWriting, AndClosesAtOnce];
    let strategy = (any::<bool>(), prop::collection::vec(knock, 0..4), prop::sample::select(all.clone()))
        .prop_map(|(used, meanwhile, opens)| Entry { used, meanwhile, opens });
    let each = all.into_iter().map(|opens| Entry { used: false, meanwhile: vec![], opens });
    drawn("FIFOs, new or used before, processes that wait in open, what does not let them in, and the open of the other side that does", strategy)
        .also(each)
        .also([
            Entry { used: false, meanwhile: vec![Look, OneMoreWaits, OneMoreWaits], opens: Worker },
            Entry { used: true, meanwhile: vec![], opens: Child },
        ])
}

fn waits_for_the_other_side(lab: &Lab, side: i32, entry: &Entry) -> Verdict {
    let path = lab.new_fifo()?;
    if entry.used {
        come_and_go(lab, path)?;
    }
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

/// A writer and a reader have a byte pass, and leave: nobody is there any more.
fn come_and_go(lab: &Lab, path: Path) -> Verdict {
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    let write = lab.open(path, O_WRONLY)?;
    lab.write(write, &Data::pattern(2, 1)).must_return(1_u64)?;
    lab.read(read, 9).must_hold(&Data::pattern(2, 1))?;
    lab.close(write).prepared()?;
    lab.close(read).prepared()
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
    // Nor does one whose reads would wait, where nobody writes.
    let reader = lab.fork()?;
    let read = reader.open(path, O_RDONLY | O_NONBLOCK)?;
    reader.fcntl(read, libc::F_SETFL, 0).prepared()?;
    reader.read(read, 5).must_hold(&Data::zeros(0))?;
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
    lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0).0.must_fail(ENXIO)?;
    // Who has it open for both counts too, in whatever process.
    for (who, flag) in [(lab.worker(), O_NONBLOCK), (reader, 0)] {
        let both = who.open(path, O_RDWR | flag)?;
        let (answer, write) = lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0);
        answer.must_succeed()?;
        lab.close(write).prepared()?;
        who.close(both).prepared()?;
        lab.try_open(path, O_WRONLY | O_NONBLOCK | besides, 0).0.must_fail(ENXIO)?;
    }
    Ok(())
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

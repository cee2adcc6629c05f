//! Claims that are no claims of the documents: right ones, wrong ones, and some that break their worker. They show that the
//! harness sees what it should, are run by tests and by their full names, and are not listed.

use crate::claim::{Claim, DAY8, claim, unspecified};
use crate::input::{each, lengths, once};
use crate::kernel::call::{Call, Fd, Reads};
use crate::kernel::data::Data;
use crate::kernel::names::{PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::actor::answers;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map, SEGV_MAPERR};

/// The planted claims.
pub(super) fn claims() -> Vec<Claim> {
    let mut claims = faults();
    claims.extend(wrong_faults());
    claims.extend(blocking());
    claims.extend(violations());
    claims.extend(several());
    claims.extend(lost_workers());
    claims.push(
        planted("planted.skipped", "Needs what no machine has.").for_all(once(), |lab, ()| lab.lacking(Lack::Dax)),
    );
    claims
}

fn planted(id: &'static str, statement: &'static str) -> Claim {
    claim(id).states(statement).documents([DAY8.at("nowhere")]).basis([unspecified("planted to test the harness")])
}

fn page_of_memory(lab: &Lab) -> Verdict<Map> {
    lab.map(anonymous(pages(1), READ_WRITE, PRIVATE))
}

/// A mapping of two pages of a file of one.
fn half_a_file(lab: &Lab) -> Verdict<Map> {
    let (_, fd) = lab.new_file(&Data::zeros(pages(1)))?;
    lab.map(request(pages(2), READ_WRITE, SHARED, fd))
}

fn faults() -> Vec<Claim> {
    vec![
        planted("planted.unmapped", "What is unmapped is gone.").for_all(once(), |lab, ()| {
            let map = page_of_memory(lab)?;
            lab.unmap(map)?;
            lab.load(map.start(), 3).must_be_unmapped(0)
        }),
        planted("planted.forbidden", "What may only be read takes no store.").for_all(lengths(20), |lab, len| {
            let map = lab.map(anonymous(len, READ_WRITE, PRIVATE))?;
            lab.mprotect(map.start(), map.extent(), READ).must_succeed()?;
            lab.store(map.at(len - 1), &Data::repeat(1, 1)).must_be_forbidden(0)
        }),
        planted("planted.beyond", "Pages beyond the end of the file have nothing behind them.").for_all(
            once(),
            |lab, ()| {
                let map = half_a_file(lab)?;
                lab.load(map.at(pages(1) - 2), 4).must_be_beyond_the_file(2)
            },
        ),
        planted("planted.not-executable", "What is not executable is not executed.").for_all(once(), |lab, ()| {
            let map = page_of_memory(lab)?;
            lab.call(crate::kernel::call::ActorId(0), Call::Execute { at: map.start() }).must_be_forbidden(0)
        }),
    ]
}

fn wrong_faults() -> Vec<Claim> {
    vec![
        planted("planted.wrong-signal", "Wrong: beyond the end of the file is SIGSEGV.").for_all(once(), |lab, ()| {
            let map = half_a_file(lab)?;
            lab.load(map.at(pages(1)), 1).must_be_unmapped(0)
        }),
        planted("planted.wrong-code", "Wrong: a store to what is only read is SEGV_MAPERR.").for_all(
            once(),
            |lab, ()| {
                let map = lab.map(anonymous(pages(1), READ, PRIVATE))?;
                lab.store(map.start(), &Data::repeat(1, 1)).must_fault(libc::SIGSEGV, SEGV_MAPERR, 0)
            },
        ),
        planted("planted.wrong-place", "Wrong: the fault is a byte further on.").for_all(once(), |lab, ()| {
            let map = lab.map(anonymous(pages(1), READ, PRIVATE))?;
            lab.store(map.start(), &Data::repeat(1, 4)).must_be_forbidden(1)
        }),
        planted("planted.no-fault", "Wrong: memory that may be read cannot be.").for_all(once(), |lab, ()| {
            let map = page_of_memory(lab)?;
            lab.load(map.start(), 1).must_be_forbidden(0)
        }),
    ]
}

fn blocking() -> Vec<Claim> {
    vec![
        planted("planted.blocked", "A read of an empty pipe waits for a write.").for_all(once(), |lab, ()| {
            let (read, write) = lab.pipe(0)?;
            let child = lab.fork()?;
            let waiting = child.begin(Call::Read { fd: read, len: 10 });
            waiting.must_block()?;
            lab.write(write, &"hello".into()).must_return(5_u64)?;
            waiting.answer().must_hold(&"hello".into())
        }),
        planted("planted.never-blocked", "Wrong: a write into an empty pipe waits.").for_all(once(), |lab, ()| {
            let (_, write) = lab.pipe(0)?;
            let child = lab.fork()?;
            child.begin(Call::Write { fd: write, data: "hello".into() }).must_block()
        }),
        planted("planted.stays-blocked", "Wrong: a read of an empty pipe returns.").for_all(once(), |lab, ()| {
            let (read, _) = lab.pipe(0)?;
            let child = lab.fork()?;
            child.read(read, 5).must_hold(&"hello".into())
        }),
    ]
}

/// Violations behind what several processes have done.
fn several() -> Vec<Claim> {
    vec![
        planted("planted.killed", "Wrong: what a killed process wrote goes with it.").for_all(once(), |lab, ()| {
            let (read, write) = lab.pipe(0)?;
            let child = lab.fork()?;
            let grandchild = lab.fork_from(child.id(), true)?;
            grandchild.write(write, &"hello".into()).must_return(5_u64)?;
            grandchild.kill()?;
            child.kill()?;
            lab.close(write).prepared()?;
            lab.read(read, 5).must_equal(&[])
        }),
        planted("planted.in-a-row", "Wrong: of what is written in a row the first byte is lost.").for_all(
            once(),
            |lab, ()| {
                let (read, write) = lab.pipe(0)?;
                let (writer, reader) = (lab.fork()?, lab.fork()?);
                let begin = |word: &str| writer.begin(Call::Write { fd: write, data: word.into() });
                let begun = ["one", "two", "two"].map(begin).into();
                let reads = Reads { sizes: vec![2], often: 1, then: 3, unit: 1, most: 9 };
                let seen = reader.call(Call::ReadAll { fd: read, reads });
                for answer in answers(begun) {
                    answer.must_return(3_u64)?;
                }
                seen.must_equal(b"netwotwo")
            },
        ),
    ]
}

fn violations() -> Vec<Claim> {
    vec![
        planted("planted.length", "Wrong: no mapping has 3 pages or more.").for_all(lengths(20), |lab, len| {
            lab.map(anonymous(len, READ, PRIVATE))?;
            lab.must(len < pages(3), "it has less than 3 pages", || len.to_string())
        }),
        planted("planted.named", "Wrong: 5 is no number.").for_all(each("numbers", [4, 5, 6]), |lab, number| {
            lab.must(number != 5, "it is not 5", || number.to_string())
        }),
        planted(
            "planted.store",
            "Wrong: a store of two pages or more through a shared mapping does not reach the file.",
        )
        .qualified("true of this wrong claim only")
        .for_all(lengths(20), lost_store),
    ]
}

fn lost_store(lab: &Lab, len: Size) -> Verdict {
    let (before, stored) = (Data::pattern(0, len), Data::pattern(1, len));
    let (_, fd) = lab.new_file(&before)?;
    let map = lab.map(request(len, READ_WRITE, SHARED, fd))?;
    lab.store(map.start(), &stored).must_succeed()?;
    lab.pread(fd, len, Size::ZERO).must_hold(if len < pages(2) { &stored } else { &before })
}

fn lost_workers() -> Vec<Claim> {
    vec![
        planted("planted.dies", "Wrong: there is something behind a mapping of two pages or more.").for_all(
            lengths(20),
            |lab, len| {
                let map = lab.map(anonymous(len, READ_WRITE, PRIVATE))?;
                if len >= pages(2) {
                    lab.munmap(map.start(), len).must_succeed()?;
                    lab.unguarded()?;
                    lab.load(map.start(), 2).must_succeed()?;
                }
                Ok(())
            },
        ),
        planted("planted.hangs", "Wrong: a read of an empty pipe returns, in the worker itself.").for_all(
            once(),
            |lab, ()| {
                let (read, _) = lab.pipe(0)?;
                lab.read(read, 1).must_return(1_u64)
            },
        ),
        planted("planted.spins", "Goes on for ever, and makes no call.").for_all(once(), |_, ()| {
            while std::hint::black_box(true) {
                std::hint::spin_loop();
            }
            Ok(())
        }),
        planted("planted.leaves", "Ends its worker as if all were well.")
            .for_all(once(), |_, ()| std::process::exit(0)),
        planted("planted.lies", "Says what no worker says.").for_all(once(), |lab, ()| {
            const CHANNEL: usize = 3;
            let number = std::env::args().nth(CHANNEL).and_then(|word| word.parse().ok()).unwrap_or(-1);
            lab.write(Fd::Number(number), &Data::repeat(0x55, 64)).must_succeed()
        }),
        planted("planted.panics", "Is a mistake of the suite's own.").for_all(once(), |_, ()| panic!("planted")),
    ]
}

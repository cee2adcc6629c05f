//! Programs that have nothing in common but a file.

use libc::{EACCES, O_RDONLY, O_RDWR};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, SHM, claim, linux, posix, unspecified};
use crate::input::*;
use crate::kernel::call::{At, Call, Width};
use crate::kernel::data::Data;
use crate::kernel::names::{PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::{Actor, answers};
use crate::lab::answer::Answer;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![
        same_file(),
        read_only_reader(),
        private_writer(),
        non_blocking(),
        no_synchronisation(),
        plain_file(),
        common_kernel_space(),
    ]
}

fn same_file() -> Claim {
    claim("peer.same-file")
        .states("Unrelated processes that map one file with MAP_SHARED exchange data through it.")
        .documents([
            DAY8.at("unrelated"),
            SHM.at("intro"),
            IPC.at("unrelated processes"),
            MAPIO.at("first listing, comment"),
        ])
        .holds()
        .basis([posix("mmap, DESCRIPTION, MAP_SHARED"), linux("mmap(2), MAP_SHARED")])
        .for_all(
            drawn("files, and three programs that map windows of their own on them", any_meeting(20, 3))
                .also_long([Meeting::of_pages(many_pages())])
                .and(drawn("whether each knows the file by a name of its own", any::<bool>()).also([false, true])),
            |lab, (meeting, named_apart)| {
                let path = lab.file(&meeting.windows[0].file())?;
                let mut seats = Vec::new();
                for (index, window) in meeting.windows.iter().enumerate() {
                    let peer = lab.peer()?;
                    let mut name = path;
                    if named_apart && index > 0 {
                        name = lab.new_path();
                        lab.link(path, name).prepared()?;
                    }
                    let fd = peer.open(name, O_RDWR)?;
                    seats.push((peer, peer.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?));
                    peer.close(fd).prepared()?;
                }
                let file = meeting.hold(lab, &seats, |_| true)?;
                let fd = lab.open(path, O_RDONLY)?;
                lab.pread(fd, meeting.size(), 0).must_equal(&file)
            },
        )
        .one_in(8)
}

fn read_only_reader() -> Claim {
    claim("peer.reader-rdonly")
        .states("A writer with O_RDWR and a reader with O_RDONLY and PROT_READ are enough; the reader sees each record that the writer puts there.")
        .documents([DAY8.at("unrelated")])
        .holds()
        .basis([posix("mmap, ERRORS, [EACCES]"), posix("mmap, DESCRIPTION, MAP_SHARED"), linux("mmap(2), MAP_SHARED")])
        .for_all(records(), |lab, records| each_record_is_seen(lab, &records))
        .one_in(4)
}

fn private_writer() -> Claim {
    claim("peer.private-does-not-reach")
        .states(
            "Sharing takes MAP_SHARED: of what is stored to a mapping with MAP_PRIVATE other processes see nothing.",
        )
        .documents([DAY8.at("unrelated"), IPC.at("mmap, flags")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, MAP_PRIVATE"), linux("mmap(2), MAP_PRIVATE")])
        .for_all(
            drawn("files, and three programs that map windows of their own on them", any_meeting(20, 3))
                .also_long([Meeting::of_pages(many_pages())]),
            |lab, meeting| stores_stay_with_their_maker(lab, &meeting),
        )
        .one_in(8)
}

fn non_blocking() -> Claim {
    claim("peer.non-blocking")
        .states("Communication through a mapping does not block: who reads too early reads the old bytes.")
        .documents([
            IPC.at("mmap, note on non-blocking"),
            IPC.at("anonymous, comment in the listing"),
            MAPIO.at("intro"),
        ])
        .holds()
        .basis([posix("mmap, APPLICATION USAGE"), linux("mmap(2), DESCRIPTION")])
        .for_all(
            drawn("windows on files, loads before and after each of some stores", turns()),
            |lab, (window, edits)| who_comes_early_reads_what_was_there(lab, window, &edits),
        )
        .one_in(8)
}

fn no_synchronisation() -> Claim {
    claim("peer.no-synchronisation")
        .states("Shared memory brings no synchronisation of its own; it has to be added.")
        .documents([SHM.at("end")])
        .holds()
        .basis([
            posix("mmap, APPLICATION USAGE"),
            unspecified("mmap, DESCRIPTION, synchronisation objects in a mapping"),
        ])
        .part("without any", additions(1), |lab, input| the_last_store_wins(lab, &input))
        .one_in(16)
        .part("with atomic additions", additions(6000), |lab, input| {
            nothing_is_lost(lab, &input, |at, add| Call::FetchAdd { at, add, times: input.times })
        })
        .one_in(16)
        .part("with a lock in the mapping", additions(1000), |lab, input| {
            nothing_is_lost(lab, &input, |at, add| Call::LockedAdd { lock: at.plus(4), at, add, times: input.times })
        })
        .one_in(16)
}

fn plain_file() -> Claim {
    claim("peer.plain-file")
        .states("Unrelated processes can also use the file itself, with read and write.")
        .documents([DAY8.at("end")])
        .holds()
        .basis([posix("write, DESCRIPTION, on a later read()"), posix("write, RATIONALE, on proven order")])
        .for_all(
            drawn(
                "files, and what a worker and three programs do with descriptors of their own",
                any_file_script(Origin::Opened),
            )
            .also(plain_file_scripts(Origin::Opened)),
            |lab, script| script.play(lab),
        )
        .one_in(4)
}

fn common_kernel_space() -> Claim {
    claim("peer.kernel-space-common")
        .states("Unrelated processes can share because kernel space is common to all of them.")
        .documents([DAY8.at("unrelated"), DAY8.at("end")])
        .unobservable("It explains and does not describe behaviour: no program can tell what makes sharing possible. What is shared are pages of the page cache, mapped into the user space of each.")
        .basis([unspecified("POSIX does not say how a system provides sharing"), linux("linux 7.2, mm/filemap.c, filemap_fault()")])
}

/// Records that are put to one place in a file, one after another.
#[derive(Clone, Debug)]
struct Records {
    window: Window,
    at: Size,
    len: Size,
    count: usize,
}

fn records() -> Gen<Records> {
    let window = (any_window(20), 0.0..1.0_f64, any_size(1, 2), 1..8_usize);
    let strategy = window.prop_map(|(window, at, len, count)| {
        let at = place_in(window.len, at);
        Records { window, at, len: len.min(window.len - at), count }
    });
    drawn("windows on files, and records that are put to one place there", strategy)
}

fn each_record_is_seen(lab: &Lab, records: &Records) -> Verdict {
    let Records { window, at, len, count } = *records;
    let path = lab.file(&window.file())?;
    let (writer, reader) = (lab.peer()?, lab.peer()?);
    let (fd, read_only) = (writer.open(path, O_RDWR)?, reader.open(path, O_RDONLY)?);
    let put = writer.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))?;
    let args = request(window.len, READ, SHARED, read_only).offset(window.offset);
    let seen = reader.map(args)?;
    let mut view = window.view().to_vec();
    for number in 0..count {
        let record = Data::pattern(2 * number as u32 + 1, len);
        writer.store(put.at(at), &record).prepared()?;
        record.fill(&mut view[at.get()..(at + len).get()]);
        reader.load(seen.at(at), len).must_hold(&record)?;
    }
    reader.load(seen.start(), window.len).must_equal(&view)?;
    reader.mmap(args.prot(READ_WRITE)).must_fail(EACCES)?;
    reader.mprotect(seen.start(), window.len, READ_WRITE).must_fail(EACCES)?;
    reader.store(seen.at(at), &Data::repeat(1, 1)).must_be_forbidden(0)?;
    writer.load(put.start(), window.len).must_equal(&view)
}

/// Those who store have private mappings, the others shared ones: each sees its own stores, and nobody another's, then and after all is over.
fn stores_stay_with_their_maker(lab: &Lab, meeting: &Meeting) -> Verdict {
    let path = lab.file(&meeting.windows[0].file())?;
    let mut seats: Vec<(Actor<'_>, Map)> = Vec::new();
    for (index, window) in meeting.windows.iter().enumerate() {
        let stores = meeting.stores.iter().any(|(who, _)| *who == index);
        let peer = lab.peer()?;
        let fd = peer.open(path, O_RDWR)?;
        let sharing = if stores { PRIVATE } else { SHARED };
        seats.push((peer, peer.map(request(window.len, READ_WRITE, sharing, fd).offset(window.offset))?));
    }
    let file = meeting.hold(lab, &seats, |_| false)?;
    for (index, (peer, map)) in seats.into_iter().enumerate() {
        match index {
            0 if meeting.stores.iter().any(|(who, _)| *who == 0) => {
                peer.msync(map.start(), map.len, libc::MS_SYNC).must_succeed()?;
            }
            1 => peer.unmap(map)?,
            _ => peer.call(Call::Exit { status: 0 }).must_exit(0)?,
        }
    }
    let fd = lab.open(path, O_RDONLY)?;
    lab.pread(fd, meeting.size(), 0).must_equal(&file)
}

fn turns() -> impl Strategy<Value = (Window, Vec<Edit>)> {
    any_window(20).prop_flat_map(|window| (Just(window), edits_within(window.len, 4)))
}

/// The reader's loads come back while the writer does nothing: old bytes before the store, new ones after it, as often as it likes.
fn who_comes_early_reads_what_was_there(lab: &Lab, window: Window, edits: &[Edit]) -> Verdict {
    let path = lab.file(&window.file())?;
    let (writer, reader) = (lab.peer()?, lab.peer()?);
    let map = |peer: Actor<'_>| {
        let fd = peer.open(path, O_RDWR)?;
        peer.map(request(window.len, READ_WRITE, SHARED, fd).offset(window.offset))
    };
    let (to, from) = (map(writer)?, map(reader)?);
    let mut view = window.view().to_vec();
    for edit in edits {
        for _ in 0..2 {
            let early = reader.begin(Call::Load { at: from.start(), len: window.len.get() });
            early.answer().must_equal(&view)?;
        }
        writer.store(to.at(edit.at), &edit.data).prepared()?;
        edit.apply(&mut view);
    }
    reader.load(from.start(), window.len).must_equal(&view)
}

/// Programs that add to one word of a file, each its own number.
#[derive(Clone, Debug)]
struct Additions {
    page: usize,
    word: usize,
    first: u32,
    adds: Vec<u32>,
    times: u32,
    backwards: bool,
}

impl Additions {
    fn at(&self) -> Size {
        pages(self.page) + self.word * 8
    }
}

/// At most so many additions by each.
fn additions(most: u32) -> Gen<Additions> {
    const WORDS: usize = 256;
    let words = prop_oneof![Just(0), Just(WORDS - 1), 0..WORDS];
    let strategy =
        (0..3_usize, words, 0..1_000_000_u32, prop::collection::vec(1..10_u32, 2..5), 1..=most, any::<bool>());
    let make = |(page, word, first, adds, times, backwards)| Additions { page, word, first, adds, times, backwards };
    drawn("two to four programs that add to one word of a file; so many times", strategy.prop_map(make))
}

/// Started apart, each with the file mapped; the word holds the first value.
fn adders<'l>(lab: &'l Lab, input: &Additions) -> Verdict<(Map, Vec<(Actor<'l>, Map)>)> {
    let (path, fd) = lab.new_file(&Data::zeros(pages(3)))?;
    let own = lab.map(request(pages(3), READ_WRITE, SHARED, fd))?;
    lab.store_word(own.at(input.at()), Width::Four, u64::from(input.first)).prepared()?;
    let mut adders = Vec::new();
    for _ in &input.adds {
        let peer = lab.peer()?;
        let fd = peer.open(path, O_RDWR)?;
        adders.push((peer, peer.map(request(pages(3), READ_WRITE, SHARED, fd))?));
    }
    Ok((own, adders))
}

/// All load, then all store: each store undoes the one before, and only the last addition is left.
fn the_last_store_wins(lab: &Lab, input: &Additions) -> Verdict {
    let (own, adders) = adders(lab, input)?;
    let first = u64::from(input.first);
    for (peer, map) in &adders {
        peer.load_word(map.at(input.at()), Width::Four).must_be(first)?;
    }
    let mut order: Vec<_> = adders.iter().zip(&input.adds).collect();
    if input.backwards {
        order.reverse();
    }
    for ((peer, map), add) in order {
        let sum = first + u64::from(*add);
        peer.store_word(map.at(input.at()), Width::Four, sum).prepared()?;
        lab.load_word(own.at(input.at()), Width::Four).must_be(sum)?;
    }
    Ok(())
}

/// All add at the same time, as often as they are told to: every addition counts.
fn nothing_is_lost(lab: &Lab, input: &Additions, addition: impl Fn(At, u32) -> Call) -> Verdict {
    let (own, adders) = adders(lab, input)?;
    let gate = |map: Map| map.end().minus(8);
    lab.store_word(gate(own), Width::Four, 1).prepared()?;
    let mut begun = Vec::new();
    for ((peer, map), add) in adders.iter().zip(&input.adds) {
        let (lock, at) = (gate(*map), gate(*map).plus(4));
        begun.push(peer.begin(Call::LockedAdd { lock, at, add: 1, times: 1 }));
        begun.push(peer.begin(addition(map.at(input.at()), *add)));
    }
    lab.store_word(gate(own), Width::Four, 0).prepared()?;
    answers(begun).into_iter().try_for_each(Answer::prepared)?;
    let sum: u32 = input.adds.iter().sum();
    lab.load_word(own.at(input.at()), Width::Four).must_be(u64::from(input.first + sum * input.times))
}

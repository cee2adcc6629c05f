//! The documents' programs on records and whole files, and what a tracer shows of them.

use libc::{EINVAL, ENOENT, MS_SYNC, O_CREAT, O_RDONLY, O_RDWR, SEEK_END, SEEK_SET, SIGSYS};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, Depends, IPC, MAPIO, claim, linux, posix, unspecified};
use crate::input::*;
use crate::kernel::call::{Call, Confinement, Fd, Path, Width};
use crate::kernel::data::Data;
use crate::kernel::names::{PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![counter_records(), file_copy(), strace_uses_mmap()]
}

fn counter_records() -> Claim {
    claim("program.counter-records")
        .states("A writer keeps rewriting a record with a rising id, a reader prints it: the ids that are read never fall.")
        .documents([DAY8.at("unrelated")])
        .qualified("It holds for an id that is stored and loaded in one access. Where it is copied byte by byte, a reader can catch half of it (255, then 0 or 511, then 256), and in any case the id of one record with the name of another.")
        .basis([
            posix("mmap, APPLICATION USAGE"),
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            unspecified("POSIX does not promise that plain stores of several bytes are seen as a whole"),
        ])
        .part("in turns", ids(), |lab, start| {
            let (writer, reader) = record(lab)?;
            for id in start..start + 4 {
                stores_id(writer, id)?;
                writer.0.store(writer.1.at(4), &Data::at(id, 4, RECORD - 4)).prepared()?;
                reader.0.load(reader.1.start(), RECORD).must_equal(&record_of(id))?;
            }
            Ok(())
        })
        .one_in(16)
        .part("at the same time", ids(), ids_do_not_fall)
        .one_in(16)
        .part("byte by byte", torn(), |lab, (id, lowest_first)| half_an_id(lab, id, lowest_first))
        .one_in(16)
        .depends_on([Depends::Machine])
        .part("field by field", ids(), |lab, id| {
            let (writer, reader) = record(lab)?;
            let name = Data::at(id, 4, RECORD - 4);
            stores_id(writer, id)?;
            writer.0.store(writer.1.at(4), &name).prepared()?;
            stores_id(writer, id + 1)?;
            reader.0.load_word(reader.1.start(), Width::Four).must_be(u64::from(id + 1))?;
            reader.0.load(reader.1.at(4), RECORD - 4).must_hold(&name)
        })
        .one_in(16)
}

fn file_copy() -> Claim {
    claim("program.file-copy")
        .states("A file is copied by mapping source and target and copying memory, with an empty source treated apart.")
        .documents([IPC.at("copy"), MAPIO.at("copy")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("mmap, ERRORS, [EINVAL]"),
            posix("ftruncate, DESCRIPTION"),
            posix("msync, DESCRIPTION"),
            linux("mmap(2), MAP_SHARED"),
        ])
        .part("opened for reading only", copies(), |lab, copy| {
            let (source, target, copier) = copy.files(lab)?;
            let (from, to) = (copier.open(source, O_RDONLY)?, copier.open(target, O_RDWR | O_CREAT)?);
            lab.must(copier.size(from)? == copy.size, "the size is the source's", String::new)?;
            copier.ftruncate(to, copy.size).must_succeed()?;
            let maps = (
                copier.map(request(copy.size, READ, SHARED, from))?,
                copier.map(request(copy.size, READ_WRITE, SHARED, to))?,
            );
            copy.memory(copier, maps)?;
            if copy.synced {
                copier.msync(maps.1.start(), copy.size, MS_SYNC).must_succeed()?;
            }
            copy.must_be_done(lab, copier, (source, target), maps)
        })
        .one_in(8)
        .part("opened for both, with a blank in front", copies(), |lab, copy| {
            let (source, target, copier) = copy.files(lab)?;
            let from = copier.open(source, O_RDWR)?;
            copier.lseek(from, 0, SEEK_END).must_return(copy.size.get() as u64)?;
            let to = copier.open(target, O_RDWR | O_CREAT)?;
            copier.truncate(target, copy.size).must_succeed()?;
            copier.write(to, &" ".into()).must_return(1_u64)?;
            let map = |fd: Fd| copier.map(request(copy.size, READ_WRITE, SHARED, fd));
            let maps = (map(from)?, map(to)?);
            copy.memory(copier, maps)?;
            copy.must_be_done(lab, copier, (source, target), maps)
        })
        .one_in(8)
        .part("an empty source", drawn("what the target held before", any_size(0, 3)), |lab, before| {
            let (source, target) = (lab.file(&Data::zeros(0))?, lab.file(&Data::pattern(4, before))?);
            let copier = lab.peer()?;
            let (from, to) = (copier.open(source, O_RDWR)?, copier.open(target, O_RDWR | O_CREAT)?);
            lab.must(copier.size(from)? == Size::ZERO, "the source is empty", String::new)?;
            copier.truncate(target, 0).must_succeed()?;
            copier.write(to, &" ".into()).must_return(1_u64)?;
            copier.mmap(request(0, READ_WRITE, SHARED, from)).must_fail(EINVAL)?;
            copier.mmap(request(0, READ_WRITE, SHARED, to)).must_fail(EINVAL)?;
            lab.pread(lab.open(target, O_RDONLY)?, 2, 0).must_hold(&" ".into())
        })
        .one_in(8)
}

fn strace_uses_mmap() -> Claim {
    claim("program.strace-uses-mmap")
        .states("Underneath, open, read and write all use mmap.")
        .documents([DAY8.at("strace")])
        .refuted("They are system calls of their own, and work in a process that may not call mmap. The calls of mmap that a tracer shows are the program loader's, and now and then those of stdio or malloc.")
        .basis([
            unspecified("open, read and write: POSIX describes none of them by mmap"),
            linux("read(2) and write(2), DESCRIPTION"),
            linux("execve(2), on the interpreter"),
            linux("seccomp(2)"),
        ])
        .for_all(drawn("files written and read page by page", (any_size(1, 20), content_seed())), |lab, (size, contents)| {
            let process = lab.fork()?;
            // Once before, so that the process has all the memory that it takes.
            writes_and_reads(process, lab.new_path(), size, contents)?;
            process.call(Call::Confine(Confinement::NoMmap)).prepared()?;
            writes_and_reads(process, lab.new_path(), size, contents)?;
            process.mmap(anonymous(size, READ, PRIVATE)).must_die_of(SIGSYS)
        })
        .one_in(4)
}

/// The document's record: an id of four bytes, a name of twenty, one letter, and three bytes of padding.
const RECORD: usize = 28;

fn record_of(id: u32) -> Vec<u8> {
    let mut record = Data::at(id, 0, RECORD).to_vec();
    record[..4].copy_from_slice(&id.to_ne_bytes());
    record
}

/// Ids to begin with: small ones, and those before one or more bytes carry over.
fn ids() -> Gen<u32> {
    let carries = (8..24_u32, 0..5_u32).prop_map(|(power, before)| (1 << power) - before);
    drawn("ids to begin with, from small ones to those with three bytes", prop_oneof![1..1000_u32, carries])
        .also([10, 254, 65534])
}

/// A writer and a reader, programs of their own, with the file of one record mapped as the document's are.
fn record(lab: &Lab) -> Verdict<((Actor<'_>, Map), (Actor<'_>, Map))> {
    let (path, writer, reader) = (lab.new_path(), lab.peer()?, lab.peer()?);
    let fd = writer.open(path, O_RDWR | O_CREAT)?;
    writer.ftruncate(fd, RECORD).prepared()?;
    let to = writer.map(request(RECORD, READ_WRITE, SHARED, fd))?;
    let fd = reader.open(path, O_RDONLY)?;
    Ok(((writer, to), (reader, reader.map(request(RECORD, READ, SHARED, fd))?)))
}

fn stores_id((writer, map): (Actor<'_>, Map), id: u32) -> Verdict {
    writer.store_word(map.start(), Width::Four, u64::from(id)).prepared()
}

/// The writer counts as fast as it can, the reader loads meanwhile.
fn ids_do_not_fall(lab: &Lab, start: u32) -> Verdict {
    const COUNT: u32 = 3000;
    const LOOKS: usize = 12;
    let ((writer, to), (reader, from)) = record(lab)?;
    stores_id((writer, to), start)?;
    let counting = writer.begin(Call::FetchAdd { at: to.start(), add: 1, times: COUNT });
    let mut last = u64::from(start);
    for _ in 0..LOOKS {
        let seen = reader.load_word(from.start(), Width::Four).value()?;
        if seen < last || seen > u64::from(start + COUNT) {
            lab.must(false, "an id that is not below the one before", || format!("{seen} after {last}"))?;
        }
        last = seen;
    }
    counting.answer().prepared()?;
    reader.load_word(from.start(), Width::Four).must_be(u64::from(start + COUNT))
}

/// Ids before a carry, and which byte is stored first.
fn torn() -> Gen<(u32, bool)> {
    let before = prop_oneof![3 => (8..31_u32).prop_map(|power| (1_u32 << power) - 1), 1 => 1..1_u32 << 30];
    drawn("ids that the next one follows, and whether the lowest byte is stored first", (before, any::<bool>())).also([
        (255, true),
        (255, false),
        (65535, true),
        (10, true),
    ])
}

/// The writer stores the next id byte by byte, the reader loads after each: what it sees has some bytes of either, and may be less than before.
fn half_an_id(lab: &Lab, id: u32, lowest_first: bool) -> Verdict {
    let (writer, reader) = record(lab)?;
    stores_id(writer, id)?;
    let mut seen = vec![id];
    for step in 0..4 {
        let significance = if lowest_first { step } else { 3 - step };
        let at = if cfg!(target_endian = "little") { significance } else { 3 - significance };
        let mask = 0xff << (8 * significance);
        let next = seen[step] & !mask | (id + 1) & mask;
        writer.0.store(writer.1.at(at), &vec![(next >> (8 * significance)) as u8].into()).prepared()?;
        reader.0.load_word(reader.1.start(), Width::Four).must_be(u64::from(next))?;
        seen.push(next);
    }
    let (falls, carries) = (seen.windows(2).any(|pair| pair[0] > pair[1]), id & 0xff == 0xff);
    lab.must(falls == carries, "ids fall where a byte carries over, and nowhere else", || format!("{seen:?}"))
}

/// A file to copy, what the target held before, and in how many pieces.
#[derive(Clone, Copy, Debug)]
struct Copy {
    size: Size,
    before: Option<Size>,
    pieces: usize,
    contents: u32,
    synced: bool,
}

fn copies() -> Gen<Copy> {
    let size = prop_oneof![20 => any_size(1, 20), 1 => any_size(1, 300)];
    let before = prop_oneof![1 => Just(None), 2 => any_size(0, 6).prop_map(Some)];
    let make = |(size, before, pieces, contents, synced)| Copy { size, before, pieces, contents, synced };
    let strategy = (size, before, 1..5_usize, content_seed(), prop::bool::weighted(0.2)).prop_map(make);
    drawn("files, what the target held before, if there was one, and copies in one piece or several", strategy)
        .also([make((pages(4), Some(pages(3)), 2, 2, true))])
}

impl Copy {
    fn source(&self) -> Data {
        Data::pattern(self.contents, self.size)
    }

    fn files<'l>(&self, lab: &'l Lab) -> Verdict<(Path, Path, Actor<'l>)> {
        let target = match self.before {
            Some(before) => lab.file(&Data::pattern(1, before))?,
            None => lab.new_path(),
        };
        Ok((lab.file(&self.source())?, target, lab.peer()?))
    }

    /// memcpy(3), in pieces.
    fn memory(&self, copier: Actor<'_>, (from, to): (Map, Map)) -> Verdict {
        let piece = self.size.get().div_ceil(self.pieces);
        for at in (0..self.size.get()).step_by(piece) {
            let data = Data::at(self.contents, at, piece.min(self.size.get() - at));
            copier.load(from.at(at), data.len()).must_hold(&data)?;
            copier.store(to.at(at), &data).must_succeed()?;
        }
        Ok(())
    }

    fn must_be_done(&self, lab: &Lab, copier: Actor<'_>, (source, target): (Path, Path), maps: (Map, Map)) -> Verdict {
        copier.unmap(maps.1)?;
        copier.unmap(maps.0)?;
        copier.call(Call::Exit { status: 0 }).must_exit(0)?;
        for path in [source, target] {
            let fd = lab.open(path, O_RDONLY)?;
            lab.read(fd, self.size + 1).must_hold(&self.source())?;
        }
        Ok(())
    }
}

/// Creates a file, writes it page by page, goes back and reads it.
fn writes_and_reads(process: Actor<'_>, path: Path, size: Size, contents: u32) -> Verdict {
    let (answer, _) = process.try_open(path, O_RDONLY, 0);
    answer.must_fail(ENOENT)?;
    let fd = process.open(path, O_RDWR | O_CREAT)?;
    let pieces = || (0..size.in_pages()).map(|page| Data::at(contents, pages(page), pages(1).min(size - pages(page))));
    for piece in pieces() {
        process.write(fd, &piece).must_return(piece.len() as u64)?;
    }
    process.lseek(fd, 0, SEEK_SET).must_return(0_u64)?;
    for piece in pieces() {
        process.read(fd, piece.len()).must_hold(&piece)?;
    }
    process.read(fd, 1).must_equal(&[])?;
    process.close(fd).must_succeed()
}

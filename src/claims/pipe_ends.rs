//! The two ends of a pipe: which is which, and what they are and are not.

use std::fmt;

use libc::{EBADF, EFAULT, EINVAL, EMFILE, ENODEV, ESPIPE};
use proptest::prelude::*;

use super::streams::{OnBoth, require};
use crate::claim::{Claim, IPC, claim, linux, posix, unspecified};
use crate::input::{Count, Gen, all_prots, any_count, any_sharing, any_size, drawn, each};
use crate::kernel::call::{At, Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{self, Bits, EXEC, Flags, PRIVATE, Prot, READ, READ_WRITE, WRITE};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::stream::Kind;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![ends(), one_way(), no_seek(), no_name()]
}

fn ends() -> Claim {
    let flags = [0, libc::O_CLOEXEC, libc::O_NONBLOCK, libc::O_CLOEXEC | libc::O_NONBLOCK];
    let rows = [1, 5].into_iter().flat_map(|count| flags.map(|flags| Row { count, flags }));
    claim("pipe.ends")
        .states("pipe gives two descriptors, the first to read from and the second to write to, and returns 0 or -1.")
        .documents([IPC.at("pipe, function")])
        .holds()
        .basis([
            posix("pipe, DESCRIPTION"),
            posix("pipe, RETURN VALUE"),
            posix("pipe, ERRORS, [EMFILE]"),
            linux("pipe(2), ERRORS, EFAULT and EMFILE"),
        ])
        .part("both ends", each("pipes made in a row and flags of pipe2", rows), first_reads_second_writes)
        .part("descriptor limit", each("so many free descriptors", 0_usize..4), at_the_limit)
        .part("bad array", each("places where two descriptors cannot be stored", BadArray::ALL), nowhere_to_store)
}

fn one_way() -> Claim {
    claim("pipe.one-way")
        .states("Data goes one way, from the write end to the read end.")
        .documents([IPC.at("pipe, features")])
        .holds()
        .basis([
            posix("pipe, DESCRIPTION"),
            unspecified("pipe, DESCRIPTION"),
            linux("pipe(7), DESCRIPTION"),
            linux("pipe(7), Portability notes"),
            linux("read(2), ERRORS, EBADF; write(2), ERRORS, EBADF"),
        ])
        .on_both(["pipe", "fifo"], 1, wrong_uses(), never_backwards)
}

fn no_seek() -> Claim {
    claim("pipe.no-seek")
        .states("lseek does not work on a pipe.")
        .documents([IPC.at("pipe, features")])
        .holds()
        .basis([
            posix("lseek, ERRORS, [ESPIPE]"),
            posix("read, ERRORS, pread, [ESPIPE]"),
            posix("write, ERRORS, pwrite, [ESPIPE]"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("lseek(2), ERRORS, ESPIPE"),
        ])
        .on_both(["pipe", "fifo"], 1, seeks(), no_position)
}

fn no_name() -> Claim {
    claim("pipe.no-name")
        .states("An anonymous pipe has no entry in the file system, yet is used through the file calls.")
        .documents([IPC.at("pipe, features"), IPC.at("fifo, overview")])
        .holds()
        .basis([
            posix("pipe, DESCRIPTION"),
            posix("open, RATIONALE"),
            linux("pipe(7), DESCRIPTION"),
            linux("proc_pid_fd(5)"),
            linux("mmap(2), ERRORS, ENODEV"),
        ])
        .part("no entry", drawn("bytes in the pipe", any_count(1)).also([Count::bytes(0)]), file_without_a_name)
        .on_both(["pipe, not mapped", "fifo, not mapped"], 1, mappings(), cannot_be_mapped)
}

/// So many pipes, one after the other, with these flags.
#[derive(Clone, Copy)]
struct Row {
    count: u32,
    flags: i32,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.count, Bits(names::OPEN_FLAGS, self.flags as u32, "no flags"))
    }
}

fn first_reads_second_writes(lab: &Lab, row: Row) -> Verdict {
    let mut pipes = Vec::new();
    for _ in 0..row.count {
        let (read, write) = (lab.new_fd(), lab.new_fd());
        lab.worker().call(Call::Pipe { read, write, flags: row.flags as u32 }).must_return(0_u64)?;
        for (fd, mode) in [(read, libc::O_RDONLY), (write, libc::O_WRONLY)] {
            let seen = lab.fcntl(fd, libc::F_GETFL, 0).value()? as i32;
            let expected = mode | row.flags & libc::O_NONBLOCK;
            let right = seen & (libc::O_ACCMODE | libc::O_NONBLOCK) == expected;
            require(lab, right, "the first is for reading and the second for writing", || format!("{seen:#o}"))?;
            let cloexec = u64::from(row.flags & libc::O_CLOEXEC != 0);
            lab.fcntl(fd, libc::F_GETFD, 0).must_return(cloexec)?;
        }
        pipes.push((read, write));
    }
    for (number, (_, write)) in pipes.iter().enumerate() {
        lab.write(*write, &Data::pattern(number as u32, 5)).must_return(5_u64)?;
    }
    for (number, (read, _)) in pipes.iter().enumerate().rev() {
        lab.read(*read, 9).must_hold(&Data::pattern(number as u32, 5))?;
    }
    Ok(())
}

/// A child with so many free descriptors and not one more; the descriptor that all the others are duplicates of.
fn with_free_descriptors(lab: &Lab, free: usize) -> Verdict<(Actor<'_>, Fd)> {
    const LIMIT: u64 = 24;
    let (any, _) = lab.pipe(0)?;
    let child = lab.fork()?;
    child.call(Call::Limit { resource: libc::RLIMIT_NOFILE, soft: LIMIT }).prepared()?;
    let mut copies = Vec::new();
    loop {
        let fd = lab.new_fd();
        let answer = child.call(Call::Dup { of: any, fd });
        let full = answer.outcome().errno() == Some(EMFILE);
        if !full {
            answer.prepared()?;
        }
        lab.by_chance();
        if full {
            break;
        }
        copies.push(fd);
    }
    for _ in 0..free {
        match copies.pop() {
            Some(fd) => child.close(fd).prepared()?,
            None => return lab.lacking(Lack::Descriptors),
        }
    }
    Ok((child, any))
}

/// There are so many free descriptors and not one more.
fn must_be_free(child: Actor<'_>, any: Fd, free: usize) -> Verdict {
    let lab = child.place().0;
    for _ in 0..free {
        child.dup(any)?;
    }
    child.call(Call::Dup { of: any, fd: lab.new_fd() }).must_refuse(EMFILE)
}

fn at_the_limit(lab: &Lab, free: usize) -> Verdict {
    let array = lab.map(anonymous(pages(1), READ_WRITE, PRIVATE))?;
    let before = Data::pattern(1, 8);
    lab.store(array.start(), &before).prepared()?;
    let (child, any) = with_free_descriptors(lab, free)?;
    let (read, write) = (lab.new_fd(), lab.new_fd());
    let answer = child.call(Call::PipeAt { at: array.start(), read, write });
    if free >= 2 {
        answer.must_return(0_u64)?;
        child.write(write, &Data::pattern(1, 3)).must_return(3_u64)?;
        child.read(read, 3).must_yield(&Data::pattern(1, 3))?;
        return must_be_free(child, any, free - 2);
    }
    answer.must_fail(EMFILE)?;
    child.load(array.start(), 8).must_yield(&before)?;
    must_be_free(child, any, free)
}

/// An array that cannot be stored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadArray {
    Null,
    NotMapped,
    ReadOnly,
    SecondHalfNotMapped,
}

impl BadArray {
    const ALL: [BadArray; 4] = [BadArray::Null, BadArray::NotMapped, BadArray::ReadOnly, BadArray::SecondHalfNotMapped];

    fn place(self, lab: &Lab) -> Verdict<At> {
        let prot = if self == BadArray::ReadOnly { READ } else { READ_WRITE };
        Ok(match self {
            BadArray::Null => At::Null,
            // What the arena has not lent is PROT_NONE.
            BadArray::NotMapped => At::Arena(pages(4).get()),
            BadArray::ReadOnly => lab.map(anonymous(pages(1), prot, PRIVATE))?.start(),
            BadArray::SecondHalfNotMapped => {
                lab.map(anonymous(pages(1), prot, PRIVATE).fixed(At::Arena(pages(2).get())))?.end().minus(4)
            }
        })
    }
}

fn nowhere_to_store(lab: &Lab, array: BadArray) -> Verdict {
    let at = array.place(lab)?;
    let (child, any) = with_free_descriptors(lab, 3)?;
    for _ in 0..4 {
        child.call(Call::PipeAt { at, read: lab.new_fd(), write: lab.new_fd() }).must_fail(EFAULT)?;
    }
    must_be_free(child, any, 3)
}

/// The wrong end is used, with so many bytes, while there are some in the stream.
#[derive(Clone, Debug)]
struct WrongUse {
    unread: Count,
    count: Count,
    in_child: bool,
}

fn wrong_uses() -> Gen<WrongUse> {
    let strategy = (any_count(1), any_count(2), prop::bool::weighted(0.1))
        .prop_map(|(unread, count, in_child)| WrongUse { unread, count, in_child });
    let wrong =
        |unread, count, in_child| WrongUse { unread: Count::bytes(unread), count: Count::bytes(count), in_child };
    drawn("amounts in the stream, and amounts read from the write end and written to the read end", strategy).also([
        wrong(5, 5, false),
        wrong(0, 1, false),
        wrong(3, 0, true),
    ])
}

fn never_backwards(lab: &Lab, kind: Kind, wrong: &WrongUse) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    let data = Data::pattern(2, wrong.unread.of(capacity).min(capacity.get()));
    lab.write(stream.write, &data).must_take(data.len())?;
    let count = wrong.count.of(capacity);
    let who = if wrong.in_child { lab.fork()? } else { lab.worker() };
    let (read, write) = (who.read(stream.write, count), who.write(stream.read, &Data::pattern(1, count)));
    if count > 0 {
        read.must_fail(EBADF)?;
        write.must_fail(EBADF)?;
    } else {
        // Of nothing at all POSIX says nothing.
        read.may(&[Expect::Refused(EBADF), Expect::Bytes(vec![])])?;
        write.may(&[Expect::Refused(EBADF), Expect::Value(0)])?;
    }
    lab.unread(stream.read).must_take(data.len())?;
    if !data.is_empty() {
        lab.read(stream.read, capacity).must_yield(&data)?;
    }
    lab.read(stream.read, 1).must_refuse(libc::EAGAIN)?;
    lab.must(true, "what was written came out at the other end, and nothing else", String::new)
}

/// A place to go to in a stream that has none.
#[derive(Clone, Debug)]
struct Seek {
    unread: Count,
    whence: i32,
    back: bool,
    distance: Size,
    count: Count,
}

impl Seek {
    fn offset(&self) -> i64 {
        let distance = self.distance.get() as i64;
        if self.back { -distance } else { distance }
    }
}

fn seeks() -> Gen<Seek> {
    let whence = prop::sample::select(vec![libc::SEEK_CUR, libc::SEEK_SET, libc::SEEK_END]);
    let offset = prop_oneof![
        2 => Just((false, Size::ZERO)),
        3 => (Just(false), any_size(0, 20)),
        1 => (Just(true), any_size(1, 3)),
    ];
    let strategy = (any_count(1), whence, offset, any_count(1))
        .prop_map(|(unread, whence, (back, distance), count)| Seek { unread, whence, back, distance, count });
    let seek = |unread, whence, offset: i64| Seek {
        unread: Count::bytes(unread),
        whence,
        back: offset < 0,
        distance: Size(offset.unsigned_abs() as usize),
        count: Count::bytes(3),
    };
    drawn("amounts in the stream, positions, and amounts to read and write there", strategy).also([
        seek(0, libc::SEEK_CUR, 0),
        seek(5, libc::SEEK_CUR, 0),
        seek(5, libc::SEEK_SET, 2),
        seek(5, libc::SEEK_END, -1),
        seek(5, libc::SEEK_END, 0),
    ])
}

fn no_position(lab: &Lab, kind: Kind, seek: &Seek) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    let data = Data::pattern(2, seek.unread.of(capacity).min(capacity.get()));
    lab.write(stream.write, &data).must_take(data.len())?;
    for fd in [stream.read, stream.write] {
        // SEEK_SET before the start may be EINVAL first.
        let offset = if seek.whence == libc::SEEK_SET { seek.offset().max(0) } else { seek.offset() };
        lab.lseek(fd, offset, seek.whence).must_fail(ESPIPE)?;
    }
    let (count, at) = (seek.count.of(capacity), seek.distance);
    lab.pread(stream.read, count, at).must_fail(ESPIPE)?;
    lab.pwrite(stream.write, &Data::pattern(1, count), at).must_fail(ESPIPE)?;
    // Which of two mistakes is told first is open.
    lab.pread(stream.write, count, at).must_fail_with_any(&[ESPIPE, EBADF])?;
    lab.pwrite(stream.read, &Data::pattern(1, count), at).must_fail_with_any(&[ESPIPE, EBADF])?;
    lab.unread(stream.read).must_take(data.len())?;
    if !data.is_empty() {
        lab.read(stream.read, capacity).must_yield(&data)?;
    }
    lab.read(stream.read, 1).must_refuse(libc::EAGAIN)
}

fn file_without_a_name(lab: &Lab, count: Count) -> Verdict {
    let before = lab.worker().call(Call::Entries).value()?;
    let stream = Kind::Pipe.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    let data = Data::pattern(2, count.of(capacity).min(capacity.get()));
    lab.write(stream.write, &data).must_take(data.len())?;
    let after = lab.worker().call(Call::Entries).value()?;
    lab.must(after == before, "no entry of the directory comes with a pipe", || format!("{after} behind {before}"))?;
    let mut inodes = Vec::new();
    for fd in [stream.read, stream.write] {
        let stat = lab.worker().call(Call::Fstat { fd }).stat()?;
        let right = stat.mode & libc::S_IFMT == libc::S_IFIFO && stat.size == 0;
        lab.must(right, "fstat says FIFO, of size 0", || stat.to_string())?;
        inodes.push(stat.inode);
        let copy = lab.dup(fd)?;
        lab.close(copy).must_succeed()?;
        lab.ftruncate(fd, 1).must_fail(EINVAL)?;
        lab.worker().call(Call::Fsync { fd }).must_fail(EINVAL)?;
    }
    let other = lab.pipe(0)?;
    inodes.push(lab.worker().call(Call::Fstat { fd: other.0 }).stat()?.inode);
    let right = inodes[0] == inodes[1] && inodes[0] != inodes[2];
    lab.must(right, "both ends are one file, and another pipe is another", || "other numbers".into())?;
    if !data.is_empty() {
        lab.read(stream.read, capacity).must_yield(&data)?;
    }
    lab.close(stream.write).must_succeed()?;
    lab.read(stream.read, 1).must_hold(&Data::zeros(0))
}

/// A mapping of a pipe, which there is not.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    write_end: bool,
    len: Size,
    prot: Prot,
    sharing: Flags,
}

fn mappings() -> Gen<Mapping> {
    let strategy = (any::<bool>(), any_size(1, 20), prop::sample::select(all_prots()), any_sharing())
        .prop_map(|(write_end, len, prot, sharing)| Mapping { write_end, len, prot, sharing });
    drawn("mappings of either end, of any length, protection and sharing type", strategy)
}

fn cannot_be_mapped(lab: &Lab, kind: Kind, mapping: &Mapping) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    lab.write(stream.write, &Data::pattern(2, 5)).must_take(5)?;
    let fd = if mapping.write_end { stream.write } else { stream.read };
    let answer = lab.mmap(request(mapping.len, mapping.prot, mapping.sharing, fd));
    // The file is of the wrong type and the descriptor lacks an access: either may be told.
    let lacks_access = mapping.write_end || (mapping.sharing.is_shared() && mapping.prot.has(WRITE));
    // And pipes, as other files may, lie where nothing is to be executed.
    match (lacks_access, mapping.prot.has(EXEC)) {
        (true, false) => answer.must_fail_with_any(&[libc::EACCES, ENODEV])?,
        (_, true) => answer.must_fail_with_any(&[libc::EACCES, libc::EPERM, ENODEV])?,
        (false, false) => answer.must_fail(ENODEV)?,
    }
    lab.read(stream.read, 9).must_yield(&Data::pattern(2, 5))
}

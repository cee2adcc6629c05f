//! What a file's size means for processes that exchange data through it.

use super::tails::{Tail, holds_its_size, must_be_stored_or_zero, tails};
use crate::claim::{Claim, IPC, MAPIO, claim, linux, posix, unspecified};
use crate::input::{Gen, any_size, drawn};
use crate::kernel::call::Fd;
use crate::kernel::data::Data;
use crate::kernel::names::{READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use proptest::prelude::*;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![peer_limited_by_size(), larger_than_data(), related_beyond_size()]
}

fn peer_limited_by_size() -> Claim {
    claim("file.peer-limited-by-size")
        .states("An unrelated process sees of the data only what the file's size covers.")
        .documents([IPC.at("independent processes")])
        .qualified(
            "True of read(). Another mapping of the same page may see more, up to the end of the last page, for as long as \
             the page stays cached: nothing promises it either way.",
        )
        .basis([
            posix("read, DESCRIPTION: nothing past the end of the file"),
            posix("mmap, DESCRIPTION, end of an object"),
            linux("mmap(2), BUGS: later mappings may see what was stored there"),
        ])
        .part("by read", tails(), |lab, tail| read_ends_at_the_size(lab, &tail))
        .one_in(8)
        .part("through a mapping of its own", tails(), |lab, tail| mapping_may_show_more(lab, &tail))
        .one_in(8)
}

fn larger_than_data() -> Claim {
    claim("file.larger-than-data")
        .states("For an unrelated process to get all of the data, the file has to be larger than the data.")
        .documents([IPC.at("independent processes")])
        .qualified("As large as the data is enough (with the terminating NUL, if the reader relies on it).")
        .basis([
            posix("read, DESCRIPTION: everything before the end can be read"),
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            linux("mmap(2), The flags argument, MAP_SHARED"),
        ])
        .part("a file as large as the data", data(Fit::Equal), peer_gets_what_the_file_holds)
        .one_in(8)
        .part("a larger file", data(Fit::Larger), peer_gets_what_the_file_holds)
        .one_in(8)
        .part("a smaller file", data(Fit::Smaller), peer_gets_what_the_file_holds)
        .one_in(8)
}

fn related_beyond_size() -> Claim {
    claim("file.related-beyond-size")
        .states("Parent and child can hand each other more than the file holds through a mapping that they share.")
        .documents([IPC.at("independent processes"), MAPIO.at("first listing")])
        .qualified(
            "Only up to the end of the last page, and only while that page stays cached; past it is SIGBUS. An unrelated \
             process that maps the page has the same access, so kinship does not matter.",
        )
        .basis([
            unspecified("mmap, RATIONALE: data written beyond the end may be lost"),
            posix("mmap, DESCRIPTION, end of an object"),
            linux("mmap(2), BUGS: data stored there stays in the page cache"),
        ])
        .part("up to the end of the last page", tails(), |lab, tail| both_reach_the_tail(lab, &tail))
        .one_in(8)
        .part("beyond the last page", tails(), |lab, tail| neither_reaches_beyond(lab, &tail))
        .one_in(8)
}

/// A named file into whose last page everything has been stored by the worker, and a stranger to it.
fn stranger<'l>(lab: &'l Lab, tail: &Tail) -> Verdict<(Actor<'l>, Fd)> {
    let (path, fd) = lab.new_file(&tail.contents())?;
    let map = lab.map(request(tail.size, READ_WRITE, SHARED, fd))?;
    for edit in &tail.stores {
        lab.store(map.at(edit.at), &edit.data).prepared()?;
    }
    let peer = lab.peer()?;
    let own = peer.open(path, libc::O_RDWR)?;
    Ok((peer, own))
}

fn read_ends_at_the_size(lab: &Lab, tail: &Tail) -> Verdict {
    let (peer, fd) = stranger(lab, tail)?;
    let model = tail.model();
    let (len, last) = (tail.size.round_up() + pages(1), tail.size - 1);
    peer.read(fd, len).must_equal(&model[..tail.size.get()])?;
    peer.read(fd, len).must_equal(&[])?;
    peer.pread(fd, len, 0).must_equal(&model[..tail.size.get()])?;
    peer.pread(fd, len, last).must_equal(&model[last.get()..tail.size.get()])?;
    peer.pread(fd, len, tail.size).must_equal(&[])
}

fn mapping_may_show_more(lab: &Lab, tail: &Tail) -> Verdict {
    let (peer, fd) = stranger(lab, tail)?;
    let whole = tail.size.round_up();
    let map = peer.map(request(whole + pages(1), READ, SHARED, fd))?;
    let seen = peer.load(map.start(), whole).bytes()?;
    must_be_stored_or_zero(lab, &seen, &tail.model(), tail.size)?;
    peer.load(map.at(whole), 1).must_be_beyond_the_file(0)
}

/// How large a file is, beside the data that is stored to it.
#[derive(Clone, Copy, Debug)]
enum Fit {
    Equal,
    Larger,
    Smaller,
}

/// Data of this length, for a file of this size.
fn data(fit: Fit) -> Gen<(Size, Size, u32)> {
    let lengths = (any_size(2, 8), any_size(1, 2), 0_u32..1000);
    drawn(
        "data of 2 bytes to 8 pages",
        lengths.prop_map(move |(len, other, seed)| {
            let size = match fit {
                Fit::Equal => len,
                Fit::Larger => len + other,
                // As much is left out as still lies in the file's last page.
                Fit::Smaller => (len.less(other)).max((len - 1).round_down()).max(Size(1)),
            };
            (len, size, 2 * seed + 1)
        }),
    )
}

fn peer_gets_what_the_file_holds(lab: &Lab, (len, size, seed): (Size, Size, u32)) -> Verdict {
    let (path, fd) = lab.new_file(&Data::zeros(size))?;
    let map = lab.map(request(len, READ_WRITE, SHARED, fd))?;
    // The part that lies beyond the last page is none that could be stored.
    let stored = len.min(size.round_up());
    lab.store(map.start(), &Data::pattern(seed, stored)).prepared()?;
    let mut model = Data::pattern(seed, len).to_vec();
    model.resize(size.get(), 0);
    let peer = lab.peer()?;
    let own = peer.open(path, libc::O_RDONLY)?;
    peer.read(own, size + 1).must_equal(&model)?;
    let theirs = peer.map(request(size, READ, SHARED, own))?;
    peer.load(theirs.start(), size).must_equal(&model)
}

fn both_reach_the_tail(lab: &Lab, tail: &Tail) -> Verdict {
    let (path, fd) = lab.new_file(&tail.contents())?;
    let map = lab.map(request(tail.size, READ_WRITE, SHARED, fd))?;
    let child = lab.fork()?;
    for edit in &tail.stores {
        child.store(map.at(edit.at), &edit.data).must_succeed()?;
    }
    let whole = tail.size.round_up();
    let model = tail.model();
    must_be_stored_or_zero(lab, &lab.load(map.start(), whole).bytes()?, &model, tail.size)?;
    must_be_stored_or_zero(lab, &child.load(map.start(), whole).bytes()?, &model, tail.size)?;
    let peer = lab.peer()?;
    let own = peer.open(path, libc::O_RDWR)?;
    let theirs = peer.map(request(tail.size, READ_WRITE, SHARED, own))?;
    must_be_stored_or_zero(lab, &peer.load(theirs.start(), whole).bytes()?, &model, tail.size)?;
    peer.store(theirs.at(whole - 1), &Data::repeat(model[whole.get() - 1], 1)).must_succeed()
}

fn neither_reaches_beyond(lab: &Lab, tail: &Tail) -> Verdict {
    const MORE: usize = 3;
    let (_, fd) = lab.new_file(&tail.contents())?;
    let whole = tail.size.round_up();
    let map = lab.map(request(whole + pages(MORE), READ_WRITE, SHARED, fd))?;
    let child = lab.fork()?;
    let byte = Data::repeat(1, 1);
    for page in 0..MORE {
        let (first, last) = (map.at(whole + pages(page)), map.at(whole + pages(page + 1) - 1));
        child.store(first, &byte).must_be_beyond_the_file(0)?;
        lab.load(first, 1).must_be_beyond_the_file(0)?;
        child.load(last, 1).must_be_beyond_the_file(0)?;
        lab.store(last, &byte).must_be_beyond_the_file(0)?;
    }
    child.unguarded()?;
    child.store(map.at(whole), &byte).must_die_of(libc::SIGBUS)?;
    holds_its_size(lab, fd, &tail.contents().to_vec())
}

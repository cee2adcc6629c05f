//! The part of a file's last page that lies beyond its end.

use proptest::prelude::*;

use crate::claim::{Claim, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{Backing, Edit, Gen, any_sharing, any_size, content_seed, drawn, edits_within, file_backing};
use crate::kernel::call::Fd;
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![store_does_not_extend(), peer_limited_by_size(), larger_than_data(), related_beyond_size(), tail_is_zero()]
}

fn store_does_not_extend() -> Claim {
    claim("file.store-does-not-extend")
        .states(
            "What is stored beyond the end of the file in its last page is not in the file: 25 bytes into 20 leave 20.",
        )
        .documents([WHAT.at("listing"), IPC.at("independent processes")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, end of an object: never written out"),
            posix("mmap, RATIONALE: references do not extend the object"),
            linux("mmap(2), NOTES: not written to the file"),
            unspecified("ftruncate, DESCRIPTION, growth of a memory object"),
            linux("mmap(2), BUGS: the data can stay in the page cache"),
        ])
        .for_all(stores_and_after(), |lab, input| size_stays(lab, &input))
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

fn tail_is_zero() -> Claim {
    claim("file.tail-is-zero")
        .states("The part of the last page beyond the end of the file is there and reads as zero.")
        .documents([WHAT.at("mmap, length"), MAPIO.at("first listing")])
        .qualified(
            "It reads as zero for whoever maps it first; what any mapping stores there is seen by the others while the page \
             stays cached.",
        )
        .basis([
            posix("mmap, DESCRIPTION, end of an object: a partial page is zero-filled"),
            linux("mmap(2), NOTES: the remaining bytes are zeroed when mapped"),
            linux("mmap(2), BUGS: later mappings may see what was stored there"),
        ])
        .for_all(fresh(), tail_of_a_fresh_file)
        .part("of a file that was cut", cuts(), tail_of_a_cut_file)
        .part("after stores by another mapping", tails(), |lab, tail| tail_after_stores(lab, &tail))
}

/// A file that does not end with a page, and stores before and beyond its end, up to the end of its last page.
#[derive(Clone, Debug)]
struct Tail {
    backing: Backing,
    contents: u32,
    size: Size,
    stores: Vec<Edit>,
}

/// Sizes that leave a part of the last page over.
fn partial_size(most: usize) -> BoxedStrategy<Size> {
    any_size(1, most).prop_map(|size| if size.is_whole() { size - 1 } else { size }).boxed()
}

fn any_tail() -> BoxedStrategy<Tail> {
    (file_backing(), content_seed(), partial_size(8))
        .prop_flat_map(|(backing, contents, size)| {
            let tail = (size.round_up() - size).get();
            let beyond = edits_within(Size(tail), 2).prop_map(move |edits| {
                let shifted = |edit: Edit| Edit { at: size + edit.at, ..edit };
                edits.into_iter().map(shifted).collect::<Vec<_>>()
            });
            let stores = (beyond, prop_oneof![Just(Vec::new()).boxed(), edits_within(size.round_up(), 2)]);
            stores.prop_map(move |(mut stores, more)| {
                stores.extend(more);
                Tail { backing, contents, size, stores }
            })
        })
        .boxed()
}

/// 25 bytes into a file of 20, as the document has it.
fn documents_case() -> Tail {
    let store = Edit { at: Size::ZERO, data: "this is twenty-five bytes".into() };
    Tail { backing: Backing::File, contents: 2, size: Size(20), stores: vec![store] }
}

fn tails() -> Gen<Tail> {
    drawn("files that do not end with a page, and stores up to the end of their last page", any_tail())
        .also([documents_case()])
}

impl Tail {
    fn contents(&self) -> Data {
        Data::pattern(self.contents, self.size)
    }

    /// What the last page's end included would hold if all of the stores stayed.
    fn model(&self) -> Vec<u8> {
        let mut model = self.contents().to_vec();
        model.resize(self.size.round_up().get(), 0);
        self.stores.iter().for_each(|edit| edit.apply(&mut model));
        model
    }
}

/// Before the end of the file these are the model's bytes; beyond it each is the model's or zero.
fn must_be_stored_or_zero(lab: &Lab, seen: &[u8], model: &[u8], size: Size) -> Verdict {
    let wrong = (0..seen.len()).find(|at| {
        let stored = model.get(*at).copied().unwrap_or(0);
        seen[*at] != stored && (*at < size.get() || seen[*at] != 0)
    });
    lab.must(wrong.is_none(), "the file's bytes, and beyond them what was stored or zero", || {
        let at = wrong.unwrap_or(0);
        format!("{:#04x} at +{}", seen[at], Size(at))
    })
}

/// What happens between the stores and the second look at the file.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    MsyncAsync,
    MsyncSync,
    Munmap,
}

type StoresAndAfter = (Tail, Flags, Then, Size);

fn stores_and_after() -> Gen<StoresAndAfter> {
    // A disk takes its time for MS_SYNC, so few cases ask for it.
    let then = prop_oneof![
        8 => Just(Then::Nothing), 6 => Just(Then::MsyncAsync), 6 => Just(Then::Munmap), 1 => Just(Then::MsyncSync),
    ];
    let others = (any_sharing(), then, any_size(0, 2));
    drawn(
        "stores up to the end of a file's last page, what follows them, and by how much the file grows then",
        (any_tail(), others).prop_map(|(tail, (sharing, then, more))| (tail, sharing, then, more)),
    )
    .also([(documents_case(), SHARED, Then::Nothing, Size(5)), (documents_case(), SHARED, Then::Munmap, pages(1))])
}

fn size_stays(lab: &Lab, (tail, sharing, then, more): &StoresAndAfter) -> Verdict {
    let size = tail.size;
    let fd = tail.backing.open(lab, &tail.contents())?;
    let map = lab.map(request(size, READ_WRITE, *sharing, fd))?;
    let private = *sharing == PRIVATE;
    let mut model = tail.contents().to_vec();
    model.resize(size.round_up().get(), 0);
    for edit in &tail.stores {
        lab.store(map.at(edit.at), &edit.data).prepared()?;
        if !private {
            edit.apply(&mut model);
        }
        holds_its_size(lab, fd, &model[..size.get()])?;
    }
    match then {
        Then::Nothing => {}
        Then::MsyncAsync => lab.msync(map.start(), map.extent(), libc::MS_ASYNC).prepared()?,
        Then::MsyncSync => lab.msync(map.start(), map.extent(), libc::MS_SYNC).prepared()?,
        Then::Munmap => lab.unmap(map)?,
    }
    holds_its_size(lab, fd, &model[..size.get()])?;
    let grown = size + *more;
    lab.ftruncate(fd, grown).prepared()?;
    let seen = lab.pread(fd, grown + 1, 0).bytes()?;
    lab.must(seen.len() == grown.get(), "the file has grown by as much as it was asked to", || {
        format!("{} bytes", seen.len())
    })?;
    must_be_stored_or_zero(lab, &seen, &model, size)?;
    let whole = lab.map(request(grown, READ, SHARED, fd))?;
    let seen = lab.load(whole.start(), grown).bytes()?;
    must_be_stored_or_zero(lab, &seen, &model, size)
}

fn holds_its_size(lab: &Lab, fd: Fd, model: &[u8]) -> Verdict {
    let size = lab.size(fd)?;
    lab.must(size.get() == model.len(), "the size is what it was", || size.to_string())?;
    lab.pread(fd, model.len() + 1, 0).must_equal(model)
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
    peer.read(fd, tail.size.round_up() + pages(1)).must_equal(&tail.model()[..tail.size.get()])?;
    peer.read(fd, 1).must_equal(&[])
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

/// A file that nobody has mapped before, and how it is mapped.
type Fresh = (Backing, u32, Size, Flags, bool, bool);

fn fresh() -> Gen<Fresh> {
    let parts = (file_backing(), content_seed(), partial_size(20), any_sharing(), any::<bool>(), any::<bool>());
    drawn("fresh files that do not end with a page; sharing type; with PROT_WRITE; with MAP_POPULATE", parts)
}

fn tail_of_a_fresh_file(lab: &Lab, (backing, contents, size, sharing, writable, populate): Fresh) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(contents, size))?;
    let populate = Flags(if populate { libc::MAP_POPULATE as u32 } else { 0 });
    let map = lab.map(request(size, if writable { READ_WRITE } else { READ }, sharing, fd).and(populate))?;
    let mut model = Data::pattern(contents, size).to_vec();
    model.resize(size.round_up().get(), 0);
    lab.load(map.at(size), size.round_up() - size).must_equal(&model[size.get()..])?;
    lab.load(map.start(), model.len()).must_equal(&model)
}

/// A file, the size that it is cut to, and whether it is mapped and touched before that.
type Cut = (Backing, u32, Size, Size, bool);

fn cuts() -> Gen<Cut> {
    let strategy = (file_backing(), content_seed(), any_size(2, 20), partial_size(20), any::<bool>())
        .prop_map(|(backing, contents, size, cut, before)| (backing, contents, size.max(cut), cut, before));
    drawn("files that are cut to a size that does not end with a page, mapped before or after", strategy)
}

/// What was cut off was in that page: it must not be there still.
fn tail_of_a_cut_file(lab: &Lab, (backing, contents, size, cut, before): Cut) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(contents, size))?;
    let ask = request(cut, READ, SHARED, fd);
    let early = if before { Some(lab.map(ask)?) } else { None };
    if let Some(map) = early {
        let shown = size.min(cut.round_up());
        lab.load(map.start(), shown).must_hold(&Data::pattern(contents, shown))?;
    }
    lab.ftruncate(fd, cut).prepared()?;
    let mut model = Data::pattern(contents, cut).to_vec();
    model.resize(cut.round_up().get(), 0);
    let late = lab.map(ask)?;
    for map in early.into_iter().chain([late]) {
        lab.load(map.start(), model.len()).must_equal(&model)?;
    }
    Ok(())
}

fn tail_after_stores(lab: &Lab, tail: &Tail) -> Verdict {
    let fd = tail.backing.open(lab, &tail.contents())?;
    let whole = tail.size.round_up();
    let first = lab.map(request(tail.size, READ_WRITE, SHARED, fd))?;
    let second = lab.map(request(tail.size, READ, SHARED, fd))?;
    for edit in &tail.stores {
        lab.store(first.at(edit.at), &edit.data).prepared()?;
    }
    let third = lab.map(request(tail.size, READ, PRIVATE, fd))?;
    for map in [first, second, third] {
        must_be_stored_or_zero(lab, &lab.load(map.start(), whole).bytes()?, &tail.model(), tail.size)?;
    }
    Ok(())
}

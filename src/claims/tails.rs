//! The part of a file's last page that lies beyond its end.

use proptest::prelude::*;

use crate::claim::{Claim, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{Backing, Edit, Gen, any_sharing, any_size, content_seed, drawn, edits_within, file_backing};
use crate::kernel::call::Fd;
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![store_does_not_extend(), tail_is_zero()]
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
pub(super) struct Tail {
    backing: Backing,
    contents: u32,
    /// Of the file, in bytes.
    pub(super) size: Size,
    /// In order; the first lies beyond the end.
    pub(super) stores: Vec<Edit>,
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

pub(super) fn tails() -> Gen<Tail> {
    drawn("files that do not end with a page, and stores up to the end of their last page", any_tail())
        .also([documents_case()])
}

impl Tail {
    pub(super) fn contents(&self) -> Data {
        Data::pattern(self.contents, self.size)
    }

    /// What the last page's end included would hold if all of the stores stayed.
    pub(super) fn model(&self) -> Vec<u8> {
        let mut model = self.contents().to_vec();
        model.resize(self.size.round_up().get(), 0);
        self.stores.iter().for_each(|edit| edit.apply(&mut model));
        model
    }
}

/// Before the end of the file these are the model's bytes; beyond it each is the model's or zero.
pub(super) fn must_be_stored_or_zero(lab: &Lab, seen: &[u8], model: &[u8], size: Size) -> Verdict {
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

pub(super) fn holds_its_size(lab: &Lab, fd: Fd, model: &[u8]) -> Verdict {
    let size = lab.size(fd)?;
    lab.must(size.get() == model.len(), "the size is what it was", || size.to_string())?;
    lab.pread(fd, model.len() + 1, 0).must_equal(model)
}

/// A file that nobody has mapped before, and how it is mapped: from which page on, at most.
type Fresh = (Backing, u32, Size, Flags, bool, bool, usize);

fn fresh() -> Gen<Fresh> {
    let from = prop_oneof![2 => Just(0_usize), 1 => 1_usize..20];
    let parts = (file_backing(), content_seed(), partial_size(20), any_sharing(), any::<bool>(), any::<bool>(), from);
    drawn(
        "fresh files that do not end with a page; sharing type; with PROT_WRITE; with MAP_POPULATE; first page",
        parts,
    )
}

fn tail_of_a_fresh_file(lab: &Lab, (backing, contents, size, sharing, writable, populate, from): Fresh) -> Verdict {
    let fd = backing.open(lab, &Data::pattern(contents, size))?;
    let populate = Flags(if populate { libc::MAP_POPULATE as u32 } else { 0 });
    let offset = pages(from).min(size.round_up() - pages(1));
    let ask = request(size - offset, if writable { READ_WRITE } else { READ }, sharing, fd);
    let map = lab.map(ask.offset(offset).and(populate))?;
    let mut model = Data::pattern(contents, size).to_vec();
    model.resize(size.round_up().get(), 0);
    lab.load(map.at(size - offset), size.round_up() - size).must_equal(&model[size.get()..])?;
    lab.load(map.start(), map.extent()).must_equal(&model[offset.get()..])
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

//! What a forked child has of its parent's memory.

use std::fmt;

use libc::{MADV_DOFORK, MADV_DONTFORK};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix};
use crate::input::*;
use crate::kernel::call::{At, Segment};
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, NONE, PRIVATE, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map, SEGV_ACCERR, SEGV_PKUERR};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![shared_file_mapping(), private_mapping(), global_variable(), inherited_address(), unmapping_is_local()]
}

fn shared_file_mapping() -> Claim {
    claim("fork.shared-file-mapping")
        .states(
            "A file mapping with MAP_SHARED that exists at fork is shared: each side loads what the other has stored.",
        )
        .documents([
            DAY8.at("parent and child"),
            IPC.at("related processes"),
            IPC.at("mmap example, listing"),
            MAPIO.at("first listing"),
        ])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, MAP_SHARED"),
            posix("fork, DESCRIPTION, memory mappings"),
            linux("mmap(2), NOTES"),
        ])
        .part("of a file", families(&[Backing::File, Backing::Memfd], Freedom::Ends), |lab, family| {
            let (map, fd, first) = family.prepare(lab, SHARED)?;
            let last = family.story.play(lab, map.start(), first, true)?;
            let Window { size, offset, len, .. } = family.window;
            let mut file = family.window.file().to_vec();
            file[offset.get()..(offset + len).get()].copy_from_slice(&last);
            lab.pread(fd, size, 0).must_equal(&file)
        })
        .one_in(6)
        .part("of each length", page_counts(), |lab, len| {
            let family = Inheritance::of_siblings(Backing::Memfd, len.in_pages());
            let (map, _, first) = family.prepare(lab, SHARED)?;
            family.story.play(lab, map.start(), first, true).map(drop)
        })
        .part(
            "to be read alone",
            drawn("windows on files, and edits in them", read_only_windows()),
            |lab, (window, edits)| seen_by_all_readers(lab, &window, &edits),
        )
        .one_in(16)
        .part("of no file", families(&[Backing::Anonymous, Backing::DevZero], Freedom::Ends), |lab, family| {
            let (map, _, first) = family.prepare(lab, SHARED)?;
            family.story.play(lab, map.start(), first, true).map(|_| ())
        })
        .one_in(16)
}

fn read_only_windows() -> BoxedStrategy<(Window, Vec<Edit>)> {
    any_window(12).prop_flat_map(|window| (Just(window), edits_within(window.len, 5))).boxed()
}

/// Two children have a mapping that nobody may store through; each of the three writes to the file in turn, and all see it.
fn seen_by_all_readers(lab: &Lab, window: &Window, edits: &[Edit]) -> Verdict {
    let fd = Backing::Memfd.open(lab, &window.file())?;
    let map = lab.map(request(window.len, READ, SHARED, fd).offset(window.offset))?;
    let mut view = window.view().to_vec();
    lab.load(map.start(), window.len).must_equal(&view)?;
    let family = [lab.worker(), lab.fork()?, lab.fork()?];
    for (index, edit) in edits.iter().enumerate() {
        let writer = family[index % family.len()];
        writer.pwrite(fd, &edit.data, window.offset + edit.at).must_succeed()?;
        edit.apply(&mut view);
        family.iter().try_for_each(|reader| reader.load(map.start(), window.len).must_equal(&view))?;
    }
    Ok(())
}

fn private_mapping() -> Claim {
    claim("fork.private-mapping")
        .states("A mapping with MAP_PRIVATE that exists at fork is not shared: a store on one side leaves the other's bytes as they were.")
        .documents([DAY8.at("parent and child")])
        .holds()
        .basis([
            posix("fork, DESCRIPTION, memory mappings"),
            linux("mmap(2), MAP_PRIVATE"),
            linux("fork(2), DESCRIPTION"),
        ])
        .for_all(families(&BACKINGS, Freedom::Ends), |lab, family| {
            let (map, fd, first) = family.prepare(lab, PRIVATE)?;
            family.story.play(lab, map.start(), first, false)?;
            if family.backing.is_file() {
                lab.pread(fd, family.window.size, 0).must_hold(&family.window.file())?;
            }
            Ok(())
        })
        .one_in(6)
        .part("of each length", page_counts(), |lab, len| {
            let family = Inheritance::of_siblings(Backing::Memfd, len.in_pages());
            let (map, _, first) = family.prepare(lab, PRIVATE)?;
            family.story.play(lab, map.start(), first, false).map(drop)
        })
}

fn global_variable() -> Claim {
    claim("fork.global-variable")
        .states("Ordinary memory is shared for reading and copied for writing: a variable that the child changes keeps its value in the parent.")
        .documents([DAY8.at("parent and child"), IPC.at("intro")])
        .holds()
        .basis([
            posix("fork, DESCRIPTION"),
            linux("fork(2), DESCRIPTION"),
            linux("fork(2), NOTES, copy-on-write pages"),
        ])
        .for_all(variables(), |lab, input| {
            let memory = At::Variable(input.segment, 0);
            let first = Data::pattern(input.contents, input.len);
            lab.store(memory, &first).prepared()?;
            input.story.play(lab, memory, first.to_vec(), false).map(|_| ())
        })
        .one_in(3)
}

fn inherited_address() -> Claim {
    claim("fork.inherits-mapping-address")
        .states("Parent and child have a mapping at the same address, for which the child has to call nothing.")
        .documents([DAY8.at("parent and child"), IPC.at("related processes")])
        .holds()
        .basis([
            posix("fork, DESCRIPTION, memory mappings"),
            linux("mmap(2), NOTES"),
            linux("fork(2), DESCRIPTION, on the virtual address space"),
            linux("madvise(2), MADV_DONTFORK"),
        ])
        .part("with its rights", with_rights(), same_in_every_generation)
        .one_in(6)
        .part("each of several", several(), |lab, mappings| each_of_several(lab, &mappings))
        .one_in(16)
        .part("but for MADV_DONTFORK", without(), |lab, (mapping, range)| left_out(lab, &mapping, range))
        .one_in(16)
}

fn unmapping_is_local() -> Claim {
    let sharing = each("shared and private", [SHARED, PRIVATE]);
    let unmappers =
        BACKINGS.into_iter().flat_map(|backing| [1, 3].map(|count| Inheritance::of_unmappers(backing, count)));
    claim("fork.munmap-is-local")
        .states("Each process unmaps for itself, and the other's mapping goes on.")
        .documents([IPC.at("related processes"), IPC.at("mmap example, listing"), MAPIO.at("first listing")])
        .holds()
        .basis([posix("munmap, DESCRIPTION"), linux("fork(2), DESCRIPTION"), linux("munmap(2), DESCRIPTION")])
        .for_all(
            families(&BACKINGS, Freedom::EndsAndMappings).also(unmappers).and(sharing),
            |lab, (family, sharing)| {
                let (map, _, first) = family.prepare(lab, sharing)?;
                family.story.play(lab, map.start(), first, sharing == SHARED).map(|_| ())
            },
        )
        .one_in(6)
}

fn families(backings: &[Backing], freedom: Freedom) -> Gen<Inheritance> {
    let backing = prop::sample::select(backings.to_vec()).boxed();
    let small = backings.iter().map(|backing| Inheritance::of_siblings(*backing, 3));
    let named = small.chain([Inheritance::of_siblings(backings[0], 130)]);
    drawn(
        "mappings and what a family of up to five processes does with them, one after another",
        any_inheritance(backing, freedom),
    )
    .also(named)
    .also_long([Inheritance::of_one_child(backings[0], many_pages())])
}

/// Variables of the program and what a family does with them.
#[derive(Clone)]
struct Variables {
    segment: Segment,
    len: Size,
    contents: u32,
    story: Story,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}: {:?}", self.segment, self.len, self.story)
    }
}

fn variables() -> Gen<Variables> {
    let kinds = prop_oneof![Just(Segment::Data), Just(Segment::Bss)];
    let sized = kinds.prop_flat_map(|segment| (Just(segment), content_seed(), any_size(1, segment.pages())));
    let strategy = sized.prop_flat_map(|(segment, contents, len)| {
        any_story(len, Freedom::Ends).prop_map(move |story| Variables { segment, len, contents, story })
    });
    drawn("variables of the program, initialised or not, and what a family does with them", strategy)
}

fn several() -> Gen<Vec<Request>> {
    let three = [Backing::Memfd, Backing::File, Backing::Memfd].map(|backing| Request {
        backing,
        contents: 2,
        size: pages(3),
        len: pages(2),
        prot: READ_WRITE,
        sharing: SHARED,
        offset: pages(1),
    });
    drawn("2 to 6 mappings of every kind", prop::collection::vec(any_mapping(), 2..=6)).also([three.to_vec()])
}

/// A child has all mappings, with what they show.
fn each_of_several(lab: &Lab, mappings: &[Request]) -> Verdict {
    let mut made = Vec::new();
    for mapping in mappings {
        made.push(lab.map(mapping.prepare(lab)?)?);
    }
    let child = lab.fork()?;
    for (mapping, map) in mappings.iter().zip(made) {
        child.mprotect(map.start(), map.len, READ).must_succeed()?;
        let view = mapping.view();
        if !view.is_empty() {
            child.load(map.start(), view.len()).must_equal(&view)?;
        }
    }
    Ok(())
}

/// Every generation has the mapping where the first made it, with the same rights, contents and end.
/// Who sets the rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetBy {
    Mmap,
    Mprotect,
}

/// Mappings, who sets their rights, and whether the child has a child or a brother.
fn with_rights() -> Gen<(Request, SetBy, bool)> {
    let set_by = prop_oneof![2 => Just(SetBy::Mmap), 1 => Just(SetBy::Mprotect)];
    let strategy = (any_mapping(), set_by, any::<bool>()).prop_map(|(mapping, set_by, nested)| {
        // A mount with noexec has its say where it is mapped.
        (mapping, if mapping.prot.has(EXEC) { SetBy::Mmap } else { set_by }, nested)
    });
    let lowered = |nested| (Request { prot: READ, ..Request::of_length(pages(2)) }, SetBy::Mprotect, nested);
    drawn("mappings of every kind, their rights set by mmap or mprotect; the child's child or a second child", strategy)
        .also([lowered(false), lowered(true)])
}

fn same_in_every_generation(lab: &Lab, (mapping, set_by, nested): (Request, SetBy, bool)) -> Verdict {
    let args = mapping.prepare(lab)?;
    let map = match set_by {
        SetBy::Mmap => lab.map(args)?,
        SetBy::Mprotect => {
            let map = lab.map(args.prot(READ_WRITE))?;
            lab.mprotect(map.start(), map.len, mapping.prot).must_succeed()?;
            map
        }
    };
    let child = lab.fork()?;
    let second = if nested { lab.fork_from(child.id(), false)? } else { lab.fork()? };
    let mut view = mapping.view();
    let end = Size(view.len());
    for (member, seed) in [(lab.worker(), 1), (child, 3), (second, 5)] {
        let (one, last) = (Data::pattern(seed, 1), map.end().minus(1));
        let mut own = view.clone();
        if mapping.prot.has(READ) && end < map.extent() {
            member.load(map.at(end), 1).must_be_beyond_the_file(0)?;
        }
        if mapping.prot.has(READ) && end > Size::ZERO {
            member.load(map.start(), end).must_equal(&own)?;
        }
        if mapping.prot == NONE {
            member.load(last, 1).must_be_forbidden(0)?;
        }
        match mapping.prot.has(WRITE) {
            true if view.is_empty() => member.store(map.start(), &one).must_be_beyond_the_file(0)?,
            true => {
                member.store(map.start(), &one).must_succeed()?;
                one.fill(&mut own[..1]);
            }
            false if mapping.prot == EXEC => {
                member.store(last, &one).may(&[forbidden(SEGV_ACCERR), forbidden(SEGV_PKUERR)])?;
            }
            false => member.store(last, &one).must_be_forbidden(0)?,
        }
        if !mapping.prot.has(READ) && end > Size::ZERO {
            member.mprotect(map.start(), map.len, READ).must_succeed()?;
            member.load(map.start(), end).must_equal(&own)?;
        }
        if mapping.sharing == SHARED {
            view = own;
        }
    }
    Ok(())
}

/// What keeps memory that may only be executed from being stored to: the rights of the mapping, or a protection key.
fn forbidden(code: i32) -> Expect {
    Expect::Fault { signal: libc::SIGSEGV, code, at: 0 }
}

/// Mappings of up to 20 pages, and a range of their pages.
fn without() -> Gen<(Request, Range)> {
    let mapping =
        (any_backing(), content_seed(), 1..=20_usize, any_sharing()).prop_map(|(backing, contents, count, sharing)| {
            let size = pages(count);
            Request { backing, contents, size, len: size, prot: READ_WRITE, sharing, offset: Size::ZERO }
        });
    let strategy = mapping.prop_flat_map(|mapping| (Just(mapping), page_range(mapping.len.in_pages())));
    drawn("mappings of up to 20 pages, and a range of them", strategy)
}

/// Pages with MADV_DONTFORK are in no child, and again in those that are born after MADV_DOFORK.
fn left_out(lab: &Lab, mapping: &Request, range: Range) -> Verdict {
    let map = lab.map(mapping.prepare(lab)?)?;
    let view = mapping.view();
    let all = |member: Actor<'_>| member.load(map.start(), map.len).must_equal(&view);
    lab.madvise(map.at(range.at), range.len, MADV_DONTFORK).must_succeed()?;
    let without = lab.fork()?;
    let grandchild = lab.fork_from(without.id(), false)?;
    lab.madvise(map.at(range.at), range.len, MADV_DOFORK).must_succeed()?;
    all(lab.worker())?;
    all(lab.fork()?)?;
    for member in [without, grandchild] {
        part(member, map, Size::ZERO, range.at, &view)?;
        member.load(map.at(range.at), 1).must_be_unmapped(0)?;
        member.load(map.at(range.end() - 1), 1).must_be_unmapped(0)?;
        part(member, map, range.end(), map.len, &view)?;
    }
    Ok(())
}

fn part(member: Actor<'_>, map: Map, from: Size, to: Size, view: &[u8]) -> Verdict {
    if from == to {
        return Ok(());
    }
    member.load(map.at(from), to - from).must_equal(&view[from.get()..to.get()])
}

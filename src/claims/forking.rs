//! What a forked child has of its parent's memory.

use std::fmt;

use libc::{EBADF, EFAULT, MADV_DOFORK, MADV_DONTFORK};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix, unspecified};
use crate::input::*;
use crate::kernel::call::{At, Call, Segment};
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, Flags, NONE, PRIVATE, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map, SEGV_ACCERR, SEGV_PKUERR};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![
        shared_file_mapping(),
        private_mapping(),
        global_variable(),
        no_access_to_others(),
        user_space(),
        inherited_address(),
        unmapping_is_local(),
    ]
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
        .part("of no file", families(&[Backing::Anonymous, Backing::DevZero], Freedom::Ends), |lab, family| {
            let (map, _, first) = family.prepare(lab, SHARED)?;
            family.story.play(lab, map.start(), first, true).map(|_| ())
        })
        .one_in(16)
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

fn no_access_to_others() -> Claim {
    claim("fork.no-access-to-others")
        .states("A process cannot get at the memory and the resources of another directly.")
        .documents([IPC.at("intro")])
        .qualified("It holds for addresses and descriptor numbers, which mean nothing in another process; with permission, process_vm_readv, /proc/PID/mem and ptrace do reach in.")
        .basis([
            linux("fork(2), DESCRIPTION"),
            posix("fork, DESCRIPTION, file descriptors"),
            linux("process_vm_readv(2), DESCRIPTION; ERRORS, EFAULT and EPERM"),
            linux("proc_pid_mem(5)"),
        ])
        .part("by address", relatives(), |lab, input| addresses_are_of_one_process(lab, &input))
        .one_in(16)
        .part("by descriptor number", relatives(), |lab, input| numbers_are_of_one_process(lab, &input))
        .one_in(16)
        .part("with permission", relatives(), |lab, input| permission_reaches_in(lab, &input))
        .one_in(16)
}

fn user_space() -> Claim {
    claim("fork.user-space-3gib")
        .states("Global variables lie in user space, which is the range from 0 to 3 GiB.")
        .documents([DAY8.at("parent and child")])
        .refuted("That is how 32-bit machines usually divide it. On 64-bit ones user space reaches far beyond 3 GiB, and is copied at fork there as below.")
        .basis([
            linux("linux 7.2, Documentation/arch/x86/x86_64/mm.rst"),
            linux("proc_pid_maps(5)"),
            unspecified("POSIX has no word on the layout of address spaces"),
        ])
        .for_all(heights(), |lab, (hint, len)| {
            const LIMIT: usize = 3 << 30;
            let whereabouts = |address: usize| if address < LIMIT { "below 3 GiB" } else { "above 3 GiB" };
            lab.fact("a variable of the program lies", whereabouts(lab.address(At::Variable(Segment::Data, 0))));
            let map = lab.map(anonymous(len, READ_WRITE, PRIVATE).hint(At::Number(hint.get())))?;
            if map.address < LIMIT {
                return lab.lacking(Lack::Machine);
            }
            let first = Data::pattern(2, len);
            lab.store(map.start(), &first).must_succeed()?;
            let child = lab.fork()?;
            child.load(map.start(), len).must_hold(&first)?;
            child.store(map.start(), &Data::pattern(3, len)).must_succeed()?;
            lab.load(map.start(), len).must_hold(&first)
        })
        .one_in(8)
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
        .part(
            "with its rights",
            drawn("mappings of every kind; the child's child or a second child", (any_mapping(), any::<bool>())),
            same_in_every_generation,
        )
        .one_in(6)
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
}

/// Addresses beyond 3 GiB to ask for, 0 for the kernel's choice, and lengths; one that cannot be had is the kernel's choice too.
fn heights() -> Gen<(Size, Size)> {
    let hint = prop_oneof![Just(Size::ZERO), (40..47_u32).prop_map(|power| Size(1 << power))];
    drawn("the kernel's choice and addresses from 1 TiB on; lengths", (hint, any_size(1, 20)))
        .also([(Size::ZERO, pages(1)), (Size(1 << 40), pages(3))])
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

/// Two relatives of four, and a range of pages.
#[derive(Clone, Copy, Debug)]
struct Relatives {
    one: usize,
    other: usize,
    range: Range,
    sharing: Flags,
}

fn relatives() -> Gen<Relatives> {
    let parts = (0..4_usize, 1..4_usize, page_range(20), any_sharing());
    let strategy =
        parts.prop_map(|(one, step, range, sharing)| Relatives { one, other: (one + step) % 4, range, sharing });
    drawn("two of a worker, two children and a grandchild; a range of pages, a sharing type", strategy)
}

/// The worker, its first child, that one's child, and the worker's second child.
fn four(lab: &Lab) -> Verdict<[Actor<'_>; 4]> {
    let first = lab.fork()?;
    Ok([lab.worker(), first, lab.fork_from(first.id(), false)?, lab.fork()?])
}

/// What is mapped in one process is not there in another, where the same address is free for something else.
fn addresses_are_of_one_process(lab: &Lab, input: &Relatives) -> Verdict {
    let Relatives { one, other, range: Range { at, len }, sharing } = *input;
    let hole = lab.hole(at, len);
    let family = four(lab)?;
    for (turn, maker) in [one, other].into_iter().enumerate() {
        family[maker].map(anonymous(len, READ_WRITE, sharing).fixed(hole))?;
        family[maker].store(hole, &Data::pattern(maker as u32, len)).prepared()?;
        for (index, member) in family.iter().enumerate() {
            match index {
                _ if index == one || (turn == 1 && index == other) => {
                    member.load(hole, len).must_hold(&Data::pattern(index as u32, len))?;
                }
                _ => {
                    member.load(hole, 1).must_be_unmapped(0)?;
                    member.store(hole.plus(len - 1), &Data::repeat(1, 1)).must_be_unmapped(0)?;
                }
            }
        }
    }
    Ok(())
}

/// A descriptor that one process opens is not open in another, which may give the same number to a file of its own.
fn numbers_are_of_one_process(lab: &Lab, input: &Relatives) -> Verdict {
    let Relatives { one, other, range: Range { len, .. }, .. } = *input;
    let number = lab.free_number(&[])?;
    let family = four(lab)?;
    let mut open = [false; 4];
    for opener in [one, other] {
        let (_, fd) = family[opener].new_file(&Data::pattern(opener as u32, len))?;
        family[opener].dup_onto(fd, number, false)?;
        open[opener] = true;
        for (index, member) in family.iter().enumerate() {
            if open[index] {
                member.pread(number, len, 0).must_hold(&Data::pattern(index as u32, len))?;
            } else {
                member.pread(number, 1, 0).must_fail(EBADF)?;
                member.fcntl(number, libc::F_GETFL, 0).must_fail(EBADF)?;
                member.mmap(request(len, READ, SHARED, number)).must_fail(EBADF)?;
            }
        }
    }
    Ok(())
}

/// process_vm_readv yields what the other process has at the address, and not what the caller has there.
fn permission_reaches_in(lab: &Lab, input: &Relatives) -> Verdict {
    let Relatives { one, range: Range { at, len }, .. } = *input;
    let map = lab.map(anonymous(at + len, READ_WRITE, PRIVATE))?;
    let family = four(lab)?;
    for (index, member) in family.iter().enumerate() {
        member.store(map.at(at), &Data::pattern(index as u32, len)).prepared()?;
    }
    let read = |member: &Actor<'_>, at: Size, len: Size| {
        lab.call(lab.worker().id(), Call::ReadOther { actor: member.id(), at: map.at(at), len: len.get() })
    };
    for (index, member) in family.iter().enumerate().skip(1) {
        read(member, at, len).must_hold(&Data::pattern(index as u32, len))?;
    }
    lab.load(map.at(at), len).must_hold(&Data::pattern(0, len))?;
    let other = &family[one.max(1)];
    other.munmap(map.at(at), len).prepared()?;
    read(other, at, len).must_fail(EFAULT)
}

/// Every generation has the mapping where the first made it, with the same rights, contents and end.
fn same_in_every_generation(lab: &Lab, (mapping, nested): (Request, bool)) -> Verdict {
    let map = lab.map(mapping.prepare(lab)?)?;
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

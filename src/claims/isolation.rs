//! What one process has and another has not, and where it lies.

use libc::{EBADF, EFAULT};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, claim, linux, posix, unspecified};
use crate::input::*;
use crate::kernel::call::{At, Call, Segment};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![no_access_to_others(), user_space()]
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

/// Addresses beyond 3 GiB to ask for, 0 for the kernel's choice, and lengths; one that cannot be had is the kernel's choice too.
fn heights() -> Gen<(Size, Size)> {
    let hint = prop_oneof![Just(Size::ZERO), (40..47_u32).prop_map(|power| Size(1 << power))];
    drawn("the kernel's choice and addresses from 1 TiB on; lengths", (hint, any_size(1, 20)))
        .also([(Size::ZERO, pages(1)), (Size(1 << 40), pages(3))])
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
    let number = lab.free_number((16..32).rev(), &[])?;
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

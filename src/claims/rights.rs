//! How the three rights go together, and how mprotect hands them out, range by range.

use libc::{EINVAL, ENOMEM};
use proptest::prelude::*;

use super::execution::enforces;
use crate::claim::{Claim, DAY8, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::patchwork::{Patchwork, changed_to_any, forbidden, forbidden_by_key, refusal_of_access};
use crate::input::{Backing, Gen, all_prots, any_prot, drawn, each, reach};
use crate::kernel::data::Data;
use crate::kernel::guard::RETURN;
use crate::kernel::names::{EXEC, Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED, WRITE};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![combines()]
}

fn combines() -> Claim {
    claim("perm.prot-combines")
        .states("prot is the bitwise OR of its values, and each right counts for itself.")
        .documents([SHM.at("mmap, prot"), DAY8.at("mmap, prot"), WHAT.at("mmap, prot")])
        .qualified(
            "The values are ORed, but not every right stands alone: most machines cannot write without reading, and many \
             cannot execute without reading.",
        )
        .basis([
            posix("mmap, DESCRIPTION, prot"),
            unspecified("mmap, RATIONALE: hardware need not support every combination; only stores without PROT_WRITE and \
                         access under PROT_NONE are barred"),
            linux("mmap(2), VERSIONS"),
            linux("mprotect(2), VERSIONS; ERRORS, EINVAL and ENOMEM"),
            linux("mm/mprotect.c, do_mprotect_pkey(): mapping by mapping, up to the first hole"),
        ])
        .part("every combination", combinations(), each_right_for_itself)
        .part("bits that are no right", unknown_bits(), unknown_bits_change_nothing)
        .part("any rights for any range, by mprotect", changed(), |lab, work| work.lay(lab)?.must_be_as_asked(lab))
        .part("mprotect of a range that begins inside a page", misplaced(changed()), unaligned_is_refused)
        .part("mprotect across a hole", holed(changed()), a_hole_ends_it)
}

/// Memory that holds a return instruction, and how it comes by its rights.
#[derive(Clone, Copy, Debug)]
enum Source {
    MemfdByMmap,
    MemfdByMprotect,
    AnonymousByMprotect,
}

fn combinations() -> Gen<((Prot, Source), Flags)> {
    each("every combination of the three rights", all_prots())
        .and(each(
            "by mmap and by mprotect",
            [Source::MemfdByMmap, Source::MemfdByMprotect, Source::AnonymousByMprotect],
        ))
        .and(each("shared and private", [SHARED, PRIVATE]))
}

fn each_right_for_itself(lab: &Lab, ((prot, source), sharing): ((Prot, Source), Flags)) -> Verdict {
    if RETURN.is_empty() {
        return lab.lacking(Lack::Machine);
    }
    let code = Data::Code { first: 0, every: page(), len: page() };
    let map = match source {
        Source::AnonymousByMprotect => lab.map(anonymous(page(), READ_WRITE, sharing))?,
        _ => {
            let asked = if matches!(source, Source::MemfdByMmap) { prot } else { READ_WRITE };
            lab.map(request(page(), asked, sharing, lab.memfd(&code)?))?
        }
    };
    if matches!(source, Source::AnonymousByMprotect) {
        lab.store_return(map.start())?;
    }
    if !matches!(source, Source::MemfdByMmap) {
        lab.mprotect(map.start(), page(), prot).prepared()?;
    }
    let answer = lab.load(map.start(), 4);
    lab.fact(format!("load, {prot:?}"), permitted(answer.outcome()));
    answer.checked(&of_load(prot))?;
    let answer = lab.store(map.at(page() - 1), &Data::repeat(1, 1));
    let expect = if prot.has(WRITE) { Expect::Success } else { refusal_of_access(prot) };
    answer.checked(&expect)?;
    let answer = lab.execute(map.start());
    lab.fact(format!("execution, {prot:?}"), permitted(answer.outcome()));
    answer.checked(&of_execution(prot))?;
    lab.must(true, "each right permits its access; what is left open is one of what is allowed", String::new)
}

fn permitted(outcome: &Outcome) -> String {
    if outcome.is_success() { "permitted".into() } else { outcome.to_string() }
}

fn of_load(prot: Prot) -> Expect {
    let bytes = Expect::Bytes(Data::Code { first: 0, every: 4, len: 4 }.to_vec());
    match prot {
        NONE => forbidden(),
        _ if prot.has(READ) => bytes,
        _ => Expect::AnyOf(vec![bytes, forbidden(), forbidden_by_key()]),
    }
}

fn of_execution(prot: Prot) -> Expect {
    match prot {
        NONE => forbidden(),
        _ if prot.has(EXEC) => Expect::Success,
        _ if enforces() => forbidden(),
        _ => Expect::AnyOf(vec![Expect::Success, forbidden()]),
    }
}

/// Bits of prot that name no right on any architecture.
fn unknown_bits() -> Gen<(Prot, Prot)> {
    // Not bits 3 to 5, 24 and 25: PROT_SEM, PROT_BTI, PROT_MTE, PROT_GROWSDOWN and PROT_GROWSUP are known somewhere.
    let bits = (6..24_u32).chain(26..32).map(|bit| Prot(1 << bit)).collect::<Vec<_>>();
    drawn("rights with a bit that stands for none", (any_prot(), prop::sample::select(bits)))
}

/// They are ignored, or refused with EINVAL.
fn unknown_bits_change_nothing(lab: &Lab, (prot, bit): (Prot, Prot)) -> Verdict {
    let prot = Prot(prot.0 & !EXEC.0);
    let fd = Backing::Anonymous.open(lab, &Data::zeros(0))?;
    let args = request(page(), prot | bit, PRIVATE | Backing::Anonymous.flags(), fd);
    lab.aside(|| {
        let (answer, map) = lab.try_map(args);
        answer.checked(&Expect::AnyOf(vec![Expect::Success, Expect::Refused(EINVAL)]))?;
        let Some(map) = map else { return Ok(()) };
        let expect = if prot.has(WRITE) { Expect::Success } else { refusal_of_access(prot) };
        lab.store(map.start(), &Data::repeat(1, 1)).checked(&expect)
    })?;
    lab.must(true, "the bit is ignored or refused", String::new)
}

fn changed() -> Gen<Patchwork> {
    changed_to_any(all_prots())
}

/// Changes, each with a distance from the beginning of a page.
pub(super) fn misplaced(changes: Gen<Patchwork>) -> Gen<(Patchwork, Size)> {
    let distance = prop_oneof![Just(1), Just(page() - 1), 1..reach()].prop_map(Size);
    changes.and(drawn("a distance from the beginning of a page", distance))
}

/// EINVAL, and no right has changed.
pub(super) fn unaligned_is_refused(lab: &Lab, (mut work, distance): (Patchwork, Size)) -> Verdict {
    let Some(change) = work.changes.pop() else { return Ok(()) };
    let mut laid = work.lay(lab)?;
    let at = laid.base.plus(change.range.at + distance);
    lab.mprotect(at, change.range.len, change.prot).must_fail(EINVAL)?;
    laid.must_be_as_asked(lab)
}

/// Mappings, and a page of them that is to be a hole.
pub(super) fn holed(changes: Gen<Patchwork>) -> Gen<(Patchwork, usize)> {
    changes.and(drawn("which page", 0..20_usize))
}

/// What lies before the hole has changed, the hole is still one, and what lies behind has not changed.
pub(super) fn a_hole_ends_it(lab: &Lab, (mut work, place): (Patchwork, usize)) -> Verdict {
    work.changes.clear();
    let mut laid = work.lay(lab)?;
    let count = laid.rights.len();
    if count < 2 {
        return lab.mprotect(laid.base.minus(page()), 0, READ).must_succeed();
    }
    let hole = place % count;
    let at = laid.base.plus(pages(hole));
    lab.munmap(at, page()).prepared()?;
    lab.mprotect(laid.base, laid.bytes.len(), READ).must_fail(ENOMEM)?;
    laid.rights[..hole].fill(READ);
    for number in (0..count).filter(|number| *number != hole) {
        laid.load(lab, number)?;
        laid.store(lab, number)?;
    }
    lab.load(at, 1).must_be_unmapped(0)
}

//! The right to execute.

use libc::{EACCES, EPERM};
use proptest::prelude::*;

use crate::claim::{Claim, Depends, IPC, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::patchwork::forbidden;
use crate::input::{Gen, Range, any_sharing, drawn, page_range};
use crate::kernel::data::Data;
use crate::kernel::guard::RETURN;
use crate::kernel::machine;
use crate::kernel::names::{EXEC, Flags, NONE, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::outcome::Lack;
use crate::kernel::page::{page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![exec()]
}

fn exec() -> Claim {
    claim("perm.prot-exec")
        .states("PROT_EXEC lets contents be executed, and without it they cannot be.")
        .documents([WHAT.at("mmap, prot"), SHM.at("mmap, prot"), IPC.at("mmap, prot")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, prot table"),
            unspecified("mmap, DESCRIPTION, prot: execution without PROT_EXEC may be permitted"),
            linux("mmap(2), VERSIONS; ERRORS, EPERM (noexec)"),
            linux("mprotect(2), ERRORS, EACCES; VERSIONS"),
        ])
        .part("anonymous memory, range by range", code(), executable_by_ranges)
        .part("a file", code(), a_file_is_executed)
        .depends_on([Depends::FileSystem])
        .part("a memory file", code(), a_memory_file_is_executed)
        .part("without PROT_EXEC", code(), nothing_is_executed)
        .part("on a noexec mount", code(), noexec_is_kept)
        .one_in(64)
}

/// Pages with a return instruction in each.
#[derive(Clone, Copy)]
struct Code {
    sharing: Flags,
    count: usize,
    /// Which of them are to be executable.
    range: Range,
    /// Where the instruction stands in each page, in multiples of four bytes from its beginning or its end.
    place: isize,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}p, {:?}", self.range, self.count, self.sharing)
    }
}

impl Code {
    /// The distance of a page's instruction from the first page.
    fn at(&self, number: usize) -> usize {
        let place = self.place * 4;
        let inside = if place < 0 { page() - place.unsigned_abs() } else { place as usize };
        number * page() + inside
    }

    /// A file of it.
    fn file(&self) -> Data {
        Data::Code { first: self.at(0), every: page(), len: pages(self.count).get() }
    }

    fn is_in_range(&self, number: usize) -> bool {
        (self.range.at..self.range.end()).contains(&pages(number))
    }
}

fn code() -> Gen<Code> {
    let place = prop_oneof![1 => Just(0), 1 => Just(-1), 2 => 0..256_isize, 1 => -256..-1_isize];
    let strategy = (any_sharing(), prop_oneof![4 => 1..5_usize, 1 => 5..20_usize], place).prop_flat_map(
        |(sharing, count, place)| page_range(count).prop_map(move |range| Code { sharing, count, range, place }),
    );
    let all = |sharing, count| Code { sharing, count, range: Range { at: pages(0), len: pages(count) }, place: 0 };
    drawn("pages with a return instruction anywhere in each, and a range of them", strategy).also([
        all(PRIVATE, 1),
        all(SHARED, 1),
        all(PRIVATE, 3),
    ])
}

/// Goes on only where memory without PROT_EXEC is not executed, which is tried; a machine that is known to refuse it must.
fn needs_enforcement(lab: &Lab) -> Verdict {
    let map = lab.map(anonymous(page(), READ_WRITE, PRIVATE))?;
    lab.store_return(map.start())?;
    let answer = lab.execute(map.start());
    if answer.outcome().is_success() && !enforces() {
        return lab.lacking(Lack::Machine);
    }
    answer.checked(&forbidden())
}

/// Whether this machine, and the caller's personality, are known to refuse the execution of other memory.
pub(super) fn enforces() -> bool {
    machine::enforces_no_execution() && !machine::read_implies_exec()
}

/// Each page of the range is executed, and no other; and when the right is taken away again, none.
fn executable_by_ranges(lab: &Lab, code: Code) -> Verdict {
    needs_enforcement(lab)?;
    let map = lab.map(anonymous(pages(code.count), READ_WRITE, code.sharing))?;
    for number in 0..code.count {
        lab.store_return(map.at(code.at(number)))?;
    }
    let begin = map.at(code.range.at);
    for (prot, permitted) in [(READ | EXEC, true), (READ, false), (READ_WRITE | EXEC, true), (NONE, false)] {
        lab.mprotect(begin, code.range.len, prot).prepared()?;
        for number in 0..code.count {
            let expect = if permitted && code.is_in_range(number) { Expect::Success } else { forbidden() };
            lab.execute(map.at(code.at(number))).checked(&expect)?;
        }
    }
    lab.must(true, "pages are executed where they have the right, and nowhere else", String::new)
}

/// A file is executed from its mapping; on a noexec mount mmap is refused with EPERM and mprotect with EACCES.
fn a_file_is_executed(lab: &Lab, code: Code) -> Verdict {
    let (_, fd) = lab.new_file(&code.file())?;
    let args = request(pages(code.count), READ, code.sharing, fd);
    if machine::is_noexec(".") {
        return noexec_refuses(lab, args, code);
    }
    must_be_executed(lab, lab.map(args.prot(READ | EXEC))?, code)?;
    let map = lab.map(args)?;
    lab.mprotect(map.start(), map.len, READ | EXEC).must_succeed()?;
    must_be_executed(lab, map, code)
}

fn a_memory_file_is_executed(lab: &Lab, code: Code) -> Verdict {
    let fd = lab.memfd(&code.file())?;
    must_be_executed(lab, lab.map(request(pages(code.count), READ | EXEC, code.sharing, fd))?, code)
}

fn must_be_executed(lab: &Lab, map: Map, code: Code) -> Verdict {
    if RETURN.is_empty() {
        return lab.lacking(Lack::Machine);
    }
    for number in 0..code.count {
        lab.execute(map.at(code.at(number))).must_succeed()?;
        lab.store(map.at(code.at(number)), &Data::repeat(1, 1)).must_be_forbidden(0)?;
    }
    Ok(())
}

fn nothing_is_executed(lab: &Lab, code: Code) -> Verdict {
    needs_enforcement(lab)?;
    let (_, file) = lab.new_file(&code.file())?;
    let memory = lab.memfd(&code.file())?;
    for (fd, prot) in [(file, READ), (memory, READ), (file, READ_WRITE), (memory, READ_WRITE)] {
        let map = lab.map(request(pages(code.count), prot, code.sharing, fd))?;
        for number in 0..code.count {
            // With the page loaded before, and without.
            lab.execute(map.at(code.at(number))).must_be_forbidden(0)?;
            lab.load(map.at(code.at(number)), 4).must_hold(&Data::Code { first: 0, every: 4, len: 4 })?;
            lab.execute(map.at(code.at(number))).must_be_forbidden(0)?;
        }
    }
    Ok(())
}

fn noexec_is_kept(lab: &Lab, code: Code) -> Verdict {
    let child = lab.fork()?;
    child.call(crate::kernel::call::Call::Tmpfs { options: "mode=0700".into(), noexec: true }).prepared()?;
    let (_, fd) = child.new_file(&code.file())?;
    noexec_refuses(child, request(pages(code.count), READ, code.sharing, fd), code)
}

/// PROT_EXEC is refused in any company, by mmap and by mprotect; the file is mapped without it as any other.
fn noexec_refuses<'l>(who: impl Calls<'l>, args: crate::kernel::call::MmapArgs, code: Code) -> Verdict {
    for others in [NONE, READ, READ_WRITE] {
        who.mmap(args.prot(others | EXEC)).must_fail(EPERM)?;
    }
    let map = who.map(args)?;
    who.mprotect(map.at(code.range.at), code.range.len, READ | EXEC).must_fail(EACCES)?;
    who.load(map.start(), map.len).must_hold(&code.file())
}

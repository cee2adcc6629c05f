//! The whole table: open modes, rights, sharing types; what mmap grants of it, and what mprotect does later.

use libc::{EACCES, O_APPEND, O_RDONLY, O_RDWR, O_WRONLY};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, Depends, IPC, claim, linux, posix};
use crate::input::patchwork::forbidden;
use crate::input::{Gen, Range, all_prots, drawn, page_range};
use crate::kernel::data::Data;
use crate::kernel::machine;
use crate::kernel::names::{EXEC, Flags, NONE, PRIVATE, Prot, READ, SHARED, SHARED_VALIDATE, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![not_above()]
}

fn not_above() -> Claim {
    claim("perm.not-above-open-mode")
        .states(
            "A mapping is not granted more than the file was opened with: PROT_READ takes O_RDONLY or O_RDWR, \
             PROT_READ|PROT_WRITE takes O_RDWR.",
        )
        .documents([DAY8.at("note 3"), IPC.at("mmap, fd"), IPC.at("question 2")])
        .qualified(
            "True of shared mappings. A private mapping may be writable over O_RDONLY, and PROT_EXEC needs no execute \
             permission of the file, only a mount that is not noexec (EPERM).",
        )
        .basis([
            posix("mmap, DESCRIPTION, prot"),
            posix("mmap, ERRORS, [EACCES]"),
            linux("mmap(2), DESCRIPTION, prot; ERRORS, EACCES and EPERM"),
            linux("mprotect(2), ERRORS, EACCES"),
        ])
        .part("by mmap", table(|prot| !prot.has(EXEC)), as_the_mode_allows)
        .part("by mmap, with PROT_EXEC", table(|prot| prot.has(EXEC)), as_the_mode_allows)
        .depends_on([Depends::FileSystem])
        .part("by mprotect, later", table(|prot| !prot.has(EXEC)), as_the_mode_allows_later)
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Rdonly,
    Wronly,
    Rdwr,
}

impl Mode {
    fn flags(self) -> i32 {
        match self {
            Mode::Rdonly => O_RDONLY,
            Mode::Wronly => O_WRONLY,
            Mode::Rdwr => O_RDWR,
        }
    }
}

type Row = (Mode, Prot, Flags);

/// A range of a file of so many pages, and how it is opened besides.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Of {
    count: usize,
    range: Range,
    /// O_APPEND, which says nothing of mappings.
    appending: bool,
}

impl std::fmt::Debug for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.range, pages(self.count))?;
        if self.appending { write!(f, ", O_APPEND") } else { Ok(()) }
    }
}

fn table(take: impl Fn(&Prot) -> bool) -> Gen<(Row, Of)> {
    let prots: Vec<Prot> = all_prots().into_iter().filter(take).collect();
    let modes = [Mode::Rdonly, Mode::Wronly, Mode::Rdwr];
    let sharings = [SHARED, PRIVATE, SHARED_VALIDATE];
    let rows: Vec<Row> = modes
        .into_iter()
        .flat_map(|mode| prots.iter().flat_map(move |prot| sharings.map(|sharing| (mode, *prot, sharing))))
        .collect();
    let ranges = (1..6_usize, any::<bool>())
        .prop_flat_map(|(count, appending)| page_range(count).prop_map(move |range| Of { count, range, appending }));
    let any = (prop::sample::select(rows.clone()), ranges);
    let both = Of { count: 2, range: Range { at: Size::ZERO, len: pages(2) }, appending: false };
    drawn("open modes, rights and sharing types, all with all, and ranges", any)
        .also(rows.iter().map(move |row| (*row, both)))
        .also(rows.iter().map(move |row| (*row, Of { appending: true, ..both })))
}

/// The errno that the table has for a request, by mmap.
fn refusal((mode, prot, sharing): Row) -> Option<i32> {
    match mode {
        Mode::Wronly => Some(EACCES),
        Mode::Rdonly if sharing.is_shared() && prot.has(WRITE) => Some(EACCES),
        _ if prot.has(EXEC) && machine::is_noexec(".") => Some(libc::EPERM),
        _ => None,
    }
}

fn as_the_mode_allows(lab: &Lab, (row, of): (Row, Of)) -> Verdict {
    let (mode, prot, sharing) = row;
    let Of { count, range, appending } = of;
    let data = Data::pattern(2, pages(count));
    let path = lab.file(&data)?;
    let fd = lab.open(path, mode.flags() | if appending { O_APPEND } else { 0 })?;
    let args = request(range.len, prot, sharing, fd).offset(range.at);
    match refusal(row) {
        Some(errno) => lab.mmap(args).must_fail(errno),
        None => {
            let (answer, map) = lab.try_map(args);
            answer.must_succeed()?;
            let Some(map) = map else { return Ok(()) };
            if prot.has(WRITE) {
                let (stored, last) = (Data::repeat(1, 1), range.end() - 1);
                lab.store(map.at(range.len - 1), &stored).must_succeed()?;
                let there = if sharing.is_shared() { stored } else { Data::at(2, last, 1) };
                lab.pread(lab.open(path, O_RDONLY)?, 1, last).must_hold(&there)?;
            } else if prot != EXEC {
                lab.store(map.start(), &Data::repeat(1, 1)).must_be_forbidden(0)?;
            }
            if prot.has(READ) {
                lab.load(map.start(), range.len - 1).must_hold(&Data::at(2, range.at, range.len - 1))?;
            }
            Ok(())
        }
    }
}

/// mprotect keeps to the same table, over a mapping that was made with no rights at all.
fn as_the_mode_allows_later(lab: &Lab, (row, of): (Row, Of)) -> Verdict {
    let (mode, prot, sharing) = row;
    let Of { count, range, appending } = of;
    let data = Data::pattern(2, pages(count));
    let fd = lab.open(lab.file(&data)?, mode.flags() | if appending { O_APPEND } else { 0 })?;
    let args = request(pages(count), NONE, sharing, fd);
    if mode == Mode::Wronly {
        return lab.mmap(args).must_fail(EACCES);
    }
    let map = lab.map(args)?;
    lab.close(fd).prepared()?;
    let answer = lab.mprotect(map.at(range.at), range.len, prot);
    match refusal(row) {
        Some(errno) => {
            answer.must_fail(errno)?;
            lab.load(map.at(range.at), 1).must_be_forbidden(0)
        }
        None => {
            answer.must_succeed()?;
            for number in 0..count {
                let inside = (range.at..range.end()).contains(&pages(number));
                let answer = lab.store(map.at(pages(number)), &Data::repeat(1, 1));
                let expect = match inside && prot.has(WRITE) {
                    true => Expect::Success,
                    false => forbidden(),
                };
                answer.checked(&expect)?;
            }
            Ok(())
        }
    }
}

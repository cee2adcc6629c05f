//! Neighbouring mappings whose rights were set by mmap and then changed by mprotect, range by range.

use std::fmt;

use proptest::prelude::*;

use super::{Backing, Gen, Range, all_prots, any_backing, any_sharing, content_seed, drawn, page_range, reach};
use crate::kernel::call::{At, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, Flags, NONE, Prot, READ, WRITE};
use crate::kernel::page::{Size, page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{BUS_ADRERR, Lab, SEGV_ACCERR, SEGV_PKUERR};

/// One mapping of a patchwork: whole pages of something that has as many.
#[derive(Clone, Copy)]
pub struct Patch {
    /// What is mapped.
    pub backing: Backing,
    /// The sharing type.
    pub sharing: Flags,
    /// How many pages.
    pub count: usize,
    /// The first of them, in a file.
    pub first: usize,
    /// The rights that mmap is asked for.
    pub prot: Prot,
    /// A file's contents: which pattern.
    pub contents: u32,
}

/// What the process does with all pages, as far as it may, before their rights change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: there are no page table entries yet.
    Untouched,
    /// Loads each.
    Loaded,
    /// Stores to each.
    Stored,
}

/// A call of mprotect.
#[derive(Clone, Copy)]
pub struct Change {
    /// Its range; its end is rounded up to a page.
    pub range: Range,
    /// The new rights.
    pub prot: Prot,
}

/// Mappings side by side, and the calls of mprotect that follow.
#[derive(Clone)]
pub struct Patchwork {
    /// From the lowest address to the highest.
    pub patches: Vec<Patch>,
    /// What comes before the changes.
    pub before: Before,
    /// One after the other.
    pub changes: Vec<Change>,
    /// The place in each page at which stores are tried.
    pub spot: usize,
}

impl Patch {
    /// Whether another is the next window on the same file.
    fn is_continued_by(&self, next: &Patch) -> bool {
        (self.backing, self.contents, self.first + self.count) == (next.backing, next.contents, next.first)
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Patch { backing, sharing, count, prot, .. } = self;
        write!(f, "{backing:?} {count}p {prot:?} {sharing:?}")?;
        if self.first > 0 { write!(f, " at {}p", self.first) } else { Ok(()) }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {:?}", self.range, self.prot)
    }
}

impl fmt::Debug for Patchwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.patches)?;
        if !self.changes.is_empty() {
            write!(f, ", {:?}, then {:?}", self.before, self.changes)?;
        }
        Ok(())
    }
}

impl Patchwork {
    /// One mapping whose rights come from mmap alone.
    pub fn plain(backing: Backing, sharing: Flags, count: usize, prot: Prot) -> Patchwork {
        let patch = Patch { backing, sharing, count, first: 0, prot, contents: 2 };
        Patchwork { patches: vec![patch], before: Before::Untouched, changes: Vec::new(), spot: 17 }
    }

    /// The same, and each page is stored to before its rights change.
    pub fn stored(self) -> Patchwork {
        Patchwork { before: Before::Stored, ..self }
    }

    /// The same with one more call of mprotect.
    pub fn then(mut self, range: Range, prot: Prot) -> Patchwork {
        self.changes.push(Change { range, prot });
        self
    }

    /// How many pages it has.
    pub fn count(&self) -> usize {
        self.patches.iter().map(|patch| patch.count).sum()
    }
}

fn any_patch(prot: BoxedStrategy<Prot>) -> BoxedStrategy<Patch> {
    let count = prop_oneof![6 => 1..=3_usize, 3 => 1..=8_usize, 1 => 8..=20_usize];
    (any_backing(), any_sharing(), count, 0..4_usize, prot, content_seed())
        .prop_map(|(backing, sharing, count, first, prot, contents)| {
            let first = if backing.is_file() { first } else { 0 };
            Patch { backing, sharing, count, first, prot, contents }
        })
        .boxed()
}

fn patches(prot: BoxedStrategy<Prot>) -> BoxedStrategy<Vec<Patch>> {
    let apart = prop::collection::vec(any_patch(prot.clone()), 1..=3);
    // Windows that continue each other: where they have the same rights, the kernel may make one mapping of them.
    let continued = (any_patch(prot), 2..=3_usize).prop_map(|(patch, times)| {
        let next = |n: usize| if patch.backing.is_file() { patch.first + n * patch.count } else { 0 };
        (0..times).map(|n| Patch { first: next(n), ..patch }).collect()
    });
    prop_oneof![3 => apart, 1 => continued].boxed()
}

/// A named file may lie on a mount without execution (mount(8), noexec), which has a claim of its own.
fn without_execution(mut work: Patchwork) -> Patchwork {
    if work.patches.iter().any(|patch| matches!(patch.backing, Backing::File | Backing::DevZero)) {
        let prots = work.patches.iter_mut().map(|patch| &mut patch.prot);
        prots.chain(work.changes.iter_mut().map(|change| &mut change.prot)).for_each(|prot| prot.0 &= !EXEC.0);
    }
    work
}

fn spot() -> BoxedStrategy<usize> {
    prop_oneof![1 => Just(0), 1 => Just(page() - 8), 3 => 0..reach() - 8].boxed()
}

/// Mappings that mmap gave these rights.
pub fn given(prot: Prot) -> Gen<Patchwork> {
    let strategy = (patches(Just(prot).boxed()), spot()).prop_map(|(patches, spot)| Patchwork {
        patches,
        before: Before::Untouched,
        changes: Vec::new(),
        spot,
    });
    drawn(format!("neighbouring mappings of every backing with {prot:?} from mmap"), strategy)
}

/// Mappings with any rights, of which a range gets these from mprotect: all, the first pages, the last, the middle, across mappings.
pub fn changed_to(prot: Prot) -> Gen<Patchwork> {
    changed_to_any(vec![prot])
}

/// As [`changed_to`], with any of these rights.
pub fn changed_to_any(prots: Vec<Prot>) -> Gen<Patchwork> {
    let about = match prots[..] {
        [prot] => format!("neighbouring mappings, of which mprotect gives {prot:?} to ranges of every place"),
        _ => "neighbouring mappings, of which mprotect gives any rights to ranges of every place".to_owned(),
    };
    let last = prop::sample::select(prots).boxed();
    let any = prop::sample::select(all_prots()).boxed();
    let before = prop::sample::select(vec![Before::Untouched, Before::Loaded, Before::Stored]);
    let earlier = prop_oneof![4 => Just(0_usize), 2 => Just(1), 1 => 2..=3_usize];
    let strategy =
        (patches(any.clone()), before, earlier, spot()).prop_flat_map(move |(patches, before, earlier, spot)| {
            let count = patches.iter().map(|patch| patch.count).sum();
            let change = |prot: BoxedStrategy<Prot>| {
                (page_range(count), odd_end(), prot).prop_map(|(range, short, prot)| {
                    let len = Size(range.len.get() - short);
                    Change { range: Range { len, ..range }, prot }
                })
            };
            let changes = (prop::collection::vec(change(any.clone()), earlier), change(last.clone()));
            changes.prop_map(move |(mut changes, last)| {
                changes.push(last);
                without_execution(Patchwork { patches: patches.clone(), before, changes, spot })
            })
        });
    drawn(about, strategy)
}

/// How much a range ends before a page does; mprotect rounds it up.
fn odd_end() -> BoxedStrategy<usize> {
    prop_oneof![3 => Just(0), 1 => Just(page() - 1), 1 => 0..reach()].boxed()
}

/// From so many pages on stores are tried at one place of each.
const MANY: usize = 6;

/// A patchwork that has been made, and what each of its pages permits and holds.
pub struct Laid {
    /// Its first byte.
    pub base: At,
    /// The rights of each page.
    pub rights: Vec<Prot>,
    /// What each byte is.
    pub bytes: Vec<u8>,
    files: Vec<(usize, Patch, Fd)>,
    spot: usize,
    stores: u32,
}

impl Patchwork {
    /// Makes the mappings, inside the arena, and changes their rights.
    ///
    /// # Errors
    /// A skip where the machine lacks a backing, a violation where mmap or mprotect fails.
    pub fn lay(&self, lab: &Lab) -> Verdict<Laid> {
        let base = At::Arena(pages(9).get());
        let mut laid = Laid { base, rights: vec![], bytes: vec![], files: vec![], spot: self.spot, stores: 0 };
        for patch in &self.patches {
            laid.add(lab, *patch)?;
        }
        for page in 0..laid.rights.len() {
            match self.before {
                Before::Untouched => {}
                Before::Loaded => laid.load(lab, page)?,
                Before::Stored => laid.store(lab, page)?,
            }
        }
        for change in &self.changes {
            lab.mprotect(laid.base.plus(change.range.at), change.range.len, change.prot).prepared()?;
            laid.note(*change);
        }
        Ok(laid)
    }
}

impl Laid {
    /// One mapping more, right behind the last.
    fn add(&mut self, lab: &Lab, patch: Patch) -> Verdict {
        let (offset, len) = (pages(patch.first), pages(patch.count));
        let fd = match self.files.last() {
            Some((_, last, fd)) if last.is_continued_by(&patch) => {
                lab.pwrite(*fd, &Data::at(patch.contents, offset, len), offset).prepared()?;
                *fd
            }
            _ => patch.backing.open(lab, &Data::pattern(patch.contents, offset + len))?,
        };
        let args = request(len, patch.prot, patch.sharing | patch.backing.flags(), fd).offset(offset);
        lab.map(args.fixed(self.base.plus(self.bytes.len())))?;
        let view = if patch.backing.is_file() { Data::at(patch.contents, offset, len) } else { Data::zeros(len) };
        self.bytes.extend(view.to_vec());
        self.rights.extend(std::iter::repeat_n(patch.prot, patch.count));
        if patch.backing.is_file() {
            self.files.push((self.bytes.len() - len.get(), patch, fd));
        }
        Ok(())
    }

    /// Takes down that a range has got other rights.
    pub fn note(&mut self, change: Change) {
        let first = change.range.at.in_pages();
        self.rights[first..first + change.range.len.in_pages()].fill(change.prot);
    }

    fn page_at(&self, number: usize) -> At {
        self.base.plus(pages(number))
    }

    /// A load of a page, all of it: it gives the bytes, or a fault, as its rights say.
    ///
    /// # Errors
    /// A violation where it does otherwise.
    pub fn load(&self, lab: &Lab, number: usize) -> Verdict {
        let rights = self.rights[number];
        let bytes = Expect::Bytes(self.bytes[number * page()..][..page()].to_vec());
        let expect = match rights {
            NONE => forbidden(),
            _ if rights.has(READ) => bytes,
            // Whether rights without PROT_READ permit loads is left open (POSIX, mmap, DESCRIPTION).
            _ => Expect::AnyOf(vec![bytes, forbidden(), forbidden_by_key()]),
        };
        lab.load(self.page_at(number), page()).checked(&expect)
    }

    /// Stores to a page, at its beginning, its end and between: they change it, or fault, as its rights say.
    ///
    /// # Errors
    /// A violation where they do otherwise.
    pub fn store(&mut self, lab: &Lab, number: usize) -> Verdict {
        let rights = self.rights[number];
        let places = [(0, 1), (self.spot, 8), (page() - 1, 1)];
        // Of many pages each gets one of the three, so that a case does not take longer than others.
        let skipped = |index: usize| self.rights.len() > MANY && index != number % places.len();
        for (_, (at, len)) in places.into_iter().enumerate().filter(|(index, _)| !skipped(*index)) {
            let place = number * page() + at;
            let data = Data::at(2 * self.stores + 1, place, len);
            self.stores += 1;
            let answer = lab.store(self.base.plus(place), &data);
            if rights.has(WRITE) {
                answer.checked(&Expect::Success)?;
                data.fill(&mut self.bytes[place..place + len]);
            } else {
                answer.checked(&refusal_of_access(rights))?;
            }
        }
        Ok(())
    }

    /// Every page permits what it is to permit and nothing else, stores have gone where they should, and only there.
    ///
    /// # Errors
    /// A violation where it is not so.
    pub fn must_be_as_asked(&mut self, lab: &Lab) -> Verdict {
        for number in 0..self.rights.len() {
            self.load(lab, number)?;
            self.store(lab, number)?;
            if self.rights[number] == NONE {
                lab.execute(self.page_at(number)).checked(&forbidden())?;
            }
        }
        lab.must(true, "each page permits what it was given, and no store or load beside", String::new)?;
        self.must_hold_what_was_stored(lab)
    }

    /// What the permitted stores left, and the others did not touch: in memory and in the files.
    ///
    /// # Errors
    /// A violation where it is not so.
    pub fn must_hold_what_was_stored(&self, lab: &Lab) -> Verdict {
        lab.mprotect(self.base, self.bytes.len(), READ).prepared()?;
        lab.load(self.base, self.bytes.len()).must_equal(&self.bytes)?;
        for (at, patch, fd) in &self.files {
            let len = pages(patch.count).get();
            let original = Data::at(patch.contents, pages(patch.first), len).to_vec();
            let expected = if patch.sharing.is_shared() { &self.bytes[*at..at + len] } else { &original[..] };
            lab.pread(*fd, len, pages(patch.first)).must_equal(expected)?;
        }
        Ok(())
    }
}

/// An access against the rights: SIGSEGV, SEGV_ACCERR.
pub fn forbidden() -> Expect {
    Expect::Fault { signal: libc::SIGSEGV, code: SEGV_ACCERR, at: 0 }
}

/// The same where a protection key stands behind it (pkeys(7)): x86 gives memory one that is executable only.
pub fn forbidden_by_key() -> Expect {
    Expect::Fault { signal: libc::SIGSEGV, code: SEGV_PKUERR, at: 0 }
}

/// An access to a page wholly beyond the end of the file: SIGBUS, BUS_ADRERR.
pub fn beyond_the_file() -> Expect {
    Expect::Fault { signal: libc::SIGBUS, code: BUS_ADRERR, at: 0 }
}

/// What an access that these rights do not permit ends in.
pub fn refusal_of_access(rights: Prot) -> Expect {
    if rights == EXEC { Expect::AnyOf(vec![forbidden(), forbidden_by_key()]) } else { forbidden() }
}

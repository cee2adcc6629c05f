//! Stories of the processes of one family and the memory that they have in common: who is born, stores, looks and ends, in which order.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use proptest::prelude::*;

use super::{Backing, Edit, Gen, Range, Window, any_window, each, edit_within, page_range};
use crate::kernel::call::{ActorId, At, Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, NONE, Prot, READ, READ_WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// What a member of the family does; members are numbered in the order of their birth, the worker is 0.
#[derive(Clone, PartialEq, Eq)]
pub enum Act {
    /// Forks this child.
    Fork(usize, usize),
    /// Stores.
    Store(usize, Edit),
    /// Loads one byte.
    Touch(usize, Size),
    /// Loads all that there is, and meets a fault where nothing may be loaded.
    Look(usize),
    /// munmap(2) of whole pages.
    Unmap(usize, Range),
    /// mprotect(2) of whole pages.
    Protect(usize, Range, Prot),
    /// _exit(2).
    Exit(usize),
}

/// Acts, in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct Story(pub Vec<Act>);

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |member: &usize| ActorId(*member as u16);
        match self {
            Act::Fork(parent, child) => write!(f, "{:?} forks {:?}", name(parent), name(child)),
            Act::Store(who, edit) => write!(f, "{:?} stores {edit:?}", name(who)),
            Act::Touch(who, at) => write!(f, "{:?} loads {at}", name(who)),
            Act::Look(who) => write!(f, "{:?} looks", name(who)),
            Act::Unmap(who, range) => write!(f, "{:?} unmaps {range:?}", name(who)),
            Act::Protect(who, range, prot) => write!(f, "{:?} makes {range:?} {prot:?}", name(who)),
            Act::Exit(who) => write!(f, "{:?} ends", name(who)),
        }
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// What members may do beside giving birth, storing and looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freedom {
    /// End.
    Ends,
    /// End, unmap and protect.
    EndsAndMappings,
}

#[derive(Clone, Debug)]
enum Wish {
    Fork,
    Store(Edit),
    Touch(Size),
    Look,
    Exit,
    Unmap(Range),
    Protect(Range, Prot),
}

/// The largest number of processes in a story, the worker included.
const MEMBERS: usize = 5;

/// Stories over so many bytes, with one child at least: some acts before its birth, more after it.
pub fn any_story(len: Size, freedom: Freedom) -> BoxedStrategy<Story> {
    let count = len.in_pages();
    let quiet = prop_oneof![
        3 => edit_within(len).prop_map(Wish::Store),
        1 => (0..count).prop_map(|page| Wish::Touch(pages(page))),
        1 => Just(Wish::Look),
    ];
    let (children, mappings) = match freedom {
        Freedom::Ends => (1, 0),
        Freedom::EndsAndMappings => (2, 6),
    };
    let any = prop_oneof![
        6 => edit_within(len).prop_map(Wish::Store),
        1 => (0..count).prop_map(|page| Wish::Touch(pages(page))),
        2 => Just(Wish::Look),
        2 => Just(Wish::Fork),
        1 => Just(Wish::Exit),
        mappings => page_range(count).prop_map(Wish::Unmap),
        mappings => (page_range(count), prop::sample::select(vec![NONE, READ, READ_WRITE]))
            .prop_map(|(range, prot)| Wish::Protect(range, prot)),
    ];
    let before = prop::collection::vec(quiet, 0..3);
    let after = prop::collection::vec((any, 0..MEMBERS), 1..9);
    (before, after).prop_map(move |(before, after)| tell(before, children, after)).boxed()
}

/// Gives every wish to a member that lives by then; the worker does not end.
fn tell(before: Vec<Wish>, children: usize, after: Vec<(Wish, usize)>) -> Story {
    let (mut living, mut born) = (vec![0], 1);
    let first = std::iter::repeat_n((Wish::Fork, 0), children);
    let wishes = before.into_iter().map(|wish| (wish, 0)).chain(first).chain(after);
    let acts = wishes.filter_map(|(wish, who)| {
        let who = living[who % living.len()];
        Some(match wish {
            Wish::Fork if born == MEMBERS => return None,
            Wish::Fork => {
                living.push(born);
                born += 1;
                Act::Fork(who, born - 1)
            }
            Wish::Exit if who == 0 => return None,
            Wish::Exit => {
                living.retain(|member| *member != who);
                Act::Exit(who)
            }
            Wish::Store(edit) => Act::Store(who, edit),
            Wish::Touch(at) => Act::Touch(who, at),
            Wish::Look => Act::Look(who),
            Wish::Unmap(range) => Act::Unmap(who, range),
            Wish::Protect(range, prot) => Act::Protect(who, range, prot),
        })
    });
    Story(acts.collect())
}

/// The memory as one member has it, and what it should hold.
struct Member<'l> {
    actor: Actor<'l>,
    lives: bool,
    memory: At,
    contents: Rc<RefCell<Vec<u8>>>,
    /// The rights of each page, `None` for one that is not mapped.
    rights: Vec<Option<Prot>>,
}

impl<'l> Member<'l> {
    fn child(&self, lab: &'l Lab, shared: bool) -> Verdict<Member<'l>> {
        let contents = match shared {
            true => Rc::clone(&self.contents),
            false => Rc::new(self.contents.as_ref().clone()),
        };
        let actor = lab.fork_from(self.actor.id(), true)?;
        Ok(Member { actor, lives: true, memory: self.memory, contents, rights: self.rights.clone() })
    }

    fn may(&self, page: usize, right: Prot) -> bool {
        self.rights[page].is_some_and(|prot| prot.has(right))
    }

    /// Stores as far as it may; where it may not, it meets the fault.
    fn store(&self, edit: &Edit) -> Verdict {
        let (first, last) = (edit.at.get() / pages(1).get(), (edit.end() - 1).get() / pages(1).get());
        let stopped = (first..=last).find(|page| !self.may(*page, READ_WRITE));
        let end = stopped.map_or(edit.end(), |page| pages(page).max(edit.at));
        let bytes = edit.data.to_vec();
        let stored = (end - edit.at).get();
        self.contents.borrow_mut()[edit.at.get()..end.get()].copy_from_slice(&bytes[..stored]);
        let answer = self.actor.store(self.memory.plus(edit.at), &edit.data);
        match stopped.map(|page| self.rights[page]) {
            None => answer.prepared(),
            Some(None) => answer.must_be_unmapped(stored),
            Some(Some(_)) => answer.must_be_forbidden(stored),
        }
    }

    fn touch(&self, at: Size) -> Verdict {
        let answer = self.actor.load(self.memory.plus(at), 1);
        match self.rights[at.get() / pages(1).get()] {
            None => answer.must_be_unmapped(0),
            Some(prot) if !prot.has(READ) => answer.must_be_forbidden(0),
            Some(_) => answer.must_equal(&self.contents.borrow()[at.get()..][..1]),
        }
    }

    /// Loads every run of pages that may be loaded, and touches each that may not.
    fn look(&self) -> Verdict {
        let len = self.contents.borrow().len();
        let mut page = 0;
        while page < self.rights.len() {
            let run = self.rights[page..].iter().take_while(|right| right.is_some_and(|prot| prot.has(READ))).count();
            if run == 0 {
                self.touch(pages(page))?;
                page += 1;
                continue;
            }
            for read_only in (page..page + run).filter(|page| !self.may(*page, READ_WRITE)) {
                self.actor.store(self.memory.plus(pages(read_only)), &Data::repeat(1, 1)).must_be_forbidden(0)?;
            }
            let (from, to) = (pages(page).get(), pages(page + run).get().min(len));
            self.actor.load(self.memory.plus(from), to - from).must_equal(&self.contents.borrow()[from..to])?;
            page += run;
        }
        Ok(())
    }

    fn change(&mut self, range: Range, to: Option<Prot>) -> Verdict {
        let spanned = &mut self.rights[range.at.in_pages()..range.end().in_pages()];
        let at = self.memory.plus(range.at);
        match to {
            None => self.actor.munmap(at, range.len).prepared()?,
            // What mprotect does to a range with a hole is another claim's matter.
            Some(_) if spanned.contains(&None) => return Ok(()),
            Some(prot) => self.actor.mprotect(at, range.len, prot).prepared()?,
        }
        spanned.fill(to);
        Ok(())
    }
}

impl Story {
    /// Plays the acts, with the worker's memory at `memory`, which holds `first` and may be loaded and stored to; at the
    /// end every member that lives looks. Gives back what the memory of the worker should hold then.
    ///
    /// # Errors
    /// A violation where a member sees what it should not: `shared` memory is one for all, other memory is copied at fork.
    pub fn play(&self, lab: &Lab, memory: At, first: Vec<u8>, shared: bool) -> Verdict<Vec<u8>> {
        let rights = vec![Some(READ_WRITE); Size(first.len()).in_pages()];
        let contents = Rc::new(RefCell::new(first));
        let mut family = vec![Member { actor: lab.worker(), lives: true, memory, contents, rights }];
        for act in &self.0 {
            match *act {
                Act::Fork(parent, _) => {
                    let child = family[parent].child(lab, shared)?;
                    family.push(child);
                }
                Act::Store(who, ref edit) => family[who].store(edit)?,
                Act::Touch(who, at) => family[who].touch(at)?,
                Act::Look(who) => family[who].look()?,
                Act::Unmap(who, range) => family[who].change(range, None)?,
                Act::Protect(who, range, prot) => family[who].change(range, Some(prot))?,
                Act::Exit(who) => {
                    family[who].actor.call(Call::Exit { status: 0 }).must_exit(0)?;
                    family[who].lives = false;
                }
            }
        }
        family.iter().filter(|member| member.lives).try_for_each(Member::look)?;
        Ok(family.remove(0).contents.take())
    }
}

/// A mapping that the worker makes, and the story of its family.
#[derive(Clone, PartialEq, Eq)]
pub struct Inheritance {
    /// What is mapped.
    pub backing: Backing,
    /// Which part of it; of memory without a file, the length alone.
    pub window: Window,
    /// What happens.
    pub story: Story,
}

impl fmt::Debug for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backing.is_file() {
            true => write!(f, "{:?}, {:?}: {:?}", self.backing, self.window, self.story),
            false => write!(f, "{:?}, {}: {:?}", self.backing, self.window.len, self.story),
        }
    }
}

impl Inheritance {
    /// So many pages, from the second page of a file on; first and second child, a grandchild and its child store at their edges, and the worker to all.
    pub fn of_siblings(backing: Backing, count: usize) -> Inheritance {
        let edit = |seed, at: Size, len: usize| Edit { at, data: Data::at(seed, at, len) };
        let story = Story(vec![
            Act::Store(0, edit(1, Size::ZERO, 1)),
            Act::Fork(0, 1),
            Act::Store(1, edit(3, pages(count) - 1, 1)),
            Act::Fork(0, 2),
            Act::Store(2, edit(5, pages(count - 1) - 4, 8)),
            Act::Fork(1, 3),
            Act::Store(3, edit(7, pages(1) - 1, 2)),
            Act::Fork(3, 4),
            Act::Store(4, edit(11, pages(count) - 5, 2)),
            Act::Store(0, edit(9, Size::ZERO, pages(count).get())),
        ]);
        let window = Window { size: pages(count + 1), offset: pages(1), len: pages(count), contents: 2 };
        Inheritance { backing, window, story }
    }

    /// So many pages, of which one child and the worker store to a few.
    pub fn of_one_child(backing: Backing, count: usize) -> Inheritance {
        let edit = |seed, at: Size| Edit { at, data: Data::at(seed, at, 2) };
        let story = Story(vec![
            Act::Store(0, edit(1, pages(count / 2))),
            Act::Store(0, edit(7, pages(count - 1))),
            Act::Fork(0, 1),
            Act::Store(1, edit(3, pages(count) - 2)),
            Act::Store(0, edit(5, pages(count / 3) - 1)),
        ]);
        Inheritance { story, ..Inheritance::of_siblings(backing, count) }
    }

    /// The same family; each unmaps a page or takes rights from one.
    pub fn of_unmappers(backing: Backing, count: usize) -> Inheritance {
        let page = |number: usize| Range { at: pages(number % count), len: pages(1) };
        let story = Story(vec![
            Act::Fork(0, 1),
            Act::Fork(0, 2),
            Act::Fork(1, 3),
            Act::Unmap(1, page(0)),
            Act::Protect(3, page(count - 1), NONE),
            Act::Look(2),
            Act::Protect(2, page(0), READ),
            Act::Protect(0, page(1), READ),
            Act::Exit(1),
            Act::Store(3, Edit { at: Size::ZERO, data: Data::at(3, 0, 1) }),
            Act::Unmap(0, Range { at: Size::ZERO, len: pages(count) }),
        ]);
        Inheritance { story, ..Inheritance::of_siblings(backing, count) }
    }

    /// Maps it, readable and writable: the mapping, the descriptor if there is one, and what it holds.
    ///
    /// # Errors
    /// A skip where the machine has no such backing.
    pub fn prepare(&self, lab: &Lab, sharing: Flags) -> Verdict<(Map, Fd, Vec<u8>)> {
        let Window { len, offset, .. } = self.window;
        let fd = self.backing.open(lab, &self.window.file())?;
        let args = request(len, READ_WRITE, sharing | self.backing.flags(), fd);
        match self.backing.is_file() {
            true => Ok((lab.map(args.offset(offset))?, fd, self.window.view().to_vec())),
            false => Ok((lab.map(args)?, fd, Data::zeros(len).to_vec())),
        }
    }
}

/// Every number of pages that a family's memory may well have.
pub fn page_counts() -> Gen<Size> {
    each(
        "2 to 16 pages, each number, and some near powers of two",
        (2..=16).chain([31, 32, 33, 64, 65, 128]).map(pages),
    )
}

/// Inheritances on these backings, of 1 to 20 pages, now and then of hundreds.
pub fn any_inheritance(backing: BoxedStrategy<Backing>, freedom: Freedom) -> BoxedStrategy<Inheritance> {
    let window = prop_oneof![60 => any_window(20), 1 => any_window(260)];
    (backing, window)
        .prop_flat_map(move |(backing, window)| (Just(backing), Just(window), any_story(window.len, freedom)))
        .prop_map(|(backing, window, story)| Inheritance { backing, window, story })
        .boxed()
}

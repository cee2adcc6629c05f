//! What a property is handed: a place to make files, mappings, pipes and processes, and to ask things of them.
//!
//! Every call goes through [`Lab::call`]: it is performed, kept in the trace, and if it was refused, the state of the
//! address space is compared with the one before.

pub mod actor;
pub mod answer;
mod excuse;
pub mod expect;
mod map;
mod processes;
pub mod serving;
mod state;
pub mod stream;
pub mod trace;
pub mod verbs;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::kernel::call::{ActorId, At, Call, Fd, MapId, Path};
use crate::kernel::data::Excerpt;
use crate::kernel::machine;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::Size;
use answer::Answer;
use expect::Expect;
pub use map::Map;
use state::State;
pub use state::leaves_the_address_space;
use trace::{Announcement, Departure, Step, Stop, Verdict};

/// si_code of SIGSEGV: nothing is mapped at the address (sigaction(2)).
pub const SEGV_MAPERR: i32 = 1;
/// si_code of SIGSEGV: the mapping does not permit the access (sigaction(2)).
pub const SEGV_ACCERR: i32 = 2;
/// si_code of SIGSEGV: a protection key does not permit the access (sigaction(2)).
pub const SEGV_PKUERR: i32 = 4;
/// si_code of SIGBUS: there is nothing behind the page (sigaction(2)).
pub const BUS_ADRERR: i32 = 2;

/// The surroundings of a case.
#[derive(Debug)]
pub struct Lab {
    state: RefCell<State>,
    steps: RefCell<Vec<Step>>,
    /// Calls that were begun and of which no step tells yet: where the trace was then.
    untold: RefCell<Vec<(ActorId, Call, usize)>>,
    notes: RefCell<Vec<String>>,
    facts: RefCell<Vec<(String, String)>>,
    disturbed: RefCell<Option<(usize, String)>>,
    recording: Cell<bool>,
    aside: Cell<bool>,
    repeated: Cell<bool>,
    killed: u64,
    calls: Cell<u64>,
    announcing: RefCell<Option<Announcer>>,
}

/// Who is told of calls.
struct Announcer(Box<dyn FnMut(Announcement)>);

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcer")
    }
}

impl Lab {
    /// A lab in the current directory, for a single-threaded process.
    ///
    /// `case_limit` is how long an actor may take to answer before it counts as silent; `private` are descriptors
    /// of the harness that no actor is to keep.
    pub fn new(case_limit: Duration, private: Vec<i32>) -> Lab {
        Lab {
            state: RefCell::new(State::new(case_limit, private)),
            steps: RefCell::new(Vec::with_capacity(1024)),
            untold: RefCell::default(),
            notes: RefCell::default(),
            facts: RefCell::default(),
            disturbed: RefCell::default(),
            recording: Cell::new(false),
            aside: Cell::new(false),
            repeated: Cell::new(false),
            killed: machine::killed_for_memory(),
            calls: Cell::new(0),
            announcing: RefCell::default(),
        }
    }

    /// Whether outcomes are written down for a snapshot.
    pub fn record(&self, recording: bool) {
        self.recording.set(recording);
    }

    /// From here on every call is told before it is made, and what became of it after.
    pub fn announce_to(&self, listener: impl FnMut(Announcement) + 'static) {
        self.announcing.replace(Some(Announcer(Box::new(listener))));
    }

    /// Lets an actor perform a call, keeps both in the trace, and returns the outcome to be judged.
    pub fn call(&self, actor: ActorId, call: Call) -> Answer<'_> {
        self.announce(|| Announcement::Call(actor, Box::new(call.clone())));
        let outcome = {
            let mut state = self.state.borrow_mut();
            let (outcome, disturbance) = state.perform(actor, &call);
            if let Some(disturbance) = disturbance {
                self.disturbed.replace(Some((self.steps.borrow().len(), disturbance)));
            }
            outcome
        };
        self.announce(|| Announcement::Outcome(outcome.brief()));
        self.keep(actor, call, outcome)
    }

    fn announce(&self, announcement: impl FnOnce() -> Announcement) {
        if let Some(Announcer(listener)) = self.announcing.borrow_mut().as_mut() {
            listener(announcement());
        }
    }

    fn keep(&self, actor: ActorId, call: Call, outcome: Outcome) -> Answer<'_> {
        self.keep_begun(actor, call, outcome, usize::MAX)
    }

    /// Keeps a call that had been begun when the trace was this long.
    fn keep_begun(&self, actor: ActorId, call: Call, outcome: Outcome, at: usize) -> Answer<'_> {
        if outcome != Outcome::Blocked {
            self.calls.set(self.calls.get() + 1);
        }
        let mut steps = self.steps.borrow_mut();
        let step = steps.len();
        let mut untold = self.untold.borrow_mut();
        if let Some(told) = untold.iter().position(|(who, begun, _)| *who == actor && *begun == call) {
            untold.remove(told);
        }
        let begun = (at < step).then_some(at);
        let kept = outcome.clone();
        steps.push(Step { actor, call, outcome: kept, expect: None, aside: self.aside.get(), begun });
        Answer { lab: self, step, outcome }
    }

    /// Cuts the contents of a step that was judged by itself: on those of all others a relation may rest.
    fn abridge(&self, step: usize) {
        if let Some(step) = self.steps.borrow_mut().get_mut(step) {
            step.outcome = step.outcome.brief();
        }
    }

    fn judge(&self, step: usize, expect: &Expect, outcome: &Outcome) -> Verdict {
        if let Outcome::Lacking(lack) = outcome {
            return Err(Stop::Lacking(*lack));
        }
        if let Some(step) = self.steps.borrow_mut().get_mut(step) {
            step.expect = Some(expect.clone());
        }
        self.undisturbed()?;
        if expect.allows(outcome) {
            if !matches!(expect, Expect::Success | Expect::AnyOf(_)) {
                self.abridge(step);
            }
            return Ok(());
        }
        match outcome {
            Outcome::Died(libc::SIGKILL) if machine::killed_for_memory() != self.killed => {
                self.lacking(Lack::Memory)?
            }
            _ if self.is_filtered(step, outcome) => self.lacking(Lack::Policy)?,
            _ => {}
        }
        Err(self.departure(step, expect.to_string(), expect.contrast(outcome)))
    }

    /// No refused call has changed anything so far.
    fn undisturbed(&self) -> Verdict {
        match self.disturbed.borrow().as_ref() {
            Some((step, how)) => Err(self.departure(*step, "a refused call changes nothing".into(), how.clone())),
            None => Ok(()),
        }
    }

    fn departure(&self, step: usize, expected: String, seen: String) -> Stop {
        Stop::Violation(Box::new(Departure { step, expected, seen, arena: self.arena_address() }))
    }

    fn relation(&self, step: usize, holds: bool, words: &str, seen: impl FnOnce() -> String) -> Verdict {
        if let Some(step) = self.steps.borrow_mut().get_mut(step) {
            step.expect = Some(Expect::Relation(words.to_owned()));
        }
        self.undisturbed()?;
        if holds {
            self.say(|| words.to_owned());
            return Ok(());
        }
        Err(self.departure(step, words.to_owned(), seen()))
    }

    /// A relation between what the calls so far have shown: `words` say what should be the case, `seen` what is.
    ///
    /// # Errors
    /// A violation, at the latest call, where it does not hold.
    pub fn must(&self, holds: bool, words: &str, seen: impl FnOnce() -> String) -> Verdict {
        let step = self.steps.borrow().len().saturating_sub(1);
        self.relation(step, holds, words, seen)
    }

    /// Ends the case because the machine lacks something.
    ///
    /// # Errors
    /// Always: the skip.
    pub fn lacking<T>(&self, lack: Lack) -> Verdict<T> {
        Err(Stop::Lacking(lack))
    }

    /// Writes down what this kernel does where others may do otherwise: it goes to the snapshot of this system alone.
    pub fn fact(&self, name: impl Into<String>, value: impl std::fmt::Display) {
        if self.recording.get() {
            let fact = (name.into(), value.to_string());
            let mut facts = self.facts.borrow_mut();
            if !facts.contains(&fact) {
                facts.push(fact);
            }
        }
    }

    fn note(&self, outcome: &Outcome, expect: &Expect) {
        self.say(|| match expect {
            // The place of a fault is known to the page only on some machines; what was expected reads the same on all.
            Expect::Fault { .. } | Expect::Number(_) => expect.to_string(),
            _ => outcome.to_string(),
        });
    }

    /// A call has yielded the bytes that it should, if it was to yield any.
    fn agree(&self, step: usize) {
        self.abridge(step);
        if let Some(step) = self.steps.borrow_mut().get_mut(step)
            && let Outcome::Bytes(kept) = &step.outcome
        {
            step.expect = Some(Expect::Bytes(kept.clone()));
        }
    }

    fn say_contents(&self, bytes: &[u8]) {
        self.say(|| match trace::is_legible(bytes) {
            true => Excerpt(bytes).to_string(),
            false => "contents as expected".into(),
        });
    }

    /// Asks many things of which a snapshot mentions only that all were as these words say.
    pub fn in_a_word<T>(&self, words: &str, ask: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
        let recording = self.recording.replace(false);
        let answer = ask();
        self.recording.set(recording);
        if answer.is_ok() {
            self.say(|| words.to_owned());
        }
        answer
    }

    /// Makes calls in which correct systems differ (by their memory, by where they place mappings): no snapshot shows them.
    pub fn aside<T>(&self, ask: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
        let (aside, recording) = (self.aside.replace(true), self.recording.replace(false));
        let answer = ask();
        self.aside.set(aside);
        self.recording.set(recording);
        answer
    }

    fn say(&self, words: impl FnOnce() -> String) {
        if self.recording.get() {
            let words = words();
            let mut notes = self.notes.borrow_mut();
            if notes.last() != Some(&words) {
                notes.push(words);
            }
        }
    }

    /// Ends every actor of the case, closes, unmaps and removes what it made, and forgets its trace.
    pub fn end_case(&self) {
        self.state.borrow_mut().end_case();
        self.steps.borrow_mut().clear();
        self.notes.borrow_mut().clear();
        self.untold.borrow_mut().clear();
        self.disturbed.replace(None);
        self.repeated.set(false);
    }

    /// Calls of this case are about to be made once more, for a reason that no rule speaks of: a snapshot takes the case anew.
    pub fn repeats(&self) {
        self.repeated.set(true);
    }

    /// Whether [`Lab::repeats`] was said in this case.
    pub fn has_repeated(&self) -> bool {
        self.repeated.get()
    }

    /// The trace of the case so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }

    /// The trace of the case so far, and behind it the calls that were begun and not waited for.
    pub fn whole_trace(&self) -> Vec<Step> {
        let mut steps = self.steps();
        let untold = |(actor, call, at): &(ActorId, Call, usize)| Step {
            actor: *actor,
            call: call.clone(),
            outcome: Outcome::Silent,
            expect: None,
            aside: false,
            begun: Some(*at),
        };
        steps.extend(self.untold.borrow().iter().map(untold));
        steps
    }

    /// What was judged in the case so far, in the words of a snapshot.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// The facts of this system that were written down since the last call of this.
    pub fn take_facts(&self) -> Vec<(String, String)> {
        self.facts.take()
    }

    /// How many calls have come back since the last call of this.
    pub fn take_calls(&self) -> u64 {
        self.calls.take()
    }

    /// How many pages the address range for placement has ([`At::Arena`]).
    pub fn arena_pages(&self) -> usize {
        crate::kernel::arena::pages()
    }

    /// The address that a name stands for in the worker, to be compared with others; no snapshot shows it.
    pub fn address(&self, at: At) -> usize {
        self.state.borrow().performer.address(at)
    }

    /// The first of these numbers that no descriptor of the worker has, and so none of what is forked from it, until the case
    /// gives it to one.
    ///
    /// # Errors
    /// A skip where none of them is free.
    pub fn free_number(&self, among: impl IntoIterator<Item = i32>, taken: &[Fd]) -> Verdict<Fd> {
        let free = |number: &Fd| {
            let call = Call::Fcntl { fd: *number, command: libc::F_GETFD, argument: 0 };
            self.state.borrow_mut().perform(ActorId(0), &call).0 == Outcome::Refused(libc::EBADF)
        };
        let numbers = among.into_iter().map(Fd::Number);
        numbers.filter(|number| !taken.contains(number)).find(free).map_or_else(|| self.lacking(Lack::Descriptors), Ok)
    }

    /// Makes a hole of the range that begins `at` bytes into the arena.
    pub fn hole(&self, at: impl Into<Size>, len: impl Into<Size>) -> At {
        let (at, len) = (at.into().get(), len.into().round_up());
        self.state.borrow_mut().open_hole(at, len.get());
        let call = Call::Munmap { at: At::Arena(at), len };
        let begun = None;
        self.steps.borrow_mut().push(Step {
            actor: ActorId(0),
            call,
            outcome: Outcome::DONE,
            expect: None,
            aside: true,
            begun,
        });
        At::Arena(at)
    }

    /// A name for a descriptor that is still to be made.
    pub fn new_fd(&self) -> Fd {
        self.state.borrow_mut().next_fd()
    }

    /// A name for a mapping that is still to be made.
    pub fn new_map(&self) -> MapId {
        self.state.borrow_mut().next_map()
    }

    /// The address at which the arena begins, in every process of the case but peers.
    pub fn arena_address(&self) -> usize {
        self.state.borrow().arena()
    }

    /// The latest call is one of which chance or a limit of the system decides how often it is made: a snapshot does not show it.
    pub fn by_chance(&self) {
        if self.recording.get() {
            self.forget_last();
        }
    }

    /// Takes the latest call out of the trace again: a look that found nothing.
    pub fn forget_last(&self) {
        self.steps.borrow_mut().pop();
    }

    /// A name for a new file that the worker is about to make with O_CREAT and without O_EXCL: an empty one may be there.
    pub(super) fn new_file_path(&self) -> Path {
        self.state.borrow_mut().next_file()
    }

    /// A name for a file that does not exist yet.
    pub fn new_path(&self) -> Path {
        self.state.borrow_mut().next_path()
    }
}

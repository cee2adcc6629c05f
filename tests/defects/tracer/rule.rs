//! Behaviours out of a few words: at which call, when, and what happens then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::rc::Rc;

use crate::tracer::behaviour::{Behaviour, Deliver, Entry, Syscall, Sysno};
use crate::tracer::call::{COUNT, error};
use crate::tracer::engine::{Pid, SignalInfo};
use crate::tracer::tracee::Tracee;

type Test = Box<dyn FnMut(&mut Tracee, &Syscall) -> bool>;
type Enter = Box<dyn FnMut(&mut Tracee, &mut Syscall) -> Entry>;
type Started = Box<dyn FnMut(Pid, &mut Tracee)>;
type Signalled = Box<dyn FnMut(&mut Tracee, &mut SignalInfo) -> Deliver>;
type Exit = Box<dyn FnMut(&mut Tracee, &Syscall, &mut i64)>;

/// The beginning of a rule: its calls and conditions.
pub struct On {
    calls: Vec<Sysno>,
    tests: Vec<Test>,
}

/// At these calls.
pub fn on(calls: &[Sysno]) -> On {
    On { calls: calls.to_vec(), tests: Vec::new() }
}

impl On {
    /// At these calls too.
    pub fn and(mut self, calls: &[Sysno]) -> On {
        self.calls.extend_from_slice(calls);
        self
    }

    /// Only when this holds too. Conditions are tried in order; one that counts comes last.
    pub fn when(mut self, test: impl FnMut(&mut Tracee, &Syscall) -> bool + 'static) -> On {
        self.tests.push(Box::new(test));
        self
    }

    /// The call is not made and returns `result`.
    pub fn answer(self, result: i64) -> Box<dyn Behaviour> {
        self.enter(move |_, _| Entry::Answer(result))
    }

    /// The call is not made and fails.
    pub fn refuse(self, errno: i32) -> Box<dyn Behaviour> {
        self.answer(error(errno))
    }

    /// The call is made with other arguments, or as another call.
    pub fn change(self, mut change: impl FnMut(&mut Tracee, &mut Syscall) + 'static) -> Box<dyn Behaviour> {
        self.enter(move |tracee, call| {
            change(tracee, call);
            Entry::Pass
        })
    }

    /// Other calls are made in its place; their outcome is its own.
    pub fn instead(self, mut perform: impl FnMut(&mut Tracee, &Syscall) -> i64 + 'static) -> Box<dyn Behaviour> {
        self.enter(move |tracee, call| Entry::Answer(perform(tracee, call)))
    }

    /// What happens on the way in.
    pub fn enter(self, enter: impl FnMut(&mut Tracee, &mut Syscall) -> Entry + 'static) -> Box<dyn Behaviour> {
        self.around(enter, |_, _, _| {})
    }

    /// What happens on the way out; the result may be changed.
    pub fn after(self, exit: impl FnMut(&mut Tracee, &Syscall, &mut i64) + 'static) -> Box<dyn Behaviour> {
        Box::new(Rule { on: self, enter: Box::new(|_, _| Entry::Watch), exit: Box::new(exit), counts_exits: true })
    }

    /// What happens on the way out of a call that has not failed.
    pub fn after_success(self, mut exit: impl FnMut(&mut Tracee, &Syscall, &mut i64) + 'static) -> Box<dyn Behaviour> {
        self.after(move |tracee, call, result| {
            if *result >= 0 {
                tracee.count();
                exit(tracee, call, result);
            }
        })
    }

    /// One error is given for another.
    pub fn error(self, right: i32, wrong: i32) -> Box<dyn Behaviour> {
        self.after(move |_, _, result| {
            if *result == error(right) {
                *result = error(wrong);
            }
        })
    }

    /// A read or write moves one byte less than it says.
    pub fn lose_the_last_byte(self) -> Box<dyn Behaviour> {
        self.carrying(
            |_, c| {
                c.args[COUNT] -= 1;
                Some(())
            },
            |_, c, (), result| *result += i64::from(*result as u64 == c.args[COUNT] - 1),
        )
    }

    /// What is learnt on the way in is there on the way out; nothing happens then if that is `None`.
    pub fn carrying<T: 'static>(
        self,
        mut enter: impl FnMut(&mut Tracee, &mut Syscall) -> Option<T> + 'static,
        mut exit: impl FnMut(&mut Tracee, &Syscall, T, &mut i64) + 'static,
    ) -> Box<dyn Behaviour> {
        let carried = Rc::new(RefCell::new(HashMap::new()));
        let left = Rc::clone(&carried);
        self.around(
            move |tracee, call| match enter(tracee, call) {
                Some(value) => {
                    left.borrow_mut().insert(tracee.task(), value);
                    Entry::Watch
                }
                None => Entry::Pass,
            },
            move |tracee, call, result| {
                let value = carried.borrow_mut().remove(&tracee.task());
                if let Some(value) = value {
                    exit(tracee, call, value, result);
                }
            },
        )
    }

    /// What happens on the way in and, if that watches the call, on the way out.
    pub fn around(
        self,
        enter: impl FnMut(&mut Tracee, &mut Syscall) -> Entry + 'static,
        exit: impl FnMut(&mut Tracee, &Syscall, &mut i64) + 'static,
    ) -> Box<dyn Behaviour> {
        Box::new(Rule { on: self, enter: Box::new(enter), exit: Box::new(exit), counts_exits: false })
    }
}

struct Rule {
    on: On,
    enter: Enter,
    exit: Exit,
    /// It shows itself where a result is changed, not where its conditions hold.
    counts_exits: bool,
}

impl Behaviour for Rule {
    fn calls(&self) -> Vec<Sysno> {
        self.on.calls.clone()
    }

    fn enter(&mut self, tracee: &mut Tracee, call: &mut Syscall) -> Entry {
        let met = self.on.calls.contains(&call.number) && self.on.tests.iter_mut().all(|test| test(tracee, call));
        if !met {
            return Entry::Pass;
        }
        if !self.counts_exits {
            tracee.count();
        }
        (self.enter)(tracee, call)
    }

    fn exit(&mut self, tracee: &mut Tracee, call: &Syscall, result: &mut i64) {
        let before = *result;
        (self.exit)(tracee, call, result);
        if self.counts_exits && *result != before {
            tracee.count();
        }
    }
}

/// At these signals.
pub fn on_signal(
    signals: &[c_int],
    signal: impl FnMut(&mut Tracee, &mut SignalInfo) -> Deliver + 'static,
) -> Box<dyn Behaviour> {
    Box::new(SignalRule { signals: signals.to_vec(), signal: Box::new(signal) })
}

struct SignalRule {
    signals: Vec<c_int>,
    signal: Signalled,
}

impl Behaviour for SignalRule {
    fn calls(&self) -> Vec<Sysno> {
        Vec::new()
    }

    fn enter(&mut self, _: &mut Tracee, _: &mut Syscall) -> Entry {
        Entry::Pass
    }

    fn signals(&self) -> Vec<c_int> {
        self.signals.clone()
    }

    fn signal(&mut self, tracee: &mut Tracee, info: &mut SignalInfo) -> Deliver {
        let (signal, code, address) = (info.signal, info.code, info.address);
        let deliver = (self.signal)(tracee, info);
        let same = (signal, code, address) == (info.signal, info.code, info.address);
        if deliver == Deliver::Suppress || !same {
            tracee.count();
        }
        deliver
    }
}

/// In a forked process, before it runs; the closure counts what it does.
pub fn on_fork(started: impl FnMut(Pid, &mut Tracee) + 'static) -> Box<dyn Behaviour> {
    Box::new(ForkRule(Box::new(started)))
}

/// The descriptors that a child does not inherit.
pub fn children_lose(lost: impl Fn(&Tracee, u64) -> bool + 'static) -> Box<dyn Behaviour> {
    on_fork(move |_, child| {
        for descriptor in child.descriptors() {
            if lost(child, descriptor) {
                child.count();
                child.close(descriptor as i64);
            }
        }
    })
}

struct ForkRule(Started);

impl Behaviour for ForkRule {
    fn calls(&self) -> Vec<Sysno> {
        Vec::new()
    }

    fn enter(&mut self, _: &mut Tracee, _: &mut Syscall) -> Entry {
        Entry::Pass
    }

    fn started(&mut self, parent: Pid, child: &mut Tracee) {
        if child.process().settled {
            (self.0)(parent, child);
        }
    }
}

/// Several rules; of those that apply to a call, the first has it.
pub fn several(rules: impl IntoIterator<Item = Box<dyn Behaviour>>) -> Box<dyn Behaviour> {
    Box::new(Several { rules: rules.into_iter().collect(), watching: HashMap::new() })
}

struct Several {
    rules: Vec<Box<dyn Behaviour>>,
    /// Which rule awaits the end of a task's call.
    watching: HashMap<Pid, usize>,
}

impl Behaviour for Several {
    fn calls(&self) -> Vec<Sysno> {
        self.rules.iter().flat_map(|rule| rule.calls()).collect()
    }

    fn enter(&mut self, tracee: &mut Tracee, call: &mut Syscall) -> Entry {
        let before = *call;
        for (index, rule) in self.rules.iter_mut().enumerate() {
            let entry = rule.enter(tracee, call);
            if entry == Entry::Watch {
                self.watching.insert(tracee.task(), index);
            }
            if entry != Entry::Pass || *call != before {
                return entry;
            }
        }
        Entry::Pass
    }

    fn exit(&mut self, tracee: &mut Tracee, call: &Syscall, result: &mut i64) {
        if let Some(index) = self.watching.remove(&tracee.task()) {
            self.rules[index].exit(tracee, call, result);
        }
    }

    fn signals(&self) -> Vec<c_int> {
        self.rules.iter().flat_map(|rule| rule.signals()).collect()
    }

    fn signal(&mut self, tracee: &mut Tracee, info: &mut SignalInfo) -> Deliver {
        for rule in &mut self.rules {
            if rule.signals().contains(&info.signal) {
                return rule.signal(tracee, info);
            }
        }
        Deliver::Pass
    }

    fn started(&mut self, parent: Pid, child: &mut Tracee) {
        for rule in &mut self.rules {
            rule.started(parent, child);
        }
    }
}

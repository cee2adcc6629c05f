//! Address spaces, page by page.

use std::rc::Rc;

use super::{Contents, Prediction, Rule, World};
use crate::kernel::call::{ActorId, At, Call};
use crate::kernel::names::{NONE, Prot, READ, WRITE};
use crate::kernel::outcome::{Fault, Outcome};
use crate::kernel::page::page;
use crate::lab::expect::Expect;
use crate::lab::{BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR};

/// What lies behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Zeros.
    Zero,
    /// A page of a file: which file, which page of it.
    File(usize, usize),
}

/// A page of an address space.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its rights.
    pub rights: Prot,
    /// Whether mprotect may make it writable.
    pub may_write: bool,
    /// Whether stores reach what lies behind.
    pub shared: bool,
    /// What lies behind.
    pub source: Source,
    /// The process's own copy.
    pub copy: Option<Contents>,
    /// Places of that copy that may hold another value: it was made of a page with doubtful bytes.
    pub doubts: Vec<(usize, u8)>,
    /// What the file has held here since the page was mapped privately: it may be seen until there is a copy.
    pub older: Vec<Contents>,
    /// Pages with the same number were mapped by one call, and treated alike since.
    pub piece: u64,
}

impl Page {
    /// One that nothing has touched: private, and without rights.
    pub(super) fn of(source: Source) -> Page {
        let (copy, doubts, older) = (None, Vec::new(), Vec::new());
        Page { rights: NONE, may_write: true, shared: false, source, copy, doubts, older, piece: 0 }
    }

    /// What the process has of it for itself is gone: it shows what lies behind, as it is now.
    pub(super) fn let_go(&mut self) {
        self.copy = None;
        self.doubts.clear();
        self.older.clear();
    }
}

/// How an access to one page goes.
enum Access {
    Granted,
    Fault(Rule, i32, i32),
}

impl World {
    /// The address that a name stands for in a process, if it stands for one there.
    pub fn address(&self, who: ActorId, at: At) -> Option<usize> {
        let process = self.process(who);
        match at {
            At::Null => Some(0),
            At::Number(address) => Some(address),
            At::Variable(..) => None,
            At::Arena(distance) => Some(process.arena.wrapping_add(distance)),
            At::Map(map, distance) => process.mappings.get(&map).map(|start| start.wrapping_add_signed(distance)),
        }
    }

    fn access(&self, who: ActorId, address: usize, right: Prot) -> Access {
        match self.process(who).pages.get(&(address / page())) {
            None => Access::Fault(Rule::Unmapped, libc::SIGSEGV, SEGV_MAPERR),
            Some(found) if !found.rights.has(right) => Access::Fault(Rule::Forbidden, libc::SIGSEGV, SEGV_ACCERR),
            Some(found) if found.copy.is_none() && self.beyond(found.source) => {
                Access::Fault(Rule::BeyondFile, libc::SIGBUS, BUS_ADRERR)
            }
            Some(_) => Access::Granted,
        }
    }

    fn beyond(&self, source: Source) -> bool {
        match source {
            Source::Zero => false,
            Source::File(inode, index) => index >= self.inodes[inode].size.div_ceil(page()),
        }
    }

    /// How many bytes from an address on can be accessed, up to `len`, and what stops the access if it is fewer.
    fn reach(&self, who: ActorId, address: usize, len: usize, right: Prot) -> (usize, Option<(Rule, Fault)>) {
        let mut at = address;
        while at < address + len {
            if let Access::Fault(rule, signal, code) = self.access(who, at, right) {
                let done = at - address;
                return (done, Some((rule, Fault { signal, code, at: done as isize, done })));
            }
            at = (at / page() + 1) * page();
        }
        (len, None)
    }

    /// The bytes that a load sees, and where else they may be: place and other value.
    pub fn view(&self, who: ActorId, address: usize, len: usize) -> (Vec<u8>, Vec<(usize, u8)>) {
        let mut bytes = vec![0; len];
        let mut or = Vec::new();
        let mut at = address;
        while at < address + len {
            let in_page = at % page();
            let count = (page() - in_page).min(address + len - at);
            let place = at - address;
            let into = &mut bytes[place..place + count];
            if let Some(found) = self.process(who).pages.get(&(at / page())) {
                match (&found.copy, found.source) {
                    (Some(copy), _) => {
                        into.copy_from_slice(&copy[in_page..in_page + count]);
                        let inside = found.doubts.iter().filter(|(at, _)| (in_page..in_page + count).contains(at));
                        or.extend(inside.map(|(at, value)| (place + at - in_page, *value)));
                    }
                    (None, Source::Zero) => {}
                    (None, Source::File(inode, index)) => {
                        let from = index * page() + in_page;
                        let file = &self.inodes[inode];
                        file.look(from, into);
                        file.doubts(from, count, |doubt, value| or.push((place + doubt - from, value)));
                        for older in &found.older {
                            let pairs = older[in_page..in_page + count].iter().zip(into.iter()).enumerate();
                            or.extend(
                                pairs.filter(|(_, (old, new))| old != new).map(|(at, (old, _))| (place + at, *old)),
                            );
                        }
                        if !found.older.is_empty() && !self.in_force(Rule::PrivateUntouched) {
                            into.iter_mut().for_each(|byte| *byte ^= 0x01);
                            or.clear();
                        }
                        if from + count > file.size && !self.in_force(Rule::TailZero) {
                            into[file.size.saturating_sub(from)..].fill(0xff);
                            or.clear();
                        }
                    }
                }
                if !self.in_force(Rule::AnonymousZero) && found.copy.is_none() && found.source == Source::Zero {
                    into.fill(0xff);
                }
            }
            at += count;
        }
        (bytes, or)
    }

    /// Puts bytes where a process may store them.
    fn put(&mut self, who: ActorId, address: usize, bytes: &[u8]) {
        let mut at = address;
        while at < address + bytes.len() {
            let number = at / page();
            let in_page = at % page();
            let count = (page() - in_page).min(address + bytes.len() - at);
            let part = &bytes[at - address..][..count];
            let Some(found) = self.process(who).pages.get(&number).cloned() else { return };
            match found.source {
                Source::File(inode, index)
                    if found.shared
                        == self.in_force(if found.shared { Rule::SharedReachesFile } else { Rule::PrivateStays }) =>
                {
                    let at = index * page() + in_page;
                    self.remember(inode, at, at + count);
                    self.inodes[inode].store(at, part);
                }
                _ => {
                    let (mut copy, mut doubts) = match found.copy {
                        Some(copy) => (copy, found.doubts),
                        None => {
                            let (whole, doubts) = self.view(who, number * page(), page());
                            (Rc::new(whole), doubts)
                        }
                    };
                    Rc::make_mut(&mut copy)[in_page..in_page + count].copy_from_slice(part);
                    doubts.retain(|(at, _)| !(in_page..in_page + count).contains(at));
                    if let Some(page) = self.process_mut(who).pages.get_mut(&number) {
                        page.copy = Some(copy);
                        page.doubts = doubts;
                        page.older.clear();
                    }
                }
            }
            at += count;
        }
    }

    /// What a load, a store or a compare and exchange answers.
    pub(super) fn predict_access(&self, who: ActorId, call: &Call) -> Option<Prediction> {
        Some(match call {
            Call::Load { at, len } => {
                let address = self.address(who, *at)?;
                match self.reach(who, address, *len, READ) {
                    (_, Some((rule, fault))) => self.by(rule, fault_expected(fault)),
                    (_, None) => {
                        let (bytes, or) = self.view(who, address, *len);
                        self.by(Rule::Load, Expect::Contents { bytes, or })
                    }
                }
            }
            Call::Store { at, data } => {
                let address = self.address(who, *at)?;
                match self.reach(who, address, data.len(), WRITE) {
                    (_, Some((rule, fault))) => self.by(rule, fault_expected(fault)),
                    (_, None) => self.by(Rule::Store, Expect::Value(0)),
                }
            }
            Call::CompareExchange { at, old, .. } => {
                let address = self.address(who, *at)?;
                match self.reach(who, address, 4, READ | WRITE) {
                    (_, Some((rule, fault))) => self.by(rule, self.fault_of_exchange(who, address, *old, fault)?),
                    (_, None) => {
                        let (bytes, or) = self.view(who, address, 4);
                        // One that fails may write all the same, and so copy a private page, or may not: that is the machine's matter.
                        if !or.is_empty() || word(&bytes) != *old && self.is_uncopied(who, address) {
                            return None;
                        }
                        self.by(Rule::CompareExchange, Expect::Value(u64::from(word(&bytes))))
                    }
                }
            }
            _ => return None,
        })
    }

    /// What a compare and exchange meets that may not both load and store; `None` where what is there is in doubt.
    ///
    /// Some machines load first, and store only what is as expected: the fault may be that of the load, and may not come at all.
    fn fault_of_exchange(&self, who: ActorId, address: usize, old: u32, fault: Fault) -> Option<Expect> {
        let whole = fault_expected(fault);
        match self.reach(who, address, 4, READ) {
            (_, Some((_, loading))) if fault_expected(loading) == whole => Some(whole),
            (_, Some((_, loading))) => Some(Expect::AnyOf(vec![whole, fault_expected(loading)])),
            (_, None) => match self.view(who, address, 4) {
                (bytes, or) if or.is_empty() && word(&bytes) == old => Some(whole),
                (bytes, or) if or.is_empty() => {
                    Some(Expect::AnyOf(vec![whole, Expect::Value(u64::from(word(&bytes)))]))
                }
                _ => None,
            },
        }
    }

    fn is_uncopied(&self, who: ActorId, address: usize) -> bool {
        let found = self.process(who).pages.get(&(address / page()));
        found.is_some_and(|found| !found.shared && found.copy.is_none() && found.source != Source::Zero)
    }

    pub(super) fn apply_access(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
        match call {
            Call::Load { at, len } => {
                if let (Some(address), Outcome::Bytes(seen)) = (self.address(who, *at), outcome) {
                    self.settle(who, address, *len, seen);
                }
            }
            Call::Store { at, data } => {
                let Some(address) = self.address(who, *at) else { return };
                let (done, _) = self.reach(who, address, data.len(), WRITE);
                self.put(who, address, &data.to_vec()[..done]);
            }
            Call::CompareExchange { at, old, new } => {
                if let (Some(address), Outcome::Value(seen)) = (self.address(who, *at), outcome)
                    && *seen == u64::from(*old)
                {
                    self.put(who, address, &new.to_ne_bytes());
                }
            }
            _ => {}
        }
    }

    /// Takes what was seen for what is, where the rules left it open.
    fn settle(&mut self, who: ActorId, address: usize, len: usize, seen: &[u8]) {
        let (_, or) = self.view(who, address, len);
        for (place, _) in or {
            let at = address + place;
            let in_page = at % page();
            let Some(found) = self.process_mut(who).pages.get_mut(&(at / page())) else { continue };
            if let Some(copy) = &mut found.copy {
                Rc::make_mut(copy)[in_page] = seen[place];
                found.doubts.retain(|(doubt, _)| *doubt != in_page);
            } else if let (Source::File(inode, index), true) = (found.source, found.older.is_empty()) {
                self.inodes[inode].settle(index * page() + in_page, seen[place]);
            }
        }
    }
}

fn fault_expected(fault: Fault) -> Expect {
    Expect::Fault { signal: fault.signal, code: fault.code, at: fault.at }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}

//! Address spaces, page by page.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Contents, Object, Prediction, Rule, World};
use crate::kernel::call::{ActorId, At, Call, Fd, MapId, MmapArgs};
use crate::kernel::names::{ANONYMOUS, FIXED, FIXED_NOREPLACE, NONE, Prot, READ, WRITE};
use crate::kernel::outcome::{Fault, Outcome};
use crate::kernel::page::{Size, page};
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

    pub(super) fn predict_memory(&self, who: ActorId, call: &Call) -> Option<Prediction> {
        Some(match call {
            Call::Mmap { args, .. } => self.predict_mmap(who, args)?,
            Call::Munmap { at, len } => {
                let address = self.address(who, *at)?;
                match (address.is_multiple_of(page()), len.get()) {
                    (false, _) => self.refused(Rule::UnmapUnaligned, libc::EINVAL),
                    (true, 0) => self.refused(Rule::UnmapZero, libc::EINVAL),
                    (true, _) => self.by(Rule::Unmap, Expect::Value(0)),
                }
            }
            Call::Mprotect { at, len, prot } => {
                let address = self.address(who, *at)?;
                if !address.is_multiple_of(page()) {
                    return Some(self.refused(Rule::ProtectUnaligned, libc::EINVAL));
                }
                match self.first_obstacle(who, address, len.in_pages(), *prot) {
                    None => self.by(Rule::Protect, Expect::Value(0)),
                    Some((_, libc::EACCES)) => self.refused(Rule::ProtectAccess, libc::EACCES),
                    Some((_, errno)) => self.refused(Rule::ProtectHole, errno),
                }
            }
            Call::Mremap { at, old, new, flags, to, .. } => {
                self.predict_mremap(self.address(who, *at)?, *old, *new, *flags, who, *to)?
            }
            Call::Msync { at, len, flags } => {
                let address = self.address(who, *at)?;
                let both = (libc::MS_SYNC | libc::MS_ASYNC) as u32;
                if !address.is_multiple_of(page()) || flags & both == both {
                    self.refused(Rule::SyncFlags, libc::EINVAL)
                } else if self.has_hole(who, address, len.in_pages()) {
                    self.refused(Rule::SyncHole, libc::ENOMEM)
                } else {
                    self.by(Rule::Sync, Expect::Value(0))
                }
            }
            Call::Madvise { at, len, .. } => {
                let address = self.address(who, *at)?;
                if !address.is_multiple_of(page()) {
                    return Some(self.refused(Rule::DontNeedUnaligned, libc::EINVAL));
                }
                if self.has_hole(who, address, len.in_pages()) {
                    self.refused(Rule::DontNeedHole, libc::ENOMEM)
                } else {
                    self.by(Rule::DontNeed, Expect::Value(0))
                }
            }
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

    fn predict_mmap(&self, who: ActorId, args: &MmapArgs) -> Option<Prediction> {
        let MmapArgs { at, len, prot, flags, fd, offset } = *args;
        if !offset.is_whole() {
            return Some(self.refused(Rule::MapOffset, libc::EINVAL));
        }
        let file = if flags.has(ANONYMOUS) {
            None
        } else {
            match self.open_file(who, fd) {
                None => return Some(self.refused(Rule::MapBadDescriptor, libc::EBADF)),
                Some(file) => Some(file),
            }
        };
        if len.get() == 0 {
            return Some(self.refused(Rule::MapLengthZero, libc::EINVAL));
        }
        let address = self.address(who, at)?;
        if flags.has(FIXED_NOREPLACE) && self.is_used(who, address, len.in_pages()) {
            return Some(self.refused(Rule::MapNoReplace, libc::EEXIST));
        }
        if let Some(file) = file {
            let write = flags.is_shared() && prot.has(WRITE);
            match file.object {
                Object::Pipe(_) if write && !file.writes || !file.reads => {
                    return Some(self.refused(Rule::MapPipe, libc::EACCES));
                }
                Object::Pipe(_) => return Some(self.refused(Rule::MapPipe, libc::ENODEV)),
                Object::File(_) if write && !file.writes => {
                    return Some(self.refused(Rule::MapSharedWrite, libc::EACCES));
                }
                Object::File(_) if !file.reads => return Some(self.refused(Rule::MapWriteOnly, libc::EACCES)),
                Object::File(_) => {}
            }
        }
        let rule = if flags.has(FIXED) || flags.has(FIXED_NOREPLACE) { Rule::MapFixed } else { Rule::MapGranted };
        Some(self.by(rule, Expect::Success))
    }

    fn predict_mremap(
        &self,
        from: usize,
        old: Size,
        new: Size,
        flags: u32,
        who: ActorId,
        to: At,
    ) -> Option<Prediction> {
        let flag = |bit: i32| flags & bit as u32 != 0;
        if flag(libc::MREMAP_FIXED) {
            let to = self.address(who, to)?;
            let overlaps = to < from + old.get() && from < to + new.get();
            return Some(match overlaps || !flag(libc::MREMAP_MAYMOVE) {
                true => self.refused(Rule::RemapOverlap, libc::EINVAL),
                false => self.by(Rule::RemapFixed, Expect::Success),
            });
        }
        if flag(libc::MREMAP_MAYMOVE) {
            return Some(self.by(Rule::Remap, Expect::Success));
        }
        let (end, more) = (from + old.get(), new.in_pages().saturating_sub(old.in_pages()));
        Some(match more {
            0 => self.by(Rule::RemapInPlace, Expect::Success),
            _ if self.is_used(who, end, more) => self.refused(Rule::RemapInPlace, libc::ENOMEM),
            // What is not the sequence's own may stand there.
            _ => {
                let either = vec![Expect::Success, Expect::Refused(libc::ENOMEM)];
                self.by(Rule::RemapInPlace, Expect::AnyOf(either))
            }
        })
    }

    /// Whether mremap has put a mapping where it must: where it was without MREMAP_MAYMOVE, and where MREMAP_FIXED says.
    pub fn is_well_moved(&self, who: ActorId, call: &Call, address: usize) -> bool {
        let Call::Mremap { at, flags, to, .. } = call else { return true };
        let flag = |bit: i32| flags & bit as u32 != 0;
        let from = self.address(who, *at);
        match (flag(libc::MREMAP_FIXED), flag(libc::MREMAP_MAYMOVE)) {
            (true, _) => self.address(who, *to) == Some(address),
            (false, true) => address.is_multiple_of(page()) && address != 0,
            (false, false) => from == Some(address),
        }
    }

    /// Whether a mapping was placed as it must be: on a page boundary, at the address asked for if it is fixed, and on nothing else.
    pub fn is_well_placed(&self, who: ActorId, args: &MmapArgs, address: usize) -> bool {
        let fixed = args.flags.has(FIXED) || args.flags.has(FIXED_NOREPLACE);
        let free = !self.is_used(who, address, args.len.in_pages());
        let placed = if fixed {
            self.address(who, args.at) == Some(address)
        } else {
            address.is_multiple_of(page()) && address != 0 && free
        };
        placed == self.in_force(Rule::MapPlace)
    }

    fn is_uncopied(&self, who: ActorId, address: usize) -> bool {
        let found = self.process(who).pages.get(&(address / page()));
        found.is_some_and(|found| !found.shared && found.copy.is_none() && found.source != Source::Zero)
    }

    fn is_used(&self, who: ActorId, address: usize, count: usize) -> bool {
        let first = address / page();
        self.process(who).pages.range(first..first.saturating_add(count)).next().is_some()
    }

    fn has_hole(&self, who: ActorId, address: usize, count: usize) -> bool {
        let first = address / page();
        self.process(who).pages.range(first..first + count).count() != count
    }

    /// The first page at which mprotect stops, and with which errno.
    fn first_obstacle(&self, who: ActorId, address: usize, count: usize, prot: Prot) -> Option<(usize, i32)> {
        let first = address / page();
        (first..first + count).find_map(|number| match self.process(who).pages.get(&number) {
            None => Some((number, libc::ENOMEM)),
            Some(found) if prot.has(WRITE) && !found.may_write => Some((number, libc::EACCES)),
            Some(_) => None,
        })
    }

    pub(super) fn apply_memory(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
        match call {
            Call::Mmap { args, map } => {
                if let Outcome::Mapped(address) = outcome {
                    self.add_mapping(who, args, *map, *address);
                }
            }
            Call::Munmap { at, len } if outcome.is_success() => {
                let Some(address) = self.address(who, *at) else { return };
                let first = address / page();
                for number in first..first + len.in_pages() {
                    self.process_mut(who).pages.remove(&number);
                }
            }
            Call::Mprotect { at, len, prot } => {
                let Some(address) = self.address(who, *at) else { return };
                let first = address / page();
                if !address.is_multiple_of(page()) {
                    return;
                }
                let mut pieces = HashMap::new();
                let end = match self.first_obstacle(who, address, len.in_pages(), *prot) {
                    None => first + len.in_pages(),
                    Some((obstacle, _)) if self.in_force(Rule::ProtectBefore) => obstacle,
                    Some(_) => first,
                };
                for number in first..end {
                    self.pieces += 1;
                    let fresh = self.pieces;
                    if let Some(found) = self.process_mut(who).pages.get_mut(&number) {
                        found.rights = *prot;
                        found.piece = *pieces.entry(found.piece).or_insert(fresh);
                    }
                }
            }
            Call::Mremap { at, old, new, map, .. } => {
                if let (Some(from), Outcome::Mapped(to)) = (self.address(who, *at), outcome) {
                    self.move_mapping(who, from, old.in_pages(), *to, new.in_pages(), *map);
                }
            }
            Call::Madvise { at, len, .. } => {
                let Some(address) = self.address(who, *at) else { return };
                if !self.in_force(Rule::DontNeed) || !address.is_multiple_of(page()) {
                    return;
                }
                let first = address / page();
                for (_, found) in self.process_mut(who).pages.range_mut(first..first + len.in_pages()) {
                    found.let_go();
                }
            }
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

    fn add_mapping(&mut self, who: ActorId, args: &MmapArgs, map: MapId, address: usize) {
        let MmapArgs { len, prot, flags, fd, offset, .. } = *args;
        let shared = flags.is_shared();
        let file = match self.open_file(who, fd) {
            Some(file) if !flags.has(ANONYMOUS) => match file.object {
                Object::File(inode) => Some((inode, file.writes)),
                Object::Pipe(_) => None,
            },
            _ if shared => Some((self.new_inode(len.round_up().get()), true)),
            _ => None,
        };
        let first = address / page();
        self.pieces += 1;
        for index in 0..len.in_pages() {
            let source = file.map_or(Source::Zero, |(inode, _)| {
                let skip = if flags.has(ANONYMOUS) { 0 } else { offset.in_pages() };
                Source::File(inode, skip + index)
            });
            let may_write = !shared || file.is_none_or(|(_, writes)| writes);
            let page = Page { rights: prot, may_write, shared, piece: self.pieces, ..Page::of(source) };
            self.process_mut(who).pages.insert(first + index, page);
        }
        self.process_mut(who).mappings.insert(map, address);
    }

    fn move_mapping(&mut self, who: ActorId, from: usize, old: usize, to: usize, new: usize, map: MapId) {
        let process = self.process_mut(who);
        let first = from / page();
        let moved: Vec<Page> = (first..first + old).filter_map(|number| process.pages.remove(&number)).collect();
        let Some(last) = moved.last().cloned() else { return };
        for index in 0..new {
            let after = moved.get(index).cloned().unwrap_or_else(|| {
                let beyond = index + 1 - moved.len();
                let source = match last.source {
                    Source::Zero => Source::Zero,
                    Source::File(inode, at) => Source::File(inode, at + beyond),
                };
                let Page { rights, may_write, shared, piece, .. } = last;
                Page { rights, may_write, shared, piece, ..Page::of(source) }
            });
            process.pages.insert(to / page() + index, after);
        }
        process.mappings.insert(map, to);
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

    /// Whether every page from an address on is of one mapping that nothing has touched since: what mremap can move.
    pub fn is_uniform(&self, who: ActorId, address: usize, count: usize) -> bool {
        let pages = &self.process(who).pages;
        let first = address / page();
        let Some(one) = pages.get(&first) else { return false };
        let follows = |other: &Page| other.piece == one.piece && other.rights != NONE;
        (0..count).all(|index| pages.get(&(first + index)).is_some_and(follows))
    }
}

fn fault_expected(fault: Fault) -> Expect {
    Expect::Fault { signal: fault.signal, code: fault.code, at: fault.at }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}

/// No descriptor has this name: what a call names to be refused.
pub const NEVER_OPEN: Fd = Fd::Number(900);

//! Mappings: made, moved, protected, written back, emptied and removed.

use std::collections::HashMap;

use super::{Object, Page, Prediction, Rule, Source, World};
use crate::kernel::call::{ActorId, At, Call, MapId, MmapArgs};
use crate::kernel::names::{ANONYMOUS, FIXED, FIXED_NOREPLACE, NONE, Prot, WRITE};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::{Size, page};
use crate::lab::expect::Expect;

impl World {
    /// What a call answers that makes, changes or removes mappings.
    pub(super) fn predict_mapping(&self, who: ActorId, call: &Call) -> Option<Prediction> {
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
            _ => return None,
        })
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

    pub(super) fn apply_mapping(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
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

    /// Whether every page from an address on is of one mapping that nothing has touched since: what mremap can move.
    pub fn is_uniform(&self, who: ActorId, address: usize, count: usize) -> bool {
        let pages = &self.process(who).pages;
        let first = address / page();
        let Some(one) = pages.get(&first) else { return false };
        let follows = |other: &Page| other.piece == one.piece && other.rights != NONE;
        (0..count).all(|index| pages.get(&(first + index)).is_some_and(follows))
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
}

//! Mappings, and the memory behind them.
use std::ffi::c_void;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};

use super::{Performer, done, errno, outcome};
use crate::kernel::call::{At, Call, MapId, MmapArgs, Width};
use crate::kernel::outcome::{Fault, Lack, Outcome};
use crate::kernel::{confine, guard};

/// Room for the residency of this many pages is kept on the stack.
const FEW: usize = 64;

impl Performer {
    pub(super) fn memory(&mut self, call: &Call) -> Outcome {
        match *call {
            Call::Mmap { ref args, map } => self.mmap(args, map),
            Call::Munmap { at, len } => {
                // A range of this kind holds memory of the case, of the arena, or none.
                let result = self.range(libc::SYS_munmap, at, len.get(), 0);
                if result.is_success() {
                    self.vacated(self.address(at), len.get());
                }
                result
            }
            Call::Mprotect { at, len, prot } => {
                // SAFETY: as for munmap, the range is one of the case's own.
                done(unsafe {
                    mm::mprotect(self.address(at) as *mut c_void, len.get(), MprotectFlags::from_bits_retain(prot.0))
                })
            }
            Call::Mremap { at, old, new, flags, to, map } => {
                let (from, to) = (self.address(at), self.address(to));
                // SAFETY: the old range is one of the case's own, the new one is chosen by the kernel or lies in the arena.
                match unsafe { libc::syscall(libc::SYS_mremap, from, old.get(), new.get(), flags as usize, to) } {
                    -1 => errno(),
                    start => {
                        self.vacated(from, old.get());
                        self.mapped(map, start as usize, new.get())
                    }
                }
            }
            Call::Msync { at, len, flags } => self.range(libc::SYS_msync, at, len.get(), flags as usize),
            Call::Madvise { at, len, advice } => self.range(libc::SYS_madvise, at, len.get(), advice as usize),
            Call::Mlock { at, len } => self.range(libc::SYS_mlock, at, len.get(), 0),
            Call::Munlock { at, len } => self.range(libc::SYS_munlock, at, len.get(), 0),
            Call::Mincore { at, len } => self.mincore(at, len.get()),
            Call::Load { at, len } => {
                let (address, mut bytes) = (self.address(at), vec![0; len]);
                match guard::load_counted(address, &mut bytes) {
                    Ok(()) => Outcome::Bytes(bytes),
                    Err((done, fault)) => fault_at(fault, address, done),
                }
            }
            Call::Store { at, ref data } => {
                let address = self.address(at);
                match guard::store_counted(address, self.bytes_of(data)) {
                    Ok(()) => Outcome::DONE,
                    Err((done, fault)) => fault_at(fault, address, done),
                }
            }
            Call::LoadWord { at, width } => self.access(at, |address| load_word(address, width)),
            Call::StoreWord { at, width, value } => self.access(at, |address| store_word(address, width, value)),
            Call::Execute { at } => self.access(at, |address| guard::execute(address).map(|()| 0)),
            Call::StoreReturn { at } => self.access(at, |address| {
                guard::store(address, guard::RETURN)?;
                guard::sync_instruction_cache(address, guard::RETURN.len());
                Ok(0)
            }),
            Call::Touch { at, len, store } => {
                let address = self.address(at);
                match touch(address, len.get(), store) {
                    Ok(faults) => Outcome::Value(faults),
                    Err((done, fault)) => fault_at(fault, address, done),
                }
            }
            Call::CompareExchange { at, old, new } => {
                self.access(at, |address| guard::compare_exchange_u32(address, old, new).map(u64::from))
            }
            Call::FetchAdd { at, add, times } => self.access(at, |address| {
                let mut before = 0;
                for _ in 0..times {
                    before = guard::fetch_add_u32(address, add)?;
                }
                Ok(u64::from(before))
            }),
            Call::LockedAdd { lock, at, add, times } => {
                let lock = self.address(lock);
                self.access(at, |address| locked_add(lock, address, add, times))
            }
            Call::Reply { at, len, rounds } => match guard::FAST {
                true => confine::reply(self.address(at), len, rounds),
                // Where an access is a fork, none can be made without a system call.
                false => Outcome::Lacking(Lack::Machine),
            },
            Call::Await { at, value } => self.access(at, |address| await_word(address, value)),
            ref other => unreachable!("{other} is not a call on memory"),
        }
    }

    fn mmap(&mut self, args: &MmapArgs, map: MapId) -> Outcome {
        let MmapArgs { at, len, prot, flags, fd, offset } = *args;
        let (address, number) = (self.address(at), self.number(fd));
        let result = if number >= 0 {
            let (prot, flags) = (ProtFlags::from_bits_retain(prot.0), MapFlags::from_bits_retain(flags.0));
            // SAFETY: a fixed address lies in the arena or in a mapping of the case; any other is the kernel's choice.
            let result = unsafe {
                mm::mmap(address as *mut c_void, len.get(), prot, flags, self.borrowed(fd), offset.get() as u64)
            };
            outcome(result, |start| Outcome::Mapped(start as usize))
        } else {
            raw_mmap([address, len.get(), prot.0 as usize, flags.0 as usize, number as isize as usize, offset.get()])
        };
        match result {
            Outcome::Mapped(start) => self.mapped(map, start, len.get()),
            other => other,
        }
    }

    fn range(&self, number: libc::c_long, at: At, len: usize, last: usize) -> Outcome {
        // SAFETY: none of these calls changes what a mapping outside the range holds, and the range is the case's own.
        match unsafe { libc::syscall(number, self.address(at), len, last) } {
            -1 => errno(),
            value => Outcome::Value(value as u64),
        }
    }

    /// The range is a hole now; one in the arena is closed at the end of the case.
    fn vacated(&mut self, start: usize, len: usize) {
        self.forget_span(start, len);
        if self.in_arena(start) {
            self.spans.push((start, start + len.next_multiple_of(crate::kernel::page::page())));
        }
    }

    fn in_arena(&self, address: usize) -> bool {
        self.arena != 0 && address.wrapping_sub(self.arena) < super::super::arena::LENGTH
    }

    fn mincore(&self, at: At, len: usize) -> Outcome {
        const MOST: usize = 1 << 24;
        let count = len.div_ceil(crate::kernel::page::page()).min(MOST);
        let len = len.min(MOST * crate::kernel::page::page());
        let mut resident = vec![0xff_u8; count];
        // SAFETY: the kernel writes a byte for each page of the range, and there is room for as many.
        match unsafe { libc::syscall(libc::SYS_mincore, self.address(at), len, resident.as_mut_ptr()) } {
            -1 => errno(),
            _ => {
                resident.iter_mut().for_each(|page| *page &= 1);
                Outcome::Bytes(resident)
            }
        }
    }

    /// Whether a short range is mapped throughout (mincore(2), ENOMEM), with nothing allocated.
    ///
    /// Residency itself is no part of it: the kernel may take pages away, and bring them in, at any time.
    pub fn is_mapped(&self, at: usize, pages: usize) -> bool {
        let mut resident = [0_u8; FEW];
        let len = pages.min(FEW) * crate::kernel::page::page();
        // SAFETY: the kernel writes a byte for each of at most `FEW` pages.
        unsafe { libc::syscall(libc::SYS_mincore, at, len, resident.as_mut_ptr()) == 0 }
    }

    fn access(&self, at: At, access: impl FnOnce(usize) -> Result<u64, guard::Fault>) -> Outcome {
        let address = self.address(at);
        match access(address) {
            Ok(value) => Outcome::Value(value),
            Err(fault) => fault_at(fault, address, 0),
        }
    }

    pub(super) fn release(&self, start: usize, end: usize) {
        if self.in_arena(start) {
            super::super::arena::reserve(start, end - start);
        } else {
            // SAFETY: the range is one that the case mapped and did not unmap.
            let _ = unsafe { mm::munmap(start as *mut c_void, end - start) };
        }
    }
}

/// mmap(2) with arguments that no borrowed descriptor can stand for, such as -1.
fn raw_mmap(arguments: [usize; 6]) -> Outcome {
    #[cfg(target_arch = "s390x")]
    // SAFETY: on this machine the call takes its arguments as a block, which lives until it returns.
    let result = unsafe { libc::syscall(libc::SYS_mmap, arguments.as_ptr()) };
    #[cfg(not(target_arch = "s390x"))]
    // SAFETY: as for any mmap of a case; the arguments are numbers.
    let result = unsafe {
        let [at, len, prot, flags, fd, offset] = arguments;
        libc::syscall(libc::SYS_mmap, at, len, prot, flags, fd, offset)
    };
    match result {
        -1 => errno(),
        start => Outcome::Mapped(start as usize),
    }
}

/// Loads until the value is there, or for so long that it will not come; the processor is given away in between.
fn await_word(address: usize, value: u32) -> Result<u64, guard::Fault> {
    const LIMIT: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    loop {
        let seen = guard::load_u32(address)?;
        if seen == value || begun.elapsed() > LIMIT {
            fence(Ordering::Acquire);
            return Ok(u64::from(seen));
        }
        std::thread::yield_now();
    }
}

fn fault_at(fault: guard::Fault, address: usize, done: usize) -> Outcome {
    let guard::Fault { signal, code, addr } = fault;
    Outcome::Fault(Fault { signal, code, at: addr.wrapping_sub(address) as isize, done })
}

/// Plain additions under a lock: 0 is free, 1 is taken. Returns the value before the last.
fn locked_add(lock: usize, address: usize, add: u32, times: u32) -> Result<u64, guard::Fault> {
    let mut before = 0;
    for _ in 0..times {
        while guard::compare_exchange_u32(lock, 0, 1)? != 0 {
            rustix::thread::sched_yield();
        }
        before = guard::load_u32(address)?;
        guard::store_u32(address, before.wrapping_add(add))?;
        guard::compare_exchange_u32(lock, 1, 0)?;
    }
    Ok(u64::from(before))
}

/// One access to each page, and the page faults that they took; nothing else that could fault happens meanwhile.
fn touch(address: usize, len: usize, store: bool) -> Result<u64, (usize, guard::Fault)> {
    let access = |address| if store { guard::store_u8(address, 1) } else { guard::load_u8(address).map(drop) };
    let own = std::hint::black_box(0_u8);
    let _ = access(&raw const own as usize);
    let before = super::others::page_faults();
    for distance in (0..len).step_by(crate::kernel::page::page()) {
        access(address.wrapping_add(distance)).map_err(|fault| (distance, fault))?;
    }
    Ok(super::others::page_faults() - before)
}

fn load_word(address: usize, width: Width) -> Result<u64, guard::Fault> {
    match width {
        Width::One => guard::load_u8(address).map(u64::from),
        Width::Two => guard::load_u16(address).map(u64::from),
        Width::Four => guard::load_u32(address).map(u64::from),
        Width::Eight => guard::load_u64(address),
    }
}

fn store_word(address: usize, width: Width, value: u64) -> Result<u64, guard::Fault> {
    match width {
        Width::One => guard::store_u8(address, value as u8),
        Width::Two => guard::store_u16(address, value as u16),
        Width::Four => guard::store_u32(address, value as u32),
        Width::Eight => guard::store_u64(address, value),
    }
    .map(|()| 0)
}

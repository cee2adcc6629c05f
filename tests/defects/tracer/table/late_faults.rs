//! Faults that are wrong only behind some ends, on some pages, or the third time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use libc::{PROT_READ, PROT_WRITE, SIGBUS, SIGSEGV};

use crate::tracer::behaviour::{Behaviour, Deliver, Entry};
use crate::tracer::call::{FTRUNCATE, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::engine::SignalInfo;
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::{on, on_signal, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::file;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "beyond-whole-pages-is-zeros",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "it reads as zeros if the file ends with a page",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || beyond_end(|_, size| size > 0 && size.is_multiple_of(page())),
    },
    Defect {
        name: "beyond-a-new-end-is-zeros",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "where the file has been shortened it reads as zeros",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file", "file.must-be-sized-first"],
        make: || {
            let shortened: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let known = Rc::clone(&shortened);
            several([
                on(FTRUNCATE).when(file(0)).enter(move |t, c| {
                    if t.status(c.args[0]).is_ok_and(|status| status.len() > c.args[1]) {
                        shortened.borrow_mut().insert(t.inode(c.args[0]));
                    }
                    Entry::Pass
                }),
                beyond_end(move |hit, _| known.borrow().contains(&hit.inode)),
            ])
        },
    },
    Defect {
        name: "third-fault-has-another-code",
        correct: "si_code of an access that the protection forbids is SEGV_ACCERR",
        wrong: "in a process's third fault, and every third after it, it is SEGV_MAPERR",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "perm.prot-read"],
        make: || {
            const MAPERR: i32 = 1;
            const ACCERR: i32 = 2;
            let mut faults: HashMap<i32, u32> = HashMap::new();
            on_signal(&[SIGSEGV], move |t, info| {
                let count = faults.entry(t.id()).or_default();
                *count += 1;
                if info.code == ACCERR && (*count).is_multiple_of(3) {
                    info.code = MAPERR;
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "fault-address-of-the-fifth-page",
        correct: "si_addr is the byte that was accessed",
        wrong: "from the fifth page of a mapping on, it is the same byte of the page before",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "perm.prot-read"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                let inside = t.mapping_at(info.address).is_some_and(|hit| info.address - hit.range.start >= 4 * page());
                if inside && t.program_counter() != Some(info.address) {
                    info.address -= page();
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "gap-reads-as-zeros",
        correct: "after munmap the region is gone: touching it is a fault",
        wrong: "a single page between two that are still mapped reads as zeros",
        subtle: SUBTLE,
        claims: &["fault.after-munmap", "munmap.releases"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                let start = page_down(info.address);
                let beside = [start.wrapping_sub(1), start + page()];
                let open = |hit: Mapping| hit.protection & bits(PROT_WRITE) != 0;
                let gap = t.mapping_at(start).is_none() && beside.iter().all(|at| t.mapping_at(*at).is_some_and(open));
                if gap && t.map_zeros(start, page(), bits(PROT_READ | PROT_WRITE)) >= 0 {
                    return Deliver::Suppress;
                }
                Deliver::Pass
            })
        },
    },
];

/// Pages beyond the end of such files are zeros.
fn beyond_end(files: impl Fn(&Mapping, u64) -> bool + 'static) -> Box<dyn Behaviour> {
    on_signal(&[SIGBUS], move |t: &mut Tracee, info: &mut SignalInfo| {
        let Some(hit) = t.mapping_at(info.address) else { return Deliver::Pass };
        let size = std::fs::metadata(t.mapped_file(&hit)).map_or(0, |status| status.len());
        if files(&hit, size) && t.map_zeros(page_down(info.address), page(), hit.protection) >= 0 {
            return Deliver::Suppress;
        }
        Deliver::Pass
    })
}

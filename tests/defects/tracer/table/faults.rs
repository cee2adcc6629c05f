//! Signals for accesses that cannot be: which, with what code and address, and what happens besides.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use libc::{PROT_EXEC, PROT_READ, PROT_WRITE, SIGBUS, SIGSEGV};

use crate::tracer::behaviour::{Behaviour, Deliver};
use crate::tracer::call::{MUNMAP, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::engine::SignalInfo;
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::{on, on_signal, several};
use crate::tracer::tracee::Tracee;

/// si_code of SIGSEGV: nothing is mapped there.
const MAPERR: i32 = 1;
/// si_code of SIGSEGV: the mapping does not allow it.
const ACCERR: i32 = 2;
/// si_code of SIGBUS: there is no such physical address.
const ADRERR: i32 = 2;
/// si_code of SIGBUS: hardware error.
const OBJERR: i32 = 3;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "sigbus-is-sigsegv",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "it is SIGSEGV",
        subtle: PLAIN,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |_, info| {
                info.signal = SIGSEGV;
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "sigbus-is-sigsegv-for-private",
        correct: "a page wholly beyond the end of the file is SIGBUS, shared or private",
        wrong: "through a private mapping it is SIGSEGV",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |t, info| {
                if t.mapping_at(info.address).is_some_and(|mapping| !mapping.shared) {
                    info.signal = SIGSEGV;
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "sigbus-is-sigsegv-further-out",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "from the second such page on it is SIGSEGV",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |t, info| {
                if pages_beyond_end(t, info) > 0 {
                    info.signal = SIGSEGV;
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "sigsegv-is-sigbus",
        correct: "an access that the protection forbids is SIGSEGV",
        wrong: "it is SIGBUS",
        subtle: PLAIN,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || {
            on_signal(&[SIGSEGV], |_, info| {
                if info.code == ACCERR {
                    info.signal = SIGBUS;
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "unmapped-is-sigbus",
        correct: "an access to what is not mapped is SIGSEGV",
        wrong: "right after the end of a mapping it is SIGBUS",
        subtle: SUBTLE,
        claims: &["fault.beyond-mapping"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                if info.code == MAPERR && ends_here(t, info) {
                    info.signal = SIGBUS;
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "accerr-is-maperr",
        correct: "si_code of an access that the protection forbids is SEGV_ACCERR",
        wrong: "it is SEGV_MAPERR",
        subtle: PLAIN,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || recode(SIGSEGV, ACCERR, MAPERR),
    },
    Defect {
        name: "maperr-is-accerr",
        correct: "si_code of an access to what is not mapped is SEGV_MAPERR",
        wrong: "it is SEGV_ACCERR",
        subtle: PLAIN,
        claims: &["fault.after-munmap"],
        make: || recode(SIGSEGV, MAPERR, ACCERR),
    },
    Defect {
        name: "adrerr-is-objerr",
        correct: "si_code beyond the end of the file is BUS_ADRERR",
        wrong: "it is BUS_OBJERR",
        subtle: PLAIN,
        claims: &["fault.beyond-end-of-file"],
        make: || recode(SIGBUS, ADRERR, OBJERR),
    },
    Defect {
        name: "fault-address-of-page",
        correct: "si_addr of SIGSEGV is the byte that was accessed",
        wrong: "it is the start of its page",
        subtle: PLAIN,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || {
            on_signal(&[SIGSEGV], |_, info| {
                info.address = page_down(info.address);
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "fault-address-a-page-off",
        correct: "si_addr is the byte that was accessed",
        wrong: "of SIGBUS it lies a page further on",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |_, info| {
                info.address += page();
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "beyond-end-is-zeros",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "it reads as zeros",
        subtle: PLAIN,
        claims: &["fault.beyond-end-of-file", "file.empty-refused"],
        make: || on_signal(&[SIGBUS], give_zeros),
    },
    Defect {
        name: "beyond-end-is-zeros-nearby",
        correct: "a page wholly beyond the end of the file is SIGBUS",
        wrong: "the first such page reads as zeros",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |t, info| {
                if pages_beyond_end(t, info) == 0 {
                    return give_zeros(t, info);
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "beyond-end-is-zeros-for-private",
        correct: "a page wholly beyond the end of the file is SIGBUS, shared or private",
        wrong: "through a private mapping it reads as zeros",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file"],
        make: || {
            on_signal(&[SIGBUS], |t, info| {
                if t.mapping_at(info.address).is_some_and(|mapping| !mapping.shared) {
                    return give_zeros(t, info);
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "read-only-store-accepted",
        correct: "a store into a PROT_READ mapping is a fault",
        wrong: "its page becomes writable",
        subtle: PLAIN,
        claims: &["perm.prot-read"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                allow(t, info, |mapping, _| (mapping.protection == bits(PROT_READ)).then_some(PROT_READ | PROT_WRITE))
            })
        },
    },
    Defect {
        name: "read-only-store-accepted-at-page-end",
        correct: "a store into a PROT_READ mapping is a fault",
        wrong: "one into the last eight bytes of a page makes it writable",
        subtle: SUBTLE,
        claims: &["perm.prot-read"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                allow(t, info, |mapping, address| {
                    let at_end = address % page() >= page() - 8;
                    (mapping.protection == bits(PROT_READ) && at_end).then_some(PROT_READ | PROT_WRITE)
                })
            })
        },
    },
    Defect {
        name: "none-load-accepted",
        correct: "any access to a PROT_NONE mapping is a fault",
        wrong: "a file's page becomes readable when it is accessed",
        subtle: SUBTLE,
        claims: &["perm.prot-none"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                allow(t, info, |mapping, _| (mapping.protection == 0 && mapping.inode != 0).then_some(PROT_READ))
            })
        },
    },
    Defect {
        name: "execute-accepted",
        correct: "without PROT_EXEC contents cannot be executed",
        wrong: "a file's page becomes executable when it is jumped to",
        subtle: SUBTLE,
        claims: &["perm.prot-exec"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                let jumped = t.program_counter() == Some(info.address);
                allow(t, info, |mapping, _| {
                    (jumped && mapping.inode != 0 && mapping.protection & bits(PROT_READ) != 0)
                        .then_some(mapping.protection as i32 | PROT_EXEC)
                })
            })
        },
    },
    Defect {
        name: "unmapped-reads-as-zeros",
        correct: "after munmap the region is gone: touching it is a fault",
        wrong: "there are zeros",
        subtle: PLAIN,
        claims: &["fault.after-munmap"],
        make: || {
            let unmapped = Rc::new(RefCell::new(Vec::new()));
            let known = Rc::clone(&unmapped);
            several([
                on(MUNMAP).after(move |_, c, result| {
                    if *result == 0 {
                        unmapped.borrow_mut().push(c.range());
                    }
                }),
                on_signal(&[SIGSEGV], move |t, info| {
                    let ranges = known.borrow();
                    if info.code == MAPERR && ranges.iter().any(|r| r.contains(&info.address)) {
                        return give_zeros(t, info);
                    }
                    Deliver::Pass
                }),
            ])
        },
    },
    Defect {
        name: "beyond-mapping-is-zeros",
        correct: "access beyond the mapping is SIGSEGV",
        wrong: "the page after a mapping reads as zeros",
        subtle: SUBTLE,
        claims: &["fault.beyond-mapping"],
        make: || {
            on_signal(&[SIGSEGV], |t, info| {
                if info.code == MAPERR && ends_here(t, info) {
                    return give_zeros(t, info);
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "fault-harms-the-file",
        correct: "a fault leaves the file unharmed",
        wrong: "a store that is refused clears the file's first byte",
        subtle: SUBTLE,
        claims: &["fault.core-dump-death", "perm.prot-read"],
        make: || {
            on_signal(&[SIGSEGV, SIGBUS], |t, info| {
                let mapping = t.mapping_at(info.address);
                if let Some(mapping) = mapping.filter(|mapping| mapping.inode != 0)
                    && let Ok(file) = File::options().write(true).open(t.mapped_file(&mapping))
                    && file.write_at(&[0], 0).is_ok()
                {
                    t.count();
                }
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "fault-death-is-sigkill",
        correct: "a fault that is not handled ends the process by its signal",
        wrong: "a forked child is killed by SIGKILL",
        subtle: SUBTLE,
        claims: &["fault.core-dump-death"],
        make: || {
            on_signal(&[SIGSEGV, SIGBUS], |t, info| {
                if t.process().generation > 0 && !t.handles(info.signal) {
                    info.signal = libc::SIGKILL;
                }
                Deliver::Pass
            })
        },
    },
];

fn recode(signal: i32, right: i32, wrong: i32) -> Box<dyn Behaviour> {
    on_signal(&[signal], move |_, info| {
        if info.code == right {
            info.code = wrong;
        }
        Deliver::Pass
    })
}

/// Maps a page of zeros where the access was.
fn give_zeros(tracee: &mut Tracee, info: &mut SignalInfo) -> Deliver {
    let mapping = tracee.mapping_at(info.address);
    let protection = mapping.map_or(bits(PROT_READ | PROT_WRITE), |mapping| mapping.protection);
    if tracee.map_zeros(page_down(info.address), page(), protection) < 0 {
        return Deliver::Pass;
    }
    Deliver::Suppress
}

/// Gives the page of the access the protection that `decide` chooses, if any.
fn allow(tracee: &mut Tracee, info: &mut SignalInfo, decide: impl FnOnce(&Mapping, u64) -> Option<i32>) -> Deliver {
    let mapping = tracee.mapping_at(info.address);
    let chosen = mapping.and_then(|mapping| decide(&mapping, info.address));
    match chosen {
        Some(protection) if tracee.protect(page_down(info.address), page(), bits(protection)) == 0 => Deliver::Suppress,
        _ => Deliver::Pass,
    }
}

/// How many whole pages lie between the file's last page and the one that was accessed.
fn pages_beyond_end(tracee: &Tracee, info: &SignalInfo) -> u64 {
    let Some(mapping) = tracee.mapping_at(info.address) else {
        return 0;
    };
    let end = mapping.range.start + tracee.pages_of_file(&mapping);
    page_down(info.address).saturating_sub(end) / page()
}

/// A mapping of the test's own ends where the accessed page begins.
fn ends_here(tracee: &Tracee, info: &SignalInfo) -> bool {
    let edge = page_down(info.address);
    let mapping = tracee.mapping_at(edge.saturating_sub(1));
    mapping.is_some_and(|mapping| mapping.range.end == edge)
}

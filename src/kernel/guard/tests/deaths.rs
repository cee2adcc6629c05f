//! Signals that are nobody's guarded access kill, as if there were no handler.

use libc::{PROT_NONE, SIGBUS, SIGILL, SIGPIPE, SIGSEGV, SIGTERM, SIGTRAP, c_int};

use super::super::*;
use super::{Mapping, READ_WRITE, assert_exited_well, in_child, page};

#[track_caller]
pub fn assert_died_of(status: c_int, signal: c_int) {
    assert!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal,
        "wait status {status:#x}, not death of signal {signal}"
    );
}

/// Stores without a guard.
fn store_wildly(at: usize) {
    // SAFETY: the process is to die of it.
    unsafe { std::ptr::write_volatile(at as *mut u8, 1) };
}

fn send_self(signal: c_int) {
    // SAFETY: kill affects this process alone.
    unsafe { libc::kill(libc::getpid(), signal) };
}

#[test]
fn a_wild_store_kills() {
    let refused = Mapping::anonymous(1, PROT_NONE);
    let beyond = Mapping::file(0, 1, READ_WRITE);
    for (at, signal) in [(refused.addr, SIGSEGV), (beyond.addr + page() / 2, SIGBUS)] {
        let status = in_child(|| {
            install().is_ok() && load_u8(at).is_err() && execute(at).is_err() && {
                store_wildly(at);
                true
            }
        });
        assert_died_of(status, signal);
    }
}

#[test]
fn a_signal_sent_kills() {
    for signal in [SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGTERM] {
        let status = in_child(|| {
            let ready = install().is_ok();
            send_self(signal);
            ready
        });
        assert_died_of(status, signal);
    }
}

#[test]
fn after_default_disposition_a_guarded_access_kills() {
    let memory = Mapping::anonymous(1, PROT_NONE);
    let status = in_child(|| {
        install().unwrap();
        default_disposition();
        load_u8(memory.addr).is_ok()
    });
    if FAST {
        assert_died_of(status, SIGSEGV);
    }
    let status = in_child(|| {
        default_disposition();
        install().is_ok() && load_u8(memory.addr).is_err()
    });
    assert_exited_well(status);
}

#[test]
fn after_default_disposition_a_broken_pipe_kills() {
    let status = in_child(|| {
        default_disposition();
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        unsafe { libc::pipe(ends.as_mut_ptr()) };
        // SAFETY: the descriptors are ours, and one byte is there to be written.
        unsafe {
            libc::close(ends[0]);
            libc::write(ends[1], c"x".as_ptr().cast(), 1);
        }
        false
    });
    assert_died_of(status, SIGPIPE);
}

#[test]
fn blocked_signals_are_unblocked() {
    for default in [false, true] {
        let status = in_child(|| {
            // SAFETY: sigfillset initializes the set, which outlives both calls.
            unsafe {
                let mut all = std::mem::zeroed();
                libc::sigfillset(&mut all);
                libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
            }
            if default {
                default_disposition();
                send_self(SIGTERM);
            } else {
                install().unwrap();
                send_self(SIGBUS);
            }
            true
        });
        assert_died_of(status, if default { SIGTERM } else { SIGBUS });
    }
}

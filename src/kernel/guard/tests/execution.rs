//! Code that returns, code that may not be run, and code that goes wrong.

use libc::{PROT_EXEC, PROT_NONE, PROT_READ, SIGBUS, SIGILL, SIGSEGV};

use super::super::*;
use super::{BUS_ADRERR, Mapping, READ_WRITE, assert_fault, assert_refused, page, times};

/// `code` at `offset` of a page that may be read and run.
pub fn code_at(offset: usize, code: &[u8]) -> Mapping {
    let memory = Mapping::anonymous(1, READ_WRITE);
    store(memory.addr + offset, code).unwrap();
    memory.protect(0, PROT_READ | PROT_EXEC);
    sync_instruction_cache(memory.addr + offset, code.len());
    memory
}

#[test]
fn a_return_returns() {
    install().unwrap();
    for offset in [0, 64, page() - RETURN.len()] {
        let memory = code_at(offset, RETURN);
        for _ in 0..times(1_000) {
            assert_eq!(execute(memory.addr + offset), Ok(()));
        }
    }
}

#[test]
fn code_stored_through_another_mapping_runs() {
    install().unwrap();
    let memory = Mapping::anonymous(1, READ_WRITE | PROT_EXEC);
    for offset in (0..page()).step_by(page() / 8) {
        store(memory.addr + offset, RETURN).unwrap();
        sync_instruction_cache(memory.addr + offset, RETURN.len());
        assert_eq!(execute(memory.addr + offset), Ok(()));
    }
}

#[test]
fn memory_without_leave_to_execute_is_not_run() {
    install().unwrap();
    let memory = code_at(128, RETURN);
    let at = memory.addr + 128;
    for protection in [PROT_READ, READ_WRITE, PROT_NONE] {
        memory.protect(0, protection);
        for _ in 0..times(1_000) {
            assert_refused(execute(at).unwrap_err(), at);
        }
    }
    memory.protect(0, PROT_READ | PROT_EXEC);
    assert_eq!(execute(at), Ok(()));
}

#[test]
fn no_code_past_the_end_of_the_file() {
    install().unwrap();
    let memory = Mapping::file(1, 2, PROT_READ | PROT_EXEC);
    let at = memory.page(1) + 64;
    assert_fault(execute(at).unwrap_err(), SIGBUS, BUS_ADRERR, at);
}

#[test]
fn no_code_where_nothing_is_mapped() {
    install().unwrap();
    for at in [0, 64, 1 << (usize::BITS - 2), usize::MAX - 63] {
        assert_eq!(execute(at).unwrap_err().signal, SIGSEGV, "{at:x}");
    }
}

#[test]
fn zeros_are_not_a_program() {
    install().unwrap();
    let memory = code_at(0, &[0; 64]);
    let fault = execute(memory.addr).unwrap_err();
    assert!([SIGILL, SIGSEGV].contains(&fault.signal), "{fault:?}");
}

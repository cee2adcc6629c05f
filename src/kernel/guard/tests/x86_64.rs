//! Code beyond a bare return, written for this machine.

use libc::{PROT_EXEC, PROT_NONE, PROT_READ, SIGILL, SIGSEGV, SIGTRAP};

use super::super::*;
use super::deaths::assert_died_of;
use super::execution::code_at;
use super::{Mapping, READ_WRITE, assert_refused, in_child, times, wait};

#[test]
fn code_that_goes_wrong_is_survived() {
    install().unwrap();
    let cases: [(&str, &[u8], i32); 5] = [
        ("ud2", &[0x0f, 0x0b], SIGILL),
        ("int3", &[0xcc], SIGTRAP),
        ("hlt", &[0xf4], SIGSEGV),
        ("xor esp, esp; push rax", &[0x31, 0xe4, 0x50], SIGSEGV),
        ("xor ebx, ebx; mov ebp, ebx; std; ud2", &[0x31, 0xdb, 0x89, 0xdd, 0xfd, 0x0f, 0x0b], SIGILL),
    ];
    for (name, code, signal) in cases {
        let memory = code_at(32, code);
        for _ in 0..times(100) {
            let fault = execute(memory.addr + 32).unwrap_err();
            assert!(!backwards(), "{name}");
            assert_eq!(fault.signal, signal, "{name}: {fault:?}");
        }
        // Faults after it are those of accesses again.
        memory.protect(0, PROT_NONE);
        assert_refused(load_u64(memory.addr).unwrap_err(), memory.addr);
    }
}

/// Whether string instructions run backwards, which the ABI forbids between functions.
fn backwards() -> bool {
    const DIRECTION: u64 = 1 << 10;
    let flags: u64;
    // SAFETY: it reads the flags by way of the stack.
    unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    flags & DIRECTION != 0
}

#[test]
fn a_wild_instruction_kills() {
    let status = in_child(|| {
        install().unwrap();
        // SAFETY: the process is to die of it.
        unsafe { std::arch::asm!("ud2") };
        true
    });
    assert_died_of(status, SIGILL);
    let status = in_child(|| {
        install().unwrap();
        // SAFETY: the process is to die of it.
        unsafe { std::arch::asm!("int3") };
        true
    });
    assert_died_of(status, SIGTRAP);
}

#[test]
fn a_signal_sent_kills_code_that_does_not_return() {
    let memory = Mapping::anonymous(1, READ_WRITE);
    install().unwrap();
    // A jump to itself. The child tells that it has come there by the time it uses.
    store(memory.addr, &[0xeb, 0xfe]).unwrap();
    memory.protect(0, PROT_READ | PROT_EXEC);
    // SAFETY: the child keeps to guarded access.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = execute(memory.addr);
        // SAFETY: it ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    while FAST && processor_time(child) < 2 {
        std::thread::yield_now();
    }
    // SAFETY: the child is ours and not waited for yet.
    unsafe { libc::kill(child, SIGSEGV) };
    assert_died_of(wait(child), SIGSEGV);
}

/// User time of a process in ticks, from proc_pid_stat(5).
fn processor_time(pid: libc::pid_t) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    after_name.split_whitespace().nth(11).unwrap().parse().unwrap()
}

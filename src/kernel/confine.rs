//! Giving up system calls for good (seccomp(2)).
use super::call::Confinement;
use super::outcome::{Lack, Outcome};

/// One instruction that loads the number of the call, which seccomp_data begins with.
const LOAD_NUMBER: libc::sock_filter = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
const ALLOW: libc::sock_filter = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
const KILL: libc::sock_filter = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS);

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on with the next instruction if the call is this one, else skips it.
const fn if_call(number: libc::c_long) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: number as u32 }
}

/// Confines the calling process: whatever is not allowed kills it with SIGSYS.
pub fn confine(to: Confinement) -> Outcome {
    let mut program = vec![LOAD_NUMBER];
    match to {
        Confinement::ChannelOnly => {
            for number in [libc::SYS_read, libc::SYS_write, libc::SYS_exit_group] {
                program.extend([if_call(number), ALLOW]);
            }
            program.push(KILL);
        }
        Confinement::NoMmap => program.extend([if_call(libc::SYS_mmap), KILL, ALLOW]),
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the calls return.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if refused { Outcome::Lacking(Lack::Seccomp) } else { Outcome::DONE }
}

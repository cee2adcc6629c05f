//! Giving up system calls for good (seccomp(2)).
use std::sync::atomic::{Ordering, fence};

use super::call::Confinement;
use super::guard;
use super::outcome::{Lack, Outcome};
use super::process::exit;

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
    match to {
        Confinement::ChannelOnly => allow_only(&[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_exit_group,
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_mremap,
            libc::SYS_munmap,
            libc::SYS_madvise,
        ]),
        Confinement::NoMmap => enter(&mut [LOAD_NUMBER, if_call(libc::SYS_mmap), KILL, ALLOW]),
    }
}

fn allow_only(numbers: &[libc::c_long]) -> Outcome {
    let allowed = numbers.iter().flat_map(|number| [if_call(*number), ALLOW]);
    let mut program: Vec<_> = std::iter::once(LOAD_NUMBER).chain(allowed).chain([KILL]).collect();
    enter(&mut program)
}

fn enter(program: &mut [libc::sock_filter]) -> Outcome {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the calls return.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if refused { Outcome::Lacking(Lack::Seccomp) } else { Outcome::DONE }
}

/// Gives up every system call but exit_group and answers `rounds` messages in shared memory, as [`Call::Reply`] says.
///
/// Returns only where there is no seccomp; ends with 1 if a message never comes.
///
/// [`Call::Reply`]: super::call::Call::Reply
pub fn reply(turn: usize, len: usize, rounds: u32) -> Outcome {
    let mut message = vec![0; len];
    let confined = allow_only(&[libc::SYS_exit_group]);
    if confined != Outcome::DONE {
        return confined;
    }
    for round in 0..rounds {
        if await_turn(turn, 2 * round + 1).is_err() || complement(turn, &mut message).is_err() {
            exit(1);
        }
    }
    exit(0)
}

/// There is no clock without a system call everywhere, so the patience is counted: tens of seconds.
fn await_turn(turn: usize, value: u32) -> Result<(), ()> {
    const PATIENCE: u64 = 1 << 32;
    for _ in 0..PATIENCE {
        if guard::load_u32(turn).map_err(|_| ())? == value {
            fence(Ordering::Acquire);
            return Ok(());
        }
        std::hint::spin_loop();
    }
    Err(())
}

fn complement(turn: usize, message: &mut [u8]) -> Result<(), guard::Fault> {
    let at = turn + size_of::<u32>();
    guard::load(at, message)?;
    message.iter_mut().for_each(|byte| *byte = !*byte);
    guard::store(at, message)?;
    fence(Ordering::Release);
    guard::fetch_add_u32(turn, 1).map(|_| ())
}

//! Where each architecture keeps a system call: number, arguments, result, and the instruction itself.

use std::ffi::c_long;
use std::io;

use super::ptrace::{self, Pid};

/// A task's general registers at a stop.
#[derive(Clone, Copy)]
pub struct Registers(libc::user_regs_struct);

impl Registers {
    /// The registers of a stopped task.
    pub fn of(task: Pid) -> io::Result<Registers> {
        ptrace::registers(task).map(Registers)
    }

    /// Gives them to the task.
    pub fn set(&self, task: Pid) -> io::Result<()> {
        ptrace::set_registers(task, &self.0)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{Pid, Registers, c_long, io};

    /// The instruction that makes a system call.
    pub const INSTRUCTION: &[u8] = &[0x0f, 0x05];
    /// What the kernel calls this architecture in a seccomp filter.
    pub const AUDIT_ARCH: u32 = 0xc000_003e;

    impl Registers {
        /// Address of the next instruction.
        pub fn program_counter(&self) -> u64 {
            self.0.rip
        }

        /// Sets the address of the next instruction.
        pub fn set_program_counter(&mut self, address: u64) {
            self.0.rip = address;
        }

        /// The stack pointer.
        pub fn stack(&self) -> u64 {
            self.0.rsp
        }

        /// Sets what the system call returns.
        pub fn set_result(&mut self, result: i64) {
            self.0.rax = result as u64;
        }

        /// Sets the arguments.
        pub fn set_arguments(&mut self, arguments: [u64; 6]) {
            let r = &mut self.0;
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = arguments;
        }

        /// Prepares a call that is made when the task next runs a system call instruction.
        pub fn set_next_call(&mut self, number: c_long, arguments: [u64; 6]) {
            self.0.rax = number as u64;
            // No call to restart: the kernel would otherwise take a result for ERESTARTSYS.
            self.0.orig_rax = u64::MAX;
            self.set_arguments(arguments);
        }

        /// Changes the number of the call that the task is entering; -1 makes none.
        pub fn set_entered_call(&mut self, _task: Pid, number: c_long) -> io::Result<()> {
            self.0.orig_rax = number as u64;
            Ok(())
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86_64::{AUDIT_ARCH, INSTRUCTION};

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Pid, Registers, c_long, io, ptrace};

    /// The instruction that makes a system call, `svc #0`.
    pub const INSTRUCTION: &[u8] = &[0x01, 0x00, 0x00, 0xd4];
    /// What the kernel calls this architecture in a seccomp filter.
    pub const AUDIT_ARCH: u32 = 0xc000_00b7;

    impl Registers {
        /// Address of the next instruction.
        pub fn program_counter(&self) -> u64 {
            self.0.pc
        }

        /// Sets the address of the next instruction.
        pub fn set_program_counter(&mut self, address: u64) {
            self.0.pc = address;
        }

        /// The stack pointer.
        pub fn stack(&self) -> u64 {
            self.0.sp
        }

        /// Sets what the system call returns.
        pub fn set_result(&mut self, result: i64) {
            self.0.regs[0] = result as u64;
        }

        /// Sets the arguments.
        pub fn set_arguments(&mut self, arguments: [u64; 6]) {
            self.0.regs[..6].copy_from_slice(&arguments);
        }

        /// Prepares a call that is made when the task next runs a system call instruction.
        pub fn set_next_call(&mut self, number: c_long, arguments: [u64; 6]) {
            self.0.regs[8] = number as u64;
            self.set_arguments(arguments);
        }

        /// Changes the number of the call that the task is entering; -1 makes none.
        pub fn set_entered_call(&mut self, task: Pid, number: c_long) -> io::Result<()> {
            ptrace::set_call_number(task, number as i32)
        }
    }
}
#[cfg(target_arch = "aarch64")]
pub use aarch64::{AUDIT_ARCH, INSTRUCTION};

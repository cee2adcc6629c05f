//! A stopped task, and the powers that a defect has over it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::tracer::behaviour::{Syscall, Sysno};
use crate::tracer::engine::registers::{INSTRUCTION, Registers};
use crate::tracer::engine::{Change, Pid, Stage, ptrace};
use crate::tracer::memory::{self, Mapping, Memory};
use crate::tracer::process::{Dispositions, Process};

/// At what kind of stop a task is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// By the filter, before a system call.
    BeforeCall,
    /// After a system call, or anywhere else outside one.
    Elsewhere,
}

/// A stopped task.
pub struct Tracee<'a> {
    task: Pid,
    process: &'a mut Process,
    held: Held,
    /// What to put back after calls made in its name.
    detour: Option<Detour>,
    /// How it ended, if it was killed while making such calls.
    ended: Option<Change>,
    applied: &'a mut u64,
}

struct Detour {
    registers: Registers,
    signal_mask: u64,
}

impl<'a> Tracee<'a> {
    pub(crate) fn new(task: Pid, process: &'a mut Process, held: Held, applied: &'a mut u64) -> Tracee<'a> {
        Tracee { task, process, held, detour: None, ended: None, applied }
    }

    /// The process's id.
    pub fn id(&self) -> Pid {
        self.process.id
    }

    /// The thread's id.
    pub fn task(&self) -> Pid {
        self.task
    }

    /// What is known about the process.
    pub fn process(&self) -> &Process {
        self.process
    }

    /// Takes note that the defect has shown itself.
    pub fn count(&mut self) {
        *self.applied += 1;
    }

    /// Its memory.
    pub fn memory(&self) -> io::Result<Memory> {
        Memory::of(self.process.id)
    }

    /// What it has mapped.
    pub fn mappings(&self) -> Vec<Mapping> {
        memory::mappings(self.process.id)
    }

    /// The mapping that contains an address.
    pub fn mapping_at(&self, address: u64) -> Option<Mapping> {
        self.mappings().into_iter().find(|mapping| mapping.range.contains(&address))
    }

    /// A path through which another process reaches what is behind a descriptor.
    pub fn path(&self, descriptor: u64) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", self.process.id, descriptor as i32))
    }

    /// The name of what is behind a descriptor, such as a path or `pipe:[17]`.
    pub fn name(&self, descriptor: u64) -> PathBuf {
        fs::read_link(self.path(descriptor)).unwrap_or_default()
    }

    /// Status of what is behind a descriptor.
    pub fn status(&self, descriptor: u64) -> io::Result<fs::Metadata> {
        fs::metadata(self.path(descriptor))
    }

    /// Status of what is at the path of a call, a symbolic link itself included.
    pub fn status_at_path(&self, call: &Syscall) -> Option<fs::Metadata> {
        fs::symlink_metadata(self.path_argument(call)?).ok()
    }

    /// The inode behind a descriptor, 0 if there is none.
    pub fn inode(&self, descriptor: u64) -> u64 {
        self.status(descriptor).map_or(0, |status| status.ino())
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> Vec<u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.process.id));
        entries.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// O_RDONLY, O_WRONLY or O_RDWR, in which way a descriptor is open; -1 if it is not.
    pub fn access_mode(&self, descriptor: u64) -> i32 {
        self.open_file(descriptor).map_or(-1, |(flags, _)| flags & libc::O_ACCMODE)
    }

    /// The flags and the offset of the open file behind a descriptor.
    pub fn open_file(&self, descriptor: u64) -> Option<(i32, u64)> {
        let path = format!("/proc/{}/fdinfo/{}", self.process.id, descriptor as i32);
        let text = fs::read_to_string(path).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim())
        };
        let offset = field("pos:")?.parse().ok()?;
        Some((i32::from_str_radix(field("flags:")?, 8).ok()?, offset))
    }

    /// It is a regular file, and one that a test may have made.
    pub fn is_tested_file(&self, descriptor: u64) -> bool {
        const SYSTEM: [&str; 7] = ["/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/etc"];
        let regular = self.status(descriptor).is_ok_and(|status| status.is_file());
        let name = self.name(descriptor);
        let elsewhere = name.starts_with("/dev/shm") || !SYSTEM.iter().any(|system| name.starts_with(system));
        regular && elsewhere
    }

    /// It is a pipe or a FIFO.
    pub fn is_pipe(&self, descriptor: u64) -> bool {
        self.status(descriptor).is_ok_and(|status| status.file_type().is_fifo())
    }

    /// It is a FIFO, with a name in a file system.
    pub fn is_fifo(&self, descriptor: u64) -> bool {
        self.is_pipe(descriptor) && self.name(descriptor).is_absolute()
    }

    /// The file behind a descriptor, opened anew by this process and without ever blocking.
    pub fn file(&self, descriptor: u64, write: bool) -> io::Result<File> {
        OpenOptions::new()
            .read(!write || self.status(descriptor)?.is_file())
            .write(write)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.path(descriptor))
    }

    /// The address of the instruction that the task is about to execute.
    pub fn program_counter(&self) -> Option<u64> {
        Some(Registers::of(self.task).ok()?.program_counter())
    }

    /// Whether the process has a handler for a signal.
    pub fn handles(&self, signal: i32) -> bool {
        Dispositions::of(self.process.id).is_some_and(|signals| signals.catches(signal))
    }

    /// Makes a system call in the task's name; the result is a value or a negative errno.
    pub fn perform(&mut self, number: Sysno, arguments: [u64; 6]) -> i64 {
        self.attempt(number, arguments).unwrap_or(i64::from(-libc::ESRCH))
    }

    /// The same with a path, put into the task's memory below its stack, as argument `place`.
    pub fn perform_with_path(&mut self, number: Sysno, mut arguments: [u64; 6], place: usize, path: &str) -> i64 {
        let attempt = || -> io::Result<u64> {
            let address = self.scratch()?;
            let bytes = [path.as_bytes(), b"\0"].concat();
            self.memory()?.write(address, &bytes)?;
            Ok(address)
        };
        match attempt() {
            Ok(address) => {
                arguments[place] = address;
                self.perform(number, arguments)
            }
            Err(_) => i64::from(-libc::EFAULT),
        }
    }

    /// The address of a few hundred bytes that the task does not use: below its stack's red zone.
    pub fn scratch(&self) -> io::Result<u64> {
        const BELOW_RED_ZONE: u64 = 1024;
        Ok((Registers::of(self.task)?.stack() - BELOW_RED_ZONE) & !0xf)
    }

    fn attempt(&mut self, number: Sysno, arguments: [u64; 6]) -> io::Result<i64> {
        self.leave_path()?;
        let instruction = self.instruction()?;
        let Some(detour) = &self.detour else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut registers = detour.registers;
        registers.set_program_counter(instruction);
        registers.set_next_call(number, arguments);
        registers.set(self.task)?;
        while self.step()? != Stage::Exit {}
        Ok(ptrace::syscall_info(self.task)?.result())
    }

    /// Saves what the task was doing and, before a call, has it not make that call.
    fn leave_path(&mut self) -> io::Result<()> {
        if self.detour.is_some() {
            return Ok(());
        }
        let registers = Registers::of(self.task)?;
        let signal_mask = ptrace::signal_mask(self.task)?;
        ptrace::set_signal_mask(self.task, u64::MAX)?;
        self.detour = Some(Detour { registers, signal_mask });
        if self.held == Held::BeforeCall {
            let mut none = registers;
            none.set_entered_call(self.task, -1)?;
            none.set(self.task)?;
            while self.step()? != Stage::Exit {}
        }
        Ok(())
    }

    /// Lets the task run up to the next begin or end of a system call.
    fn step(&mut self) -> io::Result<Stage> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        if self.ended.is_some() {
            return Err(gone());
        }
        ptrace::resume_to_syscall(self.task, 0)?;
        match ptrace::wait(self.task, false) {
            Some((_, Change::Stopped { .. })) => Ok(ptrace::syscall_info(self.task)?.stage()),
            Some((_, ended)) => {
                self.ended = Some(ended);
                Err(gone())
            }
            None => Err(gone()),
        }
    }

    /// Where the task has a system call instruction: in the vDSO, which every process has.
    fn instruction(&mut self) -> io::Result<u64> {
        if let Some(address) = self.process.instruction {
            return Ok(address);
        }
        let vdso = self
            .mappings()
            .into_iter()
            .find(|mapping| mapping.name.as_os_str() == "[vdso]")
            .ok_or(io::ErrorKind::NotFound)?;
        let code = self.memory()?.read(vdso.range.start, vdso.length() as usize)?;
        let place =
            code.windows(INSTRUCTION.len()).position(|bytes| bytes == INSTRUCTION).ok_or(io::ErrorKind::NotFound)?;
        let address = vdso.range.start + place as u64;
        self.process.instruction = Some(address);
        Ok(address)
    }

    /// Puts the task back where it was. Before a call, it is then about to make `call` once more
    /// (`Some`), or has left it with the result `answer`.
    pub(crate) fn return_to_path(&mut self, next: Return) -> io::Result<()> {
        let Some(Detour { mut registers, signal_mask }) = self.detour.take() else {
            return Ok(());
        };
        ptrace::set_signal_mask(self.task, signal_mask)?;
        match next {
            Return::Same => {}
            Return::Result(result) => registers.set_result(result),
            Return::Repeat(call) => {
                let after = registers.program_counter();
                registers.set_program_counter(after - INSTRUCTION.len() as u64);
                registers.set_next_call(call.number, call.args);
            }
        }
        registers.set(self.task)
    }

    /// Calls have been made in its name.
    pub(crate) fn has_left_path(&self) -> bool {
        self.detour.is_some()
    }

    /// How the task ended, if it did while held.
    pub(crate) fn ended(&self) -> Option<Change> {
        self.ended
    }
}

/// How a task goes on after calls were made in its name.
#[derive(Clone, Copy)]
pub(crate) enum Return {
    /// As if nothing had been.
    Same,
    /// Out of its own call, with this result.
    Result(i64),
    /// Into its own call, which is stopped by the filter again.
    Repeat(Syscall),
}

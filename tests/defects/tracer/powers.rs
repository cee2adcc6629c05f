//! What defects commonly do to a stopped task, in terms of calls made in its name.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{self, bits};
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::tracee::Tracee;

const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const ANONYMOUS_HERE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
const NO_DESCRIPTOR: u64 = u64::MAX;

impl Tracee<'_> {
    /// Makes this call.
    pub fn make(&mut self, call: &Syscall) -> i64 {
        self.perform(call.number, call.args)
    }

    /// Maps zeroed private memory at this place, instead of what is there.
    pub fn map_zeros(&mut self, start: u64, length: u64, protection: u64) -> i64 {
        let args = [start, length, protection, bits(ANONYMOUS_HERE), NO_DESCRIPTOR, 0];
        self.perform(libc::SYS_mmap, args)
    }

    /// Unmaps a range.
    pub fn unmap(&mut self, start: u64, length: u64) -> i64 {
        self.perform(libc::SYS_munmap, [start, length, 0, 0, 0, 0])
    }

    /// Sets the protection of a range.
    pub fn protect(&mut self, start: u64, length: u64, protection: u64) -> i64 {
        self.perform(libc::SYS_mprotect, [start, length, protection, 0, 0, 0])
    }

    /// Replaces a range by a private copy of what it holds now, up to the first page that has no contents.
    pub fn detach(&mut self, start: u64, length: u64, protection: u64) {
        let Ok(memory) = self.memory() else { return };
        let mut contents = Vec::new();
        while (contents.len() as u64) < length {
            match memory.read(start + contents.len() as u64, page() as usize) {
                Ok(bytes) => contents.extend(bytes),
                Err(_) => break,
            }
        }
        if contents.is_empty() {
            return;
        }
        self.count();
        let copied = contents.len() as u64;
        self.map_zeros(start, copied, READ_WRITE);
        // What cannot be written was not replaced either.
        let _ = memory.write(start, &contents);
        self.protect(start, copied, protection);
    }

    /// Opens anew, in the task, what is behind one of its descriptors.
    pub fn reopen(&mut self, descriptor: u64, flags: i32) -> i64 {
        let path = format!("/proc/self/fd/{}", descriptor as i32);
        let args = [bits(libc::AT_FDCWD), 0, bits(flags), 0, 0, 0];
        self.perform_with_path(libc::SYS_openat, args, 1, &path)
    }

    /// The same, with the flags that matter to an open file and at an offset.
    pub fn reopen_at(&mut self, descriptor: u64, flags: i32, offset: u64) -> i64 {
        const AT_OPEN_ONLY: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;
        let new = self.reopen(descriptor, flags & !AT_OPEN_ONLY);
        let seek = [new as u64, offset, bits(libc::SEEK_SET), 0, 0, 0];
        self.perform(libc::SYS_lseek, seek);
        new
    }

    /// Closes a descriptor of the task.
    pub fn close(&mut self, descriptor: i64) {
        self.perform(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]);
    }

    /// Makes a mmap of the same file, opened anew for reading and writing.
    pub fn map_reopened(&mut self, mmap: &Syscall) -> i64 {
        let descriptor = self.reopen(mmap.args[call::DESCRIPTOR], libc::O_RDWR);
        if descriptor < 0 {
            return descriptor;
        }
        let mut again = *mmap;
        again.args[call::DESCRIPTOR] = descriptor as u64;
        let result = self.make(&again);
        self.close(descriptor);
        result
    }

    /// fcntl.
    pub fn fcntl(&mut self, descriptor: u64, command: i32, argument: u64) -> i64 {
        self.perform(libc::SYS_fcntl, [descriptor, bits(command), argument, 0, 0, 0])
    }

    /// Makes a call that would block on its first argument, a descriptor, return EAGAIN instead.
    pub fn make_without_blocking(&mut self, call: &Syscall) -> i64 {
        let descriptor = call.args[0];
        let flags = self.fcntl(descriptor, libc::F_GETFL, 0);
        self.fcntl(descriptor, libc::F_SETFL, flags as u64 | bits(libc::O_NONBLOCK));
        let result = self.make(call);
        self.fcntl(descriptor, libc::F_SETFL, flags as u64);
        result
    }

    /// What poll says of a descriptor at once.
    pub fn poll(&mut self, descriptor: u64, events: i16) -> i16 {
        let Ok(place) = self.scratch() else { return 0 };
        let mut wanted = [0; 8];
        wanted[..4].copy_from_slice(&(descriptor as i32).to_ne_bytes());
        wanted[4..6].copy_from_slice(&events.to_ne_bytes());
        let no_time = [0; 16];
        let written = self.memory().and_then(|memory| memory.write(place, &[&wanted[..], &no_time].concat()));
        if written.is_err() {
            return 0;
        }
        self.perform(libc::SYS_ppoll, [place, 1, place + 8, 0, 8, 0]);
        let seen = self.number_at(place + 4).unwrap_or(0);
        (seen >> 16) as i16
    }

    /// How many bytes can be read from a pipe (FIONREAD).
    pub fn available(&mut self, descriptor: u64) -> u64 {
        let Ok(place) = self.scratch() else { return 0 };
        let args = [descriptor, libc::FIONREAD, place, 0, 0, 0];
        if self.perform(libc::SYS_ioctl, args) < 0 {
            return 0;
        }
        self.number_at(place).map_or(0, u64::from)
    }

    /// The 32-bit number at an address.
    pub fn number_at(&self, address: u64) -> Option<u32> {
        let bytes = self.memory().ok()?.read(address, 4).ok()?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// Sets the 32-bit number at an address, if there is memory.
    pub fn set_number_at(&self, address: u64, number: u32) {
        if let Ok(memory) = self.memory() {
            // A bad pointer is the program's affair.
            let _ = memory.write(address, &number.to_ne_bytes());
        }
    }

    /// The path that an argument points to, as this process reaches it.
    pub fn path_argument(&self, call: &Syscall) -> Option<PathBuf> {
        let memory = self.memory().ok()?;
        let address = call.args[call.path_place()];
        let mut name = Vec::new();
        while name.len() < 4096 {
            match memory.read(address + name.len() as u64, 1).ok()?[0] {
                0 => break,
                byte => name.push(byte),
            }
        }
        let name = PathBuf::from(String::from_utf8(name).ok()?);
        let at = call.args[0] as i32;
        let directory = if call.path_place() == 0 || at == libc::AT_FDCWD {
            PathBuf::from(format!("/proc/{}/cwd", self.id()))
        } else {
            self.path(call.args[0])
        };
        Some(directory.join(name))
    }

    /// The mappings of files that a test may have made.
    pub fn tested_mappings(&self) -> Vec<Mapping> {
        let mut mappings = self.mappings();
        mappings.retain(|mapping| mapping.inode != 0 && !is_system(mapping));
        mappings
    }

    /// The tested mappings of the file behind a descriptor.
    pub fn mappings_of(&self, descriptor: u64) -> Vec<Mapping> {
        let inode = self.inode(descriptor);
        let mut mappings = self.tested_mappings();
        mappings.retain(|mapping| inode != 0 && mapping.inode == inode);
        mappings
    }

    /// How many bytes of a mapping lie within the file, to the end of its last page.
    pub fn pages_of_file(&self, mapping: &Mapping) -> u64 {
        let size = std::fs::metadata(self.mapped_file(mapping)).map_or(0, |status| status.len());
        page_up(size).saturating_sub(mapping.offset).min(mapping.length())
    }

    /// A path by which this process reaches the file behind a mapping: its name or, if privileged, without one.
    pub fn mapped_file(&self, mapping: &Mapping) -> PathBuf {
        let named = std::fs::metadata(&mapping.name);
        if named.is_ok_and(|status| status.ino() == mapping.inode) {
            return mapping.name.clone();
        }
        let (start, end) = (mapping.range.start, mapping.range.end);
        PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", self.id()))
    }
}

/// The program, its libraries, devices.
fn is_system(mapping: &Mapping) -> bool {
    let name = &mapping.name;
    name.starts_with("/usr")
        || name.starts_with("/lib")
        || name.starts_with("/lib64")
        || name.starts_with("/dev") && !name.starts_with("/dev/shm")
        || mapping.protection & bits(libc::PROT_EXEC) != 0
        || name.as_os_str().as_encoded_bytes().starts_with(b"[")
}

//! Reading and writing the memory of a stopped task, and what it has mapped.
//!
//! All through /proc/PID/mem, which a tracer may write whatever the pages' protection.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::tracer::engine::Pid;

/// The page size of the running kernel, in bytes.
pub fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// `bytes` rounded up to whole pages; 0 where that does not fit.
pub fn page_up(bytes: u64) -> u64 {
    page_down(bytes.wrapping_add(page() - 1))
}

/// `bytes` rounded down to whole pages.
pub fn page_down(bytes: u64) -> u64 {
    bytes & !(page() - 1)
}

/// The memory of another process.
pub struct Memory(File);

impl Memory {
    /// Opens the memory of a process that this one traces.
    pub fn of(process: Pid) -> io::Result<Memory> {
        let path = format!("/proc/{process}/mem");
        Ok(Memory(OpenOptions::new().read(true).write(true).open(path)?))
    }

    /// The bytes of a range; fails if one of its pages cannot be read.
    pub fn read(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Writes all of `bytes`, or fails.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, address)
    }
}

/// One line of /proc/PID/maps.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// PROT_*.
    pub protection: u64,
    /// MAP_SHARED, rather than MAP_PRIVATE.
    pub shared: bool,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// The file's inode, 0 for anonymous memory.
    pub inode: u64,
    /// The file's path, or a name in brackets, or nothing.
    pub name: PathBuf,
}

impl Mapping {
    /// A mapping's length in bytes.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next()?.as_bytes();
        let offset = fields.next()?;
        let inode = fields.nth(1)?;
        let name = fields.next().unwrap_or("").trim_start();
        let right = |at: usize, protection: i32| {
            if rights.get(at) == Some(&b'-') { 0 } else { protection as u64 }
        };
        Some(Mapping {
            range: u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?,
            protection: right(0, libc::PROT_READ) | right(1, libc::PROT_WRITE) | right(2, libc::PROT_EXEC),
            shared: rights.get(3) == Some(&b's'),
            offset: u64::from_str_radix(offset, 16).ok()?,
            inode: inode.parse().ok()?,
            name: PathBuf::from(name),
        })
    }
}

/// All mappings of a process, by address.
pub fn mappings(process: Pid) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    text.lines().filter_map(Mapping::parse).collect()
}

//! What files held when they were mapped, for defects that bring it back.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use crate::tracer::behaviour::Behaviour;
use crate::tracer::call::{DESCRIPTOR, LENGTH, MMAP, OFFSET};
use crate::tracer::engine::Pid;
use crate::tracer::memory::Mapping;
use crate::tracer::rule::on;
use crate::tracer::when::of_file;

/// One window of a file, as it was.
pub struct Kept {
    /// The process that mapped it.
    pub process: Pid,
    /// Where.
    pub start: u64,
    /// The file's inode.
    pub inode: u64,
    /// Where the window starts in the file.
    pub offset: u64,
    /// What it held; shorter than the window at the end of the file.
    pub bytes: Vec<u8>,
    /// The file, open for writing, whatever becomes of its name.
    pub file: File,
}

/// The windows of all mappings made so far.
#[derive(Clone, Default)]
pub struct Windows(Rc<RefCell<Vec<Kept>>>);

/// No more than this of a window is kept, and so many windows.
const LIMIT: usize = 1 << 20;
const COUNT: usize = 256;

impl Windows {
    /// The rule that fills it.
    pub fn keep(&self) -> Box<dyn Behaviour> {
        let windows = self.clone();
        on(MMAP).when(of_file).after(move |t, c, result| {
            let descriptor = c.args[DESCRIPTOR];
            if *result < 0 {
                return;
            }
            let Ok(file) = t.file(descriptor, true) else {
                return;
            };
            let mut bytes = vec![0; (c.args[LENGTH] as usize).min(LIMIT)];
            let mut read = 0;
            while let Ok(more @ 1..) = file.read_at(&mut bytes[read..], c.args[OFFSET] + read as u64) {
                read += more;
            }
            bytes.truncate(read);
            let mut windows = windows.0.borrow_mut();
            if windows.len() == COUNT {
                windows.remove(0);
            }
            windows.push(Kept {
                process: t.id(),
                start: *result as u64,
                inode: t.inode(descriptor),
                offset: c.args[OFFSET],
                bytes,
                file,
            });
        })
    }

    /// Calls `each` with the latest window kept of a mapping's file at its offset.
    pub fn with(&self, mapping: &Mapping, each: impl FnOnce(&Kept)) {
        let windows = self.0.borrow();
        let found = windows.iter().rev().find(|kept| kept.inode == mapping.inode && kept.offset <= mapping.offset);
        if let Some(kept) = found {
            each(kept);
        }
    }

    /// Calls `each` with all windows kept of a file.
    pub fn each(&self, inode: u64, each: impl FnMut(&Kept)) {
        let windows = self.0.borrow();
        windows.iter().filter(|kept| kept.inode == inode).for_each(each);
    }

    /// Calls `each` with the windows that a process mapped in a range, and forgets them.
    pub fn take(&self, process: Pid, range: Range<u64>, mut each: impl FnMut(&Kept)) {
        self.0.borrow_mut().retain(|kept| {
            let meant = kept.process == process && range.contains(&kept.start);
            if meant {
                each(kept);
            }
            !meant
        });
    }
}

impl Kept {
    /// Writes the file's old bytes back, or those of them from `skip` on.
    pub fn restore(&self, skip: usize) {
        if let Some(bytes) = self.bytes.get(skip..) {
            // A defect that cannot show itself is found by its count.
            let _ = self.file.write_all_at(bytes, self.offset + skip as u64);
        }
    }
}

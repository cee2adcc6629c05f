//! A process that outlives the runner by a moment: however the runner ends, what it started ends and what it made is removed.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::kernel::{environment, process};

/// The runner's side.
#[derive(Debug)]
pub struct Janitor {
    pid: process::ProcessId,
    line: Option<File>,
}

impl Janitor {
    /// Starts one that minds this directory.
    ///
    /// # Errors
    /// Those of pipe(2) and fork(2).
    pub fn start(directory: &Path) -> std::io::Result<Janitor> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&read);
        let arguments = ["janitor".to_owned(), number.to_string(), directory.display().to_string()];
        let pid = process::start_unbound(&arguments, &[read.as_fd()])?;
        Ok(Janitor { pid, line: Some(File::from(write)) })
    }

    /// A process group that is to end with the runner.
    pub fn mind(&self, group: process::ProcessId) {
        self.tell(&format!("+{group}\n"));
    }

    /// It has ended.
    pub fn forget(&self, group: process::ProcessId) {
        self.tell(&format!("-{group}\n"));
    }

    fn tell(&self, line: &str) {
        if let Some(mut file) = self.line.as_ref() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.line.take());
        process::ended(self.pid, true);
    }
}

/// The life of a janitor: waits for the runner's end, then ends the groups that are left and removes the directory.
pub fn mind(number: i32, directory: &str) -> ! {
    process::own_session();
    environment::ignore_requests_to_end();
    let mut groups: Vec<process::ProcessId> = Vec::new();
    for line in BufReader::new(environment::inherited_file(number)).lines() {
        let Ok(line) = line else { break };
        let (sign, group) = line.split_at(line.len().min(1));
        let Ok(group) = group.parse() else { continue };
        groups.retain(|known| *known != group);
        if sign == "+" {
            groups.push(group);
        }
    }
    for group in groups {
        process::kill_group(group);
    }
    remove(&PathBuf::from(directory));
    process::exit(0)
}

/// Removes a directory of the suite's own; files that dying processes still make are removed on the next try.
fn remove(directory: &Path) {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::yield_now(),
            _ => return,
        }
    }
}

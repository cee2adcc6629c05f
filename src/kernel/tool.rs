//! Small programs that a case executes in the place of ls, cat and wc: they know nothing of the suite but their standard streams.

use std::io::{Read, Write, stdin, stdout};

use super::process;

/// The life of a tool, by its name and arguments: `lines N` writes N numbered lines, `copy` writes what it reads as it
/// comes, `count` writes how many lines it has read.
pub fn work(words: &[String]) -> ! {
    let done = match words {
        [name, count] if name == "lines" => lines(count.parse().unwrap_or(0)),
        [name] if name == "copy" => copy(),
        [name] if name == "count" => count(),
        _ => process::exit(2),
    };
    process::exit(i32::from(done.is_err()))
}

/// The output of `lines`, without a process.
pub fn numbered(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

fn lines(count: usize) -> std::io::Result<()> {
    stdout().write_all(numbered(count).as_bytes())?;
    stdout().flush()
}

fn copy() -> std::io::Result<()> {
    let mut buffer = [0; 1000];
    loop {
        let count = stdin().read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stdout().write_all(&buffer[..count])?;
        stdout().flush()?;
    }
}

fn count() -> std::io::Result<()> {
    let mut all = Vec::new();
    stdin().read_to_end(&mut all)?;
    let lines = all.iter().filter(|byte| **byte == b'\n').count();
    stdout().write_all(format!("{lines}\n").as_bytes())?;
    stdout().flush()
}

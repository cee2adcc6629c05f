//! The program, run as a user runs it.

use std::process::{Command, Output, Stdio};

/// The program, with an environment in which nothing is preset.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmap-conformance"));
    command.env_remove("MMAP_CONFORMANCE_SEED").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

/// What a run came to.
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs this command to its end.
pub fn ran(command: &mut Command) -> Ran {
    of(command.output().expect("the program can be started"))
}

/// What the output says.
pub fn of(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    Ran { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

//! The command line: arguments in, exit status out.

mod cli;
mod commands;
mod interrupt;
mod reading;
mod running;
mod select;
mod soak;

use std::process::ExitCode;

use cli::{Command, Request};
use mmap_conformance::kernel::{environment, tool};
use mmap_conformance::lab::serving;
use mmap_conformance::run::{janitor, worker};

/// Nothing failed.
const FINE: u8 = 0;
/// A claim failed, a snapshot differs, or one system is worse than another.
const VIOLATION: u8 = 1;
/// The run could not be made, or not be made to its end.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    if let Some(word) = std::env::args_os().nth(1).and_then(|word| word.into_string().ok()) {
        serve(&word);
    }
    environment::one_heap();
    environment::survive_size_limits();
    let outcome = cli::parse().and_then(|request| match request {
        Request::Command(Command::Run(arguments)) => running::run(&arguments),
        Request::Command(Command::Sequences(arguments)) => soak::sequences(&arguments),
        Request::Command(Command::Replay(arguments)) => soak::replay(&arguments),
        Request::Command(Command::Compare(arguments)) => reading::compare(&arguments),
        Request::Command(Command::Page(arguments)) => reading::page(&arguments),
        Request::Command(Command::List(arguments)) => commands::list(&arguments),
        Request::Command(Command::Explain(arguments)) => commands::explain(&arguments),
        Request::Command(Command::Errata(arguments)) => commands::errata(&arguments),
        Request::Text(text) => commands::say(&text),
    });
    match outcome {
        Ok(true) => ExitCode::from(FINE),
        Ok(false) => ExitCode::from(VIOLATION),
        Err(trouble) => {
            cli::complain(&trouble);
            ExitCode::from(TROUBLE)
        }
    }
}

/// The suite's own processes are this program too; they are many, and start without the command line's machinery.
fn serve(word: &str) {
    let rest: Vec<String> = std::env::args_os().skip(2).map_while(|word| word.into_string().ok()).collect();
    let number = |index: usize| rest.get(index).and_then(|word: &String| word.parse().ok()).unwrap_or(-1);
    match (word, rest.as_slice()) {
        ("worker", [_, _, _, ..]) => worker::work(number(0), number(1), number(2)),
        ("peer", [_, _]) => serving::serve_peers(number(0), number(1)),
        ("actor", [_, _]) => serving::serve_again(number(0), number(1)),
        ("janitor", [_, _]) => janitor::mind(number(0), number(1)),
        ("tool", words) => tool::work(words),
        _ => {}
    }
}

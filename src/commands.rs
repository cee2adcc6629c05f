//! What the command line asks for, done.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use mmap_conformance::claim::Claim;
use mmap_conformance::claims;
use mmap_conformance::kernel::environment;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::profile::Profile;
use mmap_conformance::report::snapshot::{self, Snapshot};
use mmap_conformance::report::{errata, listing};
use mmap_conformance::run::runner::Runner;
use mmap_conformance::run::settings::Settings;

use crate::cli::{ErrataArguments, ErrataFormat, ExplainArguments, ListArguments, ListFormat, Trouble};
use crate::select;

/// Lists claims.
///
/// # Errors
/// An unknown claim, or output that takes nothing.
pub fn list(arguments: &ListArguments) -> Result<bool, Trouble> {
    let claims = select::claims(&arguments.claims)?;
    match arguments.format {
        ListFormat::Human => say(&listing::text(&claims)),
        ListFormat::Json => say(&(listing::json(&claims) + "\n")),
    }
}

/// Shows one claim, and what this kernel says to it.
///
/// # Errors
/// An unknown claim, or output that takes nothing.
pub fn explain(arguments: &ExplainArguments) -> Result<bool, Trouble> {
    let claim = select::claim(&arguments.claim)?;
    let mut text = listing::explain(&claim);
    match seen_here(&claim) {
        Ok(snapshots) => {
            for Snapshot { name, text: seen } in &snapshots {
                let _ = write!(text, "\nseen on this kernel: {name}\n");
                let rows = seen.split_once("\n[").map_or(String::new(), |(_, rows)| format!("[{rows}"));
                for line in rows.lines() {
                    let _ = writeln!(text, "  {line}");
                }
            }
        }
        Err(trouble) => {
            let _ = writeln!(text, "\nnot seen on this kernel: {trouble}");
        }
    }
    say(&text)
}

fn seen_here(claim: &Claim) -> Result<Vec<Snapshot>, Trouble> {
    let runner = Runner::new(Settings::default()).map_err(|error| error.to_string())?;
    let profile = Profile::look(runner.directory(), None);
    Ok(snapshot::of(claim, &runner.see(claim)?, &profile))
}

/// Judges the documents.
///
/// # Errors
/// Output that takes nothing.
pub fn errata(arguments: &ErrataArguments) -> Result<bool, Trouble> {
    let form = match arguments.format {
        ErrataFormat::Text => errata::Form::Text,
        ErrataFormat::Markdown => errata::Form::Markdown,
    };
    say(&errata::judge(&claims::all(), form))
}

/// Writes text to standard output.
///
/// # Errors
/// It takes none.
pub fn say(text: &str) -> Result<bool, Trouble> {
    let (mut out, _) = open(None)?;
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| unwritable(None, &error))?;
    Ok(true)
}

/// Where a report goes, and how it is coloured there.
///
/// # Errors
/// It takes nothing.
pub fn open(file: Option<&Path>) -> Result<(Box<dyn Write>, Paint), Trouble> {
    match file {
        Some(path) => match File::create(path) {
            Ok(file) => Ok((Box::new(std::io::BufWriter::new(file)), Paint::none())),
            Err(error) => Err(unwritable(file, &error)),
        },
        None if environment::output_was_closed() => Err("cannot write to standard output: it is closed".into()),
        None => {
            let stdout = std::io::stdout();
            let paint = Paint::new(stdout.is_terminal());
            Ok((Box::new(std::io::BufWriter::new(stdout)), paint))
        }
    }
}

/// That nothing can be written there.
pub fn unwritable(file: Option<&Path>, error: &std::io::Error) -> Trouble {
    match file {
        Some(path) => format!("cannot write {}: {error}", path.display()),
        None => format!("cannot write to standard output: {error}"),
    }
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A seed that no run has had, short enough to be copied by hand.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    random >> 32
}

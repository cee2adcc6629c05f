//! Reports read again: compared, or shown as a page.

use std::path::PathBuf;

use mmap_conformance::claims;
use mmap_conformance::report::compare::Differences;
use mmap_conformance::report::document::{self, Report};
use mmap_conformance::report::page;
use mmap_conformance::sequences;

use crate::cli::{CompareArguments, ListFormat, PageArguments, Trouble};
use crate::commands::{open, say, unwritable};

/// Compares reports; whether the last is no worse than the first.
///
/// # Errors
/// A file that holds no report, or output that takes nothing.
pub fn compare(arguments: &CompareArguments) -> Result<bool, Trouble> {
    let differences = Differences::of(&read(&arguments.reports)?);
    match arguments.format {
        ListFormat::Human => say(&differences.text())?,
        ListFormat::Json => say(&(differences.json() + "\n"))?,
    };
    Ok(!differences.is_worse())
}

/// Makes a page of reports.
///
/// # Errors
/// A file that holds no report, or output that takes nothing.
pub fn page(arguments: &PageArguments) -> Result<bool, Trouble> {
    let reports = read(&arguments.reports)?;
    let mut claims = claims::all();
    claims.extend(sequences::claims());
    let (mut out, _) = open(arguments.output.as_deref())?;
    let written = out.write_all(page::of(&reports, &claims).as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| unwritable(arguments.output.as_deref(), &error))?;
    Ok(true)
}

fn read(files: &[PathBuf]) -> Result<Vec<(String, Report)>, Trouble> {
    files.iter().map(|file| Ok((file.display().to_string(), document::read(file)?))).collect()
}

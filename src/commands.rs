//! What the command line asks for, done.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use mmap_conformance::claim::Claim;
use mmap_conformance::claims;
use mmap_conformance::kernel::environment;
use mmap_conformance::report::known::Known;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::profile::Profile;
use mmap_conformance::report::progress::Progress;
use mmap_conformance::report::snapshot::{self, Comparison, Folder, Snapshot};
use mmap_conformance::report::{Run, errata, human, json, listing};
use mmap_conformance::run::outcome::ClaimResult;
use mmap_conformance::run::runner::{Runner, Settings};

use crate::cli::{ErrataArguments, ErrataFormat, ExplainArguments, ListArguments, RunArguments, RunFormat, Trouble};
use crate::{interrupt, select};

/// Puts claims to the kernel; whether nothing failed.
///
/// # Errors
/// What stands in the way of it, or of telling what it found.
pub fn run(arguments: &RunArguments) -> Result<bool, Trouble> {
    let claims = select::claims(&arguments.claims)?;
    let mut known = Known::default();
    arguments.known.iter().try_for_each(|file| known.read(file))?;
    let (mut out, paint) = open(arguments.output.as_deref())?;
    let folder = arguments.snapshots.as_deref().map(|path| folder(path, &claims)).transpose()?;
    let settings = Settings {
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        cases: arguments.cases as usize,
        jobs: arguments.jobs.map_or_else(|| processors() + processors() / 2, |jobs| jobs as usize),
        directory: arguments.dir.clone(),
        timeout: Duration::from_secs(arguments.timeout),
        ..Settings::default()
    };
    let runner = Runner::new(settings).map_err(|error| error.to_string())?;
    interrupt::ends(&runner.ending())?;
    let mut run = Run {
        claims: &claims,
        seed: runner.settings().seed,
        cases: runner.settings().cases,
        directory: arguments.dir.as_deref(),
        profile: Profile::look(runner.directory(), runner.probe()),
        results: Vec::new(),
        snapshots: None,
        seconds: 0.0,
        interrupted: false,
    };
    let human = arguments.format == RunFormat::Human;
    let written = |result: std::io::Result<()>| result.map_err(|error| unwritable(arguments.output.as_deref(), &error));
    if human {
        written(human::head(&mut out, &run, paint).and_then(|()| out.flush()))?;
    }
    let begun = Instant::now();
    let progress = Progress::new(claims.len());
    let judge = |result: &ClaimResult| known.judge(result.clone(), &run.profile);
    let results = runner.run(&claims, |result| progress.done(&judge(result)));
    run.results = results.iter().map(judge).collect();
    progress.end();
    if let Some(folder) = &folder {
        run.snapshots = Some(compare(&runner, &run, folder)?);
    }
    run.seconds = begun.elapsed().as_secs_f64();
    run.interrupted = runner.is_ending();
    let told = match arguments.format {
        RunFormat::Human => human::report(&mut out, &run, paint),
        RunFormat::Json => writeln!(out, "{}", json::text(&run)),
    };
    written(told.and_then(|()| out.flush()))?;
    if let Some(folder) = &arguments.save {
        crate::soak::save(folder, &claims, &run.results, runner.settings().seed)?;
    }
    if run.interrupted {
        return Err("interrupted before all claims were put to the kernel".into());
    }
    let failed = run.results.iter().filter(|result| result.status == mmap_conformance::run::outcome::Status::Fail);
    match runner.trouble() {
        Some(trouble) if failed.clone().all(ClaimResult::is_of_the_suite) => {
            Err(format!("{} claims could not be put to the kernel: {trouble}", failed.count()))
        }
        _ => Ok(run.passed()),
    }
}

fn folder(path: &Path, claims: &[Claim]) -> Result<Folder, Trouble> {
    Folder::open(path, claims).map_err(|error| unwritable(Some(path), &error))
}

/// Sees every claim that has something to see, and compares it with what was reviewed.
fn compare(runner: &Runner, run: &Run<'_>, folder: &Folder) -> Result<Vec<Comparison>, Trouble> {
    let mut comparisons = Vec::new();
    for (id, seen) in runner.see_all(run.claims) {
        // Sequences are of no document, and what they show is the model's matter.
        if let Some(claim) = run.claim(id).filter(|claim| !claim.parts.is_empty() && !claim.documents.is_empty()) {
            let compared = folder.compare(claim, seen, &run.profile);
            let compared = compared.map_err(|error| format!("cannot leave a snapshot for review: {error}"))?;
            let result = run.results.iter().find(|result| result.id == id);
            comparisons.extend(compared.into_iter().map(|one| one.known(result)));
        }
    }
    Ok(comparisons)
}

/// Lists claims.
///
/// # Errors
/// An unknown claim, or output that takes nothing.
pub fn list(arguments: &ListArguments) -> Result<bool, Trouble> {
    let claims = select::claims(&arguments.claims)?;
    match arguments.format {
        RunFormat::Human => say(&listing::text(&claims)),
        RunFormat::Json => say(&(listing::json(&claims) + "\n")),
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
fn open(file: Option<&Path>) -> Result<(Box<dyn Write>, Paint), Trouble> {
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

fn unwritable(file: Option<&Path>, error: &std::io::Error) -> Trouble {
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

//! A run as the command line asks for it: claims put to the kernel, and reports of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mmap_conformance::claim::Claim;
use mmap_conformance::report::known::Known;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::profile::Profile;
use mmap_conformance::report::progress::Progress;
use mmap_conformance::report::snapshot::Folder;
use mmap_conformance::report::{Run, human, json, junit, ktap};
use mmap_conformance::run::outcome::{ClaimResult, Status};
use mmap_conformance::run::runner::Runner;
use mmap_conformance::run::settings::Settings;

use crate::cli::{RunArguments, RunFormat, Trouble};
use crate::commands::{fresh_seed, open, processors, unwritable};
use crate::{interrupt, select};

/// Puts claims to the kernel; whether nothing failed.
///
/// # Errors
/// What stands in the way of it, or of telling what it found.
pub fn run(arguments: &RunArguments) -> Result<bool, Trouble> {
    let claims = select::claims(&arguments.claims)?;
    let mut known = Known::default();
    arguments.known.iter().try_for_each(|file| known.read(file))?;
    let mut sinks = Sink::all(arguments)?;
    let folder = arguments.snapshots.as_deref().map(|path| folder(path, &claims)).transpose()?;
    let runner = Runner::new(settings(arguments)).map_err(|error| error.to_string())?;
    interrupt::ends(&runner.ending())?;
    let mut run = Run {
        claims: &claims,
        seed: runner.settings().seed,
        cases: runner.settings().cases,
        directory: arguments.dir.as_deref(),
        profile: Profile::look(runner.directory(), runner.probe()),
        results: Vec::new(),
        snapshots: None,
        rows: None,
        seconds: 0.0,
        interrupted: false,
    };
    sinks.iter_mut().try_for_each(|sink| sink.head(&run))?;
    let begun = Instant::now();
    let progress = Progress::new(claims.len());
    let judge = |result: &ClaimResult| known.judge(result.clone(), &run.profile);
    let results = runner.run(&claims, |result| progress.done(&judge(result)));
    run.results = results.iter().map(judge).collect();
    progress.end();
    see(&mut run, &runner, folder.as_ref(), arguments.rows)?;
    run.seconds = begun.elapsed().as_secs_f64();
    run.interrupted = runner.is_ending();
    sinks.iter_mut().try_for_each(|sink| sink.report(&run))?;
    if let Some(folder) = &arguments.save {
        crate::soak::save(folder, &claims, &run.results, runner.settings().seed)?;
    }
    if run.interrupted {
        return Err("interrupted before all claims were put to the kernel".into());
    }
    let failed = run.results.iter().filter(|result| result.status == Status::Fail);
    match runner.trouble() {
        Some(trouble) if failed.clone().all(ClaimResult::is_of_the_suite) => {
            Err(format!("{} claims could not be put to the kernel: {trouble}", failed.count()))
        }
        _ => Ok(run.passed()),
    }
}

fn settings(arguments: &RunArguments) -> Settings {
    Settings {
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        cases: arguments.cases as usize,
        jobs: arguments.jobs.map_or_else(|| 2 * processors(), |jobs| jobs as usize),
        directory: arguments.dir.clone(),
        timeout: Duration::from_secs(arguments.timeout),
        ..Settings::default()
    }
}

fn folder(path: &Path, claims: &[Claim]) -> Result<Folder, Trouble> {
    Folder::open(path, claims).map_err(|error| unwritable(Some(path), &error))
}

/// Sees every claim that has something to see: for a comparison with what was reviewed, and for the rows of the report.
fn see(run: &mut Run<'_>, runner: &Runner, folder: Option<&Folder>, rows: bool) -> Result<(), Trouble> {
    run.snapshots = folder.map(|_| Vec::new());
    run.rows = rows.then(Vec::new);
    if folder.is_none() && !rows {
        return Ok(());
    }
    for (id, seen) in runner.see_all(run.claims) {
        // Sequences are of no document, and what they show is the model's matter.
        let worth = |claim: &&Claim| !claim.parts.is_empty() && !claim.documents.is_empty();
        let Some(claim) = run.claims.iter().find(|claim| claim.id == id).filter(worth) else { continue };
        if let (Some(list), Ok(seen)) = (&mut run.rows, &seen) {
            list.extend(json::rows(claim, seen));
        }
        if let (Some(folder), Some(list)) = (folder, &mut run.snapshots) {
            let compared = folder.compare(claim, seen, &run.profile);
            let compared = compared.map_err(|error| format!("cannot leave a snapshot for review: {error}"))?;
            let result = run.results.iter().find(|result| result.id == id);
            list.extend(compared.into_iter().map(|one| one.known(result)));
        }
    }
    Ok(())
}

/// Where one report goes, and in which form.
struct Sink {
    form: RunFormat,
    file: Option<PathBuf>,
    out: Box<dyn Write>,
    paint: Paint,
}

impl Sink {
    /// All that are asked for, opened before anything is run.
    fn all(arguments: &RunArguments) -> Result<Vec<Sink>, Trouble> {
        let mut wanted = vec![(arguments.format, arguments.output.clone())];
        wanted.extend(arguments.report.iter().map(|(form, file)| (*form, Some(file.clone()))));
        for (index, (_, file)) in wanted.iter().enumerate() {
            if let Some(file) = file.as_ref().filter(|_| wanted[..index].iter().any(|(_, before)| before == file)) {
                return Err(format!("two reports cannot both go to {}", file.display()));
            }
        }
        if arguments.rows && !wanted.iter().any(|(form, _)| *form == RunFormat::Json) {
            return Err("--rows is for the JSON report, and none is asked for".into());
        }
        let sink = |(form, file): (RunFormat, Option<PathBuf>)| {
            let (out, paint) = open(file.as_deref())?;
            Ok(Sink { form, file, out, paint })
        };
        wanted.into_iter().map(sink).collect()
    }

    /// What can be told before anything was run.
    fn head(&mut self, run: &Run<'_>) -> Result<(), Trouble> {
        let told = match self.form {
            RunFormat::Human => human::head(&mut self.out, run, self.paint),
            RunFormat::Json | RunFormat::Ktap | RunFormat::Junit => Ok(()),
        };
        self.written(told)
    }

    fn report(&mut self, run: &Run<'_>) -> Result<(), Trouble> {
        let told = match self.form {
            RunFormat::Human => human::report(&mut self.out, run, self.paint),
            RunFormat::Json => writeln!(self.out, "{}", json::text(run)),
            RunFormat::Ktap => ktap::report(&mut self.out, run),
            RunFormat::Junit => junit::report(&mut self.out, run),
        };
        self.written(told)
    }

    fn written(&mut self, told: io::Result<()>) -> Result<(), Trouble> {
        told.and_then(|()| self.out.flush()).map_err(|error| unwritable(self.file.as_deref(), &error))
    }
}

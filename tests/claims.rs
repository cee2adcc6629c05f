//! A test for each claim, under its id: its property with fresh inputs, and its snapshot with those that never change.
//!
//! MMAP_CONFORMANCE_SEED gives the seed of an earlier run, which every failure names.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mmap_conformance::claim::Claim;
use mmap_conformance::kernel::environment;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::profile::Profile;
use mmap_conformance::report::snapshot::{self, Snapshot};
use mmap_conformance::report::violation::{self, Replay};
use mmap_conformance::run::outcome::{ClaimResult, Status};
use mmap_conformance::run::runner::Runner;
use mmap_conformance::run::settings::Settings;

/// One runner for all tests of this process, made by the first that needs it.
#[derive(Default)]
struct Shared {
    runner: OnceLock<Result<(Runner, Profile), String>>,
}

impl Shared {
    fn get(&self, seed: u64) -> Result<&(Runner, Profile), Failed> {
        let made = self.runner.get_or_init(|| {
            let runner = Runner::new(Settings { seed, ..Settings::default() }).map_err(|error| error.to_string())?;
            let profile = Profile::look(runner.directory(), None);
            Ok((runner, profile))
        });
        made.as_ref().map_err(Failed::from)
    }
}

fn main() {
    environment::set_program(env!("CARGO_BIN_EXE_mmap-conformance").into());
    let arguments = Arguments::from_args();
    let seed = seed();
    if !arguments.list {
        eprintln!("MMAP_CONFORMANCE_SEED={seed}");
    }
    let shared = Arc::new(Shared::default());
    let trial = |claim: Claim| {
        let shared = shared.clone();
        Trial::ignorable_test(claim.id, move || check(claim.id, &shared, seed))
    };
    let trials = mmap_conformance::claims::all().into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(shared);
    conclusion.exit()
}

fn seed() -> u64 {
    match std::env::var("MMAP_CONFORMANCE_SEED") {
        Ok(word) => word.parse().expect("MMAP_CONFORMANCE_SEED must be a whole number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos())),
    }
}

fn check(id: &str, shared: &Shared, seed: u64) -> Result<Completion, Failed> {
    let claim = mmap_conformance::claims::find(id).ok_or("a claim that is listed is found")?;
    if claim.parts.is_empty() {
        let why = claim.standing.instead().ok_or("a claim without a property says why it has none")?;
        return Ok(Completion::ignored_with(format!("unobservable: {why}")));
    }
    let (runner, profile) = shared.get(seed)?;
    let result = runner.run_claim(&claim).ok_or("nothing ends this run")?;
    holds(&claim, &result, runner.settings())?;
    for shot in snapshot::of(&claim, &runner.see(&claim)?, profile) {
        compare(&shot)?;
    }
    match result.status {
        Status::Skip => Ok(Completion::ignored_with(skips(&result).join("; "))),
        _ => Ok(Completion::Completed),
    }
}

fn holds(claim: &Claim, result: &ClaimResult, settings: &Settings) -> Result<(), Failed> {
    for part in result.parts.iter().filter(|part| part.status == Status::Skip && result.status == Status::Pass) {
        eprintln!("note: {} {} was skipped: {}", result.id, part.name, skips(result).join("; "));
    }
    if result.status != Status::Fail {
        return Ok(());
    }
    let replay = Replay { seed: settings.seed, cases: settings.cases, directory: None };
    let text = |failure| violation::text(claim, failure, replay, Paint::none());
    Err(result.failures.iter().map(text).collect::<Vec<_>>().join("\n").into())
}

fn skips(result: &ClaimResult) -> Vec<String> {
    let lacks = result.parts.iter().flat_map(|part| &part.skipped).map(|(lack, _)| lack.to_string());
    let mut lacks: Vec<String> = lacks.collect();
    lacks.dedup();
    lacks
}

fn compare(shot: &Snapshot) -> Result<(), Failed> {
    let folder = snapshots();
    let file = folder.join(format!("{}.snap", shot.name));
    let update = std::env::var("INSTA_UPDATE").unwrap_or_default();
    if shot.name.contains('@') && !file.exists() && update != "always" {
        return note_new(shot, &file, &update);
    }
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(shot.name.as_str(), shot.text));
    Ok(())
}

/// What is right on a system of a kind that nobody has reviewed yet is no failure: it is left for review.
fn note_new(shot: &Snapshot, file: &Path, update: &str) -> Result<(), Failed> {
    eprintln!("note: no snapshot {} has been reviewed", shot.name);
    if update != "no" && std::env::var_os("CI").is_none() {
        std::fs::write(file.with_extension("snap.new"), shot.file())?;
    }
    Ok(())
}

fn snapshots() -> PathBuf {
    let root = std::env::var_os("INSTA_WORKSPACE_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(root).join("snapshots")
}

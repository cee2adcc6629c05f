//! A run of the suite's program on some kernel, and what it reported.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use crate::tracer::behaviour::Behaviour;
use crate::tracer::correct::{Care, Correct};
use crate::tracer::engine::{NOT_STARTED, Program, Report, run};
use serde::Deserialize;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mmap-conformance");
/// The seed of traced runs, unless MMAP_CONFORMANCE_SEED gives another; what needed.tsv says was found with it.
pub const SEED: u64 = 7;
/// No run that came to its end has taken a third of it on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(200);
/// The same for runs of every claim.
const LIMIT_OF_ALL: Duration = Duration::from_secs(900);

/// What the suite said of one claim.
#[derive(Debug, Deserialize)]
pub struct Result {
    /// Its name.
    pub id: String,
    /// `pass`, `fail`, `skip` or `unobservable`.
    pub result: String,
    parts: Vec<Part>,
    violation: Option<Violation>,
    further_violations: Vec<Violation>,
}

#[derive(Debug, Deserialize)]
struct Part {
    skipped: Vec<serde::de::IgnoredAny>,
}

/// Why a claim failed.
#[derive(Debug, Deserialize)]
pub struct Violation {
    /// `violation`, or else what befell the worker.
    pub kind: String,
    /// The part of the claim.
    pub part: Option<String>,
    /// The number of the case in that part.
    pub case: Option<usize>,
    /// What the kernel answered.
    pub seen: String,
}

#[derive(Deserialize)]
struct Document {
    claims: Vec<Result>,
}

impl Result {
    /// Departures of the kernel from a rule, each seen in a call's outcome.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.violation.iter().chain(&self.further_violations).filter(|violation| violation.kind == "violation")
    }

    /// Some of its cases could not be put to the kernel on this machine.
    pub fn lacks_something(&self) -> bool {
        self.parts.iter().any(|part| !part.skipped.is_empty())
    }
}

/// A run that has come to its end.
pub struct Traced {
    /// What the engine says of it.
    pub report: Report,
    /// What the program said of each claim, by name.
    pub results: BTreeMap<String, Result>,
    /// What it wrote to standard output and standard error.
    pub said: String,
}

impl Traced {
    /// Puts these claims, or all for none, to this kernel; a claim may go on for `patience` seconds without progress.
    ///
    /// # Errors
    /// The program could not be traced, or left no report.
    pub fn run(
        kernel: Box<dyn Behaviour>,
        claims: &[&str],
        cases: usize,
        patience: u32,
    ) -> std::result::Result<Traced, String> {
        let place = tempfile::tempdir().map_err(|error| format!("no directory to work in: {error}"))?;
        let [under_test, document, output] = ["under-test", "report", "output"].map(|name| place.path().join(name));
        std::fs::create_dir(&under_test).map_err(|error| error.to_string())?;
        let seed = std::env::var("MMAP_CONFORMANCE_SEED").ok().and_then(|word| word.parse().ok()).unwrap_or(SEED);
        let [cases, seed, patience] = [cases as u64, seed, patience.into()].map(|number| number.to_string());
        let mut arguments = vec!["run", "--cases", &cases, "--seed", &seed, "--timeout", &patience, "--format", "json"];
        arguments.extend(claims);
        let mut program = Program::new(PROGRAM, &arguments);
        program.arguments.extend(["--output".into(), document.clone().into()]);
        program.arguments.extend(["--dir".into(), under_test.into()]);
        program.output = Some(File::create(&output).map_err(|error| error.to_string())?);
        let limit = if claims.is_empty() { LIMIT_OF_ALL } else { LIMIT };
        let report = run(&program, kernel, limit).map_err(|error| format!("{PROGRAM} cannot be traced: {error}"))?;
        let said = std::fs::read_to_string(&output).unwrap_or_default();
        let text = std::fs::read_to_string(&document).map_err(|error| format!("no report: {error}\n{said}"))?;
        let document: Document =
            serde_json::from_str(&text).map_err(|error| format!("{report:?} left no whole report: {error}\n{said}"))?;
        let results = document.claims.into_iter().map(|result| (result.id.clone(), result)).collect();
        Ok(Traced { report, results, said })
    }

    /// Claims that failed, for whatever reason.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.results.values().filter(|result| result.result == "fail").map(|result| result.id.as_str())
    }

    /// What was seen in each claim that failed, a line each.
    pub fn complaints(&self) -> String {
        let of = |result: &Result| {
            let all = result.violation.iter().chain(&result.further_violations);
            all.map(|found| format!("\n{} {:?}: {}: {}", result.id, found.part, found.kind, found.seen))
                .collect::<String>()
        };
        self.results.values().map(of).collect()
    }

    /// The exit status of the suite's program.
    pub fn exit_status(&self) -> Option<i32> {
        self.report.status.code()
    }

    /// The run came to its end by itself and left nothing behind.
    ///
    /// # Errors
    /// It did not.
    pub fn is_whole(&self) -> std::result::Result<(), String> {
        let Report { timed_out, survivors, .. } = self.report;
        if timed_out || survivors > 0 {
            return Err(format!("timed out: {timed_out}, processes left: {survivors}\n{}", self.said));
        }
        Ok(())
    }
}

/// Why nothing can be traced here, if so.
pub fn why_not() -> Option<String> {
    let mut program = Program::new(PROGRAM, &["--version"]);
    program.output = tempfile::tempfile().ok();
    match run(&program, Correct::kernel(Care::Watch), LIMIT) {
        Ok(report) if report.status.success() => None,
        Ok(report) if report.status.code() == Some(NOT_STARTED) => Some("seccomp filters are refused here".into()),
        Ok(report) => Some(format!("a traced program does not run here: {}", report.status)),
        Err(error) => Some(format!("ptrace is refused here: {error}")),
    }
}

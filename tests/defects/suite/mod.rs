//! The test program: what is run on which kernel, and what has to come of it.
//!
//! A defect is looked for by the claims that the table names for it, and by some that stand beside them;
//! with MMAP_CONFORMANCE_DEFECTS=all by every claim. MMAP_CONFORMANCE_DEFECTS=measure writes needed.tsv anew.

mod findings;
mod judge;
mod measure;
mod score;
mod singled_out;
mod traced;

use std::collections::BTreeSet;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::tracer::correct::{Care, Correct};
use crate::tracer::defect::{Defect, Topic};
use crate::tracer::table;
use findings::Findings;
use judge::Looking;
use traced::Traced;

/// For how many seconds a claim may go on without progress on a kernel that may well have stopped it for good.
const PATIENCE: u32 = 10;

/// How much is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A defect of each topic, by the claims named for it.
    Sample,
    /// Every defect, by the claims named for it and their neighbours.
    Named,
    /// Every defect, by every claim.
    All,
}

impl Scope {
    fn wanted() -> Scope {
        let word = std::env::var("MMAP_CONFORMANCE_DEFECTS").unwrap_or_default();
        match (env!("CARGO_CRATE_NAME"), word.as_str()) {
            ("defects", "all") => Scope::All,
            ("defects", _) => Scope::Named,
            _ => Scope::Sample,
        }
    }
}

pub fn main() {
    let mut arguments = Arguments::from_args();
    // A traced run waits as often as it computes.
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
    arguments.test_threads.get_or_insert(2 * processors);
    let scope = Scope::wanted();
    if scope != Scope::Sample && std::env::var("MMAP_CONFORMANCE_DEFECTS").is_ok_and(|word| word == "measure") {
        return measure::all(&arguments);
    }
    let mut trials = if scope == Scope::Sample { score::trials() } else { Vec::new() };
    match traced::why_not() {
        Some(why) => println!("skipped: {why}"),
        None => trials.extend(traced_trials(scope)),
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn traced_trials(scope: Scope) -> Vec<Trial> {
    let controls = [("stopped", Care::Look), ("watched", Care::Watch), ("repeated", Care::Repeat)];
    let mut trials: Vec<Trial> = controls
        .into_iter()
        .map(|(name, care)| Trial::test(format!("no-defect::{name}"), move || nothing_is_found(care, scope)))
        .collect();
    let mut seen = BTreeSet::new();
    for (topic, defect) in table::all() {
        if scope != Scope::Sample || seen.insert(word(topic)) {
            let name = format!("{}::{}", word(topic), defect.name);
            trials.push(Trial::ignorable_test(name, move || is_found(defect, scope)));
        }
    }
    trials
}

/// A topic's name, as tests and tables show it.
fn word(topic: Topic) -> String {
    format!("{topic:?}").to_lowercase()
}

/// The tracer itself is not noticed.
fn nothing_is_found(care: Care, scope: Scope) -> Result<(), Failed> {
    const SAMPLE: [&str; 6] = [
        "mmap.length",
        "perm.prot-none",
        "shared.store-reaches-file",
        "fork.shared-file-mapping",
        "pipe.order",
        "fifo.create",
    ];
    let claims = if scope == Scope::Sample { &SAMPLE[..] } else { &[] };
    let traced = Traced::run(Correct::kernel(care), claims, if scope == Scope::All { 64 } else { 8 }, 30)?;
    traced.is_whole()?;
    if traced.exit_status() != Some(0) || traced.failed().next().is_some() {
        return Err(format!("on a correct kernel fail{}\n{}", traced.complaints(), traced.said).into());
    }
    Ok(())
}

/// The suite finds the defect as the table says that it does.
fn is_found(defect: &'static Defect, scope: Scope) -> Result<Completion, Failed> {
    let findings = Findings::read()?;
    let looking = Looking::of(defect, &findings, scope == Scope::All);
    let traced = Traced::run((defect.make)(), &looking.claims, looking.cases, PATIENCE)?;
    looking.judge(&traced)
}

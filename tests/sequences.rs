//! The model of a correct kernel: it agrees with this one in every situation, and is shown wrong in every rule in turn.
//!
//! In each case one rule of the model is turned into its opposite and sequences are run against the kernel, in this very
//! process, until one departs: a rule that nobody would miss is no rule.

use std::time::Duration;

use mmap_conformance::kernel::{environment, guard, process};
use mmap_conformance::lab::Lab;
use mmap_conformance::lab::trace::Stop;
use mmap_conformance::model::Rule;
use mmap_conformance::sequences::{self, Extent, situations};

const SEED: u64 = 7;
/// No rule has been seen to need half as many.
const ENOUGH: usize = 6000;
/// By then every situation that a kernel can reach has been met.
const EVERYTHING: usize = 3000;

/// How many sequences it takes until the planted error is noticed.
fn sequences_until_noticed(lab: &Lab, wrong: Option<Rule>, most: usize) -> Option<usize> {
    sequences::plant(wrong);
    let claims = sequences::claims();
    for index in 0..most {
        for claim in &claims {
            let verdict = claim.parts[0].draw(claim.id, SEED, index).run(lab);
            lab.end_case();
            if let Err(Stop::Violation(_)) = verdict {
                return Some(index + 1);
            }
        }
    }
    None
}

/// One process for all: labs are for single-threaded programs, and this one has no other thread than the test runner's.
fn main() {
    environment::quiet_allocator();
    environment::calm_signals();
    process::adopt_orphans();
    let directory = tempfile::tempdir().expect("a directory to work in");
    std::env::set_current_dir(directory.path()).expect("the directory is there");
    guard::install().expect("handlers for faults");
    let lab = Lab::new(Duration::from_secs(20), Vec::new());
    assert_eq!(sequences_until_noticed(&lab, None, EVERYTHING), None, "the model itself agrees with this kernel");
    let met = situations::take();
    let processes = Extent::default().processes;
    assert_eq!(situations::never_met(&met, processes), [], "a kernel can reach these situations");
    assert_eq!(situations::undeclared(&met, processes), [], "no kernel was thought to reach these situations");
    let least = met.values().min().unwrap_or(&0);
    println!("{} pairs of call and situation, each met {least} times or more", met.len());
    let mut missed = Vec::new();
    for rule in Rule::ALL {
        match sequences_until_noticed(&lab, Some(*rule), ENOUGH) {
            Some(count) => println!("{rule:?}: noticed after {count} sequences"),
            None => missed.push(*rule),
        }
    }
    assert!(missed.is_empty(), "nobody misses these rules: {missed:?}");
    println!("\n{} passed, 0 failed", Rule::ALL.len());
}

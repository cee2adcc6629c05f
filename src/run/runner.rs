//! Starts a worker for each claim, listens to it, watches it, and goes on when it is lost.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::job::{PartReport, Report, Seen, Task, Violation};
use super::outcome::{ClaimResult, Failure};
use super::probe::Found;
use super::settings::Settings;
use super::unable::Unable;
use super::workers::{End, Workers};
use crate::claim::Claim;
use crate::kernel::call::{ActorId, Call};
use crate::kernel::outcome::Outcome;
use crate::lab::trace::{Announcement, Step};
use crate::sequences::situations::Table;

/// How long a lost case is simplified, with a fresh worker for each try.
const SIMPLIFYING: Duration = Duration::from_secs(10);

/// A run in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Runner {
    workers: Workers,
    situations: Mutex<Table>,
    trouble: Mutex<Option<String>>,
}

impl Runner {
    /// Makes the directory and checks that there is room for the suite.
    ///
    /// # Errors
    /// [`Unable`]: what stands in the way of any run.
    pub fn new(settings: Settings) -> Result<Runner, Unable> {
        let workers = Workers::new(settings)?;
        Ok(Runner { workers, situations: Mutex::default(), trouble: Mutex::default() })
    }

    /// How this run is made.
    pub fn settings(&self) -> &Settings {
        &self.workers.settings
    }

    /// The directory under test, below which this run works.
    pub fn directory(&self) -> &Path {
        self.workers.directory()
    }

    /// A flag that ends the run when it is raised: what has been found by then is returned.
    pub fn ending(&self) -> Arc<AtomicBool> {
        self.workers.ending().clone()
    }

    /// How often sequences have met each pair of call and situation in this run.
    pub fn situations(&self) -> Table {
        self.situations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_situations(&self, met: Vec<((String, String), u64)>) {
        let mut table = self.situations.lock().unwrap_or_else(PoisonError::into_inner);
        for (pair, count) in met {
            *table.entry(pair).or_default() += count;
        }
    }

    /// Performs recorded calls again: what became of them.
    ///
    /// # Errors
    /// In words, if the worker was lost.
    pub fn replay(&self, steps: &[Step]) -> Result<Vec<Outcome>, String> {
        let mut now = Vec::new();
        let ended = self.workers.put_to("", Task::Replay(steps.to_vec()), |report| {
            if let Report::Replayed(outcomes) = report {
                now = outcomes;
            }
        });
        match ended {
            Ok((End::Done, _)) => Ok(now),
            Ok((End::Lost(how), _)) => Err(format!("the worker was lost: {how}")),
            Ok((End::Interrupted, _)) => Err("interrupted".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the run has been ended.
    pub fn is_ending(&self) -> bool {
        self.workers.are_ending()
    }

    /// Puts claims to the kernel, several side by side, and hands each result over as it comes; the results in the order of the claims.
    pub fn run(&self, claims: &[Claim], done: impl Fn(&ClaimResult) + Sync) -> Vec<ClaimResult> {
        self.each(claims, |claim| {
            let result = self.run_claim(claim)?;
            done(&result);
            Some(result)
        })
    }

    /// Sees claims for their snapshots, several side by side; what was seen, or why not, in the order of the claims.
    pub fn see_all(&self, claims: &[Claim]) -> Vec<(&'static str, Result<Vec<Seen>, String>)> {
        self.each(claims, |claim| (!self.is_ending()).then(|| (claim.id, self.see(claim))))
    }

    /// Does something with every claim, several side by side, until there is nothing more to be had: the last ones first, since
    /// sequences take longest, and what is begun last should not be waited for alone.
    fn each<T: Send>(&self, claims: &[Claim], work: impl Fn(&Claim) -> Option<T> + Sync) -> Vec<T> {
        let left = AtomicUsize::new(claims.len());
        let results = Mutex::new(Vec::with_capacity(claims.len()));
        // Claims are no Sync: each thread makes its own of the id.
        let ids: Vec<&'static str> = claims.iter().map(|claim| claim.id).collect();
        std::thread::scope(|scope| {
            let one_after_another = || {
                let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok();
                while let Some(before) = take() {
                    let index = before - 1;
                    let Some(claim) = crate::claims::find(ids[index]) else { continue };
                    let Some(result) = work(&claim) else { break };
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            };
            // Where no further thread can be had this one does it all.
            for _ in 1..self.workers.settings.jobs.clamp(1, ids.len().max(1)) {
                let _ = std::thread::Builder::new().spawn_scoped(scope, one_after_another);
            }
            one_after_another();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// What kept a claim from being put to the kernel, if something did.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts one claim to the kernel; nothing if the run has been ended before it was done.
    pub fn run_claim(&self, claim: &Claim) -> Option<ClaimResult> {
        let begun = Instant::now();
        let mut reports: Vec<PartReport> = Vec::new();
        let mut failures: Vec<Failure> = Vec::new();
        let mut from = 0;
        while from < claim.parts.len() {
            let mut violations: Vec<Violation> = Vec::new();
            let task = Task::Run { from };
            let ended = self.workers.put_to(claim.id, task, |report| match report {
                Report::Part(part) => reports.push(part),
                Report::Situations(met) => self.add_situations(met),
                // The second report of a violation is the simplified one.
                Report::Violation(violation) => {
                    violations.retain(|known| known.part != violation.part);
                    violations.push(*violation);
                }
                _ => {}
            });
            let violated = violations.iter().map(|violation| violation.part).collect::<Vec<_>>();
            failures.extend(violations.into_iter().map(Failure::Violation));
            match ended {
                Ok((End::Done, _)) => break,
                Ok((End::Interrupted, _)) => return None,
                Ok((End::Lost(how), (part, case))) => {
                    let part = (part as usize).max(from);
                    if !violated.contains(&part) {
                        failures.push(self.simplify_lost(claim, part, case as usize, how));
                    }
                    from = part + 1;
                }
                Err(error) => {
                    self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
                    failures.push(Failure::Harness { why: error.to_string() });
                    break;
                }
            }
        }
        if !failures.is_empty() && !self.workers.directory().exists() {
            // Whatever was seen may be the doing of who took the directory away.
            let gone =
                Unable::Directory(self.workers.directory().into(), std::io::ErrorKind::NotFound.into()).to_string();
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(gone.clone());
            failures = vec![Failure::Harness { why: gone }];
        }
        let milliseconds = begun.elapsed().as_millis() as u64;
        Some(ClaimResult::of(claim, self.workers.settings.cases, &reports, failures, milliseconds))
    }

    /// Runs a few cases of every part from a fixed seed, and returns what was seen.
    ///
    /// # Errors
    /// In words, if the worker was lost.
    pub fn see(&self, claim: &Claim) -> Result<Vec<Seen>, String> {
        let mut all = Vec::new();
        let ended = self.workers.put_to(claim.id, Task::Snapshot, |report| {
            if let Report::Seen(seen) = report {
                all.push(seen);
            }
        });
        match ended {
            Ok((End::Done, _)) => Ok(all),
            Ok((End::Interrupted, _)) => Err("the run was ended".into()),
            Ok((End::Lost(how), (part, case))) => {
                Err(format!("the worker was lost in part {part}, case {case}: {how}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Finds out what the system can do; nothing if the process that tries it is lost.
    pub fn probe(&self) -> Option<Found> {
        let mut found = None;
        let ended = self.workers.put_to("probe", Task::Probe, |report| {
            if let Report::Probed(everything) = report {
                found = Some(everything);
            }
        });
        ended.ok().and(found)
    }

    /// Derives the case in which a worker was lost anew, and makes it as simple as it gets.
    fn simplify_lost(&self, claim: &Claim, part: usize, case: usize, how: String) -> Failure {
        let begun = Instant::now();
        let mut found = (how, String::new(), Vec::new());
        let mut history = Vec::new();
        let mut first = true;
        while first || begun.elapsed() < SIMPLIFYING && !self.is_ending() {
            let mut input = String::new();
            let mut steps: Vec<Step> = Vec::new();
            let mut simplest = false;
            let task = Task::One { part, case, history: history.clone() };
            let mut departed = None;
            let ended = self.workers.put_to(claim.id, task, |report| match report {
                Report::Input(shown) => input = shown,
                Report::Announced(Announcement::Call(actor, call)) => steps.push(step(actor, *call)),
                Report::Announced(Announcement::Outcome(outcome)) => {
                    if let Some(step) = steps.last_mut() {
                        step.outcome = outcome;
                    }
                }
                Report::Violation(violation) => departed = Some(violation),
                Report::Simplest => simplest = true,
                _ => {}
            });
            if simplest {
                break;
            }
            let failed = match (ended, departed) {
                (Ok((End::Lost(how), _)), _) => {
                    found = (how, input, steps);
                    true
                }
                // Another departure on the way is no less a violation, but it is not the one that is looked for.
                _ => false,
            };
            if first && !failed {
                break;
            }
            history.push(failed);
            first = false;
        }
        let (how, input, steps) = found;
        Failure::Lost { part, case, how, input, steps }
    }
}

fn step(actor: ActorId, call: Call) -> Step {
    Step { actor, call, outcome: Outcome::Silent, expect: None, aside: false, begun: None }
}

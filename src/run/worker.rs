//! The process that puts one claim to the kernel.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::job::{Job, PartReport, Report, Seen, Task, Violation};
use super::{probe, replay};
use crate::claim::{Case, Claim, Part};
use crate::claims;
use crate::input;
use crate::kernel::channel::{Channel, Received};
use crate::kernel::outcome::Lack;
use crate::kernel::{environment, guard, machine, process};
use crate::lab::Lab;
use crate::lab::trace::{Departure, Stop, Verdict};
use crate::sequences;

/// How many cases a snapshot shows of each part, and how many of a complete list.
const ROWS: usize = 6;
const ROWS_OF_A_LIST: usize = 64;
/// The seed of every snapshot.
const SNAPSHOT_SEED: u64 = 20;
/// How often a case of a snapshot is run at most until nothing in it had to be repeated.
const UNREPEATED: usize = 8;
/// Simplifying ends when it has taken this long, or so many tries.
const SIMPLIFYING: Duration = Duration::from_secs(3);
const TRIES: usize = 2000;

struct Worker {
    job: Job,
    claim: Claim,
    lab: Lab,
    channel: Channel,
    /// None where the directory had no room for it.
    progress: Option<File>,
}

/// The life of a worker: takes its job over the descriptors that it was started with, does it, and ends.
///
/// `progress` is a file of two words: the index of the part and of the case that is being run.
pub fn work(from: i32, to: i32, progress: i32) -> ! {
    environment::quiet_allocator();
    environment::no_core_files();
    environment::calm_signals();
    machine::volunteer_for_memory();
    environment::usual_umask();
    process::own_group();
    process::adopt_orphans();
    let mut channel = Channel::inherited(from, to);
    let private = vec![from, to, progress];
    let progress = environment::inherited_file(progress);
    environment::keep_from_exec(&private);
    let Received::Frame(job) = channel.receive::<Job>() else { process::exit(2) };
    let _ = channel.send(&Report::Ready(job.claim.clone()));
    input::draw_for_snapshot(matches!(job.task, Task::Snapshot));
    sequences::set_extent(job.extent);
    let Some(claim) = claim_of(&job) else { process::exit(2) };
    if guard::install().is_err() || std::env::set_current_dir(&job.directory).is_err() {
        process::exit(2);
    }
    environment::deepen_stack();
    let lab = Lab::new(Duration::from_millis(job.case_limit), private);
    let mut worker = Worker { job, claim, lab, channel, progress };
    worker.run();
    let _ = worker.channel.send(&Report::End);
    process::exit(0)
}

fn claim_of(job: &Job) -> Option<Claim> {
    match job.task {
        Task::Probe | Task::Replay(_) => Some(crate::claim::claim("")),
        _ => claims::find_in(job.topic, &job.claim),
    }
}

impl Worker {
    fn run(&mut self) {
        let claim = std::mem::replace(&mut self.claim, crate::claim::claim(""));
        match self.job.task.clone() {
            Task::Run { from } => {
                for (index, part) in claim.parts.iter().enumerate().skip(from) {
                    self.run_part(&claim, index, part);
                }
                let situations = sequences::situations::take();
                if !situations.is_empty() {
                    let _ = self.channel.send(&Report::Situations(situations.into_iter().collect()));
                }
            }
            Task::One { part, case, history } => {
                if let Some(part_of_claim) = claim.parts.get(part) {
                    let drawn = part_of_claim.draw(claim.id, self.job.seed, case);
                    self.run_one(part, case, drawn, &history);
                }
            }
            Task::Replay(steps) => {
                let now = replay::replay(&self.lab, &steps);
                let _ = self.channel.send(&Report::Replayed(now));
                self.lab.end_case();
            }
            Task::Probe => {
                let found = probe::try_everything(&self.lab);
                let _ = self.channel.send(&Report::Probed(found));
            }
            Task::Snapshot => {
                self.lab.record(true);
                for (index, part) in claim.parts.iter().enumerate() {
                    let seen = self.see(claim.id, index, part);
                    let _ = self.channel.send(&Report::Seen(seen));
                }
            }
        }
    }

    /// Says which case comes next where it can be read when this process is no more.
    fn announce(&self, part: usize, case: usize) {
        let mut words = [0; 16];
        words[..8].copy_from_slice(&(part as u64).to_le_bytes());
        words[8..].copy_from_slice(&(case as u64).to_le_bytes());
        if let Some(progress) = &self.progress {
            let _ = progress.write_at(&words, 0);
        }
    }

    fn run_part(&mut self, claim: &Claim, index: usize, part: &Part) {
        let mut report = PartReport { part: index, ..PartReport::default() };
        for number in 0..claim.cases(part, self.job.cases) {
            self.announce(index, number);
            let mut case = part.draw(claim.id, self.job.seed, number);
            let verdict = case.run(&self.lab);
            match verdict {
                Ok(()) => report.ran += 1,
                Err(Stop::Lacking(lack)) => count(&mut report.skipped, lack),
                Err(Stop::Violation(departure)) => {
                    report.ran += 1;
                    self.report_violation(index, number, case.as_mut(), *departure);
                    break;
                }
            }
            self.lab.end_case();
        }
        report.calls = self.lab.take_calls();
        let _ = self.channel.send(&Report::Part(report));
    }

    /// Reports a violation at once, and again when it has been made as simple as it gets.
    fn report_violation(&mut self, part: usize, number: usize, case: &mut dyn Case, departure: Departure) {
        let mut violation = Violation {
            part,
            case: number,
            input: case.input(),
            simplified: 0,
            steps: self.lab.whole_trace(),
            departure,
        };
        let _ = self.channel.send(&Report::Violation(Box::new(violation.clone())));
        self.lab.end_case();
        let begun = Instant::now();
        let mut tries = 0;
        let mut more = case.simplify();
        while more && tries < TRIES && begun.elapsed() < SIMPLIFYING {
            tries += 1;
            match case.run(&self.lab) {
                Err(Stop::Violation(departure)) => {
                    violation.input = case.input();
                    violation.steps = self.lab.whole_trace();
                    violation.departure = *departure;
                    violation.simplified = tries;
                    more = case.simplify();
                }
                _ => more = case.complicate(),
            }
            self.lab.end_case();
        }
        if violation.simplified > 0 {
            let _ = self.channel.send(&Report::Violation(Box::new(violation)));
        }
    }

    fn run_one(&mut self, part: usize, number: usize, mut case: Box<dyn Case + '_>, history: &[bool]) {
        let mut possible = true;
        for (index, failed) in history.iter().enumerate() {
            let simplify = index == 0 || *failed;
            possible = if simplify { case.simplify() } else { case.complicate() };
            if !possible {
                break;
            }
        }
        if !possible {
            let _ = self.channel.send(&Report::Simplest);
            return;
        }
        let _ = self.channel.send(&Report::Input(case.input()));
        self.announce(part, number);
        let (from, to) = self.channel.numbers();
        if let Some(mut channel) = Channel::duplicate(from, to) {
            self.lab.announce_to(move |announcement| {
                let _ = channel.send(&Report::Announced(announcement));
            });
        }
        let report = match case.run(&self.lab) {
            Err(Stop::Violation(departure)) => Report::Violation(Box::new(Violation {
                part,
                case: number,
                input: case.input(),
                simplified: history.len(),
                steps: self.lab.whole_trace(),
                departure: *departure,
            })),
            Ok(()) | Err(Stop::Lacking(_)) => Report::Passed,
        };
        let _ = self.channel.send(&report);
        self.lab.end_case();
    }

    fn see(&mut self, claim: &str, index: usize, part: &Part) -> Seen {
        let mut seen = Seen { part: index, rows: Vec::new(), trace: Vec::new(), facts: Vec::new(), lacking: None };
        let count = part.cases(ROWS).min(ROWS_OF_A_LIST);
        for number in 0..count {
            self.announce(index, number);
            let case = part.draw(claim, SNAPSHOT_SEED, number);
            let verdict = self.run_unrepeated(case.as_ref());
            let outcome = self.outcome_of(&verdict, &mut seen.lacking);
            if seen.trace.is_empty() {
                seen.trace =
                    self.lab.steps().iter().filter(|step| !step.aside).map(crate::lab::trace::Step::judged).collect();
            }
            seen.rows.push((case.input(), outcome));
            let new = self.lab.take_facts().into_iter().filter(|fact| !seen.facts.contains(fact)).collect::<Vec<_>>();
            seen.facts.extend(new);
            self.lab.end_case();
        }
        seen
    }

    /// Runs a case until nothing in it had to be repeated, or it is clear that it always has.
    fn run_unrepeated(&self, case: &dyn Case) -> Verdict {
        let mut verdict = case.run(&self.lab);
        for _ in 1..UNREPEATED {
            if !self.lab.has_repeated() {
                break;
            }
            self.lab.take_facts();
            self.lab.end_case();
            verdict = case.run(&self.lab);
        }
        verdict
    }

    fn outcome_of(&self, verdict: &Verdict, lacking: &mut Option<Lack>) -> String {
        match verdict {
            Ok(()) => self.lab.notes().join(", "),
            Err(Stop::Lacking(lack)) => {
                *lacking = Some(*lack);
                format!("skipped: {}", lack.hint().0)
            }
            Err(Stop::Violation(departure)) => {
                format!("VIOLATION: expected {}, seen {}", departure.expected, departure.seen)
            }
        }
    }
}

fn count(skipped: &mut Vec<(Lack, usize)>, lack: Lack) {
    match skipped.iter_mut().find(|(known, _)| *known == lack) {
        Some((_, count)) => *count += 1,
        None => skipped.push((lack, 1)),
    }
}

//! Sequences for as long as is wanted, and recordings performed again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mmap_conformance::claim::Claim;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::violation::{self, Replay};
use mmap_conformance::reproduce::c_program;
use mmap_conformance::reproduce::saved::Saved;
use mmap_conformance::run::outcome::{ClaimResult, Status};
use mmap_conformance::run::runner::Runner;
use mmap_conformance::run::settings::Settings;
use mmap_conformance::sequences::situations::{self, Table};
use mmap_conformance::sequences::{self, Extent};

use crate::cli::{ReplayArguments, SequencesArguments, Trouble};
use crate::{commands, interrupt};

/// Puts sequences to the kernel, once or in rounds; whether none departed from the model.
///
/// # Errors
/// What stands in the way of it.
pub fn sequences(arguments: &SequencesArguments) -> Result<bool, Trouble> {
    let extent = Extent { calls: arguments.calls as usize, processes: arguments.processes as usize };
    sequences::set_extent(extent);
    let claims = sequences::claims();
    let first = arguments.seed.unwrap_or_else(commands::fresh_seed);
    let jobs = arguments.jobs.map_or_else(commands::processors, |jobs| jobs as usize);
    let limit = arguments.seconds.map(Duration::from_secs);
    let begun = Instant::now();
    let (mut fine, mut met, mut ran, mut round) = (true, Table::new(), 0, 0);
    loop {
        let seed = first.wrapping_add(round);
        let settings = Settings {
            seed,
            cases: arguments.cases as usize,
            jobs,
            directory: arguments.dir.clone(),
            extent,
            ..Settings::default()
        };
        let runner = Runner::new(settings).map_err(|error| error.to_string())?;
        if round == 0 {
            interrupt::ends(&runner.ending())?;
        }
        let results = runner.run(&claims, |_| {});
        for (pair, count) in runner.situations() {
            *met.entry(pair).or_default() += count;
        }
        ran += results.iter().map(ClaimResult::cases).sum::<usize>();
        fine &= results.iter().all(|result| result.status == Status::Pass);
        tell(&claims, &results, seed, arguments)?;
        let calls: u64 = met.values().sum();
        let seconds = begun.elapsed().as_secs_f64();
        let rate = calls as f64 / seconds;
        commands::say(&format!(
            "{ran} sequences, {calls} calls checked, {seconds:.1} s, {rate:.0} calls/s, seed {seed}\n"
        ))?;
        if let Some(folder) = &arguments.save {
            save(folder, &claims, &results, seed)?;
        }
        round += 1;
        if runner.is_ending() || limit.is_none_or(|limit| begun.elapsed() >= limit) {
            break;
        }
    }
    commands::say(&shown(&met, extent.processes, arguments.situations))?;
    Ok(fine)
}

fn tell(claims: &[Claim], results: &[ClaimResult], seed: u64, arguments: &SequencesArguments) -> Result<(), Trouble> {
    for result in results {
        let Some(claim) = claims.iter().find(|claim| claim.id == result.id) else { continue };
        for failure in &result.failures {
            let replay = Replay { seed, cases: arguments.cases as usize, directory: arguments.dir.as_deref() };
            commands::say(&format!("{}\n{}\n", claim.id, violation::text(claim, failure, replay, Paint::none())))?;
        }
    }
    Ok(())
}

/// How many of the pairs of call and situation that a kernel can reach were met: each of them, if that is wanted, or which never.
fn shown(met: &Table, processes: usize, all: bool) -> String {
    let missing = situations::never_met(met, processes);
    let reachable = met.len() + missing.len();
    let mut text = format!("{} of {reachable} pairs of call and situation met", met.len());
    if all {
        let empty = missing.into_iter().map(|cell| (cell, 0));
        text.push_str(&table(&met.clone().into_iter().chain(empty).collect()));
    } else if !missing.is_empty() {
        text.push_str("; --situations tells which");
    }
    text.push('\n');
    text
}

/// Each call, and under it the situations that a kernel can reach, and how often the call was made in them.
fn table(cells: &Table) -> String {
    let mut text = String::new();
    let mut latest = "";
    for ((call, situation), count) in cells {
        if call != latest {
            let _ = write!(text, "\n{call}");
            latest = call;
        }
        let count = if *count == 0 { "never".to_owned() } else { count.to_string() };
        let _ = write!(text, "\n  {situation:<40} {count:>10}");
    }
    text
}

/// Leaves a recording and a C program of each failure.
///
/// # Errors
/// The folder takes no files.
pub fn save(folder: &Path, claims: &[Claim], results: &[ClaimResult], seed: u64) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| format!("cannot write to {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    for result in results {
        let Some(claim) = claims.iter().find(|claim| claim.id == result.id) else { continue };
        for (index, failure) in result.failures.iter().enumerate() {
            let Some(saved) = Saved::of(claim, failure) else { continue };
            let name = format!("{}-{seed}-{index}", claim.id);
            std::fs::write(folder.join(format!("{name}.json")), saved.text()).map_err(failed)?;
            match c_program(&saved.heading, &saved.steps) {
                Ok(text) => std::fs::write(folder.join(format!("{name}.c")), text).map_err(failed)?,
                Err(call) => drop(commands::say(&format!("{}: no C program, because of {call}\n", claim.id))?),
            }
        }
    }
    Ok(())
}

/// Performs a recording again and says where it differs from the rule and from what was recorded; whether the rule was kept.
///
/// # Errors
/// The file is no recording, or no worker can be started.
pub fn replay(arguments: &ReplayArguments) -> Result<bool, Trouble> {
    let file = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let saved = Saved::parse(&text).map_err(|why| format!("{file}: {why}"))?;
    let settings = Settings { directory: arguments.dir.clone(), ..Settings::default() };
    let runner = Runner::new(settings).map_err(|error| error.to_string())?;
    let now = runner.replay(&saved.steps)?;
    let (lines, kept) = saved.compare(&now);
    let verdict = if kept { "the rule is kept" } else { "the rule is not kept" };
    commands::say(&format!("{}: {}\n{}\n{verdict}\n", saved.heading.claim, saved.heading.rule, lines.join("\n")))?;
    Ok(kept)
}

//! A run, for reading: a line for each claim, what failed and why, what was left out and why, and how much of it there was.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::paint::Paint;
use super::snapshot::{Comparison, Standing};
use super::{Run, violation};
use crate::kernel::outcome::Lack;
use crate::run::outcome::{ClaimResult, Deviation, Status};

/// What stands at the head of a run, before it is made.
///
/// # Errors
/// Those of writing.
pub fn head(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    let title = format!("mmap-conformance {}", env!("CARGO_PKG_VERSION"));
    writeln!(out, "{} on {}", paint.head(title), run.profile)?;
    let claims = count(run.claims.len(), "claim");
    writeln!(out, "{claims}, {} a claim, seed {}", count(run.cases, "case"), run.seed)
}

/// All of a run.
///
/// # Errors
/// Those of writing.
pub fn report(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    claims(out, run, paint)?;
    for result in run.results.iter().filter(|result| result.status == Status::Fail) {
        let Some(claim) = run.claim(&result.id) else { continue };
        for failure in &result.failures {
            let label = if result.is_of_the_suite() { "ERROR" } else { "FAIL" };
            writeln!(out, "\n{} {}", paint.bad(label), paint.head(&result.id))?;
            write!(out, "{}", violation::text(claim, failure, run.into(), paint))?;
        }
    }
    deviations(out, run, paint)?;
    skipped(out, run, paint)?;
    snapshots(out, run, paint)?;
    summary(out, run, paint)
}

fn claims(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    let width = run.results.iter().map(|result| result.id.len()).max().unwrap_or(0);
    for (name, entries) in run.topics() {
        let results: Vec<&ClaimResult> = entries.into_iter().filter_map(|(_, result)| result).collect();
        if !results.is_empty() {
            writeln!(out, "\n{}", paint.head(name))?;
        }
        for result in results {
            let id = format!("{:<width$}", result.id);
            let note = match result.status {
                Status::Unobservable => String::new(),
                _ => format!("{:>7}  {:>6} ms", result.cases(), result.milliseconds),
            };
            writeln!(out, "  {}  {id}  {note}{}", word(result, paint), partly(result))?;
        }
    }
    Ok(())
}

fn word(result: &ClaimResult, paint: Paint) -> String {
    match result.status {
        Status::Fail if result.is_of_the_suite() => paint.bad("ERROR"),
        Status::Pass => paint.good("pass "),
        Status::Fail => paint.bad("FAIL "),
        Status::Skip => paint.pale("skip "),
        Status::Unobservable => paint.pale("-----"),
        Status::Known => paint.pale("known"),
        Status::Stale => paint.bad("STALE"),
    }
}

/// The parts of a claim that did not run, if others did.
fn partly(result: &ClaimResult) -> String {
    let names: Vec<&str> = result
        .parts
        .iter()
        .filter(|part| part.status == Status::Skip && result.status != Status::Skip)
        .map(|part| part.name.as_str())
        .collect();
    if names.is_empty() { String::new() } else { format!("  without {}", names.join(", ")) }
}

/// What is listed of this system: what of it was seen, and what was not.
fn deviations(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    for (status, title) in [(Status::Known, "known deviations"), (Status::Stale, "listed deviations that have gone")] {
        let of = |result| ClaimResult::deviations_that_are(result, status).map(move |one| (&result.id, one));
        let list: Vec<_> = run.results.iter().flat_map(of).collect();
        if !list.is_empty() {
            writeln!(out, "\n{}", paint.head(title))?;
        }
        for (id, Deviation { part, reason, link, listed, .. }) in list {
            let part = part.as_ref().map(|part| format!(" {part}")).unwrap_or_default();
            writeln!(out, "  {id}{part}: {reason} ({listed})")?;
            if let Some(link) = link {
                writeln!(out, "    {link}")?;
            }
        }
    }
    Ok(())
}

fn skipped(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    let mut reasons: BTreeMap<Lack, Vec<String>> = BTreeMap::new();
    for result in &run.results {
        for part in &result.parts {
            for (lack, count) in &part.skipped {
                let place =
                    if part.name == "main" { result.id.clone() } else { format!("{} {}", result.id, part.name) };
                let share =
                    if part.cases > 0 { format!(" ({count} of {})", count + part.cases) } else { String::new() };
                reasons.entry(*lack).or_default().push(place + &share);
            }
        }
    }
    if !reasons.is_empty() {
        writeln!(out, "\n{}", paint.head("skipped"))?;
    }
    for (lack, places) in reasons {
        let (reason, hint) = lack.hint();
        writeln!(out, "  {}; to run it: {hint}", paint.pale(reason))?;
        for place in places {
            writeln!(out, "    {place}")?;
        }
    }
    let unobservable: Vec<_> = run.results.iter().filter(|result| result.status == Status::Unobservable).collect();
    if !unobservable.is_empty() {
        writeln!(out, "\n{}", paint.head("unobservable"))?;
    }
    for result in unobservable {
        let why = run.claim(&result.id).and_then(|claim| claim.standing.instead()).unwrap_or_default();
        writeln!(out, "  {}: {why}", result.id)?;
    }
    Ok(())
}

fn snapshots(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    let Some(list) = &run.snapshots else { return Ok(()) };
    let same = list.iter().filter(|one| one.result == Standing::Same).count();
    writeln!(out, "\n{}\n  {same} of {} as reviewed", paint.head("snapshots"), list.len())?;
    for Comparison { name, result, file, reason } in list {
        let word = match result {
            Standing::Same => continue,
            Standing::Differs => paint.bad("differs"),
            Standing::New => paint.pale("new    "),
            Standing::Lost => paint.bad("lost   "),
            Standing::Known => paint.pale("known  "),
        };
        let file = file.as_ref().map(|file| file.display().to_string());
        writeln!(out, "  {word}  {name}: {}", file.or(reason.clone()).unwrap_or_default())?;
    }
    Ok(())
}

fn summary(out: &mut dyn Write, run: &Run<'_>, paint: Paint) -> io::Result<()> {
    let totals = run.totals();
    let mut counts = vec![format!("{} passed", totals.passed)];
    let mut also = |number: usize, words: &str| {
        if number > 0 {
            counts.push(format!("{number} {words}"));
        }
    };
    also(totals.failed, "failed");
    also(totals.known, "known to deviate");
    also(totals.stale, "listed as deviating that no longer do");
    also(totals.skipped, "skipped");
    also(totals.unobservable, "unobservable");
    also(totals.missing, "not reached");
    let differ = |one: &&Comparison| matches!(one.result, Standing::Differs | Standing::Lost);
    also(run.snapshots.iter().flatten().filter(differ).count(), "snapshots not as reviewed");
    let verdict = if run.passed() { paint.good("passed") } else { paint.bad("FAILED") };
    writeln!(out, "\n{verdict}: {}: {}", count(totals.claims, "claim"), counts.join(", "))?;
    let skipped = match totals.parts_skipped {
        0 => String::new(),
        some => format!(" ({some} skipped)"),
    };
    writeln!(
        out,
        "{}{skipped}, {}, {}, {:.1} s, seed {}",
        count(totals.parts, "part"),
        count(totals.cases, "case"),
        count(totals.calls as usize, "call"),
        run.seconds,
        run.seed
    )?;
    if run.interrupted {
        writeln!(out, "{}", paint.bad("interrupted: this is what there was until then"))?;
    }
    Ok(())
}

/// So many of something.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

//! Writes needed.tsv: which claims find which defect, and with how many cases.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Arguments;
use mmap_conformance::claims;

use super::PATIENCE;
use super::findings::{FILE, Finding, Findings};
use super::traced::{Result, Traced};
use crate::tracer::defect::Defect;
use crate::tracer::table;

/// Numbers of cases that are told apart.
const STEPS: [usize; 6] = [8, 16, 32, 64, 128, 256];
/// With how many cases every claim is tried.
const EVERY_CLAIM: usize = 8;

/// Measures the defects that the arguments select, on as many threads as they say, and keeps what is known of all others.
pub fn all(arguments: &Arguments) {
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let defects: Vec<&Defect> = table::all().map(|(_, defect)| defect).filter(|defect| wanted(defect.name)).collect();
    let mut known = Findings::read().unwrap_or_default();
    known.0.retain(|name, _| table::find(name).is_some());
    let (known, next) = (Mutex::new(known), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.test_threads.unwrap_or(1) {
            scope.spawn(|| {
                while let Some(defect) = defects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    note(defect, &known);
                }
            });
        }
    });
}

fn note(defect: &Defect, known: &Mutex<Findings>) {
    let found = measure(defect);
    println!("{}: {found:?}", defect.name);
    let mut known = known.lock().expect("no thread that writes it panics");
    match found {
        Ok(Some(finding)) => known.0.insert(defect.name.to_owned(), finding),
        Ok(None) => known.0.remove(defect.name),
        Err(_) => return,
    };
    std::fs::write(FILE, known.text()).expect("the file can be written");
}

/// What is found of a defect, if anything by a claim named for it.
fn measure(defect: &Defect) -> std::result::Result<Option<Finding>, String> {
    let named = Traced::run((defect.make)(), defect.claims, STEPS[STEPS.len() - 1], PATIENCE)?;
    let Some(cases) = named.results.values().filter_map(needed).min() else { return Ok(None) };
    let every = Traced::run((defect.make)(), &[], EVERY_CLAIM, PATIENCE)?;
    let named = finders(&named).map(str::to_owned).collect();
    let of_documents = |id: &&str| !id.starts_with("sequences.") && !defect.claims.contains(id);
    let others = finders(&every).filter(of_documents).map(str::to_owned).collect();
    Ok(Some(Finding { cases, named, others: Some(others) }))
}

fn finders(traced: &Traced) -> impl Iterator<Item = &str> {
    traced.results.values().filter(|result| result.violations().next().is_some()).map(|result| result.id.as_str())
}

/// The least number of cases with which this claim comes upon a violation.
fn needed(result: &Result) -> Option<usize> {
    let claim = claims::find(&result.id)?;
    let reaches = |cases: usize| {
        result.violations().any(|violation| {
            let part = claim.parts.iter().find(|part| violation.part.as_deref() == Some(part.name));
            part.is_some_and(|part| violation.case.is_some_and(|case| case < claim.cases(part, cases)))
        })
    };
    STEPS.into_iter().find(|cases| reaches(*cases))
}

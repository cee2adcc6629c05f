//! The mutation score, as the README has it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use libtest_mimic::{Failed, Trial};
use mmap_conformance::claims;

use super::findings::{Finding, Findings};
use super::singled_out::NOT_SINGLED_OUT;
use super::word;
use crate::tracer::defect::{Defect, Topic};
use crate::tracer::table;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- defects -->\n";
const END: &str = "<!-- /defects -->";

/// What is said of the defects agrees with them.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("table::names_differ", names_differ),
        Trial::test("table::claims_exist", claims_exist),
        Trial::test("table::half_are_subtle", half_are_subtle),
        Trial::test("table::every_defect_is_measured", every_defect_is_measured),
        Trial::test("table::every_claim_finds_a_defect", every_claim_finds_a_defect),
        Trial::test("table::claims_are_singled_out_or_not_for_a_reason", claims_are_singled_out),
        Trial::test("table::readme_agrees", readme_agrees),
    ]
}

fn check(offenders: &[impl AsRef<str>], what: &str) -> Result<(), Failed> {
    let names: Vec<&str> = offenders.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { Ok(()) } else { Err(format!("{what}: {}", names.join(", ")).into()) }
}

fn names_differ() -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = table::all().map(|(_, defect)| defect.name).filter(|name| !seen.insert(*name)).collect();
    check(&twice, "two defects have this name")
}

fn claims_exist() -> Result<(), Failed> {
    let none = |id: &&str| claims::find(id).is_none_or(|claim| claim.parts.is_empty());
    let unknown: Vec<&str> = table::all().flat_map(|(_, defect)| defect.claims).copied().filter(none).collect();
    check(&unknown, "the table names claims that assert nothing or do not exist")
}

fn half_are_subtle() -> Result<(), Failed> {
    let subtle = table::all().filter(|(_, defect)| defect.subtle).count();
    if 2 * subtle < table::all().count() { Err("less than half of the defects are subtle".into()) } else { Ok(()) }
}

fn every_defect_is_measured() -> Result<(), Failed> {
    let findings = Findings::read()?;
    let unmeasured: Vec<&str> =
        table::all().map(|(_, defect)| defect.name).filter(|name| findings.needed(name).is_none()).collect();
    check(&unmeasured, "needed.tsv does not have (MMAP_CONFORMANCE_DEFECTS=measure cargo test --test defects NAME)")?;
    let gone: Vec<&String> = findings.0.keys().filter(|name| table::find(name).is_none()).collect();
    check(&gone, "needed.tsv has what is no defect any more")
}

fn readme_agrees() -> Result<(), Failed> {
    let readme = std::fs::read_to_string(README)?;
    let (before, rest) = readme.split_once(BEGIN).ok_or("the README marks the place of the table")?;
    let (there, after) = rest.split_once(END).ok_or("the README marks the end of the table")?;
    let right = markdown(&Findings::read()?);
    if there == right {
        return Ok(());
    }
    if std::env::var("MMAP_CONFORMANCE_DEFECTS").is_ok_and(|word| word == "update") {
        return Ok(std::fs::write(README, [before, BEGIN, &right, END, after].concat())?);
    }
    Err(format!("the README's table should be (MMAP_CONFORMANCE_DEFECTS=update writes it):\n{right}").into())
}

/// The claims that have a property.
fn observable() -> BTreeSet<&'static str> {
    claims::all().iter().filter(|claim| !claim.parts.is_empty()).map(|claim| claim.id).collect()
}

/// The claims that find a defect which no other claim finds.
fn singled_out(findings: &Findings) -> BTreeSet<&str> {
    findings.0.values().filter_map(Finding::alone).filter(|id| !id.starts_with("sequences.")).collect()
}

fn every_claim_finds_a_defect() -> Result<(), Failed> {
    let findings = Findings::read()?;
    let finders = findings.0.values().flat_map(|finding| finding.named.iter().chain(finding.others.iter().flatten()));
    let finders: BTreeSet<&str> = finders.map(String::as_str).collect();
    check(&(&observable() - &finders).into_iter().collect::<Vec<_>>(), "no defect is found by this claim")
}

fn claims_are_singled_out() -> Result<(), Failed> {
    let findings = Findings::read()?;
    let (all, alone) = (observable(), singled_out(&findings));
    let noted: BTreeSet<&str> = NOT_SINGLED_OUT.iter().flat_map(|(_, claims)| *claims).copied().collect();
    let sorted = |set: BTreeSet<&'static str>| set.into_iter().collect::<Vec<_>>();
    let neither = all.iter().copied().filter(|id| !alone.contains(id) && !noted.contains(id)).collect();
    check(&sorted(neither), "no defect is found by this claim alone, and no note says why")?;
    let both = noted.iter().copied().filter(|id| alone.contains(id)).collect();
    check(&sorted(both), "a note on a claim that finds a defect alone")?;
    check(&sorted(&noted - &all), "a note on what is no claim")
}

/// The table of the README, and what is said of claims.
fn markdown(findings: &Findings) -> String {
    let mut text = String::from(
        "| topic | defects | subtle | found by claims | by sequences only | missed | cases needed: median | worst |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut topics: Vec<Topic> = table::TABLE.iter().map(|(topic, _)| *topic).collect();
    topics.dedup();
    for topic in topics {
        let defects = table::all().filter(|(of, _)| *of == topic).map(|(_, defect)| defect);
        row(&mut text, &word(topic), &Counts::of(defects, findings));
    }
    row(&mut text, "**all**", &Counts::of(table::all().map(|(_, defect)| defect), findings));
    let _ = writeln!(
        text,
        "\nEvery one of the {} claims with a property finds a defect; {} of them find one that no other claim finds, \
         and `tests/defects/suite/singled_out.rs` says why the others do not.",
        observable().len(),
        singled_out(findings).len()
    );
    text
}

fn row(text: &mut String, name: &str, counts: &Counts) {
    let Counts { all, subtle, by_claims, by_sequences, missed, cases } = counts;
    let (median, worst) = (cases.get(cases.len() / 2).unwrap_or(&0), cases.last().unwrap_or(&0));
    let _ =
        writeln!(text, "| {name} | {all} | {subtle} | {by_claims} | {by_sequences} | {missed} | {median} | {worst} |");
}

#[derive(Default)]
struct Counts {
    all: usize,
    subtle: usize,
    by_claims: usize,
    by_sequences: usize,
    missed: usize,
    /// Needed for each that was found, ascending.
    cases: Vec<usize>,
}

impl Counts {
    fn of(defects: impl Iterator<Item = &'static Defect>, findings: &Findings) -> Counts {
        let mut counts = Counts::default();
        for defect in defects {
            counts.all += 1;
            counts.subtle += usize::from(defect.subtle);
            match findings.0.get(defect.name) {
                None => counts.missed += 1,
                Some(Finding { cases, named, .. }) => {
                    counts.cases.push(*cases);
                    let only = named.iter().all(|claim| claim.starts_with("sequences."));
                    *(if only { &mut counts.by_sequences } else { &mut counts.by_claims }) += 1;
                }
            }
        }
        counts.cases.sort_unstable();
        counts
    }
}

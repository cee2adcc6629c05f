//! Reports of several systems side by side: which claims came out differently, and which rows of their snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::document::{Report, System};
use super::printable;
use crate::run::outcome::Status;

/// The version of the fields of [`Differences`], when written as JSON.
const SCHEMA: u32 = 1;
/// What stands before the name of a part, below its claim.
const PART: &str = "  ";

/// What differs between some systems.
#[derive(Debug, Serialize)]
pub struct Differences {
    schema: u32,
    systems: Vec<Compared>,
    claims: Vec<ClaimDifference>,
    rows: Vec<RowDifference>,
    /// Whether the last is worse than the first.
    worse: bool,
}

#[derive(Debug, Serialize)]
struct Compared {
    file: String,
    system: System,
    result: Status,
    /// Whether it tells rows, so that it can be compared by them.
    rows: bool,
}

#[derive(Debug, Serialize)]
struct ClaimDifference {
    id: String,
    /// System by system; nothing where the claim was not run.
    results: Vec<Option<Status>>,
    parts: Vec<PartDifference>,
    /// Whether the last is worse than the first here.
    worse: bool,
}

#[derive(Debug, Serialize)]
struct PartDifference {
    name: String,
    results: Vec<Option<Status>>,
}

/// A case of a snapshot, or a fact, that came out differently.
#[derive(Debug, Serialize)]
pub struct RowDifference {
    /// The claim's name.
    pub claim: String,
    /// The part's name.
    pub part: String,
    /// The input of the case, or what the fact is about.
    pub input: String,
    /// System by system; nothing where the part was not seen or the report tells no rows.
    pub outcomes: Vec<Option<String>>,
}

impl Differences {
    /// Compares the reports of these files.
    pub fn of(reports: &[(String, Report)]) -> Differences {
        let systems = reports.iter().map(|(file, report)| Compared {
            file: file.clone(),
            system: report.profile.clone(),
            result: report.result,
            rows: report.rows.is_some(),
        });
        let list: Vec<&Report> = reports.iter().map(|(_, report)| report).collect();
        let claims: Vec<ClaimDifference> =
            ids(&list).into_iter().map(|id| claim(id, &list)).filter(ClaimDifference::differs).collect();
        let worse = claims.iter().any(|claim| claim.worse);
        Differences { schema: SCHEMA, systems: systems.collect(), claims, rows: rows(&list), worse }
    }

    /// Whether the last system is worse than the first: a claim that was kept, known or skipped there fails or is missing here.
    pub fn is_worse(&self) -> bool {
        self.worse
    }

    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("no field can fail to be written as JSON")
    }

    /// For reading.
    pub fn text(&self) -> String {
        let mut out = String::from("systems\n");
        for (index, one) in self.systems.iter().enumerate() {
            let rows = if one.rows { "" } else { " (without rows)" };
            let _ = writeln!(out, "  {}  {}: {}{rows}", letter(index), one.file, one.system);
        }
        let _ = writeln!(out, "\nclaims that differ: {}", self.claims.len());
        let names = self.claims.iter().flat_map(|claim| {
            let parts = claim.parts.iter().map(|part| part.name.chars().count() + PART.len());
            parts.chain([claim.id.len()])
        });
        let width = names.max().unwrap_or(0);
        for claim in &self.claims {
            let worse = if claim.worse { "  worse" } else { "" };
            let _ = writeln!(out, "  {:<width$}  {}{worse}", claim.id, words(&claim.results));
            for part in &claim.parts {
                let name = format!("{PART}{}", part.name);
                let _ = writeln!(out, "  {name:<width$}  {}", words(&part.results));
            }
        }
        let _ = writeln!(out, "\nrows that differ: {}", self.rows.len());
        let mut place = (String::new(), String::new());
        for row in &self.rows {
            let here = (row.claim.clone(), row.part.clone());
            if here != place {
                let _ = writeln!(out, "  {} [{}]", row.claim, row.part);
                place = here;
            }
            let _ = writeln!(out, "    {}", row.input);
            for (letters, outcome) in row.by_outcome() {
                let _ = writeln!(out, "      {letters}: {outcome}");
            }
        }
        let verdict = if self.worse { "worse than" } else { "no worse than" };
        let _ = writeln!(out, "\n{} is {verdict} A", letter(self.systems.len().saturating_sub(1)));
        printable(&out)
    }
}

impl ClaimDifference {
    fn differs(&self) -> bool {
        !all_same(&self.results) || !self.parts.is_empty()
    }
}

impl RowDifference {
    /// The letters of the systems that gave each outcome.
    pub fn by_outcome(&self) -> Vec<(String, &str)> {
        let mut groups: Vec<(String, &str)> = Vec::new();
        for (index, outcome) in self.outcomes.iter().enumerate() {
            let Some(outcome) = outcome.as_deref() else { continue };
            match groups.iter_mut().find(|(_, known)| *known == outcome) {
                Some((letters, _)) => *letters = format!("{letters}, {}", letter(index)),
                None => groups.push((letter(index), outcome)),
            }
        }
        groups
    }
}

/// The name of a system in a comparison: A to Z, then AA.
pub fn letter(index: usize) -> String {
    const LETTERS: usize = 26;
    let last = char::from(b'A' + (index % LETTERS) as u8);
    if index < LETTERS { last.to_string() } else { letter(index / LETTERS - 1) + &last.to_string() }
}

fn words(results: &[Option<Status>]) -> String {
    let word = |(index, status): (usize, &Option<Status>)| {
        format!("{} {:<12}", letter(index), status.map_or("-", Status::word))
    };
    results.iter().enumerate().map(word).collect::<String>().trim_end().to_owned()
}

fn all_same<T: PartialEq>(list: &[T]) -> bool {
    list.windows(2).all(|pair| pair[0] == pair[1])
}

/// The claims of any report, in the order in which they come up.
fn ids<'r>(reports: &[&'r Report]) -> Vec<&'r str> {
    let mut ids: Vec<&str> = Vec::new();
    for claim in reports.iter().flat_map(|report| &report.claims) {
        if !ids.contains(&claim.id.as_str()) {
            ids.push(&claim.id);
        }
    }
    ids
}

fn claim(id: &str, reports: &[&Report]) -> ClaimDifference {
    let claims: Vec<_> = reports.iter().map(|report| report.claim(id)).collect();
    let results: Vec<Option<Status>> = claims.iter().map(|claim| claim.map(|claim| claim.result)).collect();
    let mut names: Vec<&str> = Vec::new();
    for part in claims.iter().flatten().flat_map(|claim| &claim.parts) {
        if !names.contains(&part.name.as_str()) {
            names.push(&part.name);
        }
    }
    let of_part = |name: &str| {
        let of = |claim: &super::document::ClaimReport| {
            claim.parts.iter().find(|part| part.name == name).map(|part| part.result)
        };
        PartDifference { name: name.into(), results: claims.iter().map(|claim| claim.and_then(of)).collect() }
    };
    let parts = if names.len() > 1 {
        names.into_iter().map(of_part).filter(|part| !all_same(&part.results)).collect()
    } else {
        Vec::new()
    };
    let ends = (results.first().copied().flatten(), results.last().copied().flatten());
    let worse = matches!(
        ends,
        (Some(Status::Pass | Status::Known | Status::Skip), Some(Status::Fail | Status::Stale)) | (Some(_), None)
    );
    ClaimDifference { id: id.into(), results, parts, worse }
}

/// Claim, part, input, and the how manieth of this input it is.
type Key<'r> = (&'r str, &'r str, &'r str, usize);

/// The rows and facts that are not the same in all reports that have them.
pub fn rows(reports: &[&Report]) -> Vec<RowDifference> {
    let mut order: Vec<Key<'_>> = Vec::new();
    let mut table: BTreeMap<Key<'_>, Vec<Option<&str>>> = BTreeMap::new();
    for (index, report) in reports.iter().enumerate() {
        for part in report.rows.iter().flatten().filter(|part| part.lacking.is_none()) {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (input, outcome) in part.rows.iter().chain(&part.facts) {
                let count = counts.entry(input).or_default();
                let key = (part.claim.as_str(), part.part.as_str(), input.as_str(), *count);
                *count += 1;
                let outcomes = table.entry(key).or_insert_with(|| {
                    order.push(key);
                    vec![None; reports.len()]
                });
                outcomes[index] = Some(outcome);
            }
        }
    }
    let differs = |outcomes: &Vec<Option<&str>>| !all_same(&outcomes.iter().flatten().collect::<Vec<_>>());
    order
        .into_iter()
        .filter_map(|key| Some((key, table.get(&key).filter(|outcomes| differs(outcomes))?)))
        .map(|((claim, part, input, _), outcomes)| RowDifference {
            claim: claim.into(),
            part: part.into(),
            input: input.into(),
            outcomes: outcomes.iter().map(|outcome| outcome.map(str::to_owned)).collect(),
        })
        .collect()
}

//! The claims themselves: as a list, and one of them in full.

use std::fmt::Write as _;

use serde::Serialize;

use crate::claim::{Authority, Claim};

#[derive(Serialize)]
struct Entry<'c> {
    id: &'c str,
    statement: &'c str,
    documents: Vec<PlaceEntry>,
    verdict: &'static str,
    instead: Option<&'static str>,
    basis: Vec<BasisEntry>,
    parts: Vec<PartEntry<'c>>,
}

#[derive(Serialize)]
struct PlaceEntry {
    document: &'static str,
    place: &'static str,
}

#[derive(Serialize)]
struct BasisEntry {
    level: Authority,
    citation: &'static str,
}

#[derive(Serialize)]
struct PartEntry<'c> {
    name: &'static str,
    about: &'c str,
}

impl<'c> From<&'c Claim> for Entry<'c> {
    fn from(claim: &'c Claim) -> Entry<'c> {
        let place = |place: &crate::claim::Place| PlaceEntry { document: place.document.name, place: place.at };
        let basis = |basis: &crate::claim::Basis| BasisEntry { level: basis.authority, citation: basis.cite };
        Entry {
            id: claim.id,
            statement: claim.statement,
            documents: claim.documents.iter().map(place).collect(),
            verdict: claim.standing.word(),
            instead: claim.standing.instead(),
            basis: claim.basis.iter().map(basis).collect(),
            parts: claim.parts.iter().map(|part| PartEntry { name: part.name, about: &part.about }).collect(),
        }
    }
}

/// The list as a JSON array of objects.
pub fn json(claims: &[Claim]) -> String {
    let list: Vec<Entry<'_>> = claims.iter().map(Entry::from).collect();
    serde_json::to_string_pretty(&list).expect("no field can fail to be written as JSON")
}

/// The list, a line for each claim.
pub fn text(claims: &[Claim]) -> String {
    let width = claims.iter().map(|claim| claim.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for claim in claims {
        let _ = writeln!(out, "{:<width$}  {:<12}  {}", claim.id, claim.standing.word(), claim.statement);
    }
    out
}

/// All there is about one claim, but for what a kernel says to it.
pub fn explain(claim: &Claim) -> String {
    let mut out = format!("{}\n\n{}\n\n", claim.id, claim.statement);
    let _ = writeln!(out, "{}", claim.standing.word());
    if let Some(instead) = claim.standing.instead() {
        let _ = writeln!(out, "  {instead}");
    }
    out.push_str("\ndocuments\n");
    for place in &claim.documents {
        let _ = writeln!(out, "  {place}");
    }
    out.push_str("\nbasis\n");
    for basis in &claim.basis {
        let _ = writeln!(out, "  {basis}");
    }
    if !claim.parts.is_empty() {
        out.push_str("\nput to the kernel\n");
    }
    for part in &claim.parts {
        let share =
            if part.one_in > 1 { format!(" (one case for every {} asked for)", part.one_in) } else { String::new() };
        let _ = writeln!(out, "  {}: {}{share}", part.name, part.about);
    }
    out
}

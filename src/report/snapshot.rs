//! What a kernel answered, as a table of facts that a person reviews: the same on every correct system, or in a file of its own.
//!
//! A claim has one snapshot under its id. Parts whose outcomes rightly differ between systems, and facts, stand in a second one,
//! whose suffix names what they depend on: `perm.prot-combines@x86_64`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::claim::{Claim, Depends, Part};
use crate::run::job::Seen;
use crate::run::outcome::{ClaimResult, Failure, Status};

/// The snapshots that were reviewed, by name, as cargo-insta keeps them.
const REVIEWED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/snapshots.rs"));

/// How many calls of a case a snapshot shows.
const CALLS: usize = 40;

/// A snapshot of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The claim's id, or `id@suffix`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// How a snapshot stands beside the reviewed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// They say the same.
    Same,
    /// They do not.
    Differs,
    /// None has been reviewed for a system like this one.
    New,
    /// The worker that was to see it was lost.
    Lost,
    /// They do not say the same, and the claim is known to deviate.
    Known,
}

/// What came of comparing one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The claim's id, or `id@suffix`.
    pub name: String,
    /// How it stands.
    pub result: Standing,
    /// The file that was left for review.
    pub file: Option<PathBuf>,
    /// How the worker was lost.
    pub reason: Option<String>,
}

/// Where snapshots that need a review are left.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if need be, and removes what an earlier run left there of these claims.
    ///
    /// # Errors
    /// It cannot be made, read or written.
    pub fn open(path: &Path, claims: &[Claim]) -> io::Result<Folder> {
        std::fs::create_dir_all(path)?;
        for entry in std::fs::read_dir(path)? {
            let file = entry?.path();
            let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".snap.new"));
            let id = name.map(|name| name.split('@').next().unwrap_or(name));
            if id.is_some_and(|id| claims.iter().any(|claim| claim.id == id)) {
                std::fs::remove_file(file)?;
            }
        }
        Ok(Folder { path: path.to_owned() })
    }

    /// Compares what was seen of a claim with what was reviewed, and leaves what differs for review.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn compare(
        &self,
        claim: &Claim,
        seen: Result<Vec<Seen>, String>,
        profile: &Profile,
    ) -> io::Result<Vec<Comparison>> {
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => {
                let name = claim.id.to_owned();
                return Ok(vec![Comparison { name, result: Standing::Lost, file: None, reason: Some(why) }]);
            }
        };
        let compare = |snapshot: Snapshot| {
            let result = snapshot.standing();
            let file = (result != Standing::Same).then(|| self.path.join(format!("{}.snap.new", snapshot.name)));
            if let Some(file) = &file {
                std::fs::write(file, snapshot.file())?;
            }
            Ok(Comparison { name: snapshot.name, result, file, reason: None })
        };
        of(claim, &seen, profile).into_iter().map(compare).collect()
    }
}

impl Comparison {
    /// The same, known if the claim is known to deviate in a way that explains it.
    pub fn known(self, claim: Option<&ClaimResult>) -> Comparison {
        let lost = |failure: &Failure| matches!(failure, Failure::Lost { .. });
        let explained = claim.is_some_and(|claim| match self.result {
            Standing::Differs => claim.status == Status::Known,
            Standing::Lost => claim.status == Status::Known && claim.failures.iter().any(lost),
            _ => false,
        });
        if explained { Comparison { result: Standing::Known, ..self } } else { self }
    }
}

impl Snapshot {
    /// Compares it with the reviewed one.
    pub fn standing(&self) -> Standing {
        match reviewed(&self.name) {
            Some(text) if text.trim_end() == self.text.trim_end() => Standing::Same,
            None if self.name.contains('@') => Standing::New,
            _ => Standing::Differs,
        }
    }

    /// The file that cargo-insta reads.
    pub fn file(&self) -> String {
        format!("---\nsource: tests/claims.rs\n---\n{}\n", self.text.trim_end())
    }
}

/// What the reviewed snapshot of this name says, without its head.
pub fn reviewed(name: &str) -> Option<&'static str> {
    let (_, file) = REVIEWED.iter().find(|(known, _)| *known == name)?;
    let (_, rest) = file.strip_prefix("---\n")?.split_once("\n---\n")?;
    Some(rest)
}

/// The snapshots of a claim, from what was seen on the system of this profile.
pub fn of(claim: &Claim, seen: &[Seen], profile: &Profile) -> Vec<Snapshot> {
    let mut snapshots = vec![main(claim, seen)];
    snapshots.extend(further(claim, seen, profile));
    snapshots
}

fn main(claim: &Claim, seen: &[Seen]) -> Snapshot {
    let mut text = head(claim);
    let reviewed = reviewed(claim.id);
    for (part, seen) in parts(claim, seen) {
        let _ = write!(text, "\n[{}] {}\n", part.name, part.about);
        match part.depends.as_slice() {
            [] => text.push_str(&body(part, seen, reviewed)),
            facets => {
                let facets: Vec<&str> = facets.iter().map(|facet| word(*facet)).collect();
                let _ = writeln!(text, "  rightly differs by {}: see the snapshot of each", facets.join(", "));
            }
        }
    }
    Snapshot { name: claim.id.to_owned(), text }
}

fn head(claim: &Claim) -> String {
    let mut text = format!("{}\n\n{}", claim.statement, claim.standing.word());
    if let Some(instead) = claim.standing.instead() {
        let _ = write!(text, ": {instead}");
    }
    text.push('\n');
    for basis in &claim.basis {
        let _ = writeln!(text, "basis: {basis}");
    }
    for place in &claim.documents {
        let _ = writeln!(text, "document: {place}");
    }
    text
}

/// The snapshot of what differs between correct systems; nothing if nothing does.
fn further(claim: &Claim, seen: &[Seen], profile: &Profile) -> Option<Snapshot> {
    let mut facets: BTreeSet<Depends> = BTreeSet::new();
    for (part, seen) in parts(claim, seen) {
        facets.extend(&part.depends);
        if part.depends.is_empty() && !seen.facts.is_empty() {
            facets.extend([Depends::Machine, Depends::FileSystem, Depends::Release, Depends::Privilege]);
        }
    }
    if facets.is_empty() {
        return None;
    }
    let values: Vec<String> = facets.iter().map(|facet| profile.facet(*facet)).collect();
    let name = format!("{}@{}", claim.id, values.join("-"));
    let reviewed = reviewed(&name);
    let mut text = format!("{}\n\non {}\n", claim.statement, values.join(", "));
    for (part, seen) in parts(claim, seen) {
        if part.depends.is_empty() && seen.facts.is_empty() {
            continue;
        }
        let _ = write!(text, "\n[{}] {}\n", part.name, part.about);
        if !part.depends.is_empty() {
            text.push_str(&body(part, seen, reviewed));
        }
        for (name, value) in &seen.facts {
            let _ = writeln!(text, "  {name}: {value}");
        }
    }
    Some(Snapshot { name, text })
}

fn parts<'s>(claim: &'s Claim, seen: &'s [Seen]) -> impl Iterator<Item = (&'s Part, &'s Seen)> {
    seen.iter().filter_map(|seen| Some((claim.parts.get(seen.part)?, seen)))
}

/// The rows and the calls of a part; those that were reviewed, where this system lacks what it takes to see them.
fn body(part: &Part, seen: &Seen, reviewed: Option<&str>) -> String {
    if let Some(lack) = seen.lacking {
        let known = reviewed.and_then(|text| section(text, part.name));
        return known.map_or_else(|| format!("  not seen: {}\n", lack.hint().0), str::to_owned);
    }
    let width =
        seen.rows.iter().map(|(input, _)| input.chars().count()).filter(|width| *width <= 72).max().unwrap_or(0);
    let mut text = String::new();
    for (input, outcome) in &seen.rows {
        let outcome = if outcome.is_empty() { "as the rule has it" } else { outcome };
        let _ = writeln!(text, "  {input:<width$} -> {outcome}");
    }
    text.push_str("  calls of the first:\n");
    // How often a call is repeated, such as a read until all has come, may be a matter of chance.
    let mut calls: Vec<&String> = seen.trace.iter().collect();
    calls.dedup();
    for line in calls.iter().take(CALLS) {
        let _ = writeln!(text, "    {line}");
    }
    if calls.len() > CALLS {
        text.push_str("    ...\n");
    }
    text
}

/// What a snapshot says of a part, below the line that names it.
fn section<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let start = text.find(&format!("\n[{part}] "))? + 1;
    let body = start + text[start..].find('\n')? + 1;
    let end = text[body..].find("\n[").map_or(text.len(), |end| body + end);
    Some(&text[body..end])
}

fn word(facet: Depends) -> &'static str {
    match facet {
        Depends::Machine => "machine",
        Depends::FileSystem => "file system",
        Depends::Release => "release",
        Depends::Privilege => "privilege",
        Depends::HugePages => "huge pages",
    }
}

//! Which claims the words of a command line mean.

use std::collections::BTreeSet;

use mmap_conformance::claim::Claim;
use mmap_conformance::{claims, sequences};

use crate::cli::Trouble;

/// The claims that these words mean, in the order of the documents' topics; all of them for no words.
///
/// # Errors
/// A word that means none.
pub fn claims(words: &[String]) -> Result<Vec<Claim>, Trouble> {
    let mut all = claims::all();
    all.extend(sequences::claims());
    if let Some(word) = words.iter().find(|word| !all.iter().any(|claim| means(word, claim.id))) {
        // The planted claims are not listed; by their full names they can be run, to see what a violation looks like.
        return match claims::find(word) {
            Some(planted) if words.len() == 1 => Ok(vec![planted]),
            _ => Err(unknown(word, &all)),
        };
    }
    let meant = |claim: &Claim| words.is_empty() || words.iter().any(|word| means(word, claim.id));
    Ok(all.into_iter().filter(meant).collect())
}

/// The one claim with this id.
///
/// # Errors
/// There is none.
pub fn claim(id: &str) -> Result<Claim, Trouble> {
    claims::find(id).ok_or_else(|| {
        let family = claims::all().into_iter().filter(|claim| means(id, claim.id)).map(|claim| claim.id);
        let family: Vec<&str> = family.collect();
        match family.as_slice() {
            [] => unknown(id, &claims::all()),
            [first, ..] => format!("{id} is a family of {} claims; explain one of them, such as {first}", family.len()),
        }
    })
}

/// Whether a word is an id or the first words of it, dot by dot: `mmap.len` does not mean `mmap.length.zero`.
fn means(word: &str, id: &str) -> bool {
    id.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown(word: &str, all: &[Claim]) -> Trouble {
    const ALIKE: f64 = 0.75;
    let names: BTreeSet<&str> = all.iter().flat_map(|claim| families(claim.id)).collect();
    let likeness = |name: &str| {
        let start = if name.starts_with(word) { 0.2 } else { 0.0 };
        strsim::jaro_winkler(word, name) + start
    };
    let best = names.into_iter().max_by(|one, two| likeness(one).total_cmp(&likeness(two)));
    match best.filter(|name| likeness(name) >= ALIKE) {
        Some(name) => format!("unknown claim {word:?}; did you mean {name}?"),
        None => format!("unknown claim {word:?}; `mmap-conformance list` names them all"),
    }
}

/// An id and all that it begins with, dot by dot.
fn families(id: &str) -> impl Iterator<Item = &str> {
    id.match_indices('.').map(|(at, _)| &id[..at]).chain([id])
}

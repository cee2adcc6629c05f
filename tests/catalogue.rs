//! Every claim is complete: it says what the documents say, where, and by what authority it is judged.

use std::collections::BTreeSet;

use mmap_conformance::claim::{Claim, Standing};
use mmap_conformance::claims;

/// Asserts something of every claim, and names those of which it is not so.
fn every_claim(mut is_so: impl FnMut(&Claim) -> bool) {
    let wrong: Vec<&str> = claims::all().iter().filter(|claim| !is_so(claim)).map(|claim| claim.id).collect();
    assert!(wrong.is_empty(), "not so: {wrong:?}");
}

fn is_sentence(text: &str) -> bool {
    // Many begin with the name of a call, which is written small.
    text.ends_with('.') && text.starts_with(char::is_alphanumeric) && !text.contains('\n')
}

#[test]
fn ids_are_unique() {
    let mut seen = BTreeSet::new();
    every_claim(|claim| seen.insert(claim.id));
}

#[test]
fn ids_are_dotted_words() {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    every_claim(|claim| claim.id.contains('.') && claim.id.split('.').all(is_word));
}

#[test]
fn statements_are_sentences() {
    every_claim(|claim| is_sentence(claim.statement));
}

#[test]
fn what_is_right_instead_is_said() {
    every_claim(|claim| match claim.standing {
        Standing::Holds => true,
        Standing::Qualified(text) | Standing::Refuted(text) | Standing::Unobservable(text) => !text.is_empty(),
    });
}

#[test]
fn documents_and_authorities_are_named() {
    every_claim(|claim| !claim.documents.is_empty() && claim.documents.iter().all(|place| !place.at.is_empty()));
    every_claim(|claim| !claim.basis.is_empty() && claim.basis.iter().all(|basis| !basis.cite.is_empty()));
}

#[test]
fn every_claim_but_an_unobservable_one_has_a_property() {
    every_claim(|claim| matches!(claim.standing, Standing::Unobservable(_)) == claim.parts.is_empty());
}

#[test]
fn parts_are_named_apart_and_say_what_they_generate() {
    every_claim(|claim| {
        let names: BTreeSet<&str> = claim.parts.iter().map(|part| part.name).collect();
        names.len() == claim.parts.len() && claim.parts.iter().all(|part| !part.about.is_empty())
    });
}

#[test]
fn every_snapshot_is_of_a_claim() {
    let ids: BTreeSet<&str> = claims::all().iter().map(|claim| claim.id).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let stray: Vec<String> = names
        .filter(|name| {
            name.strip_suffix(".snap").is_some_and(|stem| !ids.contains(stem.split('@').next().unwrap_or("")))
        })
        .collect();
    assert!(stray.is_empty(), "snapshots of no claim: {stray:?}");
}

//! Deviations that are known: listed with the systems that have them and the reason, they fail no run; listed and not to be
//! seen any more, they do.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::condition::Condition;
use super::profile::Profile;
use crate::claims;
use crate::run::outcome::{ClaimResult, Deviation, Failure, PartResult, Status};

/// The deviations that some files list.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    claim: String,
    part: Option<String>,
    kind: Kind,
    rare: bool,
    when: Condition,
    reason: String,
    link: Option<String>,
    listed: String,
}

/// What a deviation shows itself as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A call has another outcome than the rule allows.
    #[default]
    Violation,
    /// The worker is lost: it dies or hangs.
    Lost,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    claim: Option<Spanned<String>>,
    part: Option<Spanned<String>>,
    /// Several, each `CLAIM` or `CLAIM: PART`, in place of the two above.
    #[serde(default)]
    claims: Vec<Spanned<String>>,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    rare: bool,
    when: Option<Spanned<Condition>>,
    reason: Spanned<String>,
    link: Option<Spanned<String>>,
}

impl Known {
    /// Reads one file more.
    ///
    /// # Errors
    /// What is wrong with it, where, in one line.
    pub fn read(&mut self, path: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        self.parse(&text, &path.display().to_string())
    }

    fn parse(&mut self, text: &str, name: &str) -> Result<(), String> {
        let place = |at: usize| {
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            format!("{name}:{line}")
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let why = error.message().replace('\n', " ");
            format!("{}: {why}", place(error.span().map_or(0, |span| span.start)))
        })?;
        for listed in file.known {
            for (at, entry) in listed.check().map_err(|(at, why)| format!("{}: {why}", place(at)))? {
                self.entries.push(Entry { listed: place(at), ..entry });
            }
        }
        Ok(())
    }

    /// How many deviations are listed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What became of a claim, with what is listed of it for the system of this profile.
    pub fn judge(&self, mut result: ClaimResult, profile: &Profile) -> ClaimResult {
        let entries: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.claim == result.id && entry.when.matches(profile)).collect();
        for entry in &entries {
            let seen = result.failures.iter().any(|failure| entry.covers(failure, &result.parts));
            if seen || entry.is_stale(&result) {
                result.deviations.push(entry.deviation(if seen { Status::Known } else { Status::Stale }));
            }
        }
        if result.deviations.is_empty() {
            return result;
        }
        let listed = |failure: &&Failure| entries.iter().any(|entry| entry.covers(failure, &result.parts));
        let unlisted: Vec<Option<usize>> =
            result.failures.iter().filter(|failure| !listed(failure)).map(Failure::part).collect();
        for (index, part) in result.parts.iter_mut().enumerate() {
            let violated = result.failures.iter().any(|failure| failure.part() == Some(index));
            let is_stale = |one: &Deviation| one.result == Status::Stale && one.part.as_ref() == Some(&part.name);
            if violated && !unlisted.contains(&Some(index)) {
                part.status = Status::Known;
            } else if part.status == Status::Pass && result.deviations.iter().any(is_stale) {
                part.status = Status::Stale;
            }
        }
        let fails = !unlisted.is_empty() || result.parts.iter().any(|part| part.status == Status::Fail);
        let stale = result.deviations.iter().any(|one| one.result == Status::Stale);
        result.status = match (fails, stale) {
            (true, _) => Status::Fail,
            (false, true) => Status::Stale,
            (false, false) => Status::Known,
        };
        result
    }
}

impl Listed {
    /// An entry for each claim, with the byte of the file at which it stands; what is wrong with it, and at which byte.
    fn check(&self) -> Result<Vec<(usize, Entry)>, (usize, String)> {
        let wrong = |at: &Spanned<String>, why: &str| Err((at.span().start, why.to_owned()));
        if self.reason.get_ref().trim().is_empty() {
            return wrong(&self.reason, "a deviation needs its reason");
        }
        if let Some(link) = self.link.as_ref().filter(|link| !link.get_ref().starts_with("https://")) {
            return wrong(link, &format!("{:?} does not begin with https://", link.get_ref()));
        }
        if let Some(when) = &self.when {
            when.get_ref().check().map_err(|why| (when.span().start, why))?;
        }
        let one = self.claim.iter().map(|claim| (claim, claim.get_ref().as_str(), self.part.as_ref()));
        let mut named: Vec<_> =
            one.map(|(at, id, part)| (at, id, part.map(|part| (part, part.get_ref().as_str())))).collect();
        for both in &self.claims {
            let (id, part) =
                both.get_ref().split_once(": ").map_or((both.get_ref().as_str(), None), |(id, part)| (id, Some(part)));
            named.push((both, id, part.map(|part| (both, part))));
        }
        if named.is_empty()
            || self.claim.is_some() != self.claims.is_empty()
            || self.part.is_some() && self.claim.is_none()
        {
            return wrong(&self.reason, "an entry names one claim, and perhaps a part, or several claims");
        }
        named.into_iter().map(|(at, id, part)| Ok((at.span().start, self.entry(at, id, part)?))).collect()
    }

    /// The entry for one claim, without its place.
    fn entry(
        &self,
        at: &Spanned<String>,
        id: &str,
        part: Option<(&Spanned<String>, &str)>,
    ) -> Result<Entry, (usize, String)> {
        let wrong = |at: &Spanned<String>, why: String| Err((at.span().start, why));
        let Some(claim) = claims::find(id) else { return wrong(at, format!("there is no claim {id:?}")) };
        if claim.parts.is_empty() {
            return wrong(at, format!("{id} is put to no kernel: it cannot deviate"));
        }
        if let Some((at, part)) = part
            && !claim.parts.iter().any(|one| one.name == part)
        {
            let names: Vec<&str> = claim.parts.iter().map(|part| part.name).collect();
            return wrong(at, format!("{id} has no part {part:?}, but {}", names.join(", ")));
        }
        Ok(Entry {
            claim: id.to_owned(),
            part: part.map(|(_, part)| part.to_owned()),
            kind: self.kind,
            rare: self.rare,
            when: self.when.as_ref().map(|when| when.get_ref().clone()).unwrap_or_default(),
            reason: self.reason.get_ref().clone(),
            link: self.link.as_ref().map(|link| link.get_ref().clone()),
            listed: String::new(),
        })
    }
}

impl Entry {
    /// Whether this failure is what is listed.
    fn covers(&self, failure: &Failure, parts: &[PartResult]) -> bool {
        let kind = match failure {
            Failure::Violation(_) => Kind::Violation,
            Failure::Lost { .. } => Kind::Lost,
            Failure::Harness { .. } => return false,
        };
        let name = failure.part().and_then(|index| parts.get(index)).map(|part| &part.name);
        kind == self.kind && self.part.as_ref().is_none_or(|part| Some(part) == name)
    }

    /// Whether everything that it speaks of was put to the kernel, and the rule was kept throughout.
    fn is_stale(&self, result: &ClaimResult) -> bool {
        let mut parts =
            result.parts.iter().filter(|part| self.part.as_ref().is_none_or(|name| *name == part.name)).peekable();
        !self.rare && parts.peek().is_some() && parts.all(|part| part.status == Status::Pass && part.skipped.is_empty())
    }

    fn deviation(&self, result: Status) -> Deviation {
        Deviation {
            part: self.part.clone(),
            result,
            reason: self.reason.clone(),
            link: self.link.clone(),
            listed: self.listed.clone(),
        }
    }
}

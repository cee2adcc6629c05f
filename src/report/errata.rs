//! The documents judged: what is wrong in which, what is right instead, by what authority.

use std::fmt::Write as _;

use crate::claim::{Claim, DOCUMENTS, Document, Standing};
use crate::claims::contradictions::CONTRADICTIONS;

/// The words around what is judged, for the terminal or for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Indented lines.
    Text,
    /// Headings and lists.
    Markdown,
}

/// The judgement of all the documents.
pub fn judge(claims: &[Claim], form: Form) -> String {
    let mut out = form.title("What the documents say, and what Linux does", 1);
    for document in DOCUMENTS {
        out.push_str(&of_document(document, claims, form));
    }
    out.push_str(&form.title("Where the documents contradict each other", 2));
    for contradiction in CONTRADICTIONS {
        let find = |id| claims.iter().find(|claim| claim.id == id);
        if let (Some(one), Some(other)) = (find(contradiction.one), find(contradiction.other)) {
            let title = format!("{} and {}", form.code(one.id), form.code(other.id));
            out.push_str(&form.entry(&title, &[(names(one), one.statement), (names(other), other.statement)]));
            out.push_str(&form.line("right", contradiction.about));
        }
    }
    out
}

fn of_document(document: Document, claims: &[Claim], form: Form) -> String {
    let theirs: Vec<&Claim> =
        claims.iter().filter(|claim| claim.documents.iter().any(|place| place.document == document)).collect();
    let count = |word: &str| theirs.iter().filter(|claim| claim.standing.word() == word).count();
    let mut out = form.title(&format!("{} ({})", document.title, document.name), 2);
    let _ = writeln!(
        out,
        "{} claims: {} hold, {} need a condition, {} are wrong, {} cannot be observed",
        theirs.len(),
        count("holds"),
        count("qualified"),
        count("refuted"),
        count("unobservable"),
    );
    for claim in theirs {
        let (kind, right) = match claim.standing {
            Standing::Refuted(right) => ("wrong", right),
            Standing::Qualified(right) => ("needs a condition", right),
            Standing::Holds | Standing::Unobservable(_) => continue,
        };
        let places: Vec<&str> =
            claim.documents.iter().filter(|place| place.document == document).map(|place| place.at).collect();
        let title = format!("{}: {kind} ({})", form.code(claim.id), places.join("; "));
        out.push_str(&form.entry(&title, &[("says".into(), claim.statement), ("right".into(), right)]));
        for basis in &claim.basis {
            out.push_str(&form.line("basis", &basis.to_string()));
        }
    }
    out
}

/// The documents that make a claim.
fn names(claim: &Claim) -> String {
    let mut names: Vec<&str> = claim.documents.iter().map(|place| place.document.name).collect();
    names.dedup();
    names.join(", ")
}

impl Form {
    fn title(self, text: &str, level: usize) -> String {
        match self {
            Form::Markdown => format!("{}{} {text}\n\n", if level > 1 { "\n" } else { "" }, "#".repeat(level)),
            Form::Text if level == 1 => format!("{text}\n"),
            Form::Text => format!("\n{text}\n"),
        }
    }

    fn code(self, id: &str) -> String {
        match self {
            Form::Markdown => format!("`{id}`"),
            Form::Text => id.to_owned(),
        }
    }

    fn entry(self, title: &str, lines: &[(String, &str)]) -> String {
        let mut out = match self {
            Form::Markdown => format!("\n- **{title}**\n"),
            Form::Text => format!("\n  {title}\n"),
        };
        for (label, text) in lines {
            out.push_str(&self.line(label, text));
        }
        out
    }

    fn line(self, label: &str, text: &str) -> String {
        match self {
            Form::Markdown => format!("  - *{label}:* {text}\n"),
            Form::Text => format!("    {label:<6} {text}\n"),
        }
    }
}

//! Reports of one or more systems as a page of HTML that needs nothing but itself: claims by topic against systems, and behind
//! each result what was seen.

mod details;

use std::fmt::Write as _;

use super::compare::{self, RowDifference, letter};
use super::document::{ClaimReport, Report};
use super::printable;
use crate::claim::{Claim, DOCUMENTS};
use crate::run::outcome::Status;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

const TITLE: &str = "mmap-conformance";

/// Results in the order of the legend, with the symbol of each; a claim that a report does not have is `missing`.
const SYMBOLS: [(&str, &str); 7] = [
    ("pass", "\u{2713}"),
    ("fail", "\u{2717}"),
    ("known", "\u{2248}"),
    ("stale", "!"),
    ("skip", "\u{25cb}"),
    ("unobservable", "\u{2013}"),
    ("missing", "\u{b7}"),
];

/// What the page has of one claim: a row.
struct Row<'p> {
    id: &'p str,
    /// What this program knows of it; nothing if another version made the report.
    claim: Option<&'p Claim>,
    /// System by system.
    results: Vec<Option<&'p ClaimReport>>,
    /// What differs between the systems.
    differences: Vec<&'p RowDifference>,
}

/// The page of these reports, each with the name of its file.
pub fn of(reports: &[(String, Report)], claims: &[Claim]) -> String {
    let list: Vec<&Report> = reports.iter().map(|(_, report)| report).collect();
    let differences = compare::rows(&list);
    let rows = rows(&list, claims, &differences);
    let topics = topics(&rows);
    fill(|name| match name {
        "title" => TITLE.into(),
        "style" => STYLE.into(),
        "script" => SCRIPT.into(),
        "about" => escape(&format!("{} systems, {} claims", list.len(), rows.len())),
        "count" => escape(&format!("{0} of {0} claims", rows.len())),
        "systems" => systems(reports),
        "topics" => options(topics.iter().map(|(name, _)| *name)),
        "results" => options(SYMBOLS.iter().map(|(name, _)| *name)),
        "documents" => options(DOCUMENTS.iter().map(|document| document.name)),
        "verdicts" => options(["holds", "qualified", "refuted", "unobservable"].into_iter()),
        "legend" => SYMBOLS.iter().map(|(name, sign)| format!("<li class=\"{name}\">{sign} {name}</li>")).collect(),
        "heads" => heads(&list),
        "claims" => topics.iter().map(|(name, rows)| body(name, rows, list.len())).collect(),
        "details" => rows.iter().map(|row| details::of(row, &list)).collect(),
        _ => String::new(),
    })
}

/// The template with each `{{name}}` replaced; what replaces it is not looked at again.
fn fill(value: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push_str(value(name).trim_end());
        rest = after;
    }
    out + rest
}

/// Text that stands for itself in HTML, within elements and attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Every claim of a report, in the order of this program's claims; those that it does not know are last.
fn rows<'p>(reports: &[&'p Report], claims: &'p [Claim], differences: &'p [RowDifference]) -> Vec<Row<'p>> {
    let mut ids: Vec<&str> = claims.iter().map(|claim| claim.id).collect();
    ids.retain(|id| reports.iter().any(|report| report.claim(id).is_some()));
    for claim in reports.iter().flat_map(|report| &report.claims) {
        if !ids.contains(&claim.id.as_str()) {
            ids.push(&claim.id);
        }
    }
    let row = |id: &'p str| Row {
        id,
        claim: claims.iter().find(|claim| claim.id == id),
        results: reports.iter().map(|report| report.claim(id)).collect(),
        differences: differences.iter().filter(|one| one.claim == id).collect(),
    };
    ids.into_iter().map(row).collect()
}

fn topics<'r, 'p>(rows: &'r [Row<'p>]) -> Vec<(&'p str, Vec<&'r Row<'p>>)> {
    let mut topics: Vec<(&str, Vec<&Row<'p>>)> = Vec::new();
    for row in rows {
        let name = super::topic(row.id);
        match topics.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => topics.push((name, vec![row])),
        }
    }
    topics
}

fn options<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("<option>{}</option>", escape(name))).collect()
}

fn heads(reports: &[&Report]) -> String {
    let head = |(index, report): (usize, &&Report)| {
        let system = escape(&report.profile.to_string());
        format!("<th scope=\"col\" title=\"{system}\">{}<span class=\"apart\">: {system}</span></th>", letter(index))
    };
    reports.iter().enumerate().map(head).collect()
}

fn systems(reports: &[(String, Report)]) -> String {
    let mut out = String::new();
    for (index, (file, report)) in reports.iter().enumerate() {
        let totals = &report.totals.totals;
        let interrupted = if report.interrupted { " (interrupted)" } else { "" };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}: {}<br><small>{}, seed {}, {} cases a claim, version {}</small></th>",
            letter(index),
            escape(&report.profile.to_string()),
            escape(file),
            report.seed,
            report.cases,
            escape(&report.program.version),
        );
        let word = report.result.word();
        let _ = write!(out, "<td class=\"{word}\">{} {word}{interrupted}</td>", symbol(word));
        let counts = [
            totals.passed,
            totals.failed,
            totals.known,
            totals.stale,
            totals.skipped,
            totals.unobservable,
            totals.missing,
            totals.cases,
        ];
        for count in counts {
            let _ = write!(out, "<td>{count}</td>");
        }
        let _ = writeln!(out, "<td>{:.1}</td></tr>", report.totals.seconds);
    }
    out
}

fn symbol(word: &str) -> &'static str {
    SYMBOLS.iter().find(|(name, _)| *name == word).map_or("", |(_, sign)| sign)
}

/// The word for what became of a claim on one system.
fn word(result: Option<&ClaimReport>) -> &'static str {
    result.map_or("missing", |claim| Status::word(claim.result))
}

fn body(topic: &str, rows: &[&Row<'_>], systems: usize) -> String {
    let name = escape(topic);
    let mut out = format!("<tbody><tr><th colspan=\"{}\" scope=\"rowgroup\">{name}</th></tr>\n", systems + 2);
    for row in rows {
        let results: Vec<&str> = row.results.iter().map(|result| word(*result)).collect();
        let mut documents: Vec<&str> =
            row.claim.iter().flat_map(|claim| &claim.documents).map(|place| place.document.name).collect();
        documents.dedup();
        let verdict = row.claim.map_or("", |claim| claim.standing.word());
        let _ = write!(
            out,
            "<tr data-id=\"{id}\" data-topic=\"{name}\" data-results=\"{}\" data-documents=\"{}\" data-verdict=\"{verdict}\">\
             <th scope=\"row\">{}</th><td>{verdict}</td>",
            results.join(" "),
            documents.join(" "),
            statement(row),
            id = escape(row.id),
        );
        for (index, (result, word)) in row.results.iter().zip(&results).enumerate() {
            out.push_str(&cell(row, index, *result, word));
        }
        out.push_str("</tr>\n");
    }
    out + "</tbody>\n"
}

/// The claim's name, and behind it what it says, whose word it is and where.
fn statement(row: &Row<'_>) -> String {
    let Some(claim) = row.claim else { return escape(row.id) };
    let mut out = format!("<details><summary>{}</summary><p>{}</p>", escape(row.id), escape(claim.statement));
    if let Some(instead) = claim.standing.instead() {
        let _ = write!(out, "<p>{}: {}</p>", claim.standing.word(), escape(instead));
    }
    for basis in &claim.basis {
        let _ = write!(out, "<p><small>{}</small></p>", escape(&basis.to_string()));
    }
    for place in &claim.documents {
        let _ = write!(out, "<p><small>document: {}</small></p>", escape(&place.to_string()));
    }
    out + "</details>"
}

fn cell(row: &Row<'_>, index: usize, result: Option<&ClaimReport>, word: &str) -> String {
    let sign = symbol(word);
    let shown = format!("<span aria-hidden=\"true\">{sign}</span><span class=\"apart\">{word}</span>");
    if result.is_none() {
        return format!("<td class=\"cell {word}\">{shown}</td>");
    }
    let id = escape(row.id);
    format!(
        "<td class=\"cell {word}\"><button type=\"button\" aria-haspopup=\"dialog\" data-seen=\"{id}-{index}\" data-rows=\"{id}-rows\" \
         data-title=\"{id} on {}: {word}\" title=\"{word}\">{shown}</button></td>",
        letter(index),
    )
}

//! What stands behind a cell: parts, deviations, violations with their calls and their C program, rows that differ.

use std::fmt::Write as _;

use super::super::compare::letter;
use super::super::document::{ClaimReport, Report, ViolationReport};
use super::{Row, escape};

/// The templates of a row's cells, which a script brings up.
pub(super) fn of(row: &Row<'_>, reports: &[&Report]) -> String {
    let id = escape(row.id);
    let mut out = String::new();
    for (index, result) in row.results.iter().enumerate() {
        if let (Some(result), Some(report)) = (result, reports.get(index)) {
            let _ = write!(out, "<template id=\"{id}-{index}\"><p>{}</p>", escape(&report.profile.to_string()));
            out.push_str(&claim(result));
            out.push_str("</template>\n");
        }
    }
    if !row.differences.is_empty() {
        let _ = writeln!(out, "<template id=\"{id}-rows\">{}</template>", differences(row));
    }
    out
}

fn claim(result: &ClaimReport) -> String {
    let mut out = String::new();
    if let Some(reason) = &result.reason {
        let _ = write!(out, "<p>{}</p>", escape(reason));
    }
    for one in &result.deviations {
        let part = one.part.as_ref().map(|part| format!("part {part}, ")).unwrap_or_default();
        let listed = format!("{}: {part}{} ({})", one.result.word(), one.reason, one.listed);
        let _ = write!(out, "<p>{}{}</p>", escape(&listed), one.link.as_deref().map(link).unwrap_or_default());
    }
    if !result.parts.is_empty() {
        out.push_str(&parts(result));
    }
    for one in result.violation.iter().chain(&result.further_violations) {
        out.push_str(&violation(one));
    }
    out
}

fn parts(result: &ClaimReport) -> String {
    let mut rows = String::new();
    for part in &result.parts {
        let skipped: Vec<String> =
            part.skipped.iter().map(|one| format!("{}: {}; to run it: {}", one.cases, one.reason, one.hint)).collect();
        let word = part.result.word();
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"{word}\">{word}</td><td>{}</td><td>{}</td></tr>",
            escape(&part.name),
            part.cases,
            escape(&skipped.join("; ")),
        );
    }
    table("Parts", &["Part".into(), "Result".into(), "Cases".into(), "Skipped".into()], &rows)
}

/// A table that is scrolled by itself where it is too wide.
fn table(name: &str, heads: &[String], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\">\
         <table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// A link, if that is what it is.
fn link(address: &str) -> String {
    if !address.starts_with("https://") {
        return format!(" {}", escape(address));
    }
    let address = escape(address);
    format!(" <a href=\"{address}\" rel=\"noreferrer\">{address}</a>")
}

fn violation(one: &ViolationReport) -> String {
    let title = match &one.part {
        Some(part) => format!("{} in {part}", one.kind),
        None => one.kind.clone(),
    };
    let mut out = format!("<h3>{}</h3><dl>", escape(&title));
    let mut line = |label: &str, text: &str| {
        let _ = write!(out, "<dt>{label}</dt><dd>{}</dd>", escape(text));
    };
    if let Some(input) = &one.input {
        line("input", input);
    }
    line("expected", &one.expected);
    line("seen", &one.seen);
    line("replay", &one.replay);
    out.push_str("</dl>");
    if !one.steps.is_empty() {
        out.push_str("<pre tabindex=\"0\" aria-label=\"Calls\">");
        for (index, step) in one.steps.iter().enumerate() {
            let line = escape(&format!("{:<4} {}", step.actor, step.line));
            let _ = if one.departure == Some(index) {
                writeln!(out, "<mark>{line}</mark>")
            } else {
                writeln!(out, "{line}")
            };
        }
        out.push_str("</pre>");
    }
    if let Some(program) = &one.program {
        let text = escape(program);
        let _ = write!(
            out,
            "<details><summary>C program</summary><pre tabindex=\"0\" aria-label=\"C program\">{text}</pre></details>"
        );
    }
    out
}

fn differences(row: &Row<'_>) -> String {
    let mut heads = vec!["Part".to_owned(), "Input".to_owned()];
    heads.extend((0..row.results.len()).map(letter));
    let mut rows = String::new();
    for one in &row.differences {
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th><td>{}</td>", escape(&one.part), escape(&one.input));
        for outcome in &one.outcomes {
            let _ = write!(rows, "<td>{}</td>", outcome.as_deref().map_or_else(|| "not seen".into(), escape));
        }
        rows.push_str("</tr>");
    }
    format!("<h3>Rows that differ between the systems</h3>{}", table("Rows that differ", &heads, &rows))
}

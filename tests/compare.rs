//! Reports read again: compared with each other, and made into a page.

mod program;

use std::path::{Path, PathBuf};

use program::{Ran, program, ran};
use rstest::rstest;
use serde_json::{Value, json};

/// A report of one claim with this result, and of one row with this outcome.
fn report(result: &str, outcome: &str) -> Value {
    json!({
        "schema": 1,
        "program": {"name": "mmap-conformance", "version": "0.1.0"},
        "profile": {"kernel": "linux", "sysname": "Linux", "release": "6.1.0", "machine": "x86_64", "page_size": 4096,
            "filesystem": {"type": "ext4"}, "privileged": true},
        "seed": 1, "cases": 8, "interrupted": false, "result": "pass",
        "claims": [{"id": "mmap.length.zero", "result": result, "reason": null, "cases": 8, "calls": 9, "seconds": 0.1,
            "parts": [{"name": "main", "result": result, "cases": 8, "reason": null, "skipped": []}],
            "violation": null, "further_violations": [], "deviations": []}],
        "snapshots": null,
        "rows": [{"claim": "mmap.length.zero", "part": "main", "rows": [["1p", outcome], ["2p", "EINVAL"]], "facts": [],
            "lacking": null}],
        "totals": {"claims": 1, "passed": 1, "seconds": 0.1},
    })
}

struct Files(tempfile::TempDir);

impl Files {
    fn of(reports: &[Value]) -> Files {
        let folder = tempfile::tempdir().expect("a directory");
        for (index, report) in reports.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{index}.json")), report.to_string()).expect("a file");
        }
        Files(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(program().current_dir(self.0.path()).args(arguments))
    }
}

#[rstest]
#[case::the_same("pass", "pass", 0)]
#[case::fails("pass", "fail", 1)]
#[case::fails_what_was_known("known", "fail", 1)]
#[case::fails_what_was_skipped("skip", "fail", 1)]
#[case::stale("pass", "stale", 1)]
#[case::fails_as_before("fail", "fail", 0)]
#[case::mended("fail", "pass", 0)]
#[case::known_now("pass", "known", 0)]
#[case::skipped_now("pass", "skip", 0)]
fn the_last_is_worse_than_the_first_or_not(#[case] first: &str, #[case] last: &str, #[case] status: i32) {
    let files = Files::of(&[report(first, "EINVAL"), report("fail", "EINVAL"), report(last, "EINVAL")]);
    let told = files.run(&["compare", "0.json", "1.json", "2.json", "--format", "json"]);
    assert_eq!(told.status, Some(status), "{}{}", told.out, told.err);
    let told: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(told["worse"], status == 1);
    let differs = first != "fail" || last != "fail";
    assert_eq!(told["claims"].as_array().map(Vec::len), Some(usize::from(differs)));
    assert_eq!(told["claims"][0]["results"] == json!([first, "fail", last]), differs);
}

#[rstest]
fn a_claim_that_is_missing_is_worse() {
    let mut without = report("pass", "EINVAL");
    without["claims"] = json!([]);
    let files = Files::of(&[report("pass", "EINVAL"), without]);
    let told = files.run(&["compare", "0.json", "1.json"]);
    assert_eq!(told.status, Some(1));
    assert!(told.out.contains("  mmap.length.zero  A pass        B -  worse\n"), "{}", told.out);
    assert_eq!(files.run(&["compare", "1.json", "0.json"]).status, Some(0));
}

#[rstest]
fn rows_that_differ_are_told() {
    let mut other = report("pass", "ENOMEM");
    other["rows"][0]["facts"] = json!([["placed", "high"]]);
    let mut lacking = report("pass", "EIO");
    lacking["rows"][0]["lacking"] = json!("no /proc");
    let mut bare = report("pass", "EIO");
    bare["rows"] = Value::Null;
    let files = Files::of(&[report("pass", "EINVAL"), other, lacking, bare]);
    let told = files.run(&["compare", "0.json", "1.json", "2.json", "3.json"]);
    assert_eq!(told.status, Some(0), "{}", told.out);
    let expected = "rows that differ: 1\n  mmap.length.zero [main]\n    1p\n      A: EINVAL\n      B: ENOMEM\n";
    assert!(told.out.contains(expected), "{}", told.out);
    assert!(told.out.contains("D  3.json: Linux 6.1.0, x86_64, 4 KiB pages, ext4 (without rows)\n"), "{}", told.out);
}

#[rstest]
#[case::not_there(&["compare", "0.json", "none.json"], "cannot read none.json: No such file")]
#[case::only_one(&["compare", "0.json"], "2 values required")]
#[case::no_report(&["compare", "0.json", "odd.json"], "odd.json: this is no report: ")]
#[case::cut_off(&["compare", "0.json", "cut.json"], "cut.json: this is no report: ")]
#[case::another_schema(&["compare", "0.json", "1.json"], "1.json: a report of schema 9, and this program reads schema 1")]
#[case::no_page_of_it(&["page", "1.json"], "1.json: a report of schema 9")]
#[case::no_page_there(&["page", "0.json", "--output", "/nowhere/at/all"], "cannot write /nowhere/at/all: ")]
fn what_is_no_report_is_an_error(#[case] arguments: &[&str], #[case] expected: &str) {
    let mut foreign = report("pass", "");
    foreign["schema"] = json!(9);
    let whole = report("pass", "EINVAL");
    let files = Files::of(&[whole.clone(), foreign]);
    std::fs::write(files.path("odd.json"), "{}").expect("a file");
    std::fs::write(files.path("cut.json"), &whole.to_string()[..300]).expect("a file");
    let told = files.run(arguments);
    assert_eq!((told.status, told.out.as_str(), told.err.lines().count()), (Some(2), "", 1), "{}", told.err);
    assert!(told.err.contains(expected), "{}", told.err);
}

#[rstest]
fn a_run_compared_with_itself_does_not_differ() {
    let files = Files::of(&[]);
    let run = ["run", "--cases", "8", "--seed", "1", "--format", "json", "--rows"];
    for (name, claim) in [("a.json", "mmap.length"), ("b.json", "mmap.length"), ("c.json", "munmap.releases")] {
        files.run(&[&run[..], &[claim, "--output", name]].concat());
    }
    let same = files.run(&["compare", "a.json", "b.json"]);
    assert_eq!(same.status, Some(0), "{}", same.err);
    assert!(same.out.contains("claims that differ: 0\n") && same.out.contains("rows that differ: 0\n"), "{}", same.out);
    assert_eq!(files.run(&["compare", "a.json", "c.json"]).status, Some(1));
}

#[rstest]
fn a_page_holds_everything_and_no_text_becomes_markup() {
    let mut odd = report("fail", "<i>EINVAL</i>");
    odd["profile"]["release"] = json!("6.1<script>alert(1)</script>\u{1b}");
    odd["claims"][0]["id"] = json!("mmap.\"'><img src=x>");
    odd["claims"][0]["violation"] = json!({"kind": "violation", "part": "main", "case": 1, "input": "</template><b>", "expected": "a & b",
        "seen": "{{script}}", "steps": [{"actor": "p0", "line": "munmap(m1, 1p) = 0"}], "departure": 0, "replay": "r", "program": "#include <x>\n\tint a;"});
    let files = Files::of(&[report("pass", "EINVAL"), odd]);
    let told = files.run(&["page", "0.json", "1.json", "--output", "page.html"]);
    assert_eq!((told.status, told.out.as_str()), (Some(0), ""), "{}", told.err);
    let page = std::fs::read_to_string(files.path("page.html")).expect("a page");
    for text in [
        "A mapping of length 0 is refused, whatever else is asked for.",
        "6.1&lt;script&gt;alert(1)&lt;/script&gt;\\u{1b}",
        "mmap.&quot;&#39;&gt;&lt;img src=x&gt;",
        "&lt;/template&gt;&lt;b&gt;",
        "a &amp; b",
        "<dd>{{script}}</dd>",
        "#include &lt;x&gt;\n\tint a;",
        "<mark>p0   munmap(m1, 1p) = 0</mark>",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<script>").count(), 1, "but for the page's own");
    assert!(!page.contains("<img") && !page.contains("http://") && !page.contains("src=\""), "nothing is fetched");
    assert!(Path::new(&files.path("page.html")).metadata().is_ok_and(|file| file.len() < 100_000));
}

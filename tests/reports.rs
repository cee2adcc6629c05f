//! The forms of a report: the same run told as KTAP, as JUnit's XML and as JSON, for readers that take every line at its word.

mod program;

use program::{Ran, program, ran};
use rstest::rstest;
use serde_json::Value;

/// What the reports of the wrong claims that the suite plants for its own tests say.
struct Told {
    ktap: String,
    junit: String,
    json: Value,
}

fn told(claim: &str, known: Option<&str>) -> Told {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = program();
    command.current_dir(folder.path()).args(["run", claim, "--cases", "16", "--seed", "1", "--timeout", "5"]);
    command.args(["--report", "ktap=a.ktap", "--report", "junit=a.xml", "--report", "json=a.json"]);
    if let Some(list) = known {
        std::fs::write(folder.path().join("known.toml"), list).expect("a file");
        command.args(["--known", "known.toml"]);
    }
    let ran: Ran = ran(&mut command);
    assert!(ran.out.contains("seed 1"), "the report for reading is still there: {}{}", ran.out, ran.err);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a report");
    let json = serde_json::from_str(&read("a.json")).expect("JSON");
    Told { ktap: read("a.ktap"), junit: read("a.xml"), json }
}

const LISTED: &str = "[[known]]\nclaim = 'planted.length'\nreason = 'a # in a reason'\n";
const GONE: &str = "[[known]]\nclaim = 'mmap.length.zero'\nreason = 'mended'\n";

#[rstest]
#[case::pass(
    "mmap.length.zero",
    None,
    "  ok 1 mmap.length.zero\nok 1 mmap\n",
    "<testcase name=\"mmap.length.zero\" classname=\"mmap-conformance.mmap\""
)]
#[case::fail("planted.length", None, "  not ok 1 planted.length\nnot ok 1 planted\n", "<failure message=\"expected ")]
#[case::skip(
    "planted.skipped",
    None,
    "  ok 1 planted.skipped # SKIP no DAX in the directory under test (to run it: ",
    "<skipped message=\"no DAX in the directory under test"
)]
#[case::unobservable("shared.fastest", None, "  ok 1 shared.fastest # SKIP unobservable: ", "type=\"unobservable\"")]
#[case::known(
    "planted.length",
    Some(LISTED),
    "  ok 1 planted.length # XFAIL a   in a reason\nok 1 planted\n",
    "<skipped message=\"known deviation: a # in a reason\" type=\"known\""
)]
#[case::stale(
    "mmap.length.zero",
    Some(GONE),
    "  not ok 1 mmap.length.zero # a listed deviation has gone: mended\nnot ok 1 mmap\n",
    "<failure message=\"a listed deviation has gone: mended\" type=\"stale\""
)]
#[case::lost(
    "planted.leaves",
    None,
    "  not ok 1 planted.leaves # ERROR the worker was lost: ",
    "<error message=\"the worker was lost: "
)]
fn a_result_is_told_in_every_form(
    #[case] claim: &str,
    #[case] known: Option<&str>,
    #[case] ktap: &str,
    #[case] junit: &str,
) {
    let told = told(claim, known);
    assert!(told.ktap.starts_with("KTAP version 1\n# mmap-conformance "), "{}", told.ktap);
    assert!(told.ktap.contains(ktap), "{}", told.ktap);
    assert!(told.junit.contains(junit), "{}", told.junit);
    assert_eq!(told.json["claims"][0]["id"], claim);
}

#[rstest]
fn parts_are_subtests() {
    let told = told("mmap.sharing.exactly-one", None);
    let parts: Vec<&str> = told.json["claims"][0]["parts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["name"].as_str())
        .collect();
    assert!(parts.len() > 1, "this test needs a claim of several parts");
    let mut expected = format!("    KTAP version 1\n    # Subtest: mmap.sharing.exactly-one\n    1..{}\n", parts.len());
    for (index, part) in parts.iter().enumerate() {
        expected.push_str(&format!("    ok {} {part}\n", index + 1));
    }
    assert!(told.ktap.contains(&expected), "{expected}{}", told.ktap);
}

#[rstest]
fn a_violation_is_told_in_full_and_leaves_no_line_open() {
    let told = told("planted.length", None);
    for label in ["rule", "basis", "input", "calls", "expected", "seen", "replay"] {
        assert!(told.ktap.contains(&format!("\n  #   {label:<9} ")), "{label}: {}", told.ktap);
        assert!(told.junit.contains(&format!("  {label:<9} ")), "{label}: {}", told.junit);
    }
    let stray = told.ktap.lines().find(|line| {
        let line = line.trim_start();
        !["# ", "ok ", "not ok ", "1..", "KTAP version 1"].iter().any(|start| line.starts_with(start))
    });
    assert_eq!(stray, None);
    let program = told.json["claims"][0]["violation"]["program"].as_str().expect("a C program");
    assert!(program.contains("int main(void)") && program.contains("planted.length"), "{program}");
}

#[rstest]
fn what_does_not_print_is_escaped() {
    let folder = tempfile::tempdir().expect("a directory");
    let odd = folder.path().join("odd \u{1b}[31m\u{1}<&\">#");
    std::fs::create_dir(&odd).expect("a directory");
    for format in ["ktap", "junit"] {
        let ran = ran(program().args(["planted.length", "--cases", "16", "--format", format, "--dir"]).arg(&odd));
        assert_eq!(ran.status, Some(1), "{}", ran.err);
        assert!(ran.out.contains("\\u{1b}[31m\\u{1}"), "{}", ran.out);
        assert!(ran.out.chars().all(|c| c == '\n' || !c.is_control()), "{}", ran.out);
    }
}

#[rstest]
fn rows_are_told_when_asked_for() {
    let ran = ran(program().args(["mmap.length.zero", "--cases", "16", "--format", "json", "--rows"]));
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let rows = &report["rows"][0];
    assert_eq!((&rows["claim"], &rows["part"]), (&"mmap.length.zero".into(), &"main".into()));
    assert!(rows["rows"][0][1].as_str().is_some_and(|outcome| outcome.starts_with("EINVAL")), "{rows}");
}

#[rstest]
#[case::no_file(&["--report", "json"], "it must be FORMAT=FILE")]
#[case::empty_file(&["--report", "json="], "it names no file")]
#[case::no_format(&["--report", "xml=x"], "the formats are human, json, ktap, junit")]
#[case::same_file(&["--report", "json=x", "--output", "x"], "two reports cannot both go to x")]
#[case::not_there(&["--report", "json=/nowhere/at/all"], "cannot write /nowhere/at/all: No such file")]
#[case::no_rows(&["--rows"], "--rows is for the JSON report")]
fn a_report_that_cannot_be_made_is_refused_before_the_run(#[case] arguments: &[&str], #[case] expected: &str) {
    let folder = tempfile::tempdir().expect("a directory");
    let ran = ran(program().current_dir(folder.path()).args(["run", "planted.length"]).args(arguments));
    assert_eq!((ran.status, ran.out.as_str(), ran.err.lines().count()), (Some(2), "", 1), "{}", ran.err);
    assert!(ran.err.contains(expected), "{}", ran.err);
}

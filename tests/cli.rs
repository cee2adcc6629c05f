//! The command line: exit statuses, error lines, forms of output.

mod program;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use program::{Ran, of, program, ran};
use rstest::rstest;
use serde_json::Value;

fn run(arguments: &[&str]) -> Ran {
    ran(program().args(arguments))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("output is JSON")
}

#[rstest]
#[case::nothing_failed(&["run", "mmap.length.zero"], 0)]
#[case::without_the_word_run(&["mmap.length.zero", "--cases", "8"], 0)]
#[case::all_skipped(&["planted.skipped"], 0)]
#[case::a_violation(&["run", "planted.length"], 1)]
#[case::a_lost_worker(&["run", "planted.leaves"], 1)]
fn the_exit_status_tells_how_it_went(#[case] arguments: &[&str], #[case] status: i32) {
    let ran = run(arguments);
    assert_eq!(ran.status, Some(status), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("seed "));
    assert!(!ran.out.contains('\x1b'), "no colour where there is no terminal");
}

#[rstest]
#[case::half_a_word(&["run", "mmap.len"], "unknown claim \"mmap.len\"; did you mean mmap.length?")]
#[case::misspelt(&["explain", "mmap.length.zeroo"], "unknown claim \"mmap.length.zeroo\"; did you mean mmap.length.zero?")]
#[case::like_nothing(&["list", "qqq"], "unknown claim \"qqq\"; `mmap-conformance list` names them all")]
#[case::family(&["explain", "mmap.length"], "mmap.length is a family of")]
#[case::no_cases(&["--cases", "0"], "invalid value '0' for '--cases <N>': it must be a whole number, 1 or more")]
#[case::no_number(&["run", "--seed", "x"], "invalid value 'x' for '--seed <S>': it must be a whole number, 0 or more")]
#[case::too_big(&["--jobs", "99999999999999999999"], "invalid value '99999999999999999999' for '--jobs <N>'")]
#[case::no_timeout(&["--timeout", "-1"], "")]
#[case::misspelt_flag(&["run", "--sed", "1"], "unexpected argument '--sed' found; a similar argument exists: '--seed'")]
#[case::no_format(&["--format", "xml"], "invalid value 'xml' for '--format <FORMAT>'; [possible values: human, json, ktap, junit]")]
#[case::no_directory(&["--dir", "/nowhere/at/all"], "cannot work in /nowhere/at/all: No such file or directory")]
#[case::no_output(&["--output", "/nowhere/at/all"], "cannot write /nowhere/at/all: No such file or directory")]
#[case::output_is_a_directory(&["--output", "/"], "cannot write /: Is a directory")]
#[case::no_place_for_snapshots(&["--snapshots", "/dev/null/x"], "cannot write /dev/null/x: Not a directory")]
fn bad_input_gets_one_line(#[case] arguments: &[&str], #[case] expected: &str) {
    let ran = run(arguments);
    assert_eq!(ran.status, Some(2));
    assert_eq!(ran.out, "");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.starts_with("mmap-conformance: ") && ran.err.contains(expected), "{}", ran.err);
}

#[rstest]
fn a_preset_seed_that_is_none_is_bad_input() {
    let ran = ran(program().env("MMAP_CONFORMANCE_SEED", "x").arg("mmap.length.zero"));
    assert_eq!((ran.status, ran.err.lines().count()), (Some(2), 1), "{}", ran.err);
}

#[rstest]
#[case::preset(&[], "seed 11\n")]
#[case::named(&["--seed", "12"], "seed 12\n")]
fn the_seed_is_printed(#[case] arguments: &[&str], #[case] expected: &str) {
    let ran = ran(program().env("MMAP_CONFORMANCE_SEED", "11").arg("mmap.length.zero").args(arguments));
    assert!(ran.out.contains(expected), "{}", ran.out);
}

#[rstest]
fn the_same_seed_gives_the_same_violation() {
    let violation = |arguments: &[&str]| {
        let document = json(&run(arguments).out);
        (document["seed"].clone(), document["claims"][0]["violation"].clone())
    };
    let (seed, first) = violation(&["planted.length", "--format", "json"]);
    let replay = first["replay"].as_str().expect("a command").to_owned() + " --format json";
    let words: Vec<&str> = replay.split(' ').skip(1).collect();
    assert_eq!(violation(&words), (seed, first));
}

#[rstest]
fn a_run_is_told_as_json() {
    let ran = run(&["mmap.length.zero", "--format", "json", "--cases", "16", "--seed", "7"]);
    let document = json(&ran.out);
    assert_eq!(document["schema"], 1);
    assert_eq!((&document["seed"], &document["cases"], &document["result"]), (&7.into(), &16.into(), &"pass".into()));
    let claim = &document["claims"][0];
    assert_eq!((&claim["id"], &claim["result"]), (&"mmap.length.zero".into(), &"pass".into()));
    assert!(claim["cases"].as_u64() >= Some(16));
    assert_eq!(claim["parts"][0]["name"], "main");
    assert!(claim["calls"].as_u64() > Some(16) && claim["seconds"].is_f64() && claim["violation"].is_null());
    assert_eq!(document["totals"]["passed"], 1);
    for name in ["sysname", "release", "version", "machine", "page_size", "filesystem", "uid", "limits", "features"] {
        assert!(!document["profile"][name].is_null(), "{name}");
    }
}

#[rstest]
fn a_violation_is_told_as_json() {
    let claim = json(&run(&["planted.store", "--format", "json"]).out)["claims"][0].clone();
    let violation = &claim["violation"];
    assert_eq!(
        (&claim["result"], &violation["kind"], &violation["input"]),
        (&"fail".into(), &"violation".into(), &"2p".into())
    );
    let departure = violation["departure"].as_u64().expect("an index") as usize;
    let line = violation["steps"][departure]["line"].as_str().expect("a line");
    assert!(line.starts_with("pread(fd1, buf, 2p, 0)"), "{line}");
}

#[rstest]
fn a_skip_is_told_with_reason_and_hint() {
    let claim = json(&run(&["planted.skipped", "--format", "json"]).out)["claims"][0].clone();
    assert_eq!((&claim["result"], &claim["reason"]), (&"skip".into(), &"no DAX in the directory under test".into()));
    assert!(claim["parts"][0]["skipped"][0]["hint"].as_str().is_some_and(|hint| hint.contains("-o dax")));
    assert!(run(&["planted.skipped"]).out.contains("no DAX in the directory under test; to run it: "));
}

#[rstest]
fn the_list_is_complete() {
    let list = json(&run(&["list", "--format", "json"]).out);
    let entries = list.as_array().expect("an array");
    for claim in mmap_conformance::claims::all() {
        let entry = entries.iter().find(|entry| entry["id"] == claim.id).expect("every claim is listed");
        assert!(entry["statement"].is_string() && entry["verdict"].is_string(), "{entry}");
        assert!(entry["documents"][0]["document"].is_string() && entry["documents"][0]["place"].is_string(), "{entry}");
        assert!(entry["basis"][0]["level"].is_string() && entry["basis"][0]["citation"].is_string(), "{entry}");
    }
    let family = run(&["list", "mmap.length"]).out;
    assert!(family.lines().count() >= 1 && family.lines().all(|line| line.starts_with("mmap.length.")));
}

#[rstest]
fn a_claim_is_explained() {
    let out = run(&["explain", "mmap.length.zero"]).out;
    for words in
        ["mmap.length.zero", "holds", "documents", "POSIX: mmap, ERRORS, [EINVAL]", "put to the kernel", "-> EINVAL"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[rstest]
#[case::text(&["errata"], "\nWhat is mmap (what)\n")]
#[case::markdown(&["errata", "--format", "markdown"], "\n## What is mmap (what)\n")]
fn the_documents_are_judged(#[case] arguments: &[&str], #[case] title: &str) {
    let out = run(arguments).out;
    assert!(out.contains(title), "{out}");
    for claim in mmap_conformance::claims::all() {
        let judged = matches!(claim.standing.word(), "qualified" | "refuted");
        assert!(!judged || out.contains(claim.standing.instead().unwrap_or_default()), "{}", claim.id);
    }
}

#[rstest]
fn a_report_goes_where_it_is_sent() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("report");
    let ran = run(&["mmap.length.zero", "--output", file.to_str().expect("text")]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), ""));
    assert!(std::fs::read_to_string(file).expect("a report").contains("passed: 1 claim: 1 passed"));
}

#[rstest]
fn snapshots_that_differ_are_left_for_review() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().to_str().expect("text");
    let (old, foreign) = (folder.path().join("planted.unmapped@old.snap.new"), folder.path().join("other.snap.new"));
    for file in [&old, &foreign] {
        std::fs::write(file, "").expect("a file");
    }
    let ran = run(&["planted.unmapped", "--snapshots", path]);
    assert_eq!(ran.status, Some(1), "nobody has reviewed a planted claim: {}", ran.out);
    assert!(!old.exists() && foreign.exists());
    let left = std::fs::read_to_string(folder.path().join("planted.unmapped.snap.new")).expect("a snapshot");
    assert!(left.starts_with("---\nsource: tests/claims.rs\n---\n"), "{left}");
    assert!(left.contains("load(m1, 3) -> SIGSEGV SEGV_MAPERR at m1"), "{left}");
}

#[rstest]
#[case::full("exec \"$0\" list >/dev/full")]
#[case::full_run("exec \"$0\" mmap.length.zero >/dev/full")]
#[case::closed("exec \"$0\" list >&-")]
fn output_that_takes_nothing_is_an_error(#[case] script: &str) {
    let program = env!("CARGO_BIN_EXE_mmap-conformance");
    let ran = ran(std::process::Command::new("sh").args(["-c", script, program]));
    assert_eq!(ran.status, Some(2));
    assert!(ran.err.starts_with("mmap-conformance: cannot write to standard output: "), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[rstest]
fn a_reader_that_leaves_is_an_error() {
    let mut child =
        program().args(["planted.spins", "--timeout", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the program can be started");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    assert_eq!(child.wait().expect("an end").code(), Some(2));
    assert_eq!(err, "mmap-conformance: cannot write to standard output: Broken pipe (os error 32)\n");
}

#[rstest]
fn an_interrupted_run_reports_what_there_is() {
    let mut child = program()
        .args(["planted.spins"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut head = String::new();
    out.read_line(&mut head).expect("its first line, by which it takes signals");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    let ended = of(child.wait_with_output().expect("an end"));
    assert_eq!(ended.status, Some(2));
    assert!(rest.contains("1 not reached") && rest.contains("interrupted"), "{rest}");
    assert_eq!(ended.err, "mmap-conformance: interrupted before all claims were put to the kernel\n");
}

#[rstest]
fn the_help_names_every_command() {
    let out = run(&["--help"]).out;
    for command in ["run", "sequences", "replay", "compare", "page", "list", "explain", "errata"] {
        assert!(out.contains(&format!("\n  {command} ")), "{command}: {out}");
    }
}

#[rstest]
#[case::processes_are_killed("planted.killed", &["kill(p2, SIGKILL)", "p1: waitpid(p2) -> killed by SIGKILL"])]
#[case::calls_in_a_row("planted.in-a-row", &["p1: write(fd2, \"two\", 3) = 3\n  p1: write(fd2, \"two\", 3) = 3"])]
fn a_recording_is_performed_again(#[case] claim: &str, #[case] lines: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder for recordings");
    let path = folder.path().to_str().expect("a path is text");
    assert_eq!(run(&["run", claim, "--seed", "7", "--save", path]).status, Some(1));
    let file = folder.path().join(format!("{claim}-7-0.json"));
    let file = file.to_str().expect("a path is text");
    let ran = run(&["replay", file]);
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("\n> ") && ran.out.ends_with("the rule is not kept\n"), "{}", ran.out);
    assert!(lines.iter().all(|line| ran.out.contains(line)) && !ran.out.contains("recorded: "), "{}", ran.out);
    // Without what departed from the rule all is as it should be.
    let mut recording = json(&std::fs::read_to_string(file).expect("a recording"));
    let steps = recording["steps"].as_array_mut().expect("a list of steps");
    let departed = steps.iter().rposition(|step| step["expect"]["Bytes"].is_array()).unwrap_or(steps.len() - 1);
    steps[departed]["expect"] = Value::Null;
    std::fs::write(file, recording.to_string()).expect("the folder takes files");
    let ran = run(&["replay", file]);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
}

//! Known deviations: what is listed fails no run, what is listed in vain does, and a list with a mistake is none.

mod program;

use std::path::Path;

use mmap_conformance::report::known::Known;
use program::{Ran, program, ran};
use rstest::rstest;
use serde_json::Value;

/// Runs one claim with this list of known deviations.
fn run(list: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("list.toml"), list).expect("a file");
    ran(program().current_dir(folder.path()).arg("run").args(arguments).args(["--known", "list.toml"]))
}

fn entry(claim: &str, more: &str) -> String {
    format!("[[known]]\nclaim = {claim:?}\nreason = \"for a test\"\n{more}\n")
}

#[rstest]
#[case::as_listed("planted.length", "", 0, "known")]
#[case::in_this_part("planted.length", "part = \"main\"", 0, "known")]
#[case::on_this_machine("planted.length", &format!("when.machine = {:?}", std::env::consts::ARCH), 0, "known")]
#[case::on_these_systems("planted.length", "when.sysname = ['Linux', 'Other']\nwhen.release = '>=3'", 0, "known")]
#[case::on_another_kernel("planted.length", "when.kernel = 'gvisor'", 1, "fail")]
#[case::on_another_release("planted.length", "when.release = '<3'", 1, "fail")]
#[case::on_another_version("planted.length", "when.version = 'of no kernel'", 1, "fail")]
#[case::on_another_file_system("planted.length", "when.filesystem = 'of no kernel'", 1, "fail")]
#[case::a_lost_worker_is_no_violation("planted.leaves", "", 1, "fail")]
#[case::a_lost_worker("planted.leaves", "kind = 'lost'", 0, "known")]
#[case::a_violation_is_no_lost_worker("planted.length", "kind = 'lost'", 1, "fail")]
#[case::stale("mmap.length.zero", "", 1, "stale")]
#[case::stale_elsewhere("mmap.length.zero", "when.kernel = 'gvisor'", 0, "pass")]
#[case::rare("mmap.length.zero", "rare = true", 0, "pass")]
#[case::skipped("planted.skipped", "", 0, "skip")]
fn what_is_listed_is_judged(#[case] claim: &str, #[case] more: &str, #[case] status: i32, #[case] result: &str) {
    let ran = run(&entry(claim, more), &[claim, "--cases", "16", "--seed", "1", "--format", "json"]);
    assert_eq!(ran.status, Some(status), "{}{}", ran.out, ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("a report");
    let told = &report["claims"][0];
    assert_eq!(told["result"], result);
    let listed = matches!(result, "known" | "stale");
    assert_eq!(told["deviations"].as_array().map(Vec::len), Some(usize::from(listed)));
    assert_eq!(told["parts"][0]["result"] == result, result != "stale" || more.contains("part"));
    if listed {
        assert_eq!((&report["totals"][result], &told["reason"]), (&1.into(), &"for a test".into()));
        assert_eq!(told["deviations"][0]["listed"], "list.toml:2");
        assert_eq!(told["violation"].is_null(), result == "stale");
    }
}

#[rstest]
fn what_is_listed_is_told_to_people() {
    let known = run(&entry("planted.length", "link = 'https://example.org/7'"), &["planted.length", "--cases", "16"]);
    for words in [
        "\nknown deviations\n  planted.length: for a test (list.toml:2)\n    https://example.org/7\n",
        "1 known to deviate",
    ] {
        assert!(known.out.contains(words), "{words}: {}", known.out);
    }
    let stale = run(&entry("mmap.length.zero", "part = 'main'"), &["mmap.length.zero", "--cases", "16"]);
    assert!(
        stale.out.contains("\nlisted deviations that have gone\n  mmap.length.zero main: for a test"),
        "{}",
        stale.out
    );
    assert!(stale.out.contains("FAILED: 1 claim: 0 passed, 1 listed as deviating that no longer do"), "{}", stale.out);
}

#[rstest]
#[case::with_its_part("planted.length: main", 0)]
#[case::without("planted.length", 0)]
#[case::another_alone("munmap.releases", 1)]
fn several_claims_may_have_one_reason(#[case] second: &str, #[case] status: i32) {
    let list =
        format!("[[known]]\nclaims = [\"mmap.length.zero\",\n  {second:?}]\nreason = \"for a test\"\nrare = true\n");
    let ran = run(&list, &["planted.length", "--cases", "16", "--format", "json"]);
    assert_eq!(ran.status, Some(status), "{}{}", ran.out, ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("a report");
    let listed = &report["claims"][0]["deviations"][0]["listed"];
    assert_eq!(listed.as_str(), (status == 0).then_some("list.toml:3"));
}

#[rstest]
fn claims_that_are_not_run_are_not_stale() {
    let ran = run(&entry("mmap.length.zero", ""), &["munmap.releases", "--cases", "16"]);
    assert_eq!(ran.status, Some(0), "{}", ran.out);
}

#[rstest]
fn a_snapshot_of_a_known_deviation_is_known() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().to_str().expect("text");
    let list = entry("planted.length", "");
    let ran = run(&list, &["planted.length", "--cases", "16", "--snapshots", path, "--format", "json"]);
    assert_eq!(ran.status, Some(0), "{}", ran.out);
    let report: Value = serde_json::from_str(&ran.out).expect("a report");
    assert_eq!(report["snapshots"][0]["result"], "known");
}

#[rstest]
#[case::no_claim(&entry("mmap.length.none", ""), "list.toml:2: there is no claim \"mmap.length.none\"")]
#[case::nothing_to_deviate(&entry("shared.fastest", ""), "list.toml:2: shared.fastest is put to no kernel")]
#[case::no_part(&entry("planted.length", "part = 'other'"), "list.toml:4: planted.length has no part \"other\", but main")]
#[case::no_part_of_several(
    "[[known]]\nclaims = ['planted.length: other']\nreason = 'x'",
    "list.toml:2: planted.length has no part \"other\", but main"
)]
#[case::nothing_named("[[known]]\nreason = 'x'", "list.toml:2: an entry names one claim")]
#[case::both_forms(&entry("planted.length", "claims = ['mmap.length.zero']"), "list.toml:3: an entry names one claim")]
#[case::unknown_field(&entry("planted.length", "because = ''"), "list.toml:4: unknown field `because`")]
#[case::unknown_fact(&entry("planted.length", "when.weather = 'fine'"), "list.toml:4: unknown field `weather`")]
#[case::no_reason("[[known]]\nclaim = 'planted.length'\n", "list.toml:1: missing field `reason`")]
#[case::empty_reason(
    "[[known]]\nclaim = 'planted.length'\nreason = ' '\n",
    "list.toml:3: a deviation needs its reason"
)]
#[case::no_release(&entry("planted.length", "when.release = '>=6.12, <6.1'"), "list.toml:4: no release is >=6.12, <6.1")]
#[case::no_range(&entry("planted.length", "when.release = '6.1'"), "list.toml:4: \"6.1\" has to begin with >=")]
#[case::no_machine(&entry("planted.length", "when.machine = 'vax'"), "list.toml:4: unknown machine \"vax\"; there are x86_64")]
#[case::no_kernel(&entry("planted.length", "when.kernel = 'minix'"), "list.toml:4: unknown kernel \"minix\"; there are linux")]
#[case::no_page_size(&entry("planted.length", "when.page_size = 5000"), "list.toml:4: no such machine has pages of 5000 bytes")]
#[case::not_on_this_machine(
    &entry("planted.length", "when.machine = 's390x'\nwhen.page_size = 65536"),
    "list.toml:4: no such machine has pages of 65536 bytes"
)]
#[case::no_file_system(&entry("planted.length", "when.filesystem = []"), "an empty name or list matches no system")]
#[case::no_link(&entry("planted.length", "link = 'here'"), "list.toml:4: \"here\" does not begin with https://")]
#[case::no_kind(&entry("planted.length", "kind = 'odd'"), "list.toml:4: unknown variant `odd`")]
#[case::no_toml("[[known]]\nclaim =", "list.toml:2: ")]
fn a_list_with_a_mistake_is_an_error(#[case] list: &str, #[case] expected: &str) {
    let ran = run(list, &["mmap.length.zero"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.starts_with("mmap-conformance: ") && ran.err.contains(expected), "{}", ran.err);
}

#[rstest]
fn a_list_that_is_not_there_is_an_error() {
    let ran = ran(program().args(["run", "mmap.length.zero", "--known", "/nowhere/at/all"]));
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
    assert_eq!(ran.err, "mmap-conformance: cannot read /nowhere/at/all: No such file or directory (os error 2)\n");
}

#[rstest]
fn the_list_of_this_project_has_no_mistake_and_its_head_shows_the_form() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/known.toml");
    Known::default().read(&path).expect("every entry names a claim, and has a condition that can come true");
    let text = std::fs::read_to_string(&path).expect("a file");
    let example: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#     ")).collect();
    must_be_one_entry(&example);
}

#[rstest]
fn the_readme_shows_an_entry_that_can_be_taken() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a file");
    let from_there = text.lines().skip_while(|line| !line.contains("[[known]]"));
    must_be_one_entry(&from_there.take_while(|line| line.starts_with("    ")).collect::<Vec<_>>());
}

fn must_be_one_entry(example: &[&str]) {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("example.toml");
    std::fs::write(&file, example.join("\n")).expect("a file");
    let mut known = Known::default();
    known.read(&file).expect("the example is an entry");
    assert_eq!(known.len(), 1);
}

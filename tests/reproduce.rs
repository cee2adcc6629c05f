//! The C program of a violation: it compiles without a warning, agrees with a right kernel, and shows a wrong one.
//!
//! Sequences are run here with the model right and with one rule planted as wrong; of each the C program is written,
//! compiled and run. A wrong rule of the model and a wrong kernel are the same to the program: they disagree.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mmap_conformance::kernel::{environment, guard};
use mmap_conformance::lab::Lab;
use mmap_conformance::lab::trace::{Step, Stop};
use mmap_conformance::model::Rule;
use mmap_conformance::reproduce::{Heading, c_program};
use mmap_conformance::sequences;

const SEED: u64 = 11;

/// Compiles and runs the program of these calls; its exit status and what it said.
fn compile_and_run(folder: &Path, name: &str, steps: &[Step]) -> (i32, String) {
    let heading = Heading { claim: name.into(), rule: "as the model says".into(), ..Heading::default() };
    let text = c_program(&heading, steps).expect("every call of a sequence has its place in C");
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    std::fs::write(&source, &text).expect("the folder takes files");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = ["-Wall", "-Wextra", "-Werror", "-o"];
    let compiled = Command::new(compiler).args(flags).arg(&program).arg(&source).output().expect("a C compiler");
    assert!(compiled.status.success(), "{name}.c:\n{}\n{text}", String::from_utf8_lossy(&compiled.stderr));
    let run = Command::new(&program).output().expect("the program starts");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    (run.status.code().unwrap_or(-1), format!("{said}\n{text}"))
}

fn main() {
    if Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into())).arg("--version").output().is_err() {
        println!("skipped: no C compiler (to run it: install one, or name it in CC)\n\n0 passed, 0 failed, 1 skipped");
        return;
    }
    environment::quiet_allocator();
    environment::calm_signals();
    let directory = tempfile::tempdir().expect("a directory to work in");
    let folder = tempfile::tempdir().expect("a directory for programs");
    std::env::set_current_dir(directory.path()).expect("the directory is there");
    guard::install().expect("handlers for faults");
    let lab = Lab::new(Duration::from_secs(20), Vec::new());
    let count = std::env::var("REPRODUCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let mut passed = 0;
    for claim in &sequences::claims() {
        for index in 0..count {
            claim.parts[0].draw(claim.id, SEED, index).run(&lab).expect("the model agrees with this kernel");
            let steps = lab.steps();
            lab.end_case();
            let (status, said) = compile_and_run(folder.path(), &format!("right-{index}"), &steps);
            assert_eq!(status, 0, "{} {index}: {said}", claim.id);
            passed += 1;
        }
    }
    for rule in Rule::ALL.iter().step_by((Rule::ALL.len() / count).max(1)) {
        sequences::plant(Some(*rule));
        let claims = sequences::claims();
        let steps = (0..2000).find_map(|index| {
            let claim = &claims[index % claims.len()];
            let verdict = claim.parts[0].draw(claim.id, SEED, index).run(&lab);
            let steps = lab.steps();
            lab.end_case();
            matches!(verdict, Err(Stop::Violation(_))).then_some(steps)
        });
        sequences::plant(None);
        let Some(steps) = steps else { continue };
        let (status, said) = compile_and_run(folder.path(), &format!("wrong-{rule:?}"), &steps);
        assert_eq!(status, 1, "{rule:?}: {said}");
        passed += 1;
    }
    println!("\n{passed} passed, 0 failed");
}

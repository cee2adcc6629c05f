//! The command line: arguments in, exit status out.

use mmap_conformance::claims;
use mmap_conformance::lab::{actor, trace};
use mmap_conformance::run::outcome::Failure;
use mmap_conformance::run::runner::{Runner, Settings};
use mmap_conformance::run::{janitor, worker};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| arguments.get(index).and_then(|word| word.parse().ok()).unwrap_or(-1);
    match arguments.get(1).map(String::as_str) {
        Some("worker") => worker::work(number(2), number(3), number(4)),
        Some("peer") => actor::serve_peers(number(2), number(3)),
        Some("actor") => actor::serve_again(number(2), number(3)),
        Some("janitor") => janitor::mind(number(2), &arguments[3]),
        _ => {}
    }
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let cases = std::env::var("CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(256);
    let settings = Settings { seed, cases, jobs: 2, ..Settings::default() };
    let snapshot = arguments.iter().any(|word| word == "--snapshot");
    let wanted: Vec<&String> = arguments[1..].iter().filter(|word| !word.starts_with('-')).collect();
    let mut list = claims::all();
    list.retain(|claim| wanted.is_empty() || wanted.iter().any(|prefix| claim.id.starts_with(prefix.as_str())));
    let runner = Runner::new(settings).expect("a run");
    if snapshot {
        for claim in &list {
            println!("== {}", claim.id);
            for seen in runner.see(claim).expect("a snapshot") {
                println!("-- {} {:?}", claim.parts[seen.part].name, seen.lacking);
                for (input, outcome) in seen.rows {
                    println!("{input} -> {outcome}");
                }
                println!("{}\n{:?}", seen.trace.join("\n"), seen.facts);
            }
        }
        return;
    }
    let results = runner.run(&list, |result| {
        let parts: Vec<String> = result
            .parts
            .iter()
            .map(|part| format!("{} {:?} {} {:?}", part.name, part.status, part.cases, part.skipped))
            .collect();
        println!("{:?} {} {} ms [{}]", result.status, result.id, result.milliseconds, parts.join("; "));
        for failure in &result.failures {
            match failure {
                Failure::Violation(v) => {
                    println!("  part {} case {}: {} ({} simplifications)", v.part, v.case, v.input, v.simplified);
                    println!("{}", trace::lines(&v.steps, Some(v.departure.step)).join("\n"));
                    println!("  expected {}\n  seen     {}", v.departure.expected, v.departure.seen);
                }
                Failure::Lost { part, case, how, input, steps } => {
                    println!("  part {part} case {case}: {input}: {how}\n{}", trace::lines(steps, None).join("\n"));
                }
                Failure::Harness { why } => println!("  {why}"),
            }
        }
    });
    std::process::exit(i32::from(
        results.iter().any(|result| result.status == mmap_conformance::run::outcome::Status::Fail),
    ));
}

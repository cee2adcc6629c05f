//! What a case costs beside a bare loop of the same system calls: `cargo bench --bench cases`.
//!
//! The suite's side is all of a case as a worker runs it: an input is drawn, the calls are made, kept and judged, the address
//! space is compared after a refusal, and everything is cleaned up.

use std::hint::black_box;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use mmap_conformance::claim::{Claim, claim};
use mmap_conformance::input::{any_prot, any_sharing, any_size, drawn, once};
use mmap_conformance::kernel::call::{At, Call};
use mmap_conformance::kernel::data::Data;
use mmap_conformance::kernel::names::{PRIVATE, READ_WRITE};
use mmap_conformance::kernel::page::{Size, page, pages};
use mmap_conformance::kernel::perform::Performer;
use mmap_conformance::kernel::process::{self, Side};
use mmap_conformance::kernel::{arena, bare, environment, guard};
use mmap_conformance::lab::Lab;
use mmap_conformance::lab::expect::Expect;
use mmap_conformance::lab::trace::Step;
use mmap_conformance::lab::verbs::{Calls, anonymous};
use mmap_conformance::run::replay::replay;
use mmap_conformance::sequences::{self, Extent};
use proptest::strategy::Strategy;

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Subject {
    name: &'static str,
    aim: &'static str,
    claim: fn() -> Claim,
    bare: fn() -> Box<dyn FnMut()>,
}

const SUBJECTS: [Subject; 4] = [
    Subject { name: "refused mmap", aim: "200000 a second", claim: refused, bare: bare_refused },
    Subject { name: "map, store, load, unmap", aim: "", claim: round, bare: bare_round },
    Subject { name: "fault", aim: "200000 a second", claim: fault, bare: bare_fault },
    Subject { name: "child", aim: "1.3 times", claim: child, bare: bare_child },
];

const NAMES: [&str; 4] = [SUBJECTS[0].name, SUBJECTS[1].name, SUBJECTS[2].name, SUBJECTS[3].name];

fn main() {
    environment::quiet_allocator();
    let directory = tempfile::tempdir().expect("a directory");
    std::env::set_current_dir(directory.path()).expect("it is there");
    guard::install().expect("signals can be handled");
    divan::main();
    if !std::env::args().any(|word| word == "--test" || word == "--list") {
        compare();
        compare_sequences();
    }
}

fn refused() -> Claim {
    let requests =
        (any_size(1, 6), any_prot(), any_sharing()).prop_map(|(len, prot, flags)| anonymous(len, prot, flags));
    claim("bench.refused")
        .for_all(drawn("mappings", requests), |lab, args| lab.mmap(args.length(0)).must_fail(libc::EINVAL))
}

fn bare_refused() -> Box<dyn FnMut()> {
    Box::new(|| assert!(bare::refused_mmap()))
}

fn round() -> Claim {
    claim("bench.round").for_all(once(), |lab, ()| {
        let map = lab.map(anonymous(page(), READ_WRITE, PRIVATE))?;
        let data = Data::pattern(1, page());
        lab.store(map.start(), &data).must_succeed()?;
        lab.load(map.start(), page()).must_hold(&data)?;
        lab.unmap(map)
    })
}

fn bare_round() -> Box<dyn FnMut()> {
    let (bytes, mut into) = (vec![1; page()], vec![0; page()]);
    Box::new(move || bare::map_store_load_unmap(&bytes, black_box(&mut into)).expect("there is memory"))
}

fn fault() -> Claim {
    let places = any_size(0, 64).prop_map(Size::get);
    claim("bench.fault")
        .for_all(drawn("places", places), |lab, at| lab.load(At::Arena(at), 1_usize).must_be_forbidden(0))
}

fn bare_fault() -> Box<dyn FnMut()> {
    let start = arena::reserve(0, pages(1).get());
    Box::new(move || assert!(guard::load_u8(start).is_err()))
}

fn child() -> Claim {
    claim("bench.child").for_all(once(), |lab, ()| {
        let child = lab.fork()?;
        child.call(Call::Exit { status: 7 }).must_exit(7)
    })
}

fn bare_child() -> Box<dyn FnMut()> {
    Box::new(|| match process::fork().expect("a process can be made") {
        Side::Child => process::exit(7),
        Side::Parent(pid) => assert!(process::ended(pid, true).is_some()),
    })
}

/// All of a case, over and over.
fn suite(subject: &Subject) -> impl FnMut() {
    const LIMIT: Duration = Duration::from_secs(15);
    let (claim, lab) = ((subject.claim)(), Lab::new(LIMIT, Vec::new()));
    let mut index = 0;
    move || {
        let case = claim.parts[0].draw(claim.id, 7, index);
        assert!(case.run(&lab).is_ok(), "{:?}", lab.steps());
        lab.end_case();
        index += 1;
    }
}

fn named(name: &str) -> &'static Subject {
    SUBJECTS.iter().find(|subject| subject.name == name).expect("it is listed")
}

#[divan::bench(name = "suite", args = NAMES)]
fn of_the_suite(bencher: divan::Bencher<'_, '_>, name: &str) {
    bencher.counter(ItemsCount::new(1_u32)).bench_local(suite(named(name)));
}

#[divan::bench(name = "bare", args = NAMES)]
fn of_a_bare_loop(bencher: divan::Bencher<'_, '_>, name: &str) {
    bencher.counter(ItemsCount::new(1_u32)).bench_local((named(name).bare)());
}

/// Both sides in turns, so that what disturbs one disturbs the other.
fn compare() {
    const ROUNDS: usize = 11;
    println!("\n{:<24} {:>12} {:>12} {:>8}  aim", "", "cases/s", "bare/s", "times");
    for subject in &SUBJECTS {
        let (mut ours, mut bare) = (suite(subject), (subject.bare)());
        let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (rate(&mut ours), rate(&mut bare))).collect();
        let ours = median(rounds.iter().map(|round| round.0));
        let bare = median(rounds.iter().map(|round| round.1));
        let times = median(rounds.iter().map(|(ours, bare)| bare / ours));
        println!("{:<24} {ours:>12.0} {bare:>12.0} {times:>8.2}  {}", subject.name, subject.aim);
    }
}

/// Sequences, with everything that is checked in them, beside the same calls without model and generator.
fn compare_sequences() {
    println!("\n{:<24} {:>12} {:>12} {:>8}  aim", "sequences", "calls/s", "bare/s", "times");
    for (processes, aim) in [(1, "100000 a second"), (2, "10000 a second")] {
        let (ours, recorded) = calls_of_sequences(processes);
        let bare = if processes == 1 { performed(&recorded) } else { performed_by_actors(&recorded) };
        println!("{:<24} {ours:>12.0} {bare:>12.0} {:>8.2}  {aim}", format!("of {processes}"), bare / ours);
    }
}

const SPAN: Duration = Duration::from_secs(2);
/// How many sequences are kept to be performed again.
const KEPT: usize = 200;

/// How many calls a second, of which each is chosen, made and compared with the model; and what the first sequences did.
fn calls_of_sequences(processes: usize) -> (f64, Vec<Vec<Step>>) {
    sequences::set_extent(Extent { processes, ..Extent::default() });
    let (claims, lab) = (sequences::claims(), new_lab());
    let claim = claims.last().expect("there is one for any number of processes");
    let run = |index: usize| {
        assert!(claim.parts[0].draw(claim.id, 7, index).run(&lab).is_ok(), "{:?}", lab.steps());
    };
    let keep = |index: usize| {
        run(index);
        let steps = lab.steps();
        lab.end_case();
        steps
    };
    let recorded = (0..KEPT).map(keep).filter(|steps| !steps.iter().any(is_left_open)).collect();
    lab.take_calls();
    let begun = Instant::now();
    for index in 0.. {
        run(index);
        lab.end_case();
        if begun.elapsed() >= SPAN {
            break;
        }
    }
    (lab.take_calls() as f64 / begun.elapsed().as_secs_f64(), recorded)
}

fn new_lab() -> Lab {
    Lab::new(Duration::from_secs(15), Vec::new())
}

/// Whether what follows a call may find something else the next time: a mapping that could grow in its place.
fn is_left_open(step: &Step) -> bool {
    matches!((&step.call, &step.expect), (Call::Mremap { .. }, Some(Expect::AnyOf(_))))
}

/// The calls and nothing else, in this process.
fn performed(recorded: &[Vec<Step>]) -> f64 {
    let arena = new_lab().arena_address();
    let mut performer = Performer::new(arena);
    again(recorded, |steps| {
        for step in steps {
            black_box(performer.perform(&step.call));
        }
        performer.clean_up();
        for name in std::fs::read_dir(".").expect("a directory") {
            std::fs::remove_file(name.expect("an entry").path()).expect("a file of the sequence");
        }
        arena::reserve(arena, arena::LENGTH);
    })
}

/// The calls of several processes, each told to the one that makes it.
fn performed_by_actors(recorded: &[Vec<Step>]) -> f64 {
    let lab = new_lab();
    again(recorded, |steps| {
        black_box(replay(&lab, steps));
        lab.end_case();
    })
}

/// How many calls a second.
fn again(recorded: &[Vec<Step>], mut perform: impl FnMut(&[Step])) -> f64 {
    let (begun, mut count) = (Instant::now(), 0);
    for steps in recorded.iter().cycle() {
        perform(steps);
        count += steps.len();
        if begun.elapsed() >= SPAN {
            break;
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn rate(action: &mut impl FnMut()) -> f64 {
    const SPAN: Duration = Duration::from_millis(40);
    const BETWEEN_LOOKS: u32 = 8;
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < SPAN {
        (0..BETWEEN_LOOKS).for_each(|_| action());
        count += BETWEEN_LOOKS;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

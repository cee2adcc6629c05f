//! The C program of a violation: it compiles without a warning, agrees with a right kernel, and shows a wrong one.
//!
//! Sequences are run here with the model right and with one rule planted as wrong; of each the C program is written,
//! compiled and run. A wrong rule of the model and a wrong kernel are the same to the program: they disagree. Of every claim
//! one judged step is turned into its opposite, and a relation that held is taken for one that did not.
//!
//! Every part of every claim has to have programs. A plain run compiles those of the first part of each, and where processes
//! do much by themselves; it takes few sequences, and has a part of the programs compiled by musl-gcc too, where it is.
//! `REPRODUCE_CASES=N` takes N sequences, `REPRODUCE_CLAIMS=NAME` the claims with this in their names, and every relation in
//! them; either compiles all by both.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mmap_conformance::claims;
use mmap_conformance::kernel::call::{ActorId, Below, Call, Fd, Path as FilePath};
use mmap_conformance::kernel::data::Data;
use mmap_conformance::kernel::outcome::Outcome;
use mmap_conformance::kernel::{environment, guard, process};
use mmap_conformance::lab::Lab;
use mmap_conformance::lab::expect::Expect;
use mmap_conformance::lab::trace::{Step, Stop};
use mmap_conformance::model::Rule;
use mmap_conformance::reproduce::{Heading, c_program};
use mmap_conformance::sequences;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const SEED: u64 = 11;
/// Of so many programs a plain run has one compiled by further compilers.
const SHARE: usize = 8;

/// Which compilers there are.
fn compilers() -> Vec<String> {
    let wanted = [std::env::var("CC").unwrap_or_else(|_| "cc".into()), "musl-gcc".into()];
    let there =
        |name: &String| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    wanted.into_iter().filter(there).collect()
}

/// A C program, and the status with which it has to exit.
struct Subject {
    source: PathBuf,
    status: i32,
}

impl Subject {
    /// Compiles it, which has to be without a warning.
    fn compile(&self, compiler: &str) -> Result<PathBuf, String> {
        let source = self.source.display();
        let program = self.source.with_extension(compiler.replace('/', "-"));
        let flags = ["-Wall", "-Wextra", "-Werror", "-o"];
        let compiled =
            Command::new(compiler).args(flags).arg(&program).arg(&self.source).output().expect("a C compiler");
        if !compiled.status.success() {
            return Err(format!("{compiler} {source}:\n{}", String::from_utf8_lossy(&compiled.stderr)));
        }
        Ok(program)
    }

    /// Compiles it and runs it, to the end or until it is sent a signal; it has to leave nothing behind.
    fn check(&self, compiler: &str, signal: Option<Signal>) -> Result<(), String> {
        let program = self.compile(compiler)?;
        let room = temporary();
        let mut run = Command::new(&program);
        let mut run = run.env("TMPDIR", room.path()).stdout(Stdio::piped()).spawn().expect("the program starts");
        if let Some(signal) = signal {
            while is_empty(room.path()) {
                std::thread::yield_now();
            }
            let _ = rustix::process::kill_process(Pid::from_child(&run), signal);
        }
        let status = run.wait().expect("the program ends");
        let mut said = String::new();
        let _ = run.stdout.take().map(|mut out| out.read_to_string(&mut said));
        let source = self.source.display();
        if status.code() != Some(self.status) {
            return Err(format!("{compiler} {source}: {status} in the place of {}: {said}", self.status));
        }
        match is_empty(room.path()) {
            true => Ok(()),
            false => Err(format!("{compiler} {source} leaves files behind")),
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").next().is_none()
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a directory to work in")
}

/// `departed`: the words of the relation in the last step, if it is taken for one that did not hold, and where the range for
/// placement began.
fn program_of(name: &str, steps: &[Step], departed: &str, arena: usize) -> Result<String, String> {
    let rule = "as it is told".to_owned();
    let heading = Heading { claim: name.to_owned(), rule, expected: departed.into(), arena, ..Heading::default() };
    c_program(&heading, steps).map_err(|call| format!("{name}: {call} has no place in a program"))
}

fn write_program(source: &Path, steps: &[Step]) -> Result<(), String> {
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::write(source, program_of(&name, steps, "", 0)?).expect("the folder takes files");
    Ok(())
}

/// What a right kernel does not do, where a C program can tell.
fn opposite(step: &Step) -> Option<Expect> {
    const OTHER: u64 = 1_000_003;
    let accesses = matches!(step.call, Call::Load { .. } | Call::Store { .. });
    Some(match step.expect.as_ref()? {
        Expect::Success if accesses => Expect::Fault { signal: libc::SIGSEGV, code: 1, at: 0 },
        Expect::Success => Expect::Refused(libc::EXDEV),
        Expect::Value(_) if accesses => Expect::Fault { signal: libc::SIGSEGV, code: 1, at: 0 },
        Expect::Value(value) => Expect::Value(value ^ OTHER),
        Expect::Number(value) => Expect::Number(value ^ OTHER),
        Expect::Merged { writers, .. } => Expect::Merged { head: Data::pattern(3, 1), writers: writers.clone() },
        Expect::Share { unit, .. } => Expect::Share { of: vec![Data::pattern(3, *unit)], unit: *unit },
        Expect::Refused(_) => Expect::Refused(libc::EXDEV),
        Expect::Bytes(bytes) if !bytes.is_empty() => Expect::Bytes(bytes.iter().map(|byte| !byte).collect()),
        Expect::Fault { signal, code, at } => Expect::Fault { signal: *signal, code: code + 1, at: *at },
        Expect::Exited(status) => Expect::Exited(status ^ 1),
        _ => return None,
    })
}

/// Whether more than a plain run takes is asked for.
fn is_whole() -> bool {
    ["REPRODUCE_CLAIMS", "REPRODUCE_CASES"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The programs of a part of a claim.
struct Written<'f> {
    folder: &'f Path,
    part: String,
    arena: usize,
    /// Whether they are kept, to be compiled.
    kept: bool,
    /// How many of them have to fail.
    wrong: usize,
}

impl Written<'_> {
    fn write(&mut self, name: &str, steps: &[Step], departed: &str) -> Result<(), String> {
        let name = format!("{name}-{}", self.part);
        let text = program_of(&name, steps, departed, self.arena)?;
        if self.kept {
            std::fs::write(self.folder.join(&name).with_extension("c"), text).expect("the folder takes files");
        }
        self.wrong += usize::from(name.starts_with("wrong"));
        Ok(())
    }

    /// The program of a relation that did not hold sees all as it was; with anything otherwise the relation may have held.
    fn write_relation(&mut self, steps: &[Step]) -> Result<(), String> {
        let Some(Expect::Relation(words)) = steps.last().and_then(|step| step.expect.as_ref()) else { return Ok(()) };
        // What several do at the same time comes out otherwise the next time.
        if steps.iter().any(|step| step.begun.is_some()) {
            return program_of(&self.part, steps, words, self.arena).map(drop);
        }
        self.write(&format!("wrong-relation-{}", steps.len()), steps, words)?;
        let mut steps = steps.to_vec();
        let open = |step: &&mut Step| !matches!(step.expect, Some(Expect::Refused(_) | Expect::AnyOf(_)));
        let refused = |step: &&mut Step| matches!(step.outcome, Outcome::Refused(_));
        match steps.iter_mut().filter(open).find(refused) {
            Some(step) => step.outcome = Outcome::Refused(libc::EXDEV),
            None => return Ok(()),
        }
        self.write(&format!("right-relation-{}", steps.len()), &steps, words)
    }

    /// The program of a case as it is, and with its last step that can be denied denied.
    fn write_all(&mut self, mut steps: Vec<Step>) -> Result<(), String> {
        self.write("right", &steps, "")?;
        let from = if is_whole() { 1 } else { steps.len() };
        (from..=steps.len()).try_for_each(|len| self.write_relation(&steps[..len]))?;
        let denied = (0..steps.len()).rev().find_map(|index| Some((index, opposite(&steps[index])?)));
        if let Some((index, expect)) = denied {
            steps[index].expect = Some(expect);
            self.write("wrong", &steps, "")?;
        }
        if self.wrong == 0 { Err(format!("{}: no program of it can fail", self.part)) } else { Ok(()) }
    }
}

/// Whether a plain run compiles the programs of a part: of the first, and of those in which processes do much by themselves.
fn is_kept(number: usize, steps: &[Step]) -> bool {
    let alone = |call: &Call| matches!(call, Call::ReadAll { .. } | Call::ExecSelf | Call::LockedAdd { .. });
    number == 0 || is_whole() || steps.iter().any(|step| alone(&step.call))
}

/// Runs the first case of every part of a claim, and writes their programs.
fn trace(id: &str, folder: &Path) -> Result<(), String> {
    process::own_group();
    process::adopt_orphans();
    environment::no_core_files();
    environment::usual_umask();
    let lab = prepared_lab();
    let claim = claims::find(id).expect("it is listed");
    if claim.parts.is_empty() {
        println!("no program: {id}: nothing of it can be observed");
    }
    for (number, part) in claim.parts.iter().enumerate() {
        let verdict = part.draw(claim.id, SEED, 0).run(&lab);
        let steps = lab.steps();
        lab.end_case();
        match verdict {
            Ok(()) => {
                let name = part.name.replace(|c: char| !c.is_alphanumeric(), "-");
                let kept = is_kept(number, &steps);
                let mut written = Written { folder, part: name, arena: lab.arena_address(), kept, wrong: 0 };
                written.write_all(steps)?;
            }
            Err(Stop::Lacking(lack)) => println!("no program: {id}, {}: {lack}", part.name),
            Err(Stop::Violation(departure)) => return Err(format!("{}: {departure:?}", part.name)),
        }
    }
    Ok(())
}

fn prepared_lab() -> Lab {
    environment::set_program(env!("CARGO_BIN_EXE_mmap-conformance").into());
    environment::quiet_allocator();
    environment::calm_signals();
    guard::install().expect("handlers for faults");
    Lab::new(Duration::from_secs(20), Vec::new())
}

/// The claims that are asked for.
fn wanted_claims() -> Vec<&'static str> {
    let ids = claims::all().into_iter().map(|claim| claim.id);
    let name = std::env::var("REPRODUCE_CLAIMS").unwrap_or_default();
    ids.filter(|id| id.contains(&name)).collect()
}

/// The programs that this test writes when it is started with these words, in a process of its own: some claims do to
/// theirs what no test survives, and labs are for programs of one thread.
fn written_by(words: &[&str], folder: &Path) -> Result<Vec<Subject>, String> {
    let directory = temporary();
    let program = std::env::current_exe().expect("the test is a file");
    let output =
        Command::new(program).args(words).arg(folder).current_dir(directory.path()).output().expect("the test starts");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    if !output.status.success() {
        return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let entries = std::fs::read_dir(folder).expect("a folder of programs");
    let sources = entries.map(|entry| entry.expect("a file of it").path());
    let status =
        |source: &Path| i32::from(source.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wrong")));
    Ok(sources.map(|source| Subject { status: status(&source), source }).collect())
}

/// Does something with each of a list, on two threads at a time: what failed.
fn each<T: Sync>(list: &[T], action: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = action(one) {
                        failed.lock().expect("no thread panics with it").push(why);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("all threads have ended")
}

fn write_sequences(folder: &Path) {
    process::adopt_orphans();
    let lab = prepared_lab();
    let count = std::env::var("REPRODUCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let write = |name: String, steps: &[Step]| {
        write_program(&folder.join(name), steps).expect("every call of a sequence has its place in C");
    };
    for claim in &sequences::claims() {
        for index in 0..count {
            claim.parts[0].draw(claim.id, SEED, index).run(&lab).expect("the model agrees with this kernel");
            write(format!("right-{}-{index}.c", claim.id), &lab.steps());
            lab.end_case();
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
        if let Some(steps) = steps {
            write(format!("wrong-{rule:?}.c"), &steps);
        }
    }
}

/// A program in a call that does not come back ends by itself, and when it is told to: it cleans up either way.
fn check_ends(compiler: &str, folder: &Path) -> Result<(), String> {
    let source = folder.join("waits.c");
    let step = |call: Call| Step {
        actor: ActorId(0),
        call,
        outcome: Outcome::DONE,
        expect: Some(Expect::Success),
        aside: false,
        begun: None,
    };
    let (read, write) = (Fd::Named(1), Fd::Named(2));
    let path = FilePath(1);
    let made = step(Call::Mkfifo { path, mode: 0o600, below: Below::Nothing });
    let pipe = step(Call::Pipe { read, write, flags: 0 });
    write_program(&source, &[made, pipe, step(Call::Read { fd: read, len: 1 })])?;
    Subject { source: source.clone(), status: 2 }.check(compiler, Some(Signal::TERM))?;
    Subject { source, status: 1 }.check(compiler, None)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["claim", id, folder] => {
            if let Err(why) = trace(id, Path::new(folder)) {
                eprintln!("{why}");
                std::process::exit(1);
            }
            return;
        }
        ["sequences", folder] => return write_sequences(Path::new(folder)),
        _ => {}
    }
    let compilers = compilers();
    let Some((native, further)) = compilers.split_first() else {
        println!("skipped: no C compiler (to run it: install one, or name it in CC)\n\n0 passed, 0 failed, 1 skipped");
        return;
    };
    if further.is_empty() {
        println!("skipped: the programs by musl-gcc (to run it: install musl-tools)");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for programs");
    let sources: Vec<Vec<&str>> =
        wanted_claims().into_iter().map(|id| vec!["claim", id]).chain([vec!["sequences"]]).collect();
    let subjects = Mutex::new(Vec::new());
    let mut failed = each(&sources, |words| {
        let folder = folder.path().join(words.last().expect("it has a word"));
        std::fs::create_dir(&folder).expect("a folder takes folders");
        let written = written_by(words, &folder)?;
        subjects.lock().expect("no thread panics with it").extend(written);
        Ok(())
    });
    let subjects = subjects.into_inner().expect("all threads have ended");
    let numbered: Vec<(usize, &Subject)> = subjects.iter().enumerate().collect();
    let whole = is_whole();
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| check_ends(native, folder.path()));
        failed.extend(each(&numbered, |(number, subject)| {
            subject.check(native, None)?;
            match whole || number % SHARE == 0 {
                true => further.iter().try_for_each(|compiler| subject.check(compiler, None)),
                false => Ok(()),
            }
        }));
        failed.extend(ends.join().expect("it does not panic").err());
    });
    if !failed.is_empty() {
        let kept = folder.keep();
        panic!("{} failed, and are left in {}:\n{}", failed.len(), kept.display(), failed.join("\n"));
    }
    println!("\n{} passed, 0 failed", subjects.len() + 2);
}

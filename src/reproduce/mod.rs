//! A violation as a C program that needs nothing of this suite: exit status 0 if the kernel is right, 1 if not.

mod checks;
mod expressions;
mod order;
pub mod saved;
mod statements;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::kernel::call::{ActorId, Call};
use crate::kernel::data::Data;
use crate::kernel::names;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

const PRELUDE: &str = include_str!("c/prelude.c");
/// What a program has beside the prelude if it calls one of these.
const FURTHER: [(&[&str], &str); 5] = [
    (&["entries(", "line_of(", "page_faults(", "touch(", "unwritten("], include_str!("c/looks.c")),
    (&["await(", "locked_add("], include_str!("c/locks.c")),
    (&["confine(", "confine_to_turns(", "reply("], include_str!("c/confine.c")),
    (&["drop_privileges(", "own_tmpfs("], include_str!("c/powers.c")),
    (&[TOOL], include_str!("c/tools.c")),
];
/// In the call by which a program executes itself as one of its tools.
const TOOL: &str = "\"tool\"";
/// How many processes a program has at most: the prelude's PROCESSES.
const PROCESSES: usize = 64;

/// What stands at the head of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Heading {
    /// The claim's id.
    pub claim: String,
    /// The rule: the claim's statement.
    pub rule: String,
    /// By what authority.
    pub basis: Vec<String>,
    /// What the rule allows at the step that departed.
    pub expected: String,
    /// What the kernel did there.
    pub seen: String,
}

/// The program; `Err` names the call that has no place in one.
///
/// # Errors
/// A call that rests on more of the suite than a short program can carry, such as a seccomp filter.
pub fn c_program(heading: &Heading, steps: &[Step]) -> Result<String, String> {
    let departed = steps.last().and_then(|step| step.expect.as_ref()).and_then(|expect| match expect {
        Expect::Relation(words) if !words.is_empty() && heading.expected.starts_with(words) => Some(words.as_str()),
        _ => None,
    });
    let steps = order::unfolded(steps)?;
    let program = Program::of(&steps, departed)?;
    let mut bodies = String::new();
    for actor in program.actors.iter().rev() {
        bodies.push_str(&program.body(*actor)?);
    }
    let mut text = String::from("/*\n");
    let _ = writeln!(text, " * {}: {}", heading.claim, plain(&heading.rule));
    for source in &heading.basis {
        let _ = writeln!(text, " *   {}", plain(source));
    }
    let _ = writeln!(text, " *\n * Expected: {}\n * Seen:     {}", plain(&heading.expected), plain(&heading.seen));
    text.push_str(" *\n * cc -Wall -Wextra -Werror -o reproduce reproduce.c && ./reproduce\n");
    text.push_str(" * Exit status 0: the kernel is right; 1: it is not, and what it did is printed.\n */\n");
    text.push_str(PRELUDE);
    let calls = |word: &&str| bodies.contains(&format!("({word}")) || bodies.contains(&format!(" {word}"));
    for (_, functions) in FURTHER.iter().filter(|(names, _)| names.iter().any(calls)) {
        text.push_str(functions);
    }
    text.push_str(&program.variables());
    text.push_str(&bodies);
    if calls(&TOOL) {
        text.push_str("\nint main(int count, char **words)\n{\n\tif (count > 2 && !strcmp(words[1], \"tool\"))\n\t\treturn tool(words + 2);\n");
    } else {
        text.push_str("\nint main(void)\n{\n");
    }
    let _ = writeln!(text, "\tprepare({});", program.actors.len());
    if calls(&HAND) {
        text.push_str("\tif (socketpair(AF_UNIX, SOCK_STREAM, 0, hand))\n\t\treturn 2;\n");
    }
    if program.uses_arena() {
        text.push_str("\tarena = sys_mmap(0, 64 << 20, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);\n");
    }
    for peer in &program.peers {
        let _ = write!(text, "\tif ((pid[{0}] = fork()) == 0)\n\t\tprocess_{0}();\n", peer.0);
    }
    text.push_str("\tprocess_0();\n");
    for actor in program.actors.iter().filter(|actor| program.is_there_at_the_end(**actor)) {
        let _ = writeln!(text, "\tkill(pid[{}], SIGKILL);", actor.0);
    }
    text.push_str("\twhile (wait(NULL) > 0 || errno == EINTR)\n\t\t;\n\tputs(\"as it should be\");\n\treturn 0;\n}\n");
    Ok(text)
}

const HAND: &str = "hand[";

/// The statements of a step; `None` for a call that has no place in a short C program.
fn statement(step: &Step) -> Option<String> {
    match &step.call {
        Call::Adopt { of, .. } if step.actor == ActorId(0) => Some(format!("DO(send_fd(hand[0], {of:?}));")),
        Call::Adopt { fd, .. } => Some(format!("DO(receive_fd(hand[1])); {fd:?} = got;")),
        call => statements::of(call),
    }
}

/// Text that cannot end a comment.
fn plain(text: &str) -> String {
    text.replace("*/", "* /").replace('\n', " ")
}

struct Program<'s> {
    steps: &'s [Step],
    /// The words of the relation between outcomes that did not hold, if it is one.
    departed: Option<&'s str>,
    actors: BTreeSet<ActorId>,
    peers: Vec<ActorId>,
    sources: Vec<Data>,
}

impl<'s> Program<'s> {
    fn of(steps: &'s [Step], departed: Option<&'s str>) -> Result<Program<'s>, String> {
        let mut actors: BTreeSet<ActorId> = steps.iter().map(|step| step.actor).collect();
        actors.insert(ActorId(0));
        let mut peers = Vec::new();
        let mut sources = Vec::new();
        for step in steps {
            match &step.call {
                Call::Fork { actor, .. } => drop(actors.insert(*actor)),
                Call::Peer { actor } => {
                    actors.insert(*actor);
                    peers.push(*actor);
                }
                Call::Write { data, .. } | Call::Pwrite { data, .. } | Call::Store { data, .. } => {
                    sources.push(data.clone())
                }
                _ => {}
            }
        }
        if actors.last().is_some_and(|last| usize::from(last.0) >= PROCESSES) {
            return Err(format!("{} processes", actors.len()));
        }
        Ok(Program { steps, departed, actors, peers, sources })
    }

    /// Every name of a mapping and of a descriptor is a variable, which forked children inherit with its value.
    fn variables(&self) -> String {
        let lines: String = self.steps.iter().filter_map(statement).collect();
        let names = |prefix: char, letters: &str| -> BTreeSet<String> {
            lines
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| {
                    word.strip_prefix(letters)
                        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
                        && word.starts_with(prefix)
                })
                .map(str::to_owned)
                .collect()
        };
        let mut text = String::new();
        for name in names('m', "m") {
            let _ = writeln!(text, "static uintptr_t {name};");
        }
        for name in names('f', "fd") {
            let _ = writeln!(text, "static int {name} = -1;");
        }
        if self.uses_arena() {
            text.push_str("static uintptr_t arena;\n");
        }
        if lines.contains("(uintptr_t)data") {
            text.push_str("static char data[1 << 17] = { 1 };\n");
        }
        if lines.contains(HAND) {
            text.push_str("/* To hand descriptors over to a process that was not there when they were made. */\nstatic int hand[2];\n");
        }
        if lines.contains("(uintptr_t)bss") {
            text.push_str("static char bss[20 << 16];\n");
        }
        text
    }

    fn uses_arena(&self) -> bool {
        self.steps.iter().filter_map(statement).any(|text| text.contains("arena"))
    }

    /// What one process does: its steps, and between them the turns of the others.
    fn body(&self, actor: ActorId) -> Result<String, String> {
        let number = actor.0;
        let mut text = format!("\nstatic void process_{number}(void)\n{{\n");
        if number != 0 {
            let _ = writeln!(text, "\tpid[{number}] = getpid();\n\talarm(10);");
            if self.parent(actor) == ActorId(0) {
                text.push_str("\tsignal(SIGPIPE, SIG_DFL);\n");
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let before = index.checked_sub(1).map_or(ActorId(0), |index| self.turn_after(index));
            let takes = self.turn_of(index) == actor;
            if takes && before != actor {
                let _ = writeln!(text, "\twait_turn({number});");
            }
            if self.is_second_look(index) || self.ends_inside(index) {
                if takes {
                    let _ = writeln!(text, "\n\t/* {} */", plain(&step.line()));
                    self.write_end(&mut text, index, step);
                }
            } else if step.actor == actor {
                self.write_step(&mut text, index, step)?;
            }
            if step.actor != actor && self.waiter(index) == Some(actor) {
                let _ = writeln!(text, "\twait_turn({number});");
                self.write_end(&mut text, index, step);
            }
            // The first process has the last turn: it sees to those that still wait.
            let next = if index + 1 < self.steps.len() { self.turn_of(index + 1) } else { ActorId(0) };
            if self.turn_after(index) == actor && next != actor {
                let _ = writeln!(text, "\tpass_to({});", next.0);
            }
        }
        if number == 0 && self.steps.len().checked_sub(1).is_some_and(|last| self.turn_after(last) != actor) {
            text.push_str("\twait_turn(0);\n");
        }
        if number != 0 {
            let _ = writeln!(text, "\tstay({number});");
        }
        text.push_str("}\n");
        Ok(text)
    }

    /// Whose turn a step is.
    fn turn_of(&self, index: usize) -> ActorId {
        let step = &self.steps[index];
        // A process that still waits in its call, or has ended in it, cannot take a turn: another one looks at it.
        if self.is_second_look(index) {
            index.checked_sub(1).map_or(ActorId(0), |index| self.turn_after(index))
        } else if self.ends_inside(index) {
            order::reaper(self.steps, index)
        } else {
            step.actor
        }
    }

    /// Who goes on after a step: not a process that has ended in it, or that waits in it.
    fn turn_after(&self, index: usize) -> ActorId {
        match self.waiter(index) {
            Some(waiter) => waiter,
            None => self.turn_of(index),
        }
    }

    /// Who sees to it that a process has ended, or sleeps, in this step.
    fn waiter(&self, index: usize) -> Option<ActorId> {
        let step = &self.steps[index];
        if step.actor == ActorId(0) || self.is_second_look(index) || self.ends_inside(index) {
            return None;
        }
        match step.expect {
            Some(Expect::Blocked) => Some(ActorId(0)),
            Some(Expect::Died(_) | Expect::Exited(_)) => Some(order::reaper(self.steps, index)),
            _ => None,
        }
    }

    fn parent(&self, child: ActorId) -> ActorId {
        let forked = self.steps.iter().find(|step| matches!(step.call, Call::Fork { actor, .. } if actor == child));
        forked.map_or(ActorId(0), |step| step.actor)
    }

    /// Whether a process has not ended in one of the steps.
    fn is_there_at_the_end(&self, actor: ActorId) -> bool {
        let ends = |step: &Step| {
            let ended = match step.call {
                Call::Wait { actor } => actor,
                _ => step.actor,
            };
            ended == actor && matches!(step.expect, Some(Expect::Died(_) | Expect::Exited(_)))
        };
        actor != ActorId(0) && !self.steps.iter().any(ends)
    }

    fn is_blocked(&self, index: usize) -> bool {
        self.steps[index].expect == Some(Expect::Blocked)
    }

    /// The latest step before, of the same process and call, in which it began to wait.
    fn begun_before(&self, index: usize) -> Option<usize> {
        let step = &self.steps[index];
        let before = self.steps[..index].iter().rposition(|other| other.actor == step.actor)?;
        (self.is_blocked(before) && self.steps[before].call == step.call).then_some(before)
    }

    fn is_second_look(&self, index: usize) -> bool {
        self.is_blocked(index) && self.begun_before(index).is_some()
    }

    /// Whether a process ends in a call that it began in an earlier step.
    fn ends_inside(&self, index: usize) -> bool {
        let ends = matches!(self.steps[index].expect, Some(Expect::Died(_) | Expect::Exited(_)));
        ends && self.begun_before(index).is_some()
    }

    fn write_step(&self, text: &mut String, index: usize, step: &Step) -> Result<(), String> {
        let begins = order::is_beginning(step);
        let line = if begins { format!("{:?}: {} begins", step.actor, step.call) } else { step.line() };
        let _ = writeln!(text, "\n\t/* {} */", plain(&line));
        match &step.call {
            Call::Peer { .. } => return Ok(()),
            Call::Fork { actor, .. } => {
                let _ = write!(text, "\tif ((pid[{0}] = fork()) == 0)\n\t\tprocess_{0}();\n", actor.0);
                let _ = writeln!(
                    text,
                    "\tgot = pid[{0}], err = got < 0 ? errno : 0;\n\tmust({index}, got > 0, \"a child\");",
                    actor.0
                );
                return Ok(());
            }
            Call::Wait { .. } => {
                self.write_end(text, index, step);
                return Ok(());
            }
            _ => {}
        }
        // What may not come back hands the turn on before it begins.
        let waits = step.expect == Some(Expect::Blocked);
        if waits {
            let _ = writeln!(text, "\tinside[{}] = 1;", step.actor.0);
        }
        if let Some(waiter) = self.waiter(index) {
            let _ = writeln!(text, "\tpass_to({});", waiter.0);
        }
        if let Call::Exit { status } = step.call {
            let _ = writeln!(text, "\t_exit({status});");
            return Ok(());
        }
        if self.begun_before(index).is_none() {
            let statement = statement(step).ok_or_else(|| step.call.to_string())?;
            if checks::changes_nothing(step) {
                let _ = writeln!(
                    text,
                    "\t{{\n\t\tlong before = pages_in_use();\n\t\t{statement}\n\
                     \t\tmust({index}, !err || pages_in_use() == before, \"as many pages of address space as before\");\n\t}}"
                );
            } else {
                let _ = writeln!(text, "\t{statement}");
            }
        }
        match &step.expect {
            Some(Expect::Died(_)) => {
                let _ = writeln!(text, "\tfail({index}, \"death\");");
            }
            Some(Expect::Blocked) => {
                let _ = writeln!(text, "\tinside[{}] = 0;", step.actor.0);
            }
            _ => checks::write(text, index, step, &self.sources),
        }
        self.write_relation(text, index, step)
    }

    /// Where a relation has not held: whether all that it rests on is as it was.
    fn write_relation(&self, text: &mut String, index: usize, step: &Step) -> Result<(), String> {
        if self.departed.is_some()
            && let Some(condition) = checks::as_seen(step, index + 1 == self.steps.len())?
        {
            let _ = writeln!(text, "\tas_seen({condition});");
        }
        self.write_departure(text, index);
        Ok(())
    }

    fn write_departure(&self, text: &mut String, index: usize) {
        if let Some(words) = self.departed.filter(|_| index + 1 == self.steps.len()) {
            let _ = writeln!(text, "\tmust({index}, *others > 0, \"{}\");", checks::plain(words));
        }
    }

    fn write_end(&self, text: &mut String, index: usize, step: &Step) {
        let process = match step.call {
            Call::Wait { actor } => actor.0,
            _ => step.actor.0,
        };
        let line = match step.expect {
            Some(Expect::Died(signal)) => format!("must_end({index}, {process}, 1, {});", names::signal(signal)),
            Some(Expect::Exited(status)) => format!("must_end({index}, {process}, 0, {status});"),
            _ if order::is_beginning(step) => return,
            _ => format!("must_sleep({index}, {process});"),
        };
        let _ = writeln!(text, "\t{line}");
        self.write_departure(text, index);
    }
}

//! A violation as a C program that needs nothing of this suite: exit status 0 if the kernel is right, 1 if not.

mod body;
mod checks;
mod expressions;
mod order;
pub mod saved;
mod seen;
mod statements;
mod turns;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::kernel::call::{ActorId, Call};
use crate::kernel::data::Data;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

const PRELUDE: &str = include_str!("c/prelude.c");
/// What a program has beside the prelude if it calls one of these.
const FURTHER: [(&[&str], &str); 7] = [
    (&["read_all(", "marked(", "must_be_merged(", "take_pieces("], include_str!("c/streams.c")),
    (&[AGAIN], include_str!("c/again.c")),
    (&["entries(", "line_of(", "page_faults(", "touch(", "unwritten("], include_str!("c/looks.c")),
    (&["await(", "locked_add("], include_str!("c/locks.c")),
    (&["confine(", "confine_to_turns(", "reply("], include_str!("c/confine.c")),
    (&["drop_privileges(", "own_tmpfs("], include_str!("c/powers.c")),
    (&[TOOL], include_str!("c/tools.c")),
];
/// In the call by which a program executes itself as one of its tools.
const TOOL: &str = "\"tool\"";
/// In the call by which a process goes on as the same program, executed anew.
const AGAIN: &str = "execute_again(";
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
    /// Where the range for placement began, to which addresses in the trace compare; 0 if that is not known.
    #[serde(default)]
    pub arena: usize,
}

/// The program; `Err` names the call that has no place in one.
///
/// # Errors
/// A call that rests on more of the suite than a short program can carry, such as a seccomp filter.
pub fn c_program(heading: &Heading, steps: &[Step]) -> Result<String, String> {
    let last = steps.iter().rfind(|step| !step.is_untold());
    let departed = last.and_then(|step| step.expect.as_ref()).and_then(|expect| match expect {
        Expect::Relation(words) if !words.is_empty() && heading.expected.starts_with(words) => Some(words.as_str()),
        _ => None,
    });
    let steps = order::unfolded(steps)?;
    let program = Program::of(&steps, departed, heading.arena)?;
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
    for (_, functions) in FURTHER.iter().filter(|(names, _)| names.iter().any(|name| has_word(&bodies, name))) {
        text.push_str(functions);
    }
    text.push_str(&program.variables());
    if has_word(&bodies, seen::INODES) {
        let _ = writeln!(text, "static ino_t {}{}];", seen::INODES, steps.len());
    }
    text.push_str(&bodies);
    program.write_main(&mut text, &bodies);
    Ok(text)
}

const HAND: &str = "hand[";

/// Whether the text has a word that begins like this.
fn has_word(text: &str, word: &str) -> bool {
    let continues = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(continues))
}

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
    /// Where the range for placement began when the outcomes were seen.
    arena: usize,
    actors: BTreeSet<ActorId>,
    peers: Vec<ActorId>,
    sources: Vec<Data>,
}

impl<'s> Program<'s> {
    fn of(steps: &'s [Step], departed: Option<&'s str>, arena: usize) -> Result<Program<'s>, String> {
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
        // Who had what differs from run to run: it is counted, and not compared with what was seen.
        let counted = steps.iter().any(|step| matches!(step.expect, Some(Expect::Share { .. })));
        let departed = departed.filter(|_| !counted);
        Ok(Program { steps, departed, arena, actors, peers, sources })
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

    /// The function in which the first process begins, and the others too where they execute the program anew.
    fn write_main(&self, text: &mut String, bodies: &str) {
        let again: Vec<_> =
            self.steps.iter().enumerate().filter(|(_, step)| matches!(step.call, Call::ExecSelf)).collect();
        let tool = has_word(bodies, TOOL);
        let words = if tool || !again.is_empty() { "int count, char **words" } else { "void" };
        let _ = write!(text, "\nint main({words})\n{{\n");
        if tool {
            text.push_str("\tif (count > 2 && !strcmp(words[1], \"tool\"))\n\t\treturn tool(words + 2);\n");
        }
        if !again.is_empty() {
            text.push_str("\tint after = count > 3 && !strcmp(words[1], \"again\") ? again(words + 2) : -1;\n");
        }
        for (index, step) in again {
            let _ = writeln!(text, "\tif (after == {index})\n\t\tprocess_{}_after_{index}();", step.actor.0);
        }
        if has_word(bodies, AGAIN) {
            text.push_str("\tshare();\n");
        }
        let _ = writeln!(text, "\tprepare({});", self.actors.len());
        if has_word(bodies, HAND) {
            text.push_str("\tif (socketpair(AF_UNIX, SOCK_STREAM, 0, hand))\n\t\treturn 2;\n");
        }
        if has_word(bodies, "take_pieces(") {
            text.push_str("\thad = mmap(NULL, 1 << 20, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0);\n");
        }
        if self.uses_arena() {
            text.push_str(
                "\tarena = sys_mmap(0, 64 << 20, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);\n",
            );
        }
        for peer in &self.peers {
            let _ = write!(text, "\tif ((pid[{0}] = fork()) == 0)\n\t\tprocess_{0}();\n", peer.0);
        }
        text.push_str("\tprocess_0();\n");
        for actor in self.actors.iter().filter(|actor| self.is_there_at_the_end(**actor)) {
            let _ = writeln!(text, "\tkill(pid[{}], SIGKILL);", actor.0);
        }
        text.push_str(
            "\twhile (wait(NULL) > 0 || errno == EINTR)\n\t\t;\n\tputs(\"as it should be\");\n\treturn 0;\n}\n",
        );
    }

    /// What several processes had pieces of, and the length of one, in bytes.
    fn shared(&self) -> Option<(usize, usize)> {
        self.steps.iter().find_map(|step| match &step.expect {
            Some(Expect::Share { of, unit }) => Some((of.iter().map(Data::len).sum(), *unit)),
            _ => None,
        })
    }
}

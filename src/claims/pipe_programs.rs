//! The documents' programs about pipes, as the separate processes that they are.

use proptest::prelude::*;

use super::streams::require;
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Gen, drawn};
use crate::kernel::call::{Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::tool;
use crate::lab::Lab;
use crate::lab::actor::{Actor, Begun};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![pipe_message(), shell_pipeline(), pipeline_output_after_end()]
}

const STDIN: Fd = Fd::Number(libc::STDIN_FILENO);
const STDOUT: Fd = Fd::Number(libc::STDOUT_FILENO);

fn pipe_message() -> Claim {
    claim("program.pipe-message")
        .states("The parent's read waits for the child, which writes 123456789 later, once or again and again.")
        .documents([IPC.at("pipe example 1"), IPC.at("pipe example 2")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            posix("fork, DESCRIPTION, file descriptors"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .part("once", messages(), |lab, messages| parent_waits_for_child(lab, &messages, true))
        .one_in(8)
        .part("again and again", messages(), |lab, messages| parent_waits_for_child(lab, &messages, false))
        .one_in(8)
}

fn shell_pipeline() -> Claim {
    claim("program.shell-pipeline")
        .states(
            "A pipeline such as ls | wc -l is two processes joined by a pipe; standard output is moved onto the write \
             end with dup2 before exec.",
        )
        .documents([IPC.at("pipe, overview"), IPC.at("case")])
        .holds()
        .basis([posix("dup2, DESCRIPTION"), posix("exec, DESCRIPTION, file descriptors"), linux("dup(2), dup2()")])
        .part("two programs", line_counts(), |lab, lines| counted_by(lab, lines, 0, 0))
        .one_in(32)
        .part("four programs", line_counts(), |lab, lines| counted_by(lab, lines, 2, 0))
        .one_in(32)
        .part("close-on-exec", line_counts(), |lab, lines| counted_by(lab, lines, 0, libc::O_CLOEXEC))
        .one_in(32)
        .part("wrong descriptor", line_counts(), stdin_replaced_instead)
        .one_in(32)
}

fn pipeline_output_after_end() -> Claim {
    claim("program.pipeline-output-after-end")
        .states("What the child prints reaches the parent when the child has ended.")
        .documents([IPC.at("case, comment")])
        .refuted(
            "It can be read as soon as it has been written; what comes with the child's end (or its last close) is the \
             end of file.",
        )
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            posix("write, DESCRIPTION"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .part("writes", messages(), |lab, messages| read_while_it_lives(lab, &messages))
        .one_in(8)
        .part("program", messages(), |lab, messages| a_program_answers(lab, &messages))
        .one_in(32)
}

/// What is written, message after message.
#[derive(Clone, Debug)]
struct Messages(Vec<Data>);

fn messages() -> Gen<Messages> {
    let length = prop_oneof![3 => 1_usize..20, 2 => 20_usize..1024, 1 => 1024_usize..2000];
    let message = (0_u32..500, length).prop_map(|(seed, len)| Data::pattern(2 * seed + 1, len));
    let strategy = prop::collection::vec(message, 1..6).prop_map(Messages);
    drawn("messages of up to 2000 bytes", strategy)
        .also([Messages(vec!["123456789".into()]), Messages(vec!["hello,i am child".into(), "123456789".into()])])
}

/// The buffer of the documents' programs.
const BUFFER: usize = 1024;

/// Reads a message as the programs do, a buffer at a time; the first read has begun.
fn read_message(reader: Actor<'_>, fd: Fd, first: Begun<'_>, message: &Data) -> Verdict {
    let mut seen = first.answer().bytes()?;
    let lab = reader.place().0;
    let part = message.len().min(BUFFER);
    require(lab, seen.len() == part, "as much as was written, or a full buffer", || format!("{} bytes", seen.len()))?;
    while seen.len() < message.len() {
        seen.extend(reader.read(fd, BUFFER).bytes()?);
    }
    lab.must(seen == message.to_vec(), "the parent has read what the child wrote", || "other bytes".into())
}

fn parent_waits_for_child(lab: &Lab, messages: &Messages, closes_unused: bool) -> Verdict {
    let parent = lab.fork()?;
    let (read, write) = parent.pipe(0)?;
    let child = lab.fork_from(parent.id(), false)?;
    if closes_unused {
        parent.close(write).prepared()?;
        child.close(read).prepared()?;
    }
    for message in &messages.0 {
        let first = parent.begin(Call::Read { fd: read, len: BUFFER });
        first.must_block()?;
        child.write(write, message).must_take(message.len())?;
        read_message(parent, read, first, message)?;
    }
    let last = parent.begin(Call::Read { fd: read, len: BUFFER });
    last.must_block()?;
    if closes_unused {
        child.close(write).prepared()?;
        return last.answer().must_hold(&Data::zeros(0));
    }
    // The second program closes nothing: the parent waits for itself, whatever becomes of the child.
    lab.worker().call(Call::Kill { actor: child.id(), signal: libc::SIGKILL }).prepared()?;
    last.must_block()
}

fn line_counts() -> Gen<usize> {
    let few = prop_oneof![3 => 0_usize..30, 2 => 30_usize..2000, 1 => 15_000_usize..40_000];
    drawn("numbers of lines, some of more than the pipe holds", few).also([3, 0, 1, 20_000])
}

/// A pipe between each program and the next, as a shell makes them; each end but those that were moved is closed, by hand
/// or by exec.
fn counted_by(lab: &Lab, lines: usize, copies: usize, flags: i32) -> Verdict {
    let by_hand = flags & libc::O_CLOEXEC == 0;
    let mut programs = vec![vec!["lines".to_owned(), lines.to_string()]];
    programs.extend(std::iter::repeat_n(vec!["copy".to_owned()], copies));
    programs.push(vec!["count".to_owned()]);
    let pipes: Vec<(Fd, Fd)> = programs.iter().map(|_| lab.pipe(flags)).collect::<Verdict<_>>()?;
    let mut running = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        let child = lab.fork()?;
        if index > 0 {
            child.call(Call::Dup2 { of: pipes[index - 1].0, onto: STDIN, cloexec: false }).prepared()?;
        }
        child.call(Call::Dup2 { of: pipes[index].1, onto: STDOUT, cloexec: false }).prepared()?;
        // As where the write end is the standard output from the start.
        child.call(Call::Dup2 { of: STDOUT, onto: STDOUT, cloexec: false }).prepared()?;
        if by_hand {
            for (read, write) in &pipes {
                child.close(*read).prepared()?;
                child.close(*write).prepared()?;
            }
        }
        running.push(child.begin(Call::Exec { tool: program, keep: vec![] }));
    }
    let output = pipes[pipes.len() - 1].0;
    for (read, write) in pipes {
        lab.close(write).prepared()?;
        if read != output {
            lab.close(read).prepared()?;
        }
    }
    for program in running {
        program.answer().must_exit(0)?;
    }
    lab.read(output, BUFFER).must_equal(format!("{lines}\n").as_bytes())?;
    lab.read(output, BUFFER).must_hold(&Data::zeros(0))
}

/// As one listing has it, dup2(fds[1], STDIN_FILENO): the output goes where it always went.
fn stdin_replaced_instead(lab: &Lab, lines: usize) -> Verdict {
    let lines = lines.min(1000);
    let (read, write) = lab.pipe(0)?;
    let (terminal, screen) = lab.pipe(0)?;
    let child = lab.fork()?;
    child.close(read).prepared()?;
    child.call(Call::Dup2 { of: screen, onto: STDOUT, cloexec: false }).prepared()?;
    child.call(Call::Dup2 { of: write, onto: STDIN, cloexec: false }).prepared()?;
    lab.close(write).prepared()?;
    lab.close(screen).prepared()?;
    child.call(Call::Exec { tool: vec!["lines".into(), lines.to_string()], keep: vec![] }).must_exit(0)?;
    lab.read(read, BUFFER).must_hold(&Data::zeros(0))?;
    let text = tool::numbered(lines);
    let seen = lab.read(terminal, text.len() + 1).bytes()?;
    lab.must(seen == text.as_bytes(), "the output is where it always went", || format!("{} bytes there", seen.len()))
}

/// The child's standard output is the pipe, and the parent reads it line by line.
fn read_while_it_lives(lab: &Lab, messages: &Messages) -> Verdict {
    let (read, write) = lab.pipe(libc::O_NONBLOCK)?;
    let child = lab.fork()?;
    child.close(read).prepared()?;
    child.call(Call::Dup2 { of: write, onto: STDOUT, cloexec: false }).prepared()?;
    child.close(write).prepared()?;
    lab.close(write).prepared()?;
    for message in &messages.0 {
        lab.read(read, BUFFER).must_fail(libc::EAGAIN)?;
        child.write(STDOUT, message).must_take(message.len())?;
        lab.read(read, message.len()).must_yield(message)?;
    }
    child.write(STDOUT, &"last".into()).must_return(4_u64)?;
    child.call(Call::Exit { status: 0 }).must_exit(0)?;
    lab.read(read, BUFFER).must_hold(&"last".into())?;
    lab.read(read, BUFFER).must_hold(&Data::zeros(0))
}

/// A program that goes on running has answered already.
fn a_program_answers(lab: &Lab, messages: &Messages) -> Verdict {
    let (input, questions) = lab.pipe(0)?;
    let (answers, output) = lab.pipe(0)?;
    let (child, reader) = (lab.fork()?, lab.fork()?);
    reader.close(questions).prepared()?;
    reader.close(output).prepared()?;
    for (from, onto) in [(input, STDIN), (output, STDOUT)] {
        child.call(Call::Dup2 { of: from, onto, cloexec: false }).prepared()?;
        lab.close(from).prepared()?;
    }
    for fd in [input, output, questions, answers] {
        child.close(fd).prepared()?;
    }
    let program = child.begin(Call::Exec { tool: vec!["copy".into()], keep: vec![] });
    for message in &messages.0 {
        lab.write(questions, message).must_take(message.len())?;
        let mut seen = Vec::new();
        while seen.len() < message.len() {
            let bytes = reader.read(answers, BUFFER).bytes()?;
            require(lab, !bytes.is_empty(), "an answer", || "the end".into())?;
            seen.extend(bytes);
        }
        lab.must(seen == message.to_vec(), "its output comes while it runs", || "other bytes".into())?;
    }
    lab.close(questions).prepared()?;
    program.answer().must_exit(0)?;
    reader.read(answers, BUFFER).must_hold(&Data::zeros(0))
}

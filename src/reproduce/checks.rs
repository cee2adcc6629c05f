//! What is expected of a call, as C.

use std::fmt::Write as _;

use super::expressions::{address, fill, place, recall, size};
use crate::kernel::call::{At, Call, Library};
use crate::kernel::data::Data;
use crate::kernel::names;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::Size;
use crate::lab::expect::Expect;
use crate::lab::leaves_the_address_space;
use crate::lab::trace::Step;

/// Writes the checks of one step.
pub(super) fn write(text: &mut String, index: usize, step: &Step, sources: &[Data]) {
    let expect = step.expect.as_ref();
    let accesses = accessed(&step.call).is_some();
    let expected = expect.map(|expect| plain(&expect.to_string())).unwrap_or_default();
    match expect {
        Some(Expect::Fault { signal, code, at }) => {
            let start = accessed(&step.call).map_or_else(|| "0".into(), |start| address(start.plus(*at as usize)));
            let _ =
                writeln!(text, "\tmust_fault({index}, {}, {code}, {start}, \"{expected}\");", names::signal(*signal));
            return;
        }
        _ if accesses && !may_fault(expect, step) => {
            let _ = writeln!(text, "\tmust_not_fault({index});");
        }
        _ => {}
    }
    match expect {
        Some(Expect::Bytes(bytes)) if is_cut(bytes, step) => {
            // The trace keeps the beginning alone of what was as it should be.
            let _ = writeln!(
                text,
                "\tmust({index}, !err && got >= {0}, \"{0} bytes or more\");\n\tgot = {0};",
                bytes.len()
            );
            contents(text, index, bytes, &[], sources);
        }
        Some(Expect::Bytes(bytes)) => contents(text, index, bytes, &[], sources),
        Some(Expect::Merged { head, writers }) => merged(text, index, head, writers),
        Some(Expect::Share { of, unit }) => {
            let len = fill_all(text, 0, of);
            let _ = writeln!(text, "\ttake_pieces({index}, {len}, {unit});");
        }
        Some(Expect::Contents { bytes, or }) => contents(text, index, bytes, or, sources),
        Some(expect) => {
            if let Some(condition) = condition(expect, step) {
                let _ = writeln!(text, "\tmust({index}, {condition}, \"{expected}\");");
            } else {
                let _ = writeln!(text, "\t/* The rule: {}. */", expected.replace("*/", "* /"));
            }
        }
        None => {}
    }
}

/// Whether a step is a refusal that leaves the address space of its process as it was.
pub(super) fn changes_nothing(step: &Step) -> bool {
    matches!(step.expect, Some(Expect::Refused(errno)) if leaves_the_address_space(&step.call, errno))
}

/// Whether an access may be answered by a signal: one of several outcomes that are allowed, or part of a relation.
fn may_fault(expect: Option<&Expect>, step: &Step) -> bool {
    match expect {
        Some(Expect::AnyOf(list)) => list.iter().any(|one| matches!(one, Expect::Fault { .. })),
        Some(Expect::Relation(_)) => matches!(step.outcome, Outcome::Fault(_)),
        _ => false,
    }
}

fn is_cut(expected: &[u8], step: &Step) -> bool {
    expected.len() == Outcome::KEPT && matches!(&step.outcome, Outcome::Bytes(kept) if kept == expected)
}

fn contents(text: &mut String, index: usize, bytes: &[u8], or: &[(usize, u8)], sources: &[Data]) {
    let filled = recall("expected", bytes, sources);
    if !filled.is_empty() {
        let _ = writeln!(text, "\t{filled}");
    }
    let len = size(Size(bytes.len()));
    if or.is_empty() {
        let _ = writeln!(text, "\tmust_hold({index}, {len}, NULL, 0);");
    } else {
        let list: Vec<String> = or.iter().map(|(at, value)| format!("{{ {at}, {value} }}")).collect();
        let _ = writeln!(
            text,
            "\t{{ static const size_t doubts[][2] = {{ {} }}; must_hold({index}, {len}, doubts, {}); }}",
            list.join(", "),
            or.len()
        );
    }
}

/// Puts one after the other into what is expected, from a place on: where they end.
fn fill_all(text: &mut String, from: usize, list: &[Data]) -> usize {
    let mut at = from;
    for data in list.iter().filter(|data| !data.is_empty()) {
        let _ = writeln!(text, "\t{}", fill(&place("expected", at), data));
        at += data.len();
    }
    at
}

fn merged(text: &mut String, index: usize, head: &Data, writers: &[Vec<Data>]) {
    let mut at = fill_all(text, 0, std::slice::from_ref(head));
    let mut list = Vec::new();
    for (writer, messages) in writers.iter().enumerate() {
        at = fill_all(text, at, messages);
        list.extend(messages.iter().map(|message| format!("{{ {writer}, {} }}", size(Size(message.len())))));
    }
    let _ = writeln!(
        text,
        "\tmust_be_merged({index}, {},\n\t\t       (const struct message[]){{ {} }}, {});",
        size(Size(head.len())),
        list.join(", "),
        list.len()
    );
}

/// A condition on `got` and `err`; `None` for a relation, which only the claim can judge.
fn condition(expect: &Expect, step: &Step) -> Option<String> {
    Some(match expect {
        // An access says how many bytes it has done.
        Expect::Value(0) if matches!(step.call, Call::Store { .. }) => "1".into(),
        Expect::Success if accessed(&step.call).is_some() => "1".into(),
        Expect::Success => "!err".into(),
        Expect::Number(value) => format!("!err && got == {value}l"),
        Expect::Value(value) if counts_no_bytes(&step.call) => format!("!err && got == {value:#x}l"),
        Expect::Value(value) => format!("!err && got == (long)({})", size(Size(*value as usize))),
        Expect::Refused(errno) => format!("err == {}", names::errno(*errno)),
        Expect::AnyOf(list) => {
            let all: Option<Vec<String>> = list
                .iter()
                .filter(|expect| !matches!(expect, Expect::Died(_)))
                .map(|expect| condition(expect, step).map(|text| format!("({text})")))
                .collect();
            all?.join(" || ")
        }
        _ => return None,
    })
}

/// Whether the value of a call is flags or a word of memory, and so nothing that is told in pages.
fn counts_no_bytes(call: &Call) -> bool {
    matches!(
        call,
        Call::Fcntl { command: libc::F_GETFL, .. }
            | Call::CompareExchange { .. }
            | Call::FetchAdd { .. }
            | Call::LockedAdd { .. }
            | Call::Await { .. }
            | Call::LoadWord { .. }
            | Call::Poll { .. }
            | Call::Entries
            | Call::Touch { .. }
            | Call::PageFaults
            | Call::Library(Library::Malloc { .. })
    )
}

fn accessed(call: &Call) -> Option<At> {
    match call {
        Call::Load { at, .. }
        | Call::Store { at, .. }
        | Call::LoadWord { at, .. }
        | Call::StoreWord { at, .. }
        | Call::Execute { at }
        | Call::CompareExchange { at, .. }
        | Call::FetchAdd { at, .. }
        | Call::StoreReturn { at }
        | Call::Touch { at, .. } => Some(*at),
        _ => None,
    }
}

/// Text inside of a C string.
pub(super) fn plain(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "'").replace('\n', " ")
}

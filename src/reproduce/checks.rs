//! What is expected of a call, as C.

use std::fmt::Write as _;

use super::expressions::{address, recall, size};
use crate::kernel::call::{At, Call};
use crate::kernel::data::Data;
use crate::kernel::names;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::Size;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

/// Writes the checks of one step.
pub(super) fn write(text: &mut String, index: usize, step: &Step, expect: Option<&Expect>, sources: &[Data]) {
    let accesses = place(&step.call).is_some();
    let expected = expect.map(|expect| plain(&expect.to_string())).unwrap_or_default();
    match expect {
        Some(Expect::Fault { signal, code, at }) => {
            let start = place(&step.call).map_or_else(|| "0".into(), |start| address(start.plus(*at as usize)));
            let _ =
                writeln!(text, "\tmust_fault({index}, {}, {code}, {start}, \"{expected}\");", names::signal(*signal));
            return;
        }
        // One of several faults, or a fault or none: that it is one of these is told in words below.
        Some(Expect::AnyOf(list)) if list.iter().any(|one| matches!(one, Expect::Fault { .. })) => {}
        _ if accesses => {
            let _ = writeln!(text, "\tmust_not_fault({index});");
        }
        _ => {}
    }
    match expect {
        Some(Expect::Bytes(bytes)) => contents(text, index, bytes, &[], sources),
        Some(Expect::Contents { bytes, or }) => contents(text, index, bytes, or, sources),
        Some(expect) => {
            if let Some(condition) = condition(expect, step) {
                let _ = writeln!(text, "\tmust({index}, {condition}, \"{expected}\");");
            } else {
                let _ = writeln!(text, "\t/* The rule: {expected}. */");
            }
        }
        // What nothing was asked of is a preparation, which has to succeed as it did.
        None if step.outcome.is_success() => {
            let _ = writeln!(text, "\tmust({index}, !err, \"success\");");
        }
        None => {}
    }
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

/// A condition on `got` and `err`; `None` for a relation, which only the claim can judge.
fn condition(expect: &Expect, step: &Step) -> Option<String> {
    Some(match expect {
        // An access says how many bytes it has done.
        Expect::Value(0) if matches!(step.call, Call::Store { .. }) => "1".into(),
        Expect::Success if place(&step.call).is_some() => "1".into(),
        Expect::Success => "!err".into(),
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
        Expect::Relation(_) => return departed(step),
        _ => return None,
    })
}

/// A relation that did not hold: then what was seen is what must not be seen again, if that can be told by a number.
fn departed(step: &Step) -> Option<String> {
    match step.outcome {
        Outcome::Refused(errno) => Some(format!("err != {}", names::errno(errno))),
        _ => None,
    }
}

/// Whether the value of a call is flags or a word of memory, and so nothing that is told in pages.
fn counts_no_bytes(call: &Call) -> bool {
    matches!(call, Call::Fcntl { command: libc::F_GETFL, .. } | Call::CompareExchange { .. } | Call::Poll { .. })
}

fn place(call: &Call) -> Option<At> {
    match call {
        Call::Load { at, .. }
        | Call::Store { at, .. }
        | Call::LoadWord { at, .. }
        | Call::StoreWord { at, .. }
        | Call::Execute { at }
        | Call::CompareExchange { at, .. }
        | Call::FetchAdd { at, .. } => Some(*at),
        _ => None,
    }
}

/// Text inside of a C string.
fn plain(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "'").replace('\n', " ")
}

//! What a rule allows, as data: judged here, printed in a violation, written as a check in C.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::data::{Data, Excerpt};
use crate::kernel::names;
use crate::kernel::outcome::{Fault, Outcome};
use crate::kernel::page::{Size, page};

/// The outcomes that a rule allows for one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Any success.
    Success,
    /// Success with this value.
    Value(u64),
    /// This errno.
    Refused(i32),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// These bytes, but for some places where another value is allowed as well.
    Contents {
        /// The bytes.
        bytes: Vec<u8>,
        /// Place and other value.
        or: Vec<(usize, u8)>,
    },
    /// These bytes, and behind them messages of several writers: each of up to PIPE_BUF bytes in one piece, those of more in any
    /// number of them, and those of each writer in its order.
    Merged {
        /// What comes first.
        head: Data,
        /// The messages of each writer.
        writers: Vec<Vec<Data>>,
    },
    /// Pieces of a stream that several read, none of them twice: each is had by one of those of whom this is expected.
    Share {
        /// All of the stream: what was written, one after the other.
        of: Vec<Data>,
        /// The length of a piece, in bytes.
        unit: usize,
    },
    /// Success with this value, which counts no bytes.
    Number(u64),
    /// A signal in the place of an access: signal, si_code, and si_addr as a distance from the address of the call.
    Fault {
        /// si_signo.
        signal: i32,
        /// si_code.
        code: i32,
        /// si_addr less the address of the call, in bytes.
        at: isize,
    },
    /// The process is killed by this signal.
    Died(i32),
    /// The process ends with this status.
    Exited(i32),
    /// The call does not return.
    Blocked,
    /// Any of these.
    AnyOf(Vec<Expect>),
    /// What only the claim itself can say, in words: a relation between outcomes. Judged there.
    Relation(String),
}

impl Expect {
    /// Whether this outcome is allowed; a relation is judged by the claim, and nothing is allowed by it here.
    pub fn allows(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Expect::Success, outcome) => outcome.is_success(),
            (Expect::Value(expected) | Expect::Number(expected), Outcome::Value(seen)) => expected == seen,
            (Expect::Refused(expected), Outcome::Refused(seen)) => expected == seen,
            (Expect::Bytes(expected), Outcome::Bytes(seen)) => expected == seen,
            (Expect::Contents { bytes, or }, Outcome::Bytes(seen)) => {
                bytes.len() == seen.len()
                    && bytes
                        .iter()
                        .zip(seen)
                        .enumerate()
                        .all(|(at, (byte, seen))| byte == seen || or.contains(&(at, *seen)))
            }
            (Expect::Merged { head, writers }, Outcome::Bytes(seen)) => is_merged(seen, &head.to_vec(), writers),
            (Expect::Share { of, unit }, Outcome::Bytes(seen)) => is_share(seen, of, *unit),
            (Expect::Fault { signal, code, at }, Outcome::Fault(seen)) => {
                *signal == seen.signal && *code == seen.code && same_place(*at, seen)
            }
            (Expect::Died(expected), Outcome::Died(seen)) => expected == seen,
            (Expect::Exited(expected), Outcome::Exited(seen)) => expected == seen,
            (Expect::Blocked, Outcome::Blocked) => true,
            (Expect::AnyOf(list), outcome) => list.iter().any(|expect| expect.allows(outcome)),
            _ => false,
        }
    }

    /// What was seen, in the words in which it differs from what was expected.
    pub fn contrast(&self, outcome: &Outcome) -> String {
        match (self, outcome) {
            (Expect::Number(_), Outcome::Value(seen)) => seen.to_string(),
            (Expect::Contents { bytes, .. }, outcome) => Expect::Bytes(bytes.clone()).contrast(outcome),
            (Expect::Bytes(expected), Outcome::Bytes(seen)) if expected.len() != seen.len() => {
                format!("{} bytes: {}", Size(seen.len()), Excerpt(seen))
            }
            (Expect::Bytes(expected), Outcome::Bytes(seen)) => {
                let pairs = || expected.iter().zip(seen).enumerate().filter(|(_, (e, s))| e != s);
                let Some((first, _)) = pairs().next() else { return "the same".into() };
                let end = expected.len().min(first + 8);
                format!(
                    "{} of {} bytes differ, the first at +{}: {} in the place of {}",
                    Size(pairs().count()),
                    Size(seen.len()),
                    Size(first),
                    Excerpt(&seen[first..end]),
                    Excerpt(&expected[first..end]),
                )
            }
            _ => outcome.to_string(),
        }
    }
}

/// Behind the head one piece after the other, each the next of a writer, until all have come.
fn is_merged(seen: &[u8], head: &[u8], writers: &[Vec<Data>]) -> bool {
    let Some(mut rest) = seen.strip_prefix(head) else { return false };
    let bytes: Vec<Vec<Vec<u8>>> = writers.iter().map(|messages| messages.iter().map(Data::to_vec).collect()).collect();
    let pieces = |message: &'_ Vec<u8>| if message.len() > libc::PIPE_BUF { 1 } else { message.len().max(1) };
    let mut left: Vec<_> = bytes
        .iter()
        .map(|messages| messages.iter().flat_map(|message| message.chunks(pieces(message))).peekable())
        .collect();
    while !rest.is_empty() {
        let fits = |piece: &&[u8]| rest.starts_with(piece);
        let Some(piece) = left.iter_mut().find_map(|pieces| pieces.next_if(fits)) else { return false };
        rest = &rest[piece.len()..];
    }
    left.iter_mut().all(|pieces| pieces.peek().is_none())
}

/// Whole pieces, none of them twice.
fn is_share(seen: &[u8], of: &[Data], unit: usize) -> bool {
    let written: Vec<u8> = of.iter().flat_map(Data::to_vec).collect();
    let mut left: BTreeSet<&[u8]> = written.chunks(unit).collect();
    seen.chunks(unit).all(|piece| left.remove(piece))
}

/// On s390x the kernel gives si_addr rounded down to its page (s390, Principles of Operation: translation-exception identification).
fn same_place(expected: isize, seen: &Fault) -> bool {
    if cfg!(target_arch = "s390x") {
        seen.at <= expected && (expected - seen.at) < page() as isize
    } else {
        seen.at == expected
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Success => write!(f, "success"),
            Expect::Value(value) => write!(f, "{}", Outcome::Value(*value)),
            Expect::Refused(errno) => write!(f, "{}", names::errno(*errno)),
            Expect::Bytes(list) | Expect::Contents { bytes: list, .. } => {
                const SHOWN: usize = 24;
                let rest = if list.len() > SHOWN { "..." } else { "" };
                write!(f, "{} bytes: {}{rest}", Size(list.len()), Excerpt(&list[..list.len().min(SHOWN)]))
            }
            Expect::Merged { .. } => write!(f, "every message of up to PIPE_BUF in one piece, each writer's in order"),
            Expect::Share { unit, .. } => write!(f, "pieces of {} bytes, none of them twice", Size(*unit)),
            Expect::Number(value) => write!(f, "{value}"),
            Expect::Fault { signal, code, at } => {
                let fault = Fault { signal: *signal, code: *code, at: *at, done: 0 };
                write!(f, "{fault}")
            }
            Expect::Died(signal) => write!(f, "death by {}", names::signal(*signal)),
            Expect::Exited(status) => write!(f, "exit with {status}"),
            Expect::Blocked => write!(f, "the call blocks"),
            Expect::AnyOf(list) => {
                for (index, expect) in list.iter().enumerate() {
                    write!(f, "{}{expect}", if index == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Expect::Relation(words) => write!(f, "{words}"),
        }
    }
}

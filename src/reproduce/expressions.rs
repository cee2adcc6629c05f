//! Names and numbers as C expressions.

use std::fmt::Write as _;

use crate::kernel::call::{At, Fd, Segment};
use crate::kernel::data::Data;
use crate::kernel::page::{Size, page};

/// A number of bytes, in pages where it is near to some: a program for one page size then tells the same on another.
pub(super) fn size(size: Size) -> String {
    let bytes = size.get();
    if bytes <= page() / 2 {
        return bytes.to_string();
    }
    if bytes >> 40 != 0 {
        return format!("{bytes:#x}ul");
    }
    let whole = bytes / page() + usize::from(bytes % page() > page() / 2);
    let rest = bytes.wrapping_sub(whole * page()) as isize;
    let times = if whole == 1 { "page".to_owned() } else { format!("{whole} * page") };
    match rest {
        0 => times,
        1.. => format!("{times} + {rest}"),
        _ => format!("{times} - {}", rest.unsigned_abs()),
    }
}

/// A distance behind a name.
fn plus(distance: isize) -> String {
    match distance {
        0 => String::new(),
        1.. => format!(" + {}", size(Size(distance.unsigned_abs()))),
        _ => format!(" - ({})", size(Size(distance.unsigned_abs()))),
    }
}

/// An address.
pub(super) fn address(at: At) -> String {
    match at {
        At::Null => "0".into(),
        At::Map(map, distance) => format!("{map:?}{}", plus(distance)),
        At::Arena(distance) => format!("arena{}", plus(distance as isize)),
        At::Number(number) => size(Size(number)),
        At::Variable(Segment::Data, distance) => format!("(uintptr_t)data{}", plus(distance as isize)),
        At::Variable(Segment::Bss, distance) => format!("(uintptr_t)bss{}", plus(distance as isize)),
    }
}

/// A descriptor.
pub(super) fn descriptor(fd: Fd) -> String {
    format!("{fd:?}")
}

/// Statements that put bytes into a buffer of the program.
pub(super) fn fill(into: &str, data: &Data) -> String {
    match data {
        Data::Pattern { seed, from, len } => {
            format!("pattern({into}, {seed}, {}, {});", size(Size(*from)), size(Size(*len)))
        }
        Data::Repeat { byte, len } => format!("memset({into}, {byte:#x}, {});", size(Size(*len))),
        Data::Marked { writer, from, len } => {
            format!("marked({into}, {writer}, {}, {});", size(Size(*from)), size(Size(*len)))
        }
        Data::Literal(bytes) => literal(into, bytes),
        code @ Data::Code { .. } => literal(into, &code.to_vec()),
    }
}

fn literal(into: &str, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "\\{byte:03o}");
    }
    format!("memcpy({into}, \"{text}\", {});", bytes.len())
}

/// Statements that put the bytes of a list into a buffer, said by the patterns that they were made of, where they were.
pub(super) fn recall(into: &str, bytes: &[u8], sources: &[Data]) -> String {
    const WORTH: usize = 16;
    let known: Vec<(&Data, Vec<u8>)> = sources.iter().map(|data| (data, data.to_vec())).collect();
    let mut text = String::new();
    let mut at = 0;
    let mut plain = Vec::new();
    while at < bytes.len() {
        let rest = &bytes[at..];
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        let best = known
            .iter()
            .filter_map(|(data, list)| longest(rest, list).map(|(from, len)| (len, from, *data)))
            .max_by_key(|found| found.0);
        let (piece, len) = match best {
            Some((len, from, data)) if len >= WORTH && len > zeros => (part(data, from, len), len),
            _ if zeros >= WORTH => (Data::zeros(zeros), zeros),
            _ => {
                plain.push(bytes[at]);
                at += 1;
                continue;
            }
        };
        flush(&mut text, into, at, &mut plain);
        let _ = write!(text, "{} ", fill(&place(into, at), &piece));
        at += len;
    }
    flush(&mut text, into, at, &mut plain);
    text.trim_end().to_owned()
}

/// A place so many bytes into a buffer.
pub(super) fn place(into: &str, at: usize) -> String {
    if at == 0 { into.to_owned() } else { format!("{into} + {}", size(Size(at))) }
}

fn flush(text: &mut String, into: &str, at: usize, plain: &mut Vec<u8>) {
    if !plain.is_empty() {
        let _ = write!(text, "{} ", literal(&place(into, at - plain.len()), plain));
        plain.clear();
    }
}

/// The longest beginning of `rest` that stands somewhere in `list`: where, and how long.
fn longest(rest: &[u8], list: &[u8]) -> Option<(usize, usize)> {
    const KEY: usize = 8;
    let key = rest.get(..KEY)?;
    let from = list.windows(KEY).position(|window| window == key)?;
    let len = rest.iter().zip(&list[from..]).take_while(|(one, two)| one == two).count();
    Some((from, len))
}

fn part(data: &Data, skip: usize, len: usize) -> Data {
    match data {
        Data::Pattern { seed, from, .. } => Data::Pattern { seed: *seed, from: from + skip, len },
        Data::Repeat { byte, .. } => Data::Repeat { byte: *byte, len },
        Data::Marked { writer, from, .. } => Data::Marked { writer: *writer, from: from + skip, len },
        Data::Literal(list) => Data::Literal(list[skip..skip + len].to_vec()),
        code @ Data::Code { .. } => Data::Literal(code.to_vec()[skip..skip + len].to_vec()),
    }
}

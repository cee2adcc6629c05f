//! Bytes that know where they belong.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::guard::RETURN;
use super::page::Size;

/// Bytes to be written or stored, as a rule and not as a list: drawing a megabyte costs as little as drawing one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Data {
    /// `len` bytes, each a function of `seed` and of its position counted from `from`.
    ///
    /// No byte is 0, and a pattern of an even seed shares no byte value with one of an odd seed: what was
    /// lost, moved, repeated, or never there is seen in every single byte.
    Pattern {
        /// Which pattern.
        seed: u32,
        /// The position of the first byte.
        from: usize,
        /// How many bytes.
        len: usize,
    },
    /// `len` times the same byte.
    Repeat {
        /// The byte.
        byte: u8,
        /// How many bytes.
        len: usize,
    },
    /// Zeros, and the machine's return instruction at `first` and every so many bytes from there.
    Code {
        /// The position of the first instruction.
        first: usize,
        /// The distance from one to the next.
        every: usize,
        /// How many bytes in all.
        len: usize,
    },
    /// `len` bytes that tell by their first two bits who wrote them, and by the others where they belong.
    Marked {
        /// Which writer, below 4.
        writer: u8,
        /// The position of the first byte.
        from: usize,
        /// How many bytes.
        len: usize,
    },
    /// These very bytes.
    Literal(Vec<u8>),
}

/// From one word of a pattern to the next: the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a pattern stands at `index` (in words of eight bytes).
fn standing(seed: u32, index: u64) -> u64 {
    index.wrapping_add(u64::from(seed) << 32 | 0x9e37).wrapping_mul(STEP)
}

/// The word of a pattern that stands at `z`: mixed by one multiplication between two shifts (as splitmix64 does by two, which take
/// longer than the stores), then inked so that no byte is 0.
fn word(seed: u32, mut z: u64) -> [u8; 8] {
    z = (z ^ (z >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 29;
    let high = 0x8080_8080_8080_8080;
    let inked = if seed.is_multiple_of(2) { z | high } else { z & !high | high >> 1 };
    inked.to_le_bytes()
}

impl Data {
    /// The pattern of `seed` from position 0.
    pub fn pattern(seed: u32, len: impl Into<Size>) -> Data {
        Data::at(seed, 0, len)
    }

    /// The pattern of `seed` from position `from`.
    pub fn at(seed: u32, from: impl Into<Size>, len: impl Into<Size>) -> Data {
        Data::Pattern { seed, from: from.into().get(), len: len.into().get() }
    }

    /// `len` zeros.
    pub fn zeros(len: impl Into<Size>) -> Data {
        Data::repeat(0, len)
    }

    /// `len` times `byte`.
    pub fn repeat(byte: u8, len: impl Into<Size>) -> Data {
        Data::Repeat { byte, len: len.into().get() }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Data::Pattern { len, .. }
            | Data::Repeat { len, .. }
            | Data::Code { len, .. }
            | Data::Marked { len, .. } => *len,
            Data::Literal(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the bytes into `into`, which is as long.
    pub fn fill(&self, into: &mut [u8]) {
        match *self {
            Data::Repeat { byte, .. } => into.fill(byte),
            Data::Literal(ref list) => into.copy_from_slice(list),
            Data::Code { first, every, len } => {
                into.fill(0);
                for at in (first..=len.saturating_sub(RETURN.len())).step_by(every) {
                    into[at..][..RETURN.len()].copy_from_slice(RETURN);
                }
            }
            Data::Marked { writer, from, .. } => {
                for (at, byte) in (from as u64..).zip(into) {
                    *byte = writer << 6 | (at.wrapping_mul(0x9e37_79b9) >> 7) as u8 & 0x3f;
                }
            }
            Data::Pattern { seed, from, .. } => {
                let skip = from % 8;
                let (head, body) = into.split_at_mut(((8 - skip) % 8).min(into.len()));
                let mut z = standing(seed, (from / 8) as u64);
                if skip != 0 {
                    let head_len = head.len();
                    head.copy_from_slice(&word(seed, z)[skip..][..head_len]);
                    z = z.wrapping_add(STEP);
                }
                // Whole words apart from the tail: a copy of a constant length is one instruction, not a call.
                let (words, tail) = body.as_chunks_mut::<8>();
                for chunk in words {
                    *chunk = word(seed, z);
                    z = z.wrapping_add(STEP);
                }
                tail.copy_from_slice(&word(seed, z)[..tail.len()]);
            }
        }
    }

    /// The bytes as a list.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut list = vec![0; self.len()];
        self.fill(&mut list);
        list
    }
}

impl From<&[u8]> for Data {
    fn from(list: &[u8]) -> Data {
        Data::Literal(list.to_vec())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Data {
    fn from(list: Vec<u8>) -> Data {
        Data::Literal(list)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Pattern { seed, from, len } => {
                write!(f, "pattern#{seed}")?;
                if *from != 0 {
                    write!(f, "@{}", Size(*from))?;
                }
                write!(f, "[{}]", Size(*len))
            }
            Data::Repeat { byte, len } => write!(f, "{byte:#04x}[{}]", Size(*len)),
            Data::Code { first, len, .. } => write!(f, "code@{}[{}]", Size(*first), Size(*len)),
            Data::Marked { writer, from, len } => write!(f, "marked#{writer}@{}[{}]", Size(*from), Size(*len)),
            Data::Literal(list) => write!(f, "{}", Excerpt(list)),
        }
    }
}

/// Bytes as a person reads them: text in quotes, anything else in hexadecimal, long ones cut.
pub struct Excerpt<'a>(pub &'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 24;
        let list = self.0;
        if let [first, .., last] = list
            && list.len() > 4
            && first == last
            && list.iter().all(|byte| byte == first)
        {
            return write!(f, "{first:#04x}[{}]", Size(list.len()));
        }
        let shown = &list[..list.len().min(SHOWN)];
        if !list.is_empty()
            && shown.iter().all(|b| matches!(b, b' '..=b'~' | b'\n' | 0))
            && shown.iter().any(|b| *b != 0)
        {
            write!(f, "\"{}\"", shown.escape_ascii())?;
        } else {
            write!(f, "[")?;
            for (i, byte) in shown.iter().enumerate() {
                write!(f, "{}{byte:02x}", if i == 0 { "" } else { " " })?;
            }
            write!(f, "]")?;
        }
        if list.len() > SHOWN {
            write!(f, "... ({} bytes)", list.len())?;
        }
        Ok(())
    }
}

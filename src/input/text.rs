//! Text, as the documents' programs pass it on.

use std::fmt;

use proptest::prelude::*;

use super::any_size;
use crate::kernel::data::Data;
use crate::kernel::page::Size;

/// Letters and blanks without a NUL, as a rule and not as a list; or these very words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// These words.
    Said(&'static str),
    /// So many letters, a function of the seed.
    Drawn(u32, Size),
}

impl Text {
    /// The characters, without a NUL at the end.
    pub fn characters(self) -> Vec<u8> {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        match self {
            Text::Said(words) => words.as_bytes().to_vec(),
            Text::Drawn(seed, len) => {
                let mut list = Data::pattern(seed, len).to_vec();
                list.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte) % LETTERS.len()]);
                list
            }
        }
    }

    /// What strcpy(3) stores: the characters and a NUL.
    pub fn string(self) -> Data {
        let mut list = self.characters();
        list.push(0);
        list.into()
    }

    /// How many bytes [`Text::string`] has.
    pub fn size(self) -> Size {
        match self {
            Text::Said(words) => Size(words.len() + 1),
            Text::Drawn(_, len) => len + 1,
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 24;
        match self {
            Text::Drawn(seed, len) if len.get() > SHOWN => write!(f, "text#{seed}[{len}]"),
            text => write!(f, "{}", format_args!("\"{}\"", text.characters().escape_ascii())),
        }
    }
}

/// Texts: most of a few words, others up to `most` pages.
pub fn any_text(most: usize) -> BoxedStrategy<Text> {
    let len = prop_oneof![6 => (0..60_usize).prop_map(Size), 3 => any_size(1, most)];
    (0..1000_u32, len).prop_map(|(seed, len)| Text::Drawn(seed, len)).boxed()
}

//! Colour, where it is wanted.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// Whether and how words are coloured.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For a terminal, and not under NO_COLOR (no-color.org).
    pub fn new(terminal: bool) -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { on: terminal && wanted }
    }

    /// None at all.
    pub fn none() -> Paint {
        Paint { on: false }
    }

    /// What is as it should be.
    pub fn good(self, text: impl fmt::Display) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// What is not.
    pub fn bad(self, text: impl fmt::Display) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    /// What was left out.
    pub fn pale(self, text: impl fmt::Display) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    /// What stands over other lines.
    pub fn head(self, text: impl fmt::Display) -> String {
        self.with(Style::new().bold(), text)
    }

    fn with(self, style: Style, text: impl fmt::Display) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

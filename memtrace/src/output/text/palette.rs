//! Colours: what stands out, and nothing else. Everything reads the same without them.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// A style for each thing that stands out; all plain where no colour was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Palette {
    /// Times and other things to look past.
    pub(super) faint: Style,
    /// Memory given back.
    pub(super) give_back: Style,
    /// Memory taken again.
    pub(super) refault: Style,
    /// Failures and losses.
    pub(super) failure: Style,
    /// Headings.
    pub(super) strong: Style,
}

impl Palette {
    pub(super) fn new(colour: bool) -> Self {
        if !colour {
            return Self::default();
        }
        Self {
            faint: Style::new().dimmed(),
            give_back: AnsiColor::Cyan.on_default(),
            refault: AnsiColor::Yellow.on_default().bold(),
            failure: AnsiColor::Red.on_default().bold(),
            strong: Style::new().bold(),
        }
    }
}

/// `text` in `style`.
pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

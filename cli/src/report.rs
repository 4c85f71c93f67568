//! What a person or a script sees.
//!
//! Results go to stdout: for people the bare value (a URL, a token, a table), with `--json` one JSON object per
//! line and nothing else. Everything that is not the result goes to stderr, so that `$(mytunnel …)` and pipes
//! always get exactly the answer. Colour only on a terminal and only where `NO_COLOR` is unset.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// The way this run talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    json: bool,
    color_out: bool,
    color_err: bool,
}

/// How a piece of text is set off, on terminals that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Strong,
    Faint,
    Warning,
    Error,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Warning => "1;33",
            Self::Error => "1;31",
        }
    }
}

impl Report {
    /// `no_color` is the user's wish; terminals are asked for here.
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        let color = !json && !no_color;
        Self {
            json,
            color_out: color && io::stdout().is_terminal(),
            color_err: color && io::stderr().is_terminal(),
        }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A line of the result, for people.
    pub(crate) fn line(self, text: impl Display) {
        self.hand_line(text);
    }

    /// As [`Self::line`], and whether it was taken.
    pub(crate) fn hand_line(self, text: impl Display) -> bool {
        self.json || write_line(io::stdout().lock(), text)
    }

    /// A result that is a file of its own, as it is, for people.
    pub(crate) fn text(self, content: &[u8]) {
        if self.json {
            return;
        }
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(content).and_then(|()| out.flush()) {
            tracing::debug!(%error, "output was not taken");
        }
    }

    /// The result, or one event of it, for scripts.
    pub(crate) fn object(self, value: &impl Serialize) {
        self.hand_object(value);
    }

    /// As [`Self::object`], and whether it was taken.
    pub(crate) fn hand_object(self, value: &impl Serialize) -> bool {
        if !self.json {
            return true;
        }
        match serde_json::to_string(value) {
            Ok(text) => write_line(io::stdout().lock(), text),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                false
            }
        }
    }

    /// A remark beside the result, for people only.
    pub(crate) fn note(self, text: impl Display) {
        if !self.json {
            write_line(io::stderr().lock(), text);
        }
    }

    /// Something that wants attention but stops nothing.
    pub(crate) fn warn(self, text: impl Display) {
        let label = paint(self.color_err, Style::Warning, "warning:");
        write_line(io::stderr().lock(), format_args!("{label} {text}"));
    }

    /// The last word of a run that failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            self.object(&failure.to_event());
            return;
        }
        let label = paint(self.color_err, Style::Error, "error:");
        let code = paint(self.color_err, Style::Faint, format!("[{}]", failure.code().name()));
        write_line(io::stderr().lock(), format_args!("{label} {} {code}", failure.message()));
        if !failure.help().is_empty() {
            let label = paint(self.color_err, Style::Strong, "help:");
            write_line(io::stderr().lock(), format_args!("{label} {}", failure.help()));
        }
    }

    /// `text` in a style, for a line of the result.
    pub(crate) fn styled(self, style: Style, text: impl Display) -> String {
        paint(self.color_out, style, text)
    }
}

fn paint(color: bool, style: Style, text: impl Display) -> String {
    if color { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_string() }
}

/// Writes and flushes one line. A reader that went away (`mytunnel … | head -1`) is its own business: the work,
/// such as a share that is up, goes on.
fn write_line(mut out: impl Write, text: impl Display) -> bool {
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    if let Err(error) = &written {
        tracing::debug!(%error, "output was not taken");
    }
    written.is_ok()
}

/// Lays rows out in columns, the first row being the heading. No trailing blanks.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> =
        (0..rows.first().map_or(0, Vec::len)).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_an_escape_only_where_it_is_wanted() {
        assert_eq!(paint(true, Style::Error, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(paint(false, Style::Error, "x"), "x");
    }

    #[test]
    fn tests_do_not_run_on_a_terminal_and_json_never_has_colour() {
        assert!(!Report::new(true, false).color_out);
        assert!(!Report::new(false, true).color_err);
    }

    #[test]
    fn columns_line_up_and_end_clean() {
        let rows = [vec!["NAME".to_owned(), "ID".to_owned()], vec!["a".to_owned(), "proj_1".to_owned()]];
        assert_eq!(columns(&rows), ["NAME  ID", "a     proj_1"]);
        assert!(columns(&[]).is_empty());
    }

    #[test]
    fn a_reader_that_left_is_not_a_panic() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(!write_line(Gone, "text"));
    }
}

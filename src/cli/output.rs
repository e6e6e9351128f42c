//! Where commands write: the two streams, tables, colours, and lines of JSON.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::proto::v1::CameraState;

/// The streams of a command and how to write on them. Tests put buffers here.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Errors, warnings, progress.
    pub err: &'a mut (dyn Write + Send),
    /// Machine output: lines of JSON.
    pub json: bool,
    /// Whether `out` understands colours.
    pub colour: bool,
    /// Whether a progress bar may be drawn on the process's stderr.
    pub progress: bool,
}

/// Whether a stream that is (not) a terminal gets colours: only terminals, and never with `NO_COLOR` set.
pub fn wants_colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Whether stderr gets colours.
pub fn stderr_colour() -> bool {
    wants_colour(io::stderr().is_terminal())
}

/// ANSI colours of the human output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Well.
    Green,
    /// Wrong, or needs a person.
    Red,
    /// Attention.
    Yellow,
    /// Less important.
    Dim,
    /// Important.
    Bold,
}

impl Ink {
    fn sequence(self) -> &'static str {
        match self {
            Self::Green => "\x1b[32m",
            Self::Red => "\x1b[31m",
            Self::Yellow => "\x1b[33m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }
}

impl Io<'_> {
    /// Writes one line.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    /// Writes one object as a line of JSON and flushes.
    pub fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Writes a remark on stderr.
    pub fn remark(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.err, "{}", text.as_ref())
    }

    /// `text` in a colour, if colours are wanted.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour { format!("{}{text}\x1b[0m", ink.sequence()) } else { text.to_owned() }
    }

    /// An empty table with these headings.
    pub fn table(&self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(headings.iter().map(|h| h.to_uppercase()).collect::<Vec<_>>());
        if self.colour {
            table.enforce_styling().set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
        }
        table
    }

    /// Writes a table, without trailing blanks.
    pub fn show(&mut self, table: &Table) -> io::Result<()> {
        for line in table.lines() {
            writeln!(self.out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }

    /// Writes `key: value` lines with the values below each other.
    pub fn pairs(&mut self, pairs: &[(&str, String)]) -> io::Result<()> {
        let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(self.out, "{:<width$} {value}", format!("{key}:"))?;
        }
        Ok(())
    }
}

/// A table cell in a colour (shown only where the table is styled).
pub fn cell(text: impl Into<String>, ink: Option<Ink>) -> Cell {
    let cell = Cell::new(text.into());
    match ink {
        Some(Ink::Green) => cell.fg(Color::Green),
        Some(Ink::Red) => cell.fg(Color::Red),
        Some(Ink::Yellow) => cell.fg(Color::Yellow),
        Some(Ink::Dim) => cell.fg(Color::DarkGrey),
        Some(Ink::Bold) => cell.fg(Color::White),
        None => cell,
    }
}

/// Text that somebody else chose, without control characters: it must not steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The word and colour of a camera's state.
pub fn state_words(state: i32) -> (&'static str, Ink) {
    match CameraState::try_from(state).unwrap_or_default() {
        CameraState::Unspecified => ("unknown", Ink::Dim),
        CameraState::Connecting => ("connecting", Ink::Yellow),
        CameraState::Streaming => ("streaming", Ink::Green),
        CameraState::Stalled => ("stalled", Ink::Yellow),
        CameraState::Retrying => ("retrying", Ink::Yellow),
        CameraState::Refused => ("refused", Ink::Red),
        CameraState::Disabled => ("disabled", Ink::Dim),
    }
}

/// Runs `body` on the given buffers; for tests.
#[cfg(test)]
pub(crate) fn buffers(json: bool) -> (Vec<u8>, Vec<u8>, bool) {
    (Vec::new(), Vec::new(), json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text_without_a_terminal() {
        let (mut out, mut err, json) = buffers(false);
        let mut io = Io { out: &mut out, err: &mut err, json, colour: false, progress: false };
        let mut table = io.table(&["id", "state"]);
        table.add_row(vec![cell("front-door", None), cell("streaming", Some(Ink::Green))]);
        table.add_row(vec![cell("yard", None), cell("refused", Some(Ink::Red))]);
        io.show(&table).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ID          STATE\nfront-door  streaming\nyard        refused\n");
    }

    #[test]
    fn pairs_line_up_and_empty_ones_are_left_out() {
        let (mut out, mut err, json) = buffers(false);
        let mut io = Io { out: &mut out, err: &mut err, json, colour: false, progress: false };
        io.pairs(&[("id", "a".into()), ("reason", String::new()), ("state", "b".into())]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id:     a\nstate:  b\n");
    }
}

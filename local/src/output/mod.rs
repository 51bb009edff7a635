//! The only way out of the command: text for people, data for programs, and files.
//!
//! Text is what people read: tables, messages, the log. It may contain names and messages from the sources, so that it is
//! [escaped](escape()) before it reaches a terminal. Data is JSON, CSV, Parquet or Arrow, and is written as it is.

mod csv;
mod file;
mod sink;

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, TableComponent, presets};
pub use defi_pages::escape;
use defi_shared::error::{Error, Result};
use serde::Serialize;

pub use self::csv::{CsvStyle, write_csv};
pub use file::{OutputFile, write_file};
pub use sink::{FileFormat, Sink, Written, row_error};

/// The format of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A human-readable table.
    Table,
    /// Comma-separated values; NULL is an empty cell.
    Csv(CsvStyle),
    /// A JSON array with one object per row.
    Json,
}

/// The format of the rows of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// A human-readable table.
    Table,
    /// A JSON array with one object per row.
    Json,
    /// A table in Markdown.
    Markdown,
    /// A format of files.
    File(FileFormat),
}

/// Writes one line of text to standard output. A closed pipe (`defi tables | head -1`) is not an error: the output is
/// discarded.
///
/// # Errors
/// `Internal` if standard output can't be written to.
pub fn line(text: impl Display) -> Result<()> {
    data_line(escape(&text.to_string()))
}

/// Writes a line of data to standard output, as it is. A closed pipe is as in [`line()`].
///
/// # Errors
/// As [`line()`].
pub fn data_line(data: impl Display) -> Result<()> {
    write(format!("{data}\n").as_bytes())
}

/// Writes a value to standard output, as indented JSON. A closed pipe is as in [`line()`].
///
/// # Errors
/// As [`line()`], and `Internal` if the value can't be serialized.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    data_line(text.map_err(|cause| Error::internal("can't serialize the output").with_source(cause))?)
}

/// Writes bytes of data to standard output, as they are. A closed pipe is as in [`line()`].
///
/// # Errors
/// As [`line()`].
pub fn write(data: &[u8]) -> Result<()> {
    allow_broken_pipe(io::stdout().lock().write_all(data))
}

/// Writes one line of text to standard error. A failure is ignored: there is nowhere to report it.
pub fn message(text: impl Display) {
    let _unreported = writeln!(io::stderr().lock(), "{}", escape(&text.to_string()));
}

/// A writer of data to standard output. As in [`line()`], a closed pipe is not an error: the output is discarded.
#[derive(Debug)]
pub struct StdoutWriter {
    is_open: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Default for StdoutWriter {
    fn default() -> Self {
        StdoutWriter { is_open: true, out: io::BufWriter::new(io::stdout()) }
    }
}

impl StdoutWriter {
    fn try_write(&mut self, write: impl FnOnce(&mut io::BufWriter<io::Stdout>) -> io::Result<()>) -> io::Result<()> {
        if self.is_open {
            match write(&mut self.out) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.is_open = false,
                result => return result,
            }
        }
        Ok(())
    }
}

impl Write for StdoutWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(|out| out.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.try_write(Write::flush)
    }
}

/// Converts the result of a write to standard output. A closed pipe is not an error.
///
/// # Errors
/// `Internal` if standard output can't be written to.
pub fn allow_broken_pipe(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritable_output(error)),
        _ => Ok(()),
    }
}

fn unwritable_output(cause: io::Error) -> Error {
    Error::internal("can't write the output").with_source(cause).with_hint("check where standard output goes")
}

/// The width in columns of a wrapped table that is not written to a terminal.
const WIDTH_WITHOUT_TERMINAL: u16 = 100;

/// A human-readable table. Every cell is one escaped line.
#[derive(Debug)]
pub struct TextTable(Table);

impl TextTable {
    /// Returns an empty table with lines around its cells.
    pub fn with_borders(header: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut table = Table::new();
        table.load_preset("||--+-++|    ++++++").set_header(cells(header));
        TextTable(table)
    }

    /// Returns an empty table in Markdown.
    pub fn in_markdown(header: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_header(cells(header));
        TextTable(table)
    }

    /// Adds a row.
    pub fn add_row(&mut self, row: impl IntoIterator<Item = impl AsRef<str>>) {
        self.0.add_row(cells(row));
    }

    /// Aligns a column to the right.
    pub fn align_right(&mut self, index: usize) {
        if let Some(column) = self.0.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Writes the table to standard output. A closed pipe is as in [`line()`].
    ///
    /// # Errors
    /// As [`line()`].
    pub fn print(&self) -> Result<()> {
        data_line(self)
    }

    /// Returns the table as text for the terminal. If its lines would be longer than those of the terminal, each row is a
    /// list of names and values.
    #[must_use]
    pub fn fit_terminal(&self) -> String {
        match self.0.width() {
            Some(width) if self.width() > usize::from(width) => self.lists(),
            _ => format!("{self}\n"),
        }
    }

    fn width(&self) -> usize {
        self.to_string().lines().next().map_or(0, |line| line.chars().count())
    }

    fn lists(&self) -> String {
        let names: Vec<String> =
            self.0.header().into_iter().flat_map(Row::cell_iter).map(comfy_table::Cell::content).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (index, row) in self.0.row_iter().enumerate() {
            text.push_str(&format!("── row {} ──\n", index + 1));
            for (name, cell) in names.iter().zip(row.cell_iter()) {
                text.push_str(&format!("{name:longest$}  {}\n", cell.content()));
            }
        }
        text
    }

    /// Wraps the cells, so that no line is wider than the terminal. The first column is not wrapped if it takes at most
    /// half of the width.
    #[must_use]
    pub fn wrapped(mut self) -> Self {
        let width = self.0.width().unwrap_or(WIDTH_WITHOUT_TERMINAL);
        self.0.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        let first = self.0.column_max_content_widths().first().copied().unwrap_or_default();
        if let Some(column) = self.0.column_mut(0).filter(|_| first <= width / 2) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        self
    }
}

impl Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn cells(row: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    row.into_iter().map(|cell| escape(cell.as_ref()).into_owned()).collect()
}

/// Returns an empty table without borders. The columns `left..right` (numbers) are aligned right, the others left.
#[must_use]
pub fn table(header: &[&str], left: usize, right: usize) -> TextTable {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(cells(header));
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    let mut table = TextTable(table);
    (left..right).for_each(|index| table.align_right(index));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_and_stay_on_one_line() {
        let mut table = table(&["name"], 1, 1);
        table.add_row(["a\u{1b}[31m\nb\u{202e}c"]);
        let text = table.to_string();
        assert_eq!(text.lines().last().unwrap().trim(), r"a\u{1b}[31m\nb\u{202e}c");
    }

    #[test]
    fn lists_have_one_line_per_value() {
        let mut table = TextTable::with_borders(["a", "name"]);
        table.add_row(["1", "x y"]);
        table.add_row(["", "z\n"]);
        let expected = "── row 1 ──\na     1\nname  x y\n── row 2 ──\na     \nname  z\\n\n";
        assert_eq!(table.lists(), expected);
        assert_eq!(table.width(), "| a | name |".len());
    }

    #[test]
    fn wrapped_table_is_not_wider_than_its_limit() {
        let mut table = table(&["name", "finding"], 2, 2);
        table.add_row(["quarantine".to_owned(), "key/".repeat(300)]);
        let text = table.wrapped().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH_WITHOUT_TERMINAL)), "{text}");
        let cell: String = text.replace("quarantine", "").split_whitespace().collect();
        assert!(cell.ends_with(&"key/".repeat(300)), "nothing is cut: {text}");
    }
}

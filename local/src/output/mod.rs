//! The only way out of the command: text for people, data for programs, and files.
//!
//! Text is what people read: tables, messages, the log. It may contain names and messages from the sources, so that it is
//! [escaped](escape()) before it reaches a terminal. Data is JSON, CSV, Parquet or Arrow, and is written as it is.

mod csv;
mod file;
mod sink;

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, TableComponent, Width, presets};
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

/// The width that a wrapped table leaves to a column of text before it breaks the headers of numbers.
const TEXT_WIDTH: u16 = 16;

/// The cell of a number that there is not, or of a count of zero.
pub const NO_NUMBER: &str = "·";

/// A human-readable table. Every cell is one escaped line.
#[derive(Debug)]
pub struct TextTable {
    table: Table,
    /// The columns with numbers.
    numbers: Range<usize>,
}

impl TextTable {
    /// Returns an empty table with lines around its cells.
    pub fn with_borders(header: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut table = Table::new();
        table.load_preset("||--+-++|    ++++++").set_header(cells(header));
        TextTable { table, numbers: 0..0 }
    }

    /// Returns an empty table in Markdown.
    pub fn in_markdown(header: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_header(cells(header));
        TextTable { table, numbers: 0..0 }
    }

    /// Adds a row.
    pub fn add_row(&mut self, row: impl IntoIterator<Item = impl AsRef<str>>) {
        self.table.add_row(cells(row));
    }

    /// Aligns a column to the right.
    pub fn align_right(&mut self, index: usize) {
        if let Some(column) = self.table.column_mut(index) {
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
        match self.table.width() {
            Some(width) if self.width() > usize::from(width) => self.lists(),
            _ => format!("{self}\n"),
        }
    }

    fn width(&self) -> usize {
        self.to_string().lines().next().map_or(0, |line| line.chars().count())
    }

    fn lists(&self) -> String {
        let names: Vec<String> =
            self.table.header().into_iter().flat_map(Row::cell_iter).map(comfy_table::Cell::content).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (index, row) in self.table.row_iter().enumerate() {
            text.push_str(&format!("── row {} ──\n", index + 1));
            for (name, cell) in names.iter().zip(row.cell_iter()) {
                text.push_str(&format!("{name:longest$}  {}\n", cell.content()));
            }
        }
        text
    }

    /// Makes the table fit the terminal: leaves out columns of numbers that have none, puts the columns closer together, and
    /// wraps the cells. Numbers are not wrapped, nor is the first column if it takes at most three fifths of the width. A header
    /// is broken within a word only where there is no room for its words.
    #[must_use]
    pub fn wrapped(mut self) -> Self {
        let width = self.table.width().unwrap_or(WIDTH_WITHOUT_TERMINAL);
        if self.width() <= usize::from(width) {
            return self;
        }
        self.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        let widths = self.table.column_max_content_widths();
        let longest_word = |text: &str| text.split_whitespace().map(char_count).max().unwrap_or_default();
        let header_words =
            self.longest(|is_header, text| if is_header { longest_word(text) } else { char_count(text) });
        let numbers_only = self.longest(|is_header, text| if is_header { 0 } else { char_count(text) });
        let has_numbers = |index: usize| {
            let cells = self.table.row_iter().filter_map(|row| row.cell_iter().nth(index));
            cells.into_iter().any(|cell| ![NO_NUMBER, ""].contains(&cell.content().as_str()))
        };
        let is_whole = |index: usize| index == 0 && !self.numbers.contains(&0) && widths[0] <= width / 5 * 3;
        // The width of each column that has a fixed one, 0 for a column that is left out.
        let fixed = |numbers: &[u16]| -> Vec<Option<u16>> {
            let of_column = |index: usize| match self.numbers.contains(&index) {
                true => Some(if has_numbers(index) { numbers[index] } else { 0 }),
                false => is_whole(index).then_some(widths[index]),
            };
            (0..widths.len()).map(of_column).collect()
        };
        let fits = |fixed: &[Option<u16>]| {
            let least = fixed.iter().zip(&widths).map(|(fixed, width)| fixed.unwrap_or(TEXT_WIDTH.min(*width)));
            least.filter(|width| *width > 0).map(|width| usize::from(width) + 1).sum::<usize>() <= usize::from(width)
        };
        let fixed = Some(fixed(&header_words)).filter(|fixed| fits(fixed)).unwrap_or_else(|| fixed(&numbers_only));
        for (column, fixed) in self.table.column_iter_mut().zip(fixed) {
            column.set_padding((0, 0));
            match fixed {
                Some(0) => drop(column.set_constraint(ColumnConstraint::Hidden)),
                Some(width) => drop(column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)))),
                None => {}
            }
        }
        self
    }

    /// Returns the largest value of a function of the cells of each column. It is told whether a cell is of the header.
    fn longest(&self, length: impl Fn(bool, &str) -> u16) -> Vec<u16> {
        let header = self.table.header().into_iter().map(|row| (true, row));
        let rows = header.chain(self.table.row_iter().map(|row| (false, row)));
        let mut longest = vec![0; self.table.column_iter().count()];
        for (is_header, row) in rows {
            for (longest, cell) in longest.iter_mut().zip(row.cell_iter()) {
                *longest = length(is_header, &cell.content()).max(*longest);
            }
        }
        longest
    }
}

fn char_count(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

impl Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
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
    let mut table = TextTable { table, numbers: left..right };
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
    fn numbers_are_never_wrapped_and_columns_without_any_are_left_out() {
        let names: Vec<String> = (0..11).map(|column| format!("header {column}")).collect();
        let names: Vec<&str> = ["step"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let mut table = table(&names, 1, 12);
        table.add_row(["extract-account-positions"].into_iter().chain(["39,393"; 10]).chain([NO_NUMBER]));
        let text = table.wrapped().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH_WITHOUT_TERMINAL)), "{text}");
        assert!(text.contains("extract-account-positions") && text.matches("39,393").count() == 10, "{text}");
        assert!(text.contains("header") && !text.contains(NO_NUMBER), "{text}");
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

//! Writing answers: to standard output, and pages to files.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use defi_shared::error::{Error, Result};

/// The format of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    Table,
    /// Comma-separated values; NULL is an empty cell.
    Csv,
    /// A JSON array with one object per row.
    Json,
}

/// Writes a line to standard output. A reader that has gone away (`defi tables | head -1`) is no fault: the rest is left unsaid.
///
/// # Errors
/// Standard output can't be written to.
pub fn line(text: impl Display) -> Result<()> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Standard output, for whoever takes a writer. Of a reader that has gone away nothing is said, as with [`line()`].
#[derive(Debug)]
pub struct Answer {
    is_wanted: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Default for Answer {
    fn default() -> Self {
        Answer { is_wanted: true, out: io::BufWriter::new(io::stdout()) }
    }
}

impl Answer {
    fn attempt(&mut self, write: impl FnOnce(&mut io::BufWriter<io::Stdout>) -> io::Result<()>) -> io::Result<()> {
        if self.is_wanted {
            match write(&mut self.out) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.is_wanted = false,
                outcome => return outcome,
            }
        }
        Ok(())
    }
}

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|out| out.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush)
    }
}

/// Turns the outcome of writing an answer into the command's.
///
/// # Errors
/// Standard output can't be written to.
pub fn written(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::internal("the answer can't be written").because(error).next("check where the output goes"))
        }
        _ => Ok(()),
    }
}

/// Writes a page into a file.
///
/// # Errors
/// `BadInput` for a file that can't be written.
pub fn write_page(file: &Path, page: &str) -> Result<()> {
    std::fs::write(file, page).map_err(|cause| {
        Error::bad_input("the page can't be written")
            .with("path", file.display())
            .because(cause)
            .next("name another file")
    })
}

/// A table for people: its first `left` columns and those after `right` aligned left, the numbers between them right.
#[must_use]
pub fn table(header: &[&str], left: usize, right: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    for (index, column) in table.column_iter_mut().enumerate() {
        if (left..right).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

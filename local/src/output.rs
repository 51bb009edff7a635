//! Writes results to standard output, and HTML pages to files.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use defi_shared::error::{Error, Result};

/// The format of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A human-readable table.
    Table,
    /// Comma-separated values; NULL is an empty cell.
    Csv,
    /// A JSON array with one object per row.
    Json,
}

/// Writes a line to standard output. A closed pipe (`defi tables | head -1`) is not an error: the output is discarded.
///
/// # Errors
/// `Internal` if standard output can't be written to.
pub fn line(text: impl Display) -> Result<()> {
    allow_broken_pipe(writeln!(io::stdout().lock(), "{text}"))
}

/// A buffered writer to standard output. As in [`line()`], a closed pipe is not an error: the output is discarded.
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
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::internal("can't write the output").because(error).next("check where standard output goes"))
        }
        _ => Ok(()),
    }
}

/// Writes an HTML page to a file.
///
/// # Errors
/// `BadInput` if the file can't be written.
pub fn write_page(file: &Path, page: &str) -> Result<()> {
    std::fs::write(file, page).map_err(|cause| {
        Error::bad_input("the page can't be written")
            .with("path", file.display())
            .because(cause)
            .next("choose another file")
    })
}

/// Returns an empty human-readable table. The columns `left..right` (numbers) are aligned right, the others left.
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

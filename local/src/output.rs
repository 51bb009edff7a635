//! Writing answers to standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use defi_shared::error::{Error, Result};

/// Writes a line to standard output. A reader that has gone away (`defi tables | head -1`) is no fault: the rest is left unsaid.
///
/// # Errors
/// Standard output can't be written to.
pub fn line(text: impl Display) -> Result<()> {
    written(writeln!(io::stdout().lock(), "{text}"))
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

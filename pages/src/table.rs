//! HTML tables, which scroll horizontally if they are wider than the page.

use maud::{Markup, html};

/// A table. Its label is its name for screen readers.
#[derive(Debug)]
pub struct Table<'a> {
    label: &'a str,
    header: Vec<(&'a str, bool)>,
    rows: Vec<Markup>,
    foot: Option<Markup>,
}

impl<'a> Table<'a> {
    /// Creates an empty table from the name of each column and whether it contains numbers, which are aligned right.
    #[must_use]
    pub fn new(label: &'a str, header: &[(&'a str, bool)]) -> Self {
        Table { label, header: header.to_vec(), rows: Vec::new(), foot: None }
    }

    /// Adds a row from its `td` and `th` cells.
    pub fn row(&mut self, cells: Markup) {
        self.rows.push(cells);
    }

    /// Sets the footer row from its cells.
    pub fn foot(&mut self, cells: Markup) {
        self.foot = Some(cells);
    }

    /// Renders the table in its scrollable frame.
    #[must_use]
    pub fn markup(self) -> Markup {
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.label) {
                table {
                    thead { tr {
                        @for (name, is_number) in &self.header { th scope="col" .number[*is_number] { (name) } }
                    } }
                    tbody { @for row in &self.rows { tr { (row) } } }
                    @if let Some(foot) = &self.foot { tfoot { tr { (foot) } } }
                }
            }
        }
    }
}

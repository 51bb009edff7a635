//! Tables that scroll within their own frame where the page is narrower than they are.

use maud::{Markup, html};

/// A table. Its label is what a screen reader calls it.
#[derive(Debug)]
pub struct Table<'a> {
    label: &'a str,
    header: Vec<(&'a str, bool)>,
    rows: Vec<Markup>,
    foot: Option<Markup>,
}

impl<'a> Table<'a> {
    /// A table of these columns, those of numbers aligned right.
    #[must_use]
    pub fn new(label: &'a str, header: &[(&'a str, bool)]) -> Self {
        Table { label, header: header.to_vec(), rows: Vec::new(), foot: None }
    }

    /// Adds a row: its cells, as `td` and `th`.
    pub fn row(&mut self, cells: Markup) {
        self.rows.push(cells);
    }

    /// The last row, which sums the others up.
    pub fn foot(&mut self, cells: Markup) {
        self.foot = Some(cells);
    }

    /// The table within its frame.
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

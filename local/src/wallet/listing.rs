//! The rows of a table that an explanation shows.

use serde::Serialize;
use serde_json::Value;

/// A selection of rows of a table.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// The name of the table and the selection.
    pub title: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

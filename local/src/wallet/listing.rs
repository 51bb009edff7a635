//! Rows of a table, as an explanation shows them.

use serde::Serialize;
use serde_json::Value;

/// Some rows of a table.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// The table, and which of its rows these are.
    pub title: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

//! The rows of an export as of instants: the key of the instant, the features, and the label if there is one.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use defi_shared::domain::Day;
use defi_shared::error::Result;
use defi_shared::tables::{Column, FeatureRow, InstantKey, LabelRow, Row, schema_of};

use super::batch;
use super::instants::Instant;
use super::labels::Labels;

/// Returns the columns of the rows.
pub(super) fn columns(with_label: bool) -> Vec<Column> {
    let features = FeatureRow::columns().into_iter().skip(1);
    let labels = LabelRow::columns().into_iter().filter(|_| with_label);
    InstantKey::columns().into_iter().chain(features).chain(labels).collect()
}

/// Returns the schema of the rows.
pub(super) fn schema(with_label: bool) -> SchemaRef {
    schema_of(&columns(with_label))
}

/// Encodes the rows of some instants, each with the day of its snapshot. `features` are the columns after the wallet.
///
/// # Errors
/// `Internal` if the columns do not fit the schema.
pub(super) fn batch_of(
    schema: &SchemaRef,
    instants: &[(&Instant, Option<Day>)],
    features: &[ArrayRef],
    labels: Option<&Labels>,
) -> Result<RecordBatch> {
    let keys: Vec<_> = instants.iter().map(|(instant, snapshot_day)| instant.key(*snapshot_day)).collect();
    let mut columns = InstantKey::encode(&keys)?.columns().to_vec();
    columns.extend_from_slice(features);
    if let Some(labels) = labels {
        let of_rows: Vec<_> = instants.iter().map(|(instant, _)| labels.of(instant)).collect();
        columns.extend_from_slice(LabelRow::encode(&of_rows)?.columns());
    }
    batch(Arc::clone(schema), columns)
}

//! Features as they were served: those of the newest set that was published at an instant, which is what a model in
//! production sees.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{Field, Schema, SchemaRef};
use arrow_select::take::take;
use defi_shared::catalog::Registry;
use defi_shared::domain::Address;
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{WHOLE_OBJECTS, in_order};
use defi_shared::lake::{FeatureSet, Lake};
use defi_shared::tables::{FeatureRow, InstantKey, LabelRow, Row};
use rustc_hash::FxHashMap;

use super::batch;
use super::instants::Instant;
use super::labels::Labels;
use super::period::Period;
use super::sink::{FileFormat, Sink};

/// Writes one row per instant, sorted by set, with a label if there is a horizon. A set is served from `lag` after its day begins.
/// The features are NULL if no set was served yet, and of wallets that it does not have.
///
/// # Errors
/// The errors of the lake and of the catalog.
pub(super) async fn write(
    lake: &Lake,
    registry: &Registry,
    instants: Vec<Instant>,
    lag: Period,
    horizon: Option<Period>,
    format: FileFormat,
    output: Option<&Path>,
) -> Result<u64> {
    let labels = match horizon {
        Some(horizon) => Some(Labels::read(lake, &instants, horizon).await?),
        None => None,
    };
    let schema = schema(labels.is_some());
    let mut sink = Sink::open(format, output, Arc::clone(&schema))?;
    let sets = registry.published_sets().await?;
    let served = |instant: &Instant| {
        let count = sets.partition_point(|set| lag.after(set.as_of.start()) <= instant.second());
        count.checked_sub(1)
    };
    let mut by_set: Vec<(Option<usize>, Instant)> = instants.into_iter().map(|one| (served(&one), one)).collect();
    by_set.sort_by_key(|(set, _)| *set);
    for of_set in by_set.chunk_by(|(one, _), (other, _)| one == other) {
        let set = of_set.first().and_then(|(set, _)| sets.get((*set)?));
        let instants: Vec<&Instant> = of_set.iter().map(|(_, instant)| instant).collect();
        let rows = match set {
            Some(set) => rows_of(lake, set, &instants).await?,
            None => Vec::new(),
        };
        let keys: Vec<InstantKey> = instants.iter().map(|instant| instant.key(set.map(|set| set.as_of))).collect();
        let mut columns: Vec<ArrayRef> = InstantKey::encode(&keys)?.columns().to_vec();
        columns.extend(features(&instants, &rows)?);
        if let Some(labels) = &labels {
            let of_rows: Vec<LabelRow> = instants.iter().map(|instant| labels.of(instant)).collect();
            columns.extend(LabelRow::encode(&of_rows)?.columns().iter().cloned());
        }
        sink.write(&batch(Arc::clone(&schema), columns)?)?;
    }
    sink.finish()
}

/// Returns the schema of rows as of instants, with features that may be NULL.
fn schema(with_label: bool) -> SchemaRef {
    let schema = super::replay::schema(with_label);
    let features = FeatureRow::schema();
    let nullable = |field: &Arc<Field>| match features.field_with_name(field.name()) {
        Ok(_) if field.name() != "wallet_address" => Arc::new(field.as_ref().clone().with_nullable(true)),
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()).into()
}

/// Reads the rows of the wallets of some instants from a set.
async fn rows_of(lake: &Lake, set: &FeatureSet, instants: &[&Instant]) -> Result<Vec<FeatureRow>> {
    let mut wallets: Vec<Address> = instants.iter().map(|instant| instant.wallet).collect();
    wallets.sort_unstable();
    let (Some(first), Some(last)) = (wallets.first().copied(), wallets.last().copied()) else { return Ok(Vec::new()) };
    let wallets = &wallets;
    let read = |shard| async move {
        let mut rows = lake.read_shard(set, shard, first..=last).await?;
        rows.retain(|row| wallets.binary_search(&row.wallet_address).is_ok());
        Ok(rows)
    };
    Ok(in_order(lake.published_shards(set).await?, WHOLE_OBJECTS, read).await?.into_iter().flatten().collect())
}

/// Returns the columns of the features of some instants, which are NULL where their wallet has no row.
fn features(instants: &[&Instant], rows: &[FeatureRow]) -> Result<Vec<ArrayRef>> {
    let places: FxHashMap<Address, u32> = rows.iter().map(|row| row.wallet_address).zip(0..).collect();
    let places: UInt32Array = instants.iter().map(|instant| places.get(&instant.wallet).copied()).collect();
    let encoded = FeatureRow::encode(rows)?;
    let of_instants = |column: &ArrayRef| {
        take(column, &places, None).map_err(|cause| Error::internal("can't select rows").with_source(cause))
    };
    encoded.columns().iter().skip(1).map(of_instants).collect()
}

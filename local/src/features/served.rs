//! Features as they were served: those of the newest set that was published at an instant, which is what a model in
//! production sees.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{Field, Schema, SchemaRef};
use arrow_select::take::take;
use defi_pages::number::with_thousands;
use defi_shared::catalog::Registry;
use defi_shared::domain::Address;
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{WHOLE_OBJECTS, in_order};
use defi_shared::lake::{FeatureSet, Lake};
use defi_shared::tables::{FeatureRow, Row};
use rustc_hash::FxHashMap;

use super::instants::Instant;
use super::labels::Labels;
use super::period::Period;
use super::rows;
use crate::output::{FileFormat, Sink, Written, message};

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
) -> Result<Written> {
    let labels = Labels::read(lake, &instants, horizon).await?;
    labels.iter().for_each(|labels| labels.report_censored(&instants));
    let schema = schema(horizon.is_some());
    let mut sink = Sink::open(format, output, Arc::clone(&schema))?;
    let sets = registry.published_sets().await?;
    let served = |instant: &Instant| {
        let count = sets.partition_point(|set| lag.after(set.as_of.start()) <= instant.second());
        count.checked_sub(1).and_then(|newest| sets.get(newest))
    };
    let mut by_set: Vec<(Option<&FeatureSet>, &Instant)> = instants.iter().map(|one| (served(one), one)).collect();
    by_set.sort_by_key(|(set, _)| set.map(|set| set.as_of));
    let by_set: Vec<_> = by_set.chunk_by(|(one, _), (other, _)| one == other).collect();
    let read = |of_set| async move { rows_of(lake, of_set).await };
    let rows = in_order(by_set.iter().copied(), WHOLE_OBJECTS, read).await?;
    let (mut without_set, mut without_row) = (0, 0);
    for (of_set, rows) in by_set.into_iter().zip(rows) {
        let places = places(of_set, &rows);
        let has_set = of_set.first().is_some_and(|(set, _)| set.is_some());
        *(if has_set { &mut without_row } else { &mut without_set }) += places.null_count();
        let instants: Vec<_> = of_set.iter().map(|(set, instant)| (*instant, set.map(|set| set.as_of))).collect();
        sink.write(&rows::batch_of(&schema, &instants, &features(&places, &rows)?, labels.as_ref())?)?;
    }
    let written = sink.finish()?;
    report_null(without_set, without_row, written.rows);
    Ok(written)
}

/// Says how many rows have no features.
fn report_null(without_set: usize, without_row: usize, rows: u64) {
    if without_set + without_row > 0 {
        message(format_args!(
            "{} of {} rows have no features: {without_set} because no set was published yet (publish earlier days with defi run \
             --as-of), {without_row} because the set does not have the wallet",
            with_thousands((without_set + without_row) as u64),
            with_thousands(rows)
        ));
    }
}

/// Returns the schema of rows as of instants, with features that may be NULL.
fn schema(with_label: bool) -> SchemaRef {
    let schema = rows::schema(with_label);
    let features = FeatureRow::schema();
    let nullable = |field: &Arc<Field>| match features.field_with_name(field.name()) {
        Ok(_) if field.name() != "wallet_address" => Arc::new(field.as_ref().clone().with_nullable(true)),
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()).into()
}

/// Reads the rows of the wallets of some instants from the set that all of them have. None if they have no set.
async fn rows_of(lake: &Lake, instants: &[(Option<&FeatureSet>, &Instant)]) -> Result<Vec<FeatureRow>> {
    let Some((Some(set), _)) = instants.first() else { return Ok(Vec::new()) };
    let wallets: BTreeSet<Address> = instants.iter().map(|(_, instant)| instant.wallet).collect();
    let (Some(first), Some(last)) = (wallets.first(), wallets.last()) else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for shard in lake.published_shards(set).await? {
        let of_shard = lake.read_shard(set, shard, *first..=*last).await?;
        rows.extend(of_shard.into_iter().filter(|row| wallets.contains(&row.wallet_address)));
    }
    Ok(rows)
}

/// Returns the place of the row of each instant's wallet, NULL where it has none.
fn places(instants: &[(Option<&FeatureSet>, &Instant)], rows: &[FeatureRow]) -> UInt32Array {
    let places: FxHashMap<Address, u32> = rows.iter().map(|row| row.wallet_address).zip(0..).collect();
    instants.iter().map(|(_, instant)| places.get(&instant.wallet).copied()).collect()
}

/// Returns the columns of the features of the rows at some places, which are NULL where a place is.
fn features(places: &UInt32Array, rows: &[FeatureRow]) -> Result<Vec<ArrayRef>> {
    let encoded = FeatureRow::encode(rows)?;
    let of_instants = |column: &ArrayRef| {
        take(column, places, None).map_err(|cause| Error::internal("can't select rows").with_source(cause))
    };
    encoded.columns().iter().skip(1).map(of_instants).collect()
}

//! `defi features`: exports features for training, of published days or as of instants.

mod days;
mod instants;
mod labels;
mod list;
mod period;
mod replay;
mod rows;
mod served;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, Date32Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use defi_shared::catalog::Registry;
use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::tables::{BORROWS, Column, FEATURES_HISTORY, FeatureRow, Row, schema_of};
use rustc_hash::FxHashSet;

use crate::export::croissant::{self, ExportedFile};
use crate::lake::ReadOptions;
use crate::output::{FileFormat, Sink, Written, message};
use defi_pages::number::with_thousands;
use instants::Instant;
pub use period::Period;

/// The options of an export.
#[derive(Debug)]
pub struct Options {
    /// The rows to export.
    pub rows: RowSelection,
    /// The horizon of the labels of rows as of instants. Default: no labels.
    pub label: Option<Period>,
    /// How long after the beginning of its day a published set is served: rows as of instants are those of the set that was served.
    /// Default: rows are computed from the blocks before the instant.
    pub as_served: Option<Period>,
    /// A file with the wallets to export, one per line. Default: all wallets.
    pub wallets: Option<PathBuf>,
    /// The output format.
    pub format: FileFormat,
    /// The file to write. Default: standard output.
    pub output: Option<PathBuf>,
    /// Write Croissant metadata beside the file.
    pub croissant: bool,
}

/// The rows to export.
#[derive(Debug)]
pub enum RowSelection {
    /// The rows of published days, in the syntax of `days::parse`. Default: the newest day.
    Published(Option<String>),
    /// One row per borrow, as of just before its block. The fields are the first and the last day of the borrows.
    AtBorrows(Option<Day>, Option<Day>),
    /// One row per line of a file with a wallet and a time.
    At(PathBuf),
}

/// Writes the rows, and prints their number to standard error.
///
/// # Errors
/// `BadInput` if the lake, a day or a file does not exist or is invalid, and the errors of the lake.
pub async fn export(options: &Options, args: &ReadOptions) -> Result<()> {
    let media_type = options.croissant.then(|| media_type(options.format)).transpose()?;
    let (lake, registry) = crate::lake::open(args).await?;
    let wallets = options.wallets.as_deref().map(read_wallets).transpose()?;
    let output = options.output.as_deref();
    let written = match &options.rows {
        RowSelection::Published(days) => {
            let days = days::published(&registry, days.as_deref()).await?;
            let mut sink = Sink::open(options.format, output, published_schema())?;
            let missing = write_days(&lake, &registry, &days, wallets.as_ref(), &mut sink).await?;
            report_missing(missing, &days);
            sink.finish()?
        }
        RowSelection::AtBorrows(from, until) => {
            let instants = instants::before_borrows(&lake, *from, *until, wallets.as_ref()).await?;
            write_instants(&lake, &registry, instants, options).await?
        }
        RowSelection::At(path) => {
            let mut instants = instants::from_file(path)?;
            instants.retain(|instant| wallets.as_ref().is_none_or(|wallets| wallets.contains(&instant.wallet)));
            write_instants(&lake, &registry, instants, options).await?
        }
    };
    let location = output.map(|path| format!(" in {}", path.display())).unwrap_or_default();
    let reason = if written.rows == 0 { no_rows(&lake, options).await? } else { String::new() };
    message(format_args!("{} rows{location}{reason}", with_thousands(written.rows)));
    if let Some((media_type, path)) = media_type.zip(output) {
        let path = write_metadata(options, media_type, path, &written)?;
        message(format_args!("metadata in {}", path.display()));
    }
    Ok(())
}

/// Returns the media type of a format that programs for Croissant read.
fn media_type(format: FileFormat) -> Result<&'static str> {
    match format {
        FileFormat::Csv(_) => Ok("text/csv"),
        FileFormat::Parquet => Ok("application/x-parquet"),
        FileFormat::Arrow => Err(Error::bad_input("Croissant describes CSV and Parquet, and no Arrow files")
            .with_hint("add --format parquet, or leave out --croissant")),
    }
}

/// Writes the Croissant metadata of an export. Returns its path.
fn write_metadata(options: &Options, media_type: &'static str, path: &Path, written: &Written) -> Result<PathBuf> {
    let (columns, about) = match options.rows {
        RowSelection::Published(_) => (published_columns(), FEATURES_HISTORY.doc.trim()),
        RowSelection::AtBorrows(..) => {
            (rows::columns(options.label.is_some()), "The features of wallets as of just before their borrows.")
        }
        RowSelection::At(_) => (rows::columns(options.label.is_some()), "The features of wallets as of given times."),
    };
    let (size, sha256) = (written.bytes, &written.sha256);
    croissant::write(&ExportedFile { path, media_type, size, sha256, about, columns: &columns })
}

async fn write_instants(
    lake: &Lake,
    registry: &Registry,
    instants: Vec<Instant>,
    options: &Options,
) -> Result<Written> {
    let Options { label, as_served, format, output, .. } = options;
    match as_served {
        Some(lag) => served::write(lake, registry, instants, *lag, *label, *format, output.as_deref()).await,
        None => replay::write(lake, instants, *label, *format, output.as_deref()).await,
    }
}

/// Returns the columns of published rows: the wallet, its features, and the as-of day.
fn published_columns() -> Vec<Column> {
    let mut columns = FeatureRow::columns();
    columns.push(Column {
        name: "as_of",
        data_type: DataType::Date32,
        nullable: false,
        null_if_absent: false,
        doc: "The published day: the row is the state at 00:00 UTC of it.".to_owned(),
    });
    columns
}

fn published_schema() -> SchemaRef {
    schema_of(&published_columns())
}

/// Writes the published rows, sorted by day and wallet. Returns per day the number of requested wallets without a row.
async fn write_days(
    lake: &Lake,
    registry: &Registry,
    days: &[Day],
    wallets: Option<&FxHashSet<Address>>,
    sink: &mut Sink,
) -> Result<Vec<usize>> {
    let mut missing = Vec::new();
    let sets = registry.published_sets().await?;
    for day in days {
        let mut found = 0;
        let set = sets.iter().find(|set| set.as_of == *day);
        let set = set.ok_or_else(|| Error::bad_input(format!("{day} is no longer published")))?;
        let read = |shard| lake.read_shard(set, shard, Address::MIN..=Address::MAX);
        for mut rows in in_order(lake.published_shards(set).await?, WHOLE_OBJECTS, read).await? {
            rows.retain(|row| wallets.is_none_or(|wallets| wallets.contains(&row.wallet_address)));
            found += rows.len();
            let features = FeatureRow::encode(&rows)?;
            let mut columns = features.columns().to_vec();
            columns.push(std::sync::Arc::new(Date32Array::from_value(day.epoch_days(), rows.len())) as ArrayRef);
            sink.write(&batch(published_schema(), columns)?)?;
        }
        missing.push(wallets.map_or(0, |wallets| wallets.len() - found));
    }
    Ok(missing)
}

/// Prints the number of requested wallets without a row, so that none is omitted silently.
fn report_missing(missing: Vec<usize>, days: &[Day]) {
    for (count, day) in missing.into_iter().zip(days).filter(|(count, _)| *count > 0) {
        message(format_args!("{} of the requested wallets have no row as of {day}", with_thousands(count as u64)));
    }
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|cause| Error::internal("can't build a record batch").with_source(cause))
}

/// Returns why an export has no rows, as the end of the line that says so.
async fn no_rows(lake: &Lake, options: &Options) -> Result<String> {
    let of_wallets = if options.wallets.is_some() { " of the requested wallets" } else { "" };
    Ok(match &options.rows {
        RowSelection::Published(_) => String::new(),
        RowSelection::AtBorrows(from, until) => {
            let days = lake.units(&BORROWS).await?.iter().filter_map(WorkUnit::day).collect::<BTreeSet<_>>();
            let range = [from.map(|day| format!(" from {day}")), until.map(|day| format!(" until {day}"))];
            let range: String = range.into_iter().flatten().collect();
            let lake = match (days.first(), days.last()) {
                (Some(first), Some(last)) => format!("; it has the borrows of {first} to {last}"),
                _ => String::new(),
            };
            format!(": the lake has no borrow{of_wallets}{range}{lake}")
        }
        RowSelection::At(path) => format!(": no line of {} is{of_wallets}", path.display()),
    })
}

/// Reads the wallets in the first column of a file.
fn read_wallets(path: &Path) -> Result<FxHashSet<Address>> {
    let wallets = list::read(path, list::wallet)?;
    if wallets.is_empty() {
        return Err(Error::bad_input("the file contains no wallet").with("path", path.display()));
    }
    Ok(wallets.into_iter().collect())
}

//! Features for training: sets of published days, and rows as of an instant.

mod days;
mod instants;
mod sink;

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, Date32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::tables::{FEATURES_HISTORY, FeatureRow, Row};
use rustc_hash::FxHashSet;

use crate::lake::ReadOptions;
use defi_pages::number::grouped;
pub use sink::FileFormat;
use sink::Sink;

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// Which rows.
    pub rows: Rows,
    /// A file that names the wallets, one a line; default: all.
    pub wallets: Option<PathBuf>,
    /// How they are written.
    pub format: FileFormat,
    /// Where to; default: standard output.
    pub output: Option<PathBuf>,
}

/// Which rows are wanted.
#[derive(Debug)]
pub enum Rows {
    /// Of published days, as `days::parse` reads them; default: the newest.
    Published(Option<String>),
    /// One a borrow, as of just before its block; of the borrows of these days, the last one included.
    AtBorrows(Option<Day>, Option<Day>),
    /// One a line of a file with a wallet and a time.
    At(PathBuf),
}

/// Writes the rows, and says on standard error how many there are.
///
/// # Errors
/// `BadInput` for a lake, a day or a file that is not there or says what it may not, and the lake's errors.
pub async fn export(options: &Options, args: &ReadOptions) -> Result<()> {
    let (lake, registry) = crate::lake::open(args).await?;
    let wallets = options.wallets.as_deref().map(wallets_of).transpose()?;
    let output = options.output.as_deref();
    let written = match &options.rows {
        Rows::Published(days) => {
            let days = days::published(&registry, days.as_deref()).await?;
            let mut sink = Sink::open(options.format, output, published_schema())?;
            let missing = write_days(&lake, &days, wallets.as_ref(), &mut sink).await?;
            tell_missing(missing, &days);
            sink.finish()?
        }
        Rows::AtBorrows(from, until) => {
            let instants = instants::of_borrows(&lake, *from, *until, wallets.as_ref()).await?;
            instants::write(&lake, instants, options.format, output).await?
        }
        Rows::At(path) => {
            let mut instants = instants::of_file(path)?;
            instants.retain(|instant| wallets.as_ref().is_none_or(|wallets| wallets.contains(&instant.wallet)));
            instants::write(&lake, instants, options.format, output).await?
        }
    };
    let place = output.map(|path| format!(" in {}", path.display())).unwrap_or_default();
    eprintln!("{} rows{place}", grouped(written));
    Ok(())
}

/// The wallet, its features, and the day that they are as of.
fn published_schema() -> SchemaRef {
    let mut fields: Vec<_> = FeatureRow::schema().fields().iter().cloned().collect();
    fields.push(Field::new("as_of", DataType::Date32, false).into());
    Schema::new(fields).into()
}

/// Writes the published sets, day by day in order of the wallets. Returns how many of the wanted wallets each day lacks.
async fn write_days(
    lake: &Lake,
    days: &[Day],
    wallets: Option<&FxHashSet<Address>>,
    sink: &mut Sink,
) -> Result<Vec<usize>> {
    let mut missing = Vec::new();
    for day in days {
        let mut found = 0;
        for unit in lake.units(&FEATURES_HISTORY).await?.into_iter().filter(|unit| unit.day() == Some(*day)) {
            let mut rows: Vec<FeatureRow> = lake.require(&FEATURES_HISTORY, &unit).await?;
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

/// Nothing is left out in silence: who asks for a wallet that is none on a day is told.
fn tell_missing(missing: Vec<usize>, days: &[Day]) {
    for (count, day) in missing.into_iter().zip(days).filter(|(count, _)| *count > 0) {
        eprintln!("{} of the wallets that were asked for have no row as of {day}", grouped(count as u64));
    }
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns).map_err(|cause| Error::internal("a batch that is none").because(cause))
}

/// The wallets that a file names: its first column, a heading left aside.
fn wallets_of(path: &Path) -> Result<FxHashSet<Address>> {
    let mut wallets = FxHashSet::default();
    for (line, record) in records(path)? {
        match Address::parse(record.get(0).unwrap_or_default()) {
            Some(wallet) => drop(wallets.insert(wallet)),
            None if line == 1 => {}
            None => return Err(wrong_line(path, line, "does not begin with an address")),
        }
    }
    if wallets.is_empty() {
        return Err(Error::bad_input("the file names no wallet").with("path", path.display()));
    }
    Ok(wallets)
}

/// The lines of a file of comma-separated values, with their numbers from 1; blank ones are left out.
fn records(path: &Path) -> Result<Vec<(u64, csv::StringRecord)>> {
    let unreadable = |cause| Error::bad_input("the file can't be read").with("path", path.display()).because(cause);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(unreadable)?;
    let lines = reader.records().map(|record| {
        let record = record.map_err(unreadable)?;
        Ok((record.position().map_or(0, csv::Position::line), record))
    });
    lines.collect()
}

fn wrong_line(path: &Path, line: u64, what: &str) -> Error {
    Error::bad_input(format!("line {line} {what}")).with("path", path.display()).next("correct the line")
}

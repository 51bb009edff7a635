//! `defi get`: returns the published features of wallets, with the code of the function `get-features`.

use defi_pages::number::duration;
use defi_shared::error::Result;
use defi_shared::step::now;
use get_features::{FeatureReader, Input, Output};
use serde_json::{Map, Value};

use crate::config::configuration;
use crate::lake::ReadOptions;
use crate::output::{self, Format, StdoutWriter, message, table};

/// Prints the features of wallets: as JSON what the function returns; in another format the rows, and the rest to standard
/// error.
///
/// # Errors
/// As [`get_features::get`], and `BadInput` if there is no lake.
pub(crate) async fn get(input: &Input, format: Format, args: &ReadOptions) -> Result<()> {
    let (lake, registry) = crate::lake::open(args).await?;
    let reader = FeatureReader::new(lake, registry, configuration()?.shards);
    let output = get_features::get(&reader, input, now()?).await?;
    match format {
        Format::Json => return output::json(&output),
        Format::Table => print_table(&output)?,
        Format::Csv(_) => output::allow_broken_pipe(write_csv(&output))?,
    }
    message(format_args!("features as of {}, {} old", output.as_of, duration(output.age_seconds)));
    for wallet in &output.unknown {
        message(format_args!("no row of {wallet}: no event before that day involves it"));
    }
    Ok(())
}

/// Prints one line per feature, with a column for each wallet: a row has too many features for a line.
fn print_table(output: &Output) -> Result<()> {
    let Some(first) = output.rows.first() else { return Ok(()) };
    let mut names = first.keys();
    let mut table = {
        let wallets = output.rows.iter().filter_map(|row| row.values().next()).map(text);
        let header: Vec<String> = names.next().cloned().into_iter().chain(wallets).collect();
        table(&header.iter().map(String::as_str).collect::<Vec<_>>(), 1, header.len())
    };
    for name in names {
        let values = output.rows.iter().filter_map(|row| row.get(name)).map(text);
        table.add_row([name.clone()].into_iter().chain(values));
    }
    table.wrapped().print()
}

/// Writes one line per wallet, below the names of the columns.
fn write_csv(output: &Output) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(StdoutWriter::default());
    if let Some(first) = output.rows.first() {
        writer.write_record(first.keys()).map_err(std::io::Error::from)?;
    }
    for row in output.rows.iter().map(Map::values) {
        writer.write_record(row.map(text)).map_err(std::io::Error::from)?;
    }
    writer.flush()
}

/// Returns a value as the text of a cell. NULL is an empty cell.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

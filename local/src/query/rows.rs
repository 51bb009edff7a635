//! Writes the rows of an answer to standard output.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{JsonArray, NullableEncoder};
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use defi_shared::error::{Error, Result};
use futures::StreamExt;

use super::Failure;
use crate::output::{self, CsvStyle, Format, TextTable};

/// Writes the rows. Of columns with equal names, the second is named `x_1`, the third `x_2`, and so on.
pub(super) async fn write(
    schema: SchemaRef,
    mut rows: SendableRecordBatchStream,
    format: Format,
) -> Result<(), Failure> {
    let mut writer = Writer::new(unique_names(&schema), format)?;
    while let Some(batch) = rows.next().await {
        writer.write(&batch?)?;
    }
    Ok(writer.finish()?)
}

/// Returns the schema with unique column names.
fn unique_names(schema: &Schema) -> SchemaRef {
    let mut taken: BTreeSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut seen = BTreeSet::new();
    let fields = schema.fields().iter().map(|field| {
        if seen.insert(field.name()) {
            return Arc::clone(field);
        }
        let mut names = (1..).map(|number| format!("{}_{number}", field.name()));
        let name = names.find(|name| taken.insert(name.clone())).unwrap_or_else(|| field.name().clone());
        Arc::new(field.as_ref().clone().with_name(name))
    });
    Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
}

/// Returns the error for rows that a format can't hold, such as nested values in CSV.
fn format_error(cause: ArrowError) -> Error {
    let error = match cause {
        ArrowError::IoError(..) => Error::internal("can't format the rows"),
        _ => Error::bad_input("this format can't hold the rows of the answer")
            .with_hint("choose another --format, or select the parts of nested values"),
    };
    error.with_source(cause)
}

/// Formats the rows of an answer. CSV is written at once, the others when all rows are known.
struct Writer {
    schema: SchemaRef,
    rows: Rows,
}

enum Rows {
    Table(TextTable),
    Csv(CsvStyle),
    Json(arrow_json::Writer<Vec<u8>, JsonArray>),
}

impl Writer {
    fn new(schema: SchemaRef, format: Format) -> Result<Self> {
        let rows = match format {
            Format::Table => Rows::Table(TextTable::with_borders(schema.fields().iter().map(|field| field.name()))),
            Format::Csv(style) => {
                // The header is written even if there are no rows.
                write_csv(&RecordBatch::new_empty(Arc::clone(&schema)), true, style)?;
                Rows::Csv(style)
            }
            Format::Json => {
                let options = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
                Rows::Json(options.with_encoder_factory(Arc::new(DecimalsAsStrings)).build(Vec::new()))
            }
        };
        Ok(Writer { schema, rows })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.map_err(format_error)?;
        match &mut self.rows {
            Rows::Table(table) => add_rows(table, &batch).map_err(format_error),
            Rows::Csv(style) => write_csv(&batch, false, *style),
            Rows::Json(writer) => writer.write(&batch).map_err(format_error),
        }
    }

    fn finish(self) -> Result<()> {
        match self.rows {
            Rows::Table(table) => table.print(),
            Rows::Csv(_) => Ok(()),
            Rows::Json(mut writer) => {
                writer.finish().map_err(format_error)?;
                let mut text = writer.into_inner();
                text.push(b'\n');
                output::write(&text)
            }
        }
    }
}

fn add_rows(table: &mut TextTable, batch: &RecordBatch) -> Result<(), ArrowError> {
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &FORMAT)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|column| column.value(row).try_to_string());
        table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

fn write_csv(batch: &RecordBatch, with_header: bool, style: CsvStyle) -> Result<()> {
    let mut text = Vec::new();
    output::write_csv(&mut text, batch, with_header, style).map_err(format_error)?;
    output::write(&text)
}

/// How values are formatted in tables, and decimals in JSON.
const FORMAT: FormatOptions<'static> = FormatOptions::new();

/// Encodes every decimal as a JSON string. Most JSON readers hold numbers as doubles, which are exact up to 2^53 only.
/// The type of the column decides, and not the value, so that all values of a column have one type.
#[derive(Debug)]
struct DecimalsAsStrings;

impl EncoderFactory for DecimalsAsStrings {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        match array.data_type() {
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                let decimals = Quoted(ArrayFormatter::try_new(array, &FORMAT)?);
                Ok(Some(NullableEncoder::new(Box::new(decimals), array.nulls().cloned())))
            }
            _ => Ok(None),
        }
    }
}

/// Encodes values that contain only digits, a sign and a point.
struct Quoted<'a>(ArrayFormatter<'a>);

impl Encoder for Quoted<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\"{}\"", self.0.value(index)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn equal_names_are_told_apart() {
        let names = |names: &[&str]| -> Vec<String> {
            let fields = names.iter().map(|name| Field::new(*name, DataType::Int64, true));
            let schema = unique_names(&Schema::new(fields.collect::<Vec<_>>()));
            schema.fields().iter().map(|field| field.name().clone()).collect()
        };
        assert_eq!(names(&["a", "b"]), ["a", "b"]);
        assert_eq!(names(&["a", "a", "b", "a"]), ["a", "a_1", "b", "a_2"]);
        assert_eq!(names(&["a", "a", "a_1", "a_1"]), ["a", "a_2", "a_1", "a_1_1"]);
    }
}

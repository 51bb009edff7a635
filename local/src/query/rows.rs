//! Writes the rows of an answer to a file or to standard output.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{JsonArray, NullableEncoder};
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use defi_shared::error::Result;
use futures::StreamExt;

use super::Failure;
use crate::output::{OutputFile, RowFormat, Sink, TextTable, row_error};

/// Writes the rows. Of columns with equal names, the second is named `x_1`, the third `x_2`, and so on.
pub(super) async fn write(
    schema: SchemaRef,
    mut rows: SendableRecordBatchStream,
    format: RowFormat,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let mut writer = Writer::open(unique_names(&schema), format, output)?;
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

/// Formats the rows of an answer. Formats of files are written at once, text when all rows are known.
struct Writer {
    schema: SchemaRef,
    rows: Rows,
}

enum Rows {
    Table(TextTable, OutputFile),
    Markdown(TextTable, OutputFile),
    Json(Box<arrow_json::Writer<Vec<u8>, JsonArray>>, OutputFile),
    File(Box<Sink>),
}

impl Writer {
    fn open(schema: SchemaRef, format: RowFormat, output: Option<&Path>) -> Result<Self> {
        let file = || output.map_or_else(|| Ok(OutputFile::stdout()), OutputFile::open);
        let names = schema.fields().iter().map(|field| field.name());
        let rows = match format {
            RowFormat::Table => Rows::Table(TextTable::with_borders(names), file()?),
            RowFormat::Markdown => Rows::Markdown(TextTable::in_markdown(names.map(|name| in_markdown(name))), file()?),
            RowFormat::Json => {
                let options = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
                let writer = options.with_encoder_factory(Arc::new(DecimalsAsStrings)).build(Vec::new());
                Rows::Json(Box::new(writer), file()?)
            }
            RowFormat::File(format) => Rows::File(Box::new(Sink::open(format, output, Arc::clone(&schema))?)),
        };
        Ok(Writer { schema, rows })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.map_err(row_error)?;
        match &mut self.rows {
            Rows::Table(table, _) => add_rows(table, &batch, |cell| cell).map_err(row_error),
            Rows::Markdown(table, _) => add_rows(table, &batch, |cell| in_markdown(&cell)).map_err(row_error),
            Rows::Json(writer, _) => writer.write(&batch).map_err(row_error),
            Rows::File(sink) => sink.write(&batch),
        }
    }

    fn finish(self) -> Result<()> {
        match self.rows {
            Rows::Table(table, file) if file.is_terminal() => file.finish_with(table.fit_terminal().as_bytes()),
            Rows::Table(table, file) | Rows::Markdown(table, file) => file.finish_with(format!("{table}\n").as_bytes()),
            Rows::Json(mut writer, file) => {
                writer.finish().map_err(row_error)?;
                let mut text = writer.into_inner();
                text.push(b'\n');
                file.finish_with(&text)
            }
            Rows::File(sink) => sink.finish().map(drop),
        }
    }
}

fn add_rows(table: &mut TextTable, batch: &RecordBatch, cell: fn(String) -> String) -> Result<(), ArrowError> {
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &FORMAT)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|column| column.value(row).try_to_string().map(cell));
        table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

/// Returns a cell of a table in Markdown that shows exactly this text: names come from the sources.
fn in_markdown(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        if "\\`*[]<>&|~".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
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
    fn cells_in_markdown_are_text() {
        let escaped = in_markdown(r"a|b <script> *c* \ `d` [e](f) wallet_address");
        assert_eq!(escaped, r"a\|b \<script\> \*c\* \\ \`d\` \[e\](f) wallet_address");
    }

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

//! Rows into a file or to standard output, as CSV, Parquet or Arrow.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use defi_shared::error::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::output::Answer;

/// A format that other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated values with a heading; NULL is an empty cell.
    Csv,
    /// Parquet, compressed by ZSTD.
    Parquet,
    /// Arrow's file format, which Feather is another name of.
    Arrow,
}

type Out = Box<dyn Write + Send>;

enum Writer {
    Csv(Box<arrow::csv::Writer<Out>>),
    Parquet(Box<ArrowWriter<Out>>),
    Arrow(Box<FileWriter<Out>>),
}

/// Takes rows in. A file has its name only once all rows are in it.
pub(super) struct Sink {
    writer: Writer,
    file: Option<(PathBuf, PathBuf)>,
    rows: u64,
}

impl Sink {
    /// Opens a file, or standard output.
    ///
    /// # Errors
    /// `BadInput` for a file that can't be made, and for binary data that would go to a terminal.
    pub(super) fn open(format: FileFormat, output: Option<&Path>, schema: SchemaRef) -> Result<Self> {
        if output.is_none() && format != FileFormat::Csv && std::io::stdout().is_terminal() {
            return Err(Error::bad_input("Parquet and Arrow are nothing to look at on a terminal")
                .next("name a file with --output, or take --format csv"));
        }
        let file = output.map(|path| (unfinished(path), path.to_owned()));
        let out: Out = match &file {
            None => Box::new(Answer::default()),
            Some((unfinished, path)) => Box::new(BufWriter::new(File::create(unfinished).map_err(|cause| {
                Error::bad_input("the file can't be made").with("path", path.display()).because(cause)
            })?)),
        };
        let writer = match format {
            FileFormat::Csv => {
                let mut writer = WriterBuilder::new().build(out);
                // The heading stands there even when no row does.
                writer.write(&RecordBatch::new_empty(schema)).map_err(failed)?;
                Writer::Csv(Box::new(writer))
            }
            FileFormat::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(failed)?;
                Writer::Parquet(Box::new(writer))
            }
            FileFormat::Arrow => Writer::Arrow(Box::new(FileWriter::try_new(out, &schema).map_err(failed)?)),
        };
        Ok(Sink { writer, file, rows: 0 })
    }

    /// Takes rows in.
    ///
    /// # Errors
    /// They can't be written.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Csv(writer) => writer.write(batch).map_err(failed),
            Writer::Parquet(writer) => writer.write(batch).map_err(failed),
            Writer::Arrow(writer) => writer.write(batch).map_err(failed),
        }
    }

    /// Ends the file, gives it its name, and says how many rows are in it.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn finish(self) -> Result<u64> {
        let mut out = match self.writer {
            Writer::Csv(writer) => writer.into_inner(),
            Writer::Parquet(writer) => writer.into_inner().map_err(failed)?,
            Writer::Arrow(writer) => writer.into_inner().map_err(failed)?,
        };
        out.flush().map_err(failed)?;
        drop(out);
        if let Some((unfinished, path)) = self.file {
            std::fs::rename(&unfinished, &path).map_err(failed)?;
        }
        Ok(self.rows)
    }
}

/// The name that a file has while it is written.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the rows can't be written").because(cause).next("check where the output goes")
}

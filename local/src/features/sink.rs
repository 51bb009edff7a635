//! Writes rows to a file or to standard output, as CSV, Parquet or Arrow.

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

use crate::output::StdoutWriter;

/// The format of exported rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated values with a header line; NULL is an empty cell.
    Csv,
    /// Parquet with ZSTD compression.
    Parquet,
    /// Arrow IPC file, also called Feather.
    Arrow,
}

type Out = Box<dyn Write + Send>;

enum Writer {
    Csv(Box<arrow::csv::Writer<Out>>),
    Parquet(Box<ArrowWriter<Out>>),
    Arrow(Box<FileWriter<Out>>),
}

/// Writes record batches. A file gets its final name after all rows are written.
pub(super) struct Sink {
    writer: Writer,
    /// The temporary and the final path. None for standard output.
    file: Option<(PathBuf, PathBuf)>,
    rows: u64,
}

impl Sink {
    /// Opens a file, or standard output if `output` is `None`.
    ///
    /// # Errors
    /// `BadInput` if the file can't be created, or if binary data would be written to a terminal.
    pub(super) fn open(format: FileFormat, output: Option<&Path>, schema: SchemaRef) -> Result<Self> {
        if output.is_none() && format != FileFormat::Csv && std::io::stdout().is_terminal() {
            return Err(Error::bad_input("Parquet and Arrow are binary and can't be written to a terminal")
                .next("choose a file with --output, or use --format csv"));
        }
        let file = output.map(|path| (temporary_path(path), path.to_owned()));
        let out: Out = match &file {
            None => Box::new(StdoutWriter::default()),
            Some((temporary, path)) => Box::new(BufWriter::new(File::create(temporary).map_err(|cause| {
                Error::bad_input("the file can't be created").with("path", path.display()).because(cause)
            })?)),
        };
        let writer = match format {
            FileFormat::Csv => {
                let mut writer = WriterBuilder::new().build(out);
                // The header is written even if there are no rows.
                writer.write(&RecordBatch::new_empty(schema)).map_err(write_error)?;
                Writer::Csv(Box::new(writer))
            }
            FileFormat::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(write_error)?;
                Writer::Parquet(Box::new(writer))
            }
            FileFormat::Arrow => Writer::Arrow(Box::new(FileWriter::try_new(out, &schema).map_err(write_error)?)),
        };
        Ok(Sink { writer, file, rows: 0 })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// `Internal` if the rows can't be written.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Csv(writer) => writer.write(batch).map_err(write_error),
            Writer::Parquet(writer) => writer.write(batch).map_err(write_error),
            Writer::Arrow(writer) => writer.write(batch).map_err(write_error),
        }
    }

    /// Completes the file and renames it to its final name. Returns the number of rows.
    ///
    /// # Errors
    /// `Internal` if the file can't be written.
    pub(super) fn finish(self) -> Result<u64> {
        let mut out = match self.writer {
            Writer::Csv(writer) => writer.into_inner(),
            Writer::Parquet(writer) => writer.into_inner().map_err(write_error)?,
            Writer::Arrow(writer) => writer.into_inner().map_err(write_error)?,
        };
        out.flush().map_err(write_error)?;
        drop(out);
        if let Some((temporary, path)) = self.file {
            std::fs::rename(&temporary, &path).map_err(write_error)?;
        }
        Ok(self.rows)
    }
}

/// Returns the path of a file while it is written.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn write_error(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the rows can't be written").because(cause).next("check the file or standard output")
}

//! Writes rows to a file or to standard output, as CSV, Parquet or Arrow.

use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, SchemaRef};
use defi_shared::error::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use super::{CsvStyle, OutputFile, write_csv};

/// The format of exported rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated values with a header line; NULL is an empty cell.
    Csv(CsvStyle),
    /// Parquet with ZSTD compression.
    Parquet,
    /// Arrow IPC file, also called Feather.
    Arrow,
}

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// The number of rows.
    pub rows: u64,
    /// The number of bytes.
    pub bytes: u64,
    /// The SHA-256 digest of the bytes, in hexadecimal digits.
    pub sha256: String,
}

/// An output, with the number of its bytes and their digest.
struct DigestedFile {
    file: OutputFile,
    bytes: u64,
    digest: Sha256,
}

impl Write for DigestedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

type Out = BufWriter<Box<DigestedFile>>;

enum Writer {
    Csv(Out, CsvStyle),
    Parquet(Box<ArrowWriter<Out>>),
    Arrow(Box<FileWriter<Out>>),
}

/// Writes record batches to an [`OutputFile`], which is committed after all rows are written.
pub struct Sink {
    writer: Writer,
    rows: u64,
}

impl Sink {
    /// Opens a file, or standard output if `output` is `None`.
    ///
    /// # Errors
    /// `BadInput` if the file can't be created, the format can't hold the columns, or binary data would be written to a
    /// terminal.
    pub fn open(format: FileFormat, output: Option<&Path>, schema: SchemaRef) -> Result<Self> {
        let file = output.map_or_else(|| Ok(OutputFile::stdout()), OutputFile::open)?;
        if !matches!(format, FileFormat::Csv(_)) && file.is_terminal() {
            return Err(Error::bad_input("Parquet and Arrow are binary and can't be written to a terminal")
                .with_hint("choose a file with --output, or use --format csv"));
        }
        let mut out = BufWriter::new(Box::new(DigestedFile { file, bytes: 0, digest: Sha256::new() }));
        let writer = match format {
            FileFormat::Csv(style) => {
                // The header is written even if there are no rows.
                write_csv(&mut out, &RecordBatch::new_empty(schema), true, style).map_err(row_error)?;
                Writer::Csv(out, style)
            }
            FileFormat::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(parquet_error)?;
                Writer::Parquet(Box::new(writer))
            }
            FileFormat::Arrow => Writer::Arrow(Box::new(FileWriter::try_new(out, &schema).map_err(row_error)?)),
        };
        Ok(Sink { writer, rows: 0 })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// `BadInput` if the format can't hold the rows, and `Internal` if they can't be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Csv(out, style) => write_csv(out, batch, false, *style).map_err(row_error),
            Writer::Parquet(writer) => writer.write(batch).map_err(parquet_error),
            Writer::Arrow(writer) => writer.write(batch).map_err(row_error),
        }
    }

    /// Completes and commits the file.
    ///
    /// # Errors
    /// `Internal` or `BadInput` if the file can't be written.
    pub fn finish(self) -> Result<Written> {
        let out = match self.writer {
            Writer::Csv(out, _) => out,
            Writer::Parquet(writer) => writer.into_inner().map_err(parquet_error)?,
            Writer::Arrow(writer) => writer.into_inner().map_err(row_error)?,
        };
        let out = out.into_inner().map_err(IntoInnerError::into_error).map_err(write_error)?;
        let DigestedFile { file, bytes, digest } = *out;
        file.commit()?;
        Ok(Written { rows: self.rows, bytes, sha256: const_hex::encode(digest.finalize()) })
    }
}

/// Returns the error for rows that a format can't hold, such as nested values in CSV, or that can't be written.
#[must_use]
pub fn row_error(cause: ArrowError) -> Error {
    match cause {
        ArrowError::IoError(..) => write_error(cause),
        cause => not_held(cause),
    }
}

fn parquet_error(cause: ParquetError) -> Error {
    match cause {
        ParquetError::External(_) => write_error(cause),
        cause => not_held(cause),
    }
}

fn not_held(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::bad_input("this format can't hold the rows")
        .with_source(cause)
        .with_hint("choose another --format, or select the parts of nested values")
}

fn write_error(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the rows can't be written").with_source(cause).with_hint("check the file or standard output")
}

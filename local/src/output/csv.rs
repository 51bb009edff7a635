//! Writes rows as CSV, exactly or for a spreadsheet.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_csv::WriterBuilder;
use arrow_schema::ArrowError;
use csv::{QuoteStyle, ReaderBuilder, StringRecord};

/// What the cells of CSV are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsvStyle {
    /// Programs: every cell is the value.
    Exact,
    /// A spreadsheet: a cell that it would run as a formula has an apostrophe before it, and every cell that is not a
    /// number is in quotes, since some spreadsheets split a line at other characters than a comma.
    Safe,
}

/// Writes the rows of a batch, below their header if `with_header` is set.
///
/// # Errors
/// The rows can't be formatted or written.
pub fn write_csv(
    out: &mut impl Write,
    batch: &RecordBatch,
    with_header: bool,
    style: CsvStyle,
) -> Result<(), ArrowError> {
    let builder = WriterBuilder::new().with_header(with_header);
    match style {
        CsvStyle::Exact => builder.build(out).write(batch),
        CsvStyle::Safe => {
            let mut exact = Vec::new();
            builder.build(&mut exact).write(batch)?;
            write_safely(&exact, out).map_err(|cause| ArrowError::from_external_error(Box::new(cause)))
        }
    }
}

/// Copies CSV, with safe cells.
fn write_safely(exact: &[u8], out: &mut impl Write) -> csv::Result<()> {
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(exact);
    let mut writer = csv::WriterBuilder::new().quote_style(QuoteStyle::NonNumeric).from_writer(out);
    let mut record = StringRecord::new();
    while reader.read_record(&mut record)? {
        for cell in &record {
            if is_run(cell) { writer.write_field(format!("'{cell}"))? } else { writer.write_field(cell)? }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(writer.flush()?)
}

/// Whether a spreadsheet may run a cell as a formula: it starts with one of the characters that OWASP's advice on CSV
/// injection lists, or with their full-width forms or any other control character, and is not a number.
fn is_run(cell: &str) -> bool {
    let starts = |c: char| {
        matches!(c, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}') || c.is_control()
    };
    cell.starts_with(starts) && !cell.parse().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn csv(style: CsvStyle, text: &[&str]) -> String {
        let rows = text.len();
        let batch = RecordBatch::try_from_iter([
            ("=name", Arc::new(StringArray::from(text.to_vec())) as ArrayRef),
            ("integer", Arc::new(Int64Array::from(vec![Some(-5); rows])) as ArrayRef),
            ("missing", Arc::new(Float64Array::from(vec![None; rows])) as ArrayRef),
        ]);
        let (batch, mut out) = (batch.unwrap(), Vec::new());
        write_csv(&mut out, &batch.slice(0, 0), true, style).unwrap();
        write_csv(&mut out, &batch, false, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn exact_cells_are_the_values() {
        let text = csv(CsvStyle::Exact, &["=1+1", "-5", "a;b", "a,\"b\"", ""]);
        assert_eq!(text, "=name,integer,missing\n=1+1,-5,\n-5,-5,\na;b,-5,\n\"a,\"\"b\"\"\",-5,\n,-5,\n");
    }

    #[test]
    fn safe_cells_are_quoted_and_not_run() {
        let text = csv(CsvStyle::Safe, &["=1+1", "-5", "a;=b", "a,\"b\"", ""]);
        let expected = "\"'=name\",\"integer\",\"missing\"\n\"'=1+1\",-5,\"\"\n-5,-5,\"\"\n\"a;=b\",-5,\"\"\n\
             \"a,\"\"b\"\"\",-5,\"\"\n\"\",-5,\"\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn formulas_are_told_from_numbers_and_text() {
        for cell in [
            "=cmd|' /C calc'!A0",
            "+1+cmd",
            "-2+3",
            "-",
            "-inf",
            "-0x10",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "\0=1",
            "\u{ff1d}1",
            "\u{ff20}A",
        ] {
            assert!(is_run(cell), "{cell:?}");
        }
        for cell in ["", "a=1", "'=1", " ", "0x0a", "1", "-1", "+1.5", "-1.5e-7", "2023-01-01", "naïve", "inf"] {
            assert!(!is_run(cell), "{cell:?}");
        }
    }

    #[test]
    fn lines_within_cells_stay_in_their_cells() {
        let text = csv(CsvStyle::Safe, &["a\n=1", "b\r\n@c\",=1"]);
        let mut reader = ReaderBuilder::new().from_reader(text.as_bytes());
        let cells: Vec<_> = reader.records().map(|record| record.unwrap()[0].to_owned()).collect();
        assert_eq!(cells, ["a\n=1", "b\r\n@c\",=1"]);
    }
}

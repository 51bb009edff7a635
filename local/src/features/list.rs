//! Reads the files that list wallets and instants.

use std::path::Path;

use crate::output::message;
use csv::StringRecord;
use defi_shared::domain::{Address, Day, parse_time};
use defi_shared::error::{Error, Result};

/// Hex digits in a row from which on a cell looks like an address. No name of a column has so many.
const ADDRESS_DIGITS: usize = 16;

/// Reads the records of a CSV file with `parse`, which returns the problem of an invalid record. Blank lines and a byte
/// order mark are skipped. The first line may be a heading, which is reported on standard error.
///
/// # Errors
/// `BadInput` with the number of the invalid line, or if the file can't be read.
pub(super) fn read<T>(path: &Path, parse: impl Fn(&StringRecord) -> Result<T, String>) -> Result<Vec<T>> {
    let read_error = |cause| Error::bad_input("the file can't be read").with("path", path.display()).with_source(cause);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(read_error)?;
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(read_error)?;
        let line = record.position().map_or(0, csv::Position::line);
        match parse(&record) {
            Ok(row) => rows.push(row),
            Err(_) if index == 0 && is_heading(&record) => {
                let heading: Vec<_> = record.iter().collect();
                message(format_args!("line {line} is taken as a heading: {}", heading.join(",")));
            }
            Err(problem) => {
                return Err(Error::bad_input(format!("line {line}: {problem}"))
                    .with("path", path.display())
                    .with_hint("correct the line"));
            }
        }
    }
    Ok(rows)
}

/// Parses the wallet in the first cell.
///
/// # Errors
/// The problem of a cell that is no address.
pub(super) fn wallet(record: &StringRecord) -> Result<Address, String> {
    record.get(0).unwrap_or_default().parse().map_err(|error: Error| error.reason())
}

/// Parses a time, or a day, which stands for its midnight.
pub(super) fn time(text: &str) -> Option<jiff::Timestamp> {
    let midnight = |day: Day| jiff::Timestamp::from_second(day.start()).ok();
    parse_time(text).or_else(|| midnight(text.parse().ok()?))
}

/// Whether a record is a heading: no cell is a time or looks like an address, be it a malformed one.
fn is_heading(record: &StringRecord) -> bool {
    !record.iter().any(|cell| looks_like_address(cell) || time(cell).is_some())
}

fn looks_like_address(cell: &str) -> bool {
    let has_prefix = ["0x", "0X"].iter().any(|prefix| cell.starts_with(prefix));
    has_prefix || cell.split(|c: char| !c.is_ascii_hexdigit()).any(|digits| digits.len() >= ADDRESS_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_has_nothing_like_an_address_or_a_time() {
        let is_heading = |cells: &[&str]| is_heading(&StringRecord::from(cells.to_vec()));
        for cells in [&["wallet_address", "time"][..], &["address"], &["face", "add"], &["vitalik.eth"]] {
            assert!(is_heading(cells), "{cells:?}");
        }
        for cell in [
            "0x00000000000000000000000000000000000000",
            "0X1",
            "000000000000000000000000000000000000000",
            "g000000000000000000000000000000000000001",
            "2023-01-01 00:00:00",
            "2023-01-01",
        ] {
            assert!(!is_heading(&["name", cell]), "{cell}");
        }
    }

    #[test]
    fn a_time_is_a_point_in_time_or_a_day() {
        let milliseconds = |text| time(text).map(jiff::Timestamp::as_millisecond);
        assert_eq!(milliseconds("2023-01-01T00:00:10.5Z"), Some(1_672_531_210_500));
        assert_eq!(milliseconds("2023-01-01"), Some(1_672_531_200_000));
        assert_eq!(milliseconds("1672531210"), Some(1_672_531_210_000));
        assert_eq!(milliseconds("noon"), None);
    }
}

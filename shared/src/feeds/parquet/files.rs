//! The files of a folder or a bucket: which of them have the rows of a range of blocks, and whether any are missing.

use std::collections::BTreeMap;

use crate::domain::Day;
use crate::error::{Error, Kind, Result};
use crate::feeds::LogQuery;
use crate::lake::{Entry, Store};

/// What the files of AWS's public data set are called.
const DAY_FILES: &str = "logs/date=…/*.parquet";

/// What the files of cryo are called.
const RANGE_FILES: &str = "ethereum__logs__00000000_to_00000999.parquet";

/// The files by what they hold.
#[derive(Debug)]
pub(super) enum Files {
    /// `logs/date=2023-01-01/….parquet`, beside them `blocks/…` and `transactions/…`, as in AWS's public data set.
    Days { logs: DayFiles, blocks: DayFiles, transactions: DayFiles },
    /// `ethereum__logs__00000000_to_00000999.parquet`, beside them `ethereum__transactions__…`, as cryo writes them.
    Ranges { logs: Vec<RangeFile>, transactions: Vec<RangeFile> },
}

type DayFiles = BTreeMap<Day, Vec<Entry>>;

/// A file with all rows of some blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeFile {
    first: u64,
    last: u64,
    file: Entry,
}

/// The files to read for a range of blocks.
#[derive(Debug, Default)]
pub(super) struct Selection<'a> {
    pub logs: Vec<&'a Entry>,
    pub transactions: Vec<&'a Entry>,
    /// `None` if the names of the files say which blocks they have.
    pub blocks: Option<Vec<&'a Entry>>,
}

impl Files {
    /// Lists the files below a prefix.
    ///
    /// # Errors
    /// `BadInput` if there are none of logs, or days of logs without a table of blocks; the errors of the store.
    pub(super) async fn list(store: &dyn Store, prefix: &str) -> Result<Files> {
        let logs = days(store, prefix, "logs").await?;
        if !logs.is_empty() {
            let (blocks, transactions) =
                (days(store, prefix, "blocks").await?, days(store, prefix, "transactions").await?);
            if blocks.is_empty() {
                return Err(Error::bad_input(
                    "there is no table of blocks beside the logs: missing blocks would not be noticed",
                )
                .with("folder", store.location(prefix))
                .with_hint("add the folder blocks/date=…/ of the data set"));
            }
            return Ok(Files::Days { logs, blocks, transactions });
        }
        let entries = store.list(prefix).await?;
        let (logs, transactions) = (ranges(&entries, "logs"), ranges(&entries, "transactions"));
        if logs.is_empty() {
            return Err(Error::bad_input("there are no Parquet files of logs here")
                .with("folder", store.location(prefix))
                .with_hint(format!("name the folder that has {DAY_FILES}, or files like {RANGE_FILES}")));
        }
        Ok(Files::Ranges { logs, transactions })
    }

    /// Returns the files that have the rows of a query.
    ///
    /// # Errors
    /// `NotReady` if the files end before the last block, `CorruptData` if some are missing before.
    pub(super) fn select(&self, query: &LogQuery<'_>) -> Result<Selection<'_>> {
        match self {
            Files::Days { logs, blocks, transactions } => {
                let days = days_of(query);
                Ok(Selection {
                    logs: every_day(logs, &days, "logs")?,
                    blocks: Some(every_day(blocks, &days, "blocks")?),
                    transactions: days.iter().filter_map(|day| transactions.get(day)).flatten().collect(),
                })
            }
            Files::Ranges { logs, transactions } => {
                require_all_blocks(logs, query)?;
                let (logs, transactions) = (overlapping(logs, query), overlapping(transactions, query));
                Ok(Selection { logs, transactions, blocks: None })
            }
        }
    }
}

/// Lists the Parquet files in the folders of days of a table.
async fn days(store: &dyn Store, prefix: &str, table: &str) -> Result<DayFiles> {
    let folder = format!("{prefix}{table}/date=");
    let mut days = DayFiles::new();
    for entry in store.list(&folder).await? {
        let path = entry.key.strip_prefix(&folder).and_then(|rest| rest.split_once('/'));
        let is_data = |name: &str| name.ends_with(".parquet") && !name.starts_with(['_', '.']);
        if let Some((day, name)) = path
            && is_data(name)
            && let Ok(day) = day.parse()
        {
            days.entry(day).or_default().push(entry);
        }
    }
    Ok(days)
}

/// Returns the days of the blocks of a query.
fn days_of(query: &LogQuery<'_>) -> Vec<Day> {
    let last = Day::from_epoch_seconds(query.last.timestamp);
    let first = Day::from_epoch_seconds(query.first.timestamp);
    std::iter::successors(Some(first), |day| Some(day.next())).take_while(|day| *day <= last).collect()
}

fn every_day<'a>(files: &'a DayFiles, days: &[Day], table: &str) -> Result<Vec<&'a Entry>> {
    let newest = files.keys().next_back();
    let of_day = |day: &Day| match files.get(day) {
        Some(entries) => Ok(entries),
        None if newest.is_none_or(|newest| day > newest) => Err(Error::new(
            Kind::NotReady,
            "the files of a day are not there yet; the end of a day is the first block of the next one",
        )
        .with("day", day)
        .with("table", table)
        .with_hint("run again once they are there, or without --logs")),
        None => Err(Error::corrupt("the files of a day are missing")
            .with("day", day)
            .with("table", table)
            .with_hint("add them, or run without --logs")),
    };
    let entries = days.iter().map(of_day).collect::<Result<Vec<_>>>()?;
    Ok(entries.into_iter().flatten().collect())
}

/// Returns the files of a kind of data, in the order of their blocks.
fn ranges(entries: &[Entry], kind: &str) -> Vec<RangeFile> {
    let mut files: Vec<RangeFile> = entries.iter().filter_map(|entry| range_file(entry, kind)).collect();
    files.sort_by(|a, b| (a.first, a.last, &a.file).cmp(&(b.first, b.last, &b.file)));
    files
}

/// Reads the blocks from a name: `{network}__{kind}__{first}_to_{last}.parquet`, perhaps with a label before the extension.
fn range_file(entry: &Entry, kind: &str) -> Option<RangeFile> {
    let name = entry.key.rsplit('/').next()?.strip_suffix(".parquet")?;
    let mut parts = name.split("__");
    let (_network, found, blocks) = (parts.next()?, parts.next()?, parts.next()?);
    let (first, last) = blocks.split_once("_to_").filter(|_| found == kind)?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| RangeFile { first, last, file: entry.clone() })
}

fn overlapping<'a>(files: &'a [RangeFile], query: &LogQuery<'_>) -> Vec<&'a Entry> {
    let overlaps = |file: &&RangeFile| file.first <= query.last.number && file.last >= query.first.number;
    files.iter().filter(overlaps).map(|file| &file.file).collect()
}

/// Checks that each block of a query is in a file.
fn require_all_blocks(files: &[RangeFile], query: &LogQuery<'_>) -> Result<()> {
    let mut next = query.first.number;
    for file in files.iter().filter(|file| file.last >= query.first.number) {
        if next > query.last.number || file.first > next {
            break;
        }
        next = next.max(file.last.saturating_add(1));
    }
    if next > query.last.number {
        return Ok(());
    }
    match files.iter().map(|file| file.first).filter(|first| *first > next).min() {
        Some(after) => Err(Error::corrupt("blocks are missing between the files of logs")
            .with("from", next)
            .with("to", after - 1)
            .with_hint("add the files of these blocks, or run without --logs")),
        None => Err(Error::new(Kind::NotReady, "the files of logs end before the last block of the range")
            .with("block", next)
            .with_hint("run again once there are files of it, or without --logs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::BlockTime;

    fn entry(key: &str) -> Entry {
        Entry { key: key.to_owned(), size: 1 }
    }

    fn blocks(first: u64, last: u64) -> LogQuery<'static> {
        let at = |number| BlockTime { number, timestamp: 0 };
        LogQuery { addresses: &[], first: at(first), last: at(last) }
    }

    #[test]
    fn names_tell_blocks() {
        let of = |key: &str| range_file(&entry(key), "logs").map(|file| (file.first, file.last));
        assert_eq!(of("ethereum__logs__00000000_to_00000999.parquet"), Some((0, 999)));
        assert_eq!(of("a/b/network_1__logs__17000000_to_17000099__mine.parquet"), Some((17_000_000, 17_000_099)));
        for other in [
            "ethereum__transactions__00000000_to_00000999.parquet",
            "ethereum__logs__00000999_to_00000000.parquet",
            "ethereum__logs__00000000_to_00000999.csv",
            "ethereum__logs__a_to_b.parquet",
            "ethereum__logs.parquet",
            "logs.parquet",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn holes_between_files_are_found() {
        let names = ["0_to_9", "5_to_12", "13_to_19", "30_to_39"];
        let entries: Vec<_> = names.iter().map(|name| entry(&format!("x__logs__{name}.parquet"))).collect();
        let files = ranges(&entries, "logs");
        let check = |first, last| require_all_blocks(&files, &blocks(first, last)).map_err(|error| error.to_string());
        for (first, last) in [(0, 0), (0, 19), (6, 14), (30, 39)] {
            check(first, last).unwrap();
        }
        assert!(check(15, 31).unwrap_err().starts_with("CorruptData: blocks are missing"), "20 to 29");
        assert!(check(15, 31).unwrap_err().contains("(from=20, to=29)"));
        assert!(check(15, 20).unwrap_err().starts_with("CorruptData"));
        assert!(check(35, 40).unwrap_err().starts_with("NotReady"));
        assert!(check(50, 60).unwrap_err().starts_with("NotReady"));
        assert_eq!(overlapping(&files, &blocks(12, 13)).len(), 2);
    }
}

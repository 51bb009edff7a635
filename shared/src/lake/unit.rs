//! The unit of work: the smallest piece of work of a step, and the key of the object that it produces.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::config::transpose_names;
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::tables::{Layout, Table};

/// A unit of work. A step produces one object of its table for each of its units, under a key that depends only on the
/// table and the unit. Ordered by day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkUnit {
    /// A UTC day. In a table of events, which holds one category, the day identifies the object.
    Day(Day),
    /// A UTC day of one event category, for steps that work on several categories.
    EventDay(Day, Category),
    /// A UTC month of one protocol, by its first day.
    ProtocolMonth(Day, Arc<str>),
    /// A UTC day of one protocol.
    ProtocolDay(Day, Arc<str>),
    /// A protocol.
    Protocol(Arc<str>),
    /// A shard of the wallets as of a day.
    Shard(Day, u32),
}

impl WorkUnit {
    /// Returns the key of the unit's object in a table.
    #[must_use]
    pub fn key(&self, table: &Table) -> String {
        format!("{}/{}", table.prefix(), self.path(table.layout))
    }

    /// Returns the day, if the unit has one: of a month, the first one.
    #[must_use]
    pub fn day(&self) -> Option<Day> {
        match self {
            WorkUnit::Day(day)
            | WorkUnit::EventDay(day, _)
            | WorkUnit::ProtocolMonth(day, _)
            | WorkUnit::ProtocolDay(day, _)
            | WorkUnit::Shard(day, _) => Some(*day),
            WorkUnit::Protocol(_) => None,
        }
    }

    /// Returns the shard, if the unit is one.
    #[must_use]
    pub fn shard(&self) -> Option<u32> {
        match self {
            WorkUnit::Shard(_, shard) => Some(*shard),
            _ => None,
        }
    }

    /// Returns the day of a [`WorkUnit::Day`].
    ///
    /// # Errors
    /// `Internal` for another kind of unit.
    pub fn as_day(&self) -> Result<Day> {
        match self {
            WorkUnit::Day(day) => Ok(*day),
            _ => Err(self.unexpected("a day")),
        }
    }

    /// Returns the day and category of a [`WorkUnit::EventDay`].
    ///
    /// # Errors
    /// `Internal` for another kind of unit.
    pub fn as_event_day(&self) -> Result<(Day, Category)> {
        match self {
            WorkUnit::EventDay(day, category) => Ok((*day, *category)),
            _ => Err(self.unexpected("a day of an event category")),
        }
    }

    /// Returns the day and protocol of a [`WorkUnit::ProtocolDay`].
    ///
    /// # Errors
    /// `Internal` for another kind of unit.
    pub fn as_protocol_day(&self) -> Result<(Day, Arc<str>)> {
        match self {
            WorkUnit::ProtocolDay(day, protocol) => Ok((*day, Arc::clone(protocol))),
            _ => Err(self.unexpected("a day of a protocol")),
        }
    }

    /// Returns the days, up to but excluding the second one, and the protocol of a [`WorkUnit::ProtocolDay`] or of a
    /// [`WorkUnit::ProtocolMonth`].
    ///
    /// # Errors
    /// `Internal` for another kind of unit.
    pub fn as_protocol_days(&self) -> Result<(Range<Day>, Arc<str>)> {
        match self {
            WorkUnit::ProtocolDay(day, protocol) => Ok((*day..day.next(), Arc::clone(protocol))),
            WorkUnit::ProtocolMonth(first, protocol) => Ok((*first..first.first_of_next_month(), Arc::clone(protocol))),
            _ => Err(self.unexpected("a day or month of a protocol")),
        }
    }

    /// Returns the protocol of a [`WorkUnit::Protocol`].
    ///
    /// # Errors
    /// `Internal` for another kind of unit.
    pub fn as_protocol(&self) -> Result<Arc<str>> {
        match self {
            WorkUnit::Protocol(protocol) => Ok(Arc::clone(protocol)),
            _ => Err(self.unexpected("a protocol")),
        }
    }

    fn unexpected(&self, expected: &str) -> Error {
        Error::internal(format!("the unit of work is not {expected}")).with("unit", self)
    }

    /// Returns the unit as a table identifies it: a table of events holds one category, so the day is enough.
    #[must_use]
    pub(super) fn in_table(&self) -> WorkUnit {
        match self {
            WorkUnit::EventDay(day, _) => WorkUnit::Day(*day),
            unit => unit.clone(),
        }
    }

    /// Returns the values of the partition columns.
    #[must_use]
    pub fn partition(&self) -> Vec<String> {
        match self {
            WorkUnit::Day(day)
            | WorkUnit::EventDay(day, _)
            | WorkUnit::ProtocolMonth(day, _)
            | WorkUnit::ProtocolDay(day, _) => {
                vec![day.year(), day.month()]
            }
            WorkUnit::Shard(as_of, _) => vec![as_of.to_string()],
            WorkUnit::Protocol(_) => Vec::new(),
        }
    }

    /// Returns the path of the unit's object within the folder of its table.
    #[must_use]
    pub(super) fn path(&self, layout: Layout) -> String {
        let partition = layout.partition_columns().iter().zip(self.partition());
        let folders: String = partition.map(|(column, value)| format!("{column}={value}/")).collect();
        let name = match self {
            WorkUnit::Day(day) | WorkUnit::EventDay(day, _) => day.to_string(),
            WorkUnit::ProtocolMonth(first, protocol) => format!("{}-{}.{protocol}", first.year(), first.month()),
            WorkUnit::ProtocolDay(day, protocol) => format!("{day}.{protocol}"),
            WorkUnit::Protocol(protocol) => protocol.to_string(),
            WorkUnit::Shard(_, shard) => shard.to_string(),
        };
        format!("{folders}{name}.parquet")
    }

    /// Parses the key of an object of a table. Returns `None` if no unit of the table has that key.
    #[must_use]
    pub fn from_key(table: &Table, key: &str) -> Option<WorkUnit> {
        WorkUnit::from_path(table, key.strip_prefix(&table.prefix())?.strip_prefix('/')?)
    }

    /// Parses the path of an object within the folder of its table. Returns `None` if no unit has that path.
    #[must_use]
    pub fn from_path(table: &Table, path: &str) -> Option<WorkUnit> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name).strip_suffix(".parquet")?;
        let unit = match table.layout {
            Layout::Day => WorkUnit::Day(name.parse().ok()?),
            Layout::ProtocolDay | Layout::ProtocolDayOrMonth => {
                let (days, protocol) = name.split_once('.')?;
                transpose_names(protocol)?;
                match parse_month(days).filter(|_| table.layout == Layout::ProtocolDayOrMonth) {
                    Some(first) => WorkUnit::ProtocolMonth(first, protocol.into()),
                    None => WorkUnit::ProtocolDay(days.parse().ok()?, protocol.into()),
                }
            }
            Layout::Protocol => {
                transpose_names(name)?;
                WorkUnit::Protocol(name.into())
            }
            Layout::Shard => {
                let as_of = path.strip_prefix("as_of=")?.split_once('/')?.0;
                WorkUnit::Shard(as_of.parse().ok()?, name.parse().ok()?)
            }
        };
        (unit.path(table.layout) == path).then_some(unit)
    }
}

impl fmt::Display for WorkUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkUnit::Day(day) => write!(f, "{day}"),
            WorkUnit::EventDay(day, category) => write!(f, "{day} {category}"),
            WorkUnit::ProtocolMonth(first, protocol) => write!(f, "{}-{} {protocol}", first.year(), first.month()),
            WorkUnit::ProtocolDay(day, protocol) => write!(f, "{day} {protocol}"),
            WorkUnit::Protocol(protocol) => write!(f, "{protocol}"),
            WorkUnit::Shard(as_of, shard) => write!(f, "{as_of} shard {shard}"),
        }
    }
}

/// Parses a month such as `2023-01`, and returns its first day.
pub(crate) fn parse_month(text: &str) -> Option<Day> {
    format!("{text}-01").parse().ok().filter(|_| text.len() == "2023-01".len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{CURRENT_POSITIONS, DAILY_BLOCKS, FEATURES_PUBLISHED, RAW_LOGS, RAW_MARKETS, TABLES};

    #[test]
    fn keys_and_units_convert_both_ways() {
        let day: Day = "2023-01-02".parse().unwrap();
        let units = [
            (
                &DAILY_BLOCKS,
                WorkUnit::Day(day),
                "raw/transpose/ethereum_daily_blocks/year=2023/month=01/2023-01-02.parquet",
            ),
            (
                &RAW_MARKETS,
                WorkUnit::ProtocolDay(day, "aave-v2-eth".into()),
                "raw/the_graph/the_graph_historical_market_data/year=2023/month=01/2023-01-02.aave-v2-eth.parquet",
            ),
            (
                &RAW_LOGS,
                WorkUnit::ProtocolDay(day, "aave-v2-eth".into()),
                "raw/ethereum/ethereum_lending_logs/year=2023/month=01/2023-01-02.aave-v2-eth.parquet",
            ),
            (
                &RAW_LOGS,
                WorkUnit::ProtocolMonth(day.previous(), "aave-v2-eth".into()),
                "raw/ethereum/ethereum_lending_logs/year=2023/month=01/2023-01.aave-v2-eth.parquet",
            ),
            (
                &CURRENT_POSITIONS,
                WorkUnit::Protocol("aave-v2-eth".into()),
                "analytics/the_graph/the_graph_current_collateral_positions/aave-v2-eth.parquet",
            ),
            (
                &FEATURES_PUBLISHED,
                WorkUnit::Shard(day, 3),
                "analytics/features/defi_features/as_of=2023-01-02/3.parquet",
            ),
        ];
        for (table, unit, key) in units {
            assert_eq!(unit.key(table), key);
            assert_eq!(WorkUnit::from_path(table, &key[table.prefix().len() + 1..]), Some(unit.clone()));
            assert_eq!(WorkUnit::from_key(table, key), Some(unit));
            assert_eq!(WorkUnit::from_key(table, &key.replacen('/', "", 1)), None);
            assert_eq!(WorkUnit::from_key(table, &key.replace(table.name, &format!("{}x", table.name))), None);
        }
    }

    #[test]
    fn rejects_paths_of_other_objects() {
        for table in TABLES {
            for path in [
                "",
                "x.parquet.tmp",
                "year=2023/month=02/2023-01-02.parquet",
                "as_of=2023-01-02/x.parquet",
                "2023-01-02.txt",
                "copy.parquet",
                "._aave-v2-eth.parquet",
                "aave-v2-eth (1).parquet",
                "year=2023/month=01/2023-01-02.aave-v2-eth.copy.parquet",
                "year=2023/month=01/2023-01-02 (1).parquet",
                "year=2023/month=01/2023-01-02.copy.parquet",
                "year=2023/month=02/2023-01.aave-v2-eth.parquet",
                "year=2023/month=01/2023-1.aave-v2-eth.parquet",
            ] {
                assert_eq!(WorkUnit::from_path(table, path), None, "{} {path}", table.name);
            }
        }
    }
}

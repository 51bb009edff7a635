//! The unit of a table's objects, and the name that depends on it alone.

use std::fmt;
use std::sync::Arc;

use crate::domain::Day;
use crate::tables::{Layout, Table};

/// What one object of a table holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A UTC day.
    Day(Day),
    /// A UTC day of one protocol.
    DayAndProtocol(Day, Arc<str>),
    /// A protocol.
    Protocol(Arc<str>),
    /// A shard of the wallets, as of a day.
    AsOfAndShard(Day, u32),
}

impl Unit {
    /// The key of this unit's object.
    #[must_use]
    pub fn key(&self, table: &Table) -> String {
        format!("{}/{}", table.prefix(), self.path(table.layout))
    }

    /// The day, where the unit has one.
    #[must_use]
    pub fn day(&self) -> Option<Day> {
        match self {
            Unit::Day(day) | Unit::DayAndProtocol(day, _) | Unit::AsOfAndShard(day, _) => Some(*day),
            Unit::Protocol(_) => None,
        }
    }

    /// The values of the table's partition columns.
    #[must_use]
    pub fn partition(&self) -> Vec<String> {
        match self {
            Unit::Day(day) | Unit::DayAndProtocol(day, _) => vec![day.year(), day.month()],
            Unit::AsOfAndShard(as_of, _) => vec![as_of.to_string()],
            Unit::Protocol(_) => Vec::new(),
        }
    }

    /// The object's path within its table's folder.
    #[must_use]
    pub(super) fn path(&self, layout: Layout) -> String {
        let partition = layout.partition_columns().iter().zip(self.partition());
        let folders: String = partition.map(|(column, value)| format!("{column}={value}/")).collect();
        let name = match self {
            Unit::Day(day) => day.to_string(),
            Unit::DayAndProtocol(day, protocol) => format!("{day}.{protocol}"),
            Unit::Protocol(protocol) => protocol.to_string(),
            Unit::AsOfAndShard(_, shard) => shard.to_string(),
        };
        format!("{folders}{name}.parquet")
    }

    /// The unit of an object from its path within the table's folder; `None` for a name that no unit has.
    #[must_use]
    pub fn of_key(table: &Table, path: &str) -> Option<Unit> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name).strip_suffix(".parquet")?;
        let unit = match table.layout {
            Layout::Day => Unit::Day(name.parse().ok()?),
            Layout::DayAndProtocol => {
                let (day, protocol) = name.split_once('.')?;
                Unit::DayAndProtocol(day.parse().ok()?, protocol.into())
            }
            Layout::Protocol => Unit::Protocol(name.into()),
            Layout::AsOfAndShard => {
                let as_of = path.strip_prefix("as_of=")?.split_once('/')?.0;
                Unit::AsOfAndShard(as_of.parse().ok()?, name.parse().ok()?)
            }
        };
        (unit.path(table.layout) == path).then_some(unit)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Day(day) => write!(f, "{day}"),
            Unit::DayAndProtocol(day, protocol) => write!(f, "{day} {protocol}"),
            Unit::Protocol(protocol) => write!(f, "{protocol}"),
            Unit::AsOfAndShard(as_of, shard) => write!(f, "{as_of} shard {shard}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{CURRENT_POSITIONS, DAILY_BLOCKS, FEATURES_PUBLISHED, RAW_MARKETS, TABLES};

    #[test]
    fn a_key_depends_on_the_unit_alone_and_leads_back_to_it() {
        let day: Day = "2023-01-02".parse().unwrap();
        let units = [
            (
                &DAILY_BLOCKS,
                Unit::Day(day),
                "raw/transpose/ethereum_daily_blocks/year=2023/month=01/2023-01-02.parquet",
            ),
            (
                &RAW_MARKETS,
                Unit::DayAndProtocol(day, "aave-v2-eth".into()),
                "raw/the_graph/the_graph_historical_market_data/year=2023/month=01/2023-01-02.aave-v2-eth.parquet",
            ),
            (
                &CURRENT_POSITIONS,
                Unit::Protocol("aave-v2-eth".into()),
                "analytics/the_graph/the_graph_current_collateral_positions/aave-v2-eth.parquet",
            ),
            (
                &FEATURES_PUBLISHED,
                Unit::AsOfAndShard(day, 3),
                "analytics/features/defi_features/as_of=2023-01-02/3.parquet",
            ),
        ];
        for (table, unit, key) in units {
            assert_eq!(unit.key(table), key);
            assert_eq!(Unit::of_key(table, &key[table.prefix().len() + 1..]), Some(unit));
        }
    }

    #[test]
    fn a_stray_object_is_no_unit() {
        for table in TABLES {
            for path in [
                "",
                "x.parquet.tmp",
                "year=2023/month=02/2023-01-02.parquet",
                "as_of=2023-01-02/x.parquet",
                "2023-01-02.txt",
            ] {
                assert_eq!(Unit::of_key(table, path), None, "{} {path}", table.name);
            }
        }
    }
}

//! The counts of a table's objects, read from their footers.

use std::sync::Arc;

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::domain::price::LOOK_BACK_DAYS;
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::lake::{Entry, FileMetadata, Footer, WorkUnit};
use defi_shared::step::Context;
use defi_shared::step::aave::{Measure, Worst};
use defi_shared::tables::Table;

use crate::shares::{Gatherer, Group, Share};

/// The days from a first day, or from the first day in the lake, to a last day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DayRange {
    pub first: Option<Day>,
    pub last: Day,
}

impl DayRange {
    pub fn contains(self, day: Day) -> bool {
        day <= self.last && self.first.is_none_or(|first| day >= first)
    }

    /// Returns the oldest day that is gathered if the days of the range have too few rows.
    pub fn oldest(self) -> Day {
        self.last.plus_days(-GATHERED_DAYS)
    }
}

/// The days that a set is judged by: those after the previous published set, or after the state that it was folded from
/// if that is older. All days up to the as-of day if there is no such set or state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    pub previous: Option<Day>,
    pub as_of: Day,
}

impl Days {
    /// Returns the days of the set's events.
    pub fn of_events(self) -> DayRange {
        DayRange { first: self.previous, last: self.as_of.previous() }
    }

    /// Returns the days of the prices of the set's events and snapshots. An old price counts if there is no newer one.
    pub fn of_prices(self) -> DayRange {
        DayRange { first: self.previous.map(|day| day.plus_days(-LOOK_BACK_DAYS)), last: self.as_of }
    }

    /// Returns the days of the set's snapshots.
    pub fn of_snapshots(self) -> DayRange {
        DayRange { first: self.previous.map(Day::next), last: self.as_of }
    }
}

/// How far back days are gathered until a part has enough rows to be judged.
const GATHERED_DAYS: i32 = 365;

/// The number of older objects that are read at once, until a part has enough rows.
pub(crate) const OLDER_AT_ONCE: usize = 32;

/// The row count and the metadata counts of a unit.
#[derive(Debug)]
pub(crate) struct UnitCounts {
    day: Day,
    protocol: Option<Arc<str>>,
    pub rows: u64,
    metadata: FileMetadata,
}

impl UnitCounts {
    /// Returns a count of the metadata, or `None` if the object does not have it.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.metadata.get(name)?.parse().ok()
    }

    /// Returns the staged rows, of which those in quarantine are counted.
    pub fn quarantined(&self) -> Share {
        Share { counted: self.get("rejected").unwrap_or(0), rows: self.get("rows_in").unwrap_or(0) }
    }

    /// Returns the staged rows of a protocol in a table that has one object for all, of which those in quarantine are
    /// counted.
    pub fn quarantined_of(&self, protocol: &str) -> Share {
        let count = |name: &str| self.get(&format!("{name}.{protocol}")).unwrap_or(0);
        Share { counted: count("rejected"), rows: count("rows_in") }
    }

    /// Returns the rows of a protocol, of which those without a price are counted.
    pub fn unpriced_of(&self, protocol: &str) -> Share {
        let count = |name: &str| self.get(&format!("{name}.{protocol}")).unwrap_or(0);
        Share { counted: count("unpriced"), rows: count("rows") }
    }
}

/// The worst reserve of some days by a measure.
#[derive(Debug, Clone)]
pub(crate) struct WorstReserve {
    pub measure: Measure,
    pub worst: Worst,
    pub day: Day,
    pub protocol: Arc<str>,
}

/// An object of a table with a unit per day.
struct DayObject {
    day: Day,
    protocol: Option<Arc<str>>,
    object: Entry,
}

/// Reads the counts of objects from their footers, in their order.
async fn read_counts<'a>(
    context: &Context,
    objects: impl IntoIterator<Item = &'a DayObject>,
) -> Result<Vec<UnitCounts>> {
    let read = |object: &'a DayObject| {
        let (day, protocol, entry) = (object.day, object.protocol.clone(), object.object.clone());
        async move {
            let Footer { metadata, rows, .. } = context.lake.footer(&entry).await?;
            Ok(UnitCounts { day, protocol, rows, metadata })
        }
    };
    in_order(objects, SMALL_REQUESTS, read).await
}

/// The counts of a table: of the days of the set, newest first, and the objects of older days, newest first, which are
/// read only if a part needs them.
pub(crate) struct TableCounts<'a> {
    context: &'a Context,
    table: &'static Table,
    days: Vec<UnitCounts>,
    older: Vec<DayObject>,
}

impl<'a> TableCounts<'a> {
    pub async fn read(context: &'a Context, table: &'static Table, days: DayRange) -> Result<Self> {
        let mut objects: Vec<_> = context.lake.objects(table).await?.into_iter().filter_map(day_object).collect();
        objects.retain(|object| object.day <= days.last);
        objects.sort_unstable_by(|a, b| (b.day, &b.protocol).cmp(&(a.day, &a.protocol)));
        let (of_set, mut older): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| days.contains(object.day));
        older.retain(|object| object.day >= days.oldest());
        Ok(TableCounts { context, table, days: read_counts(context, &of_set).await?, older })
    }

    pub fn sum(&self, count: impl Fn(&UnitCounts) -> u64) -> u64 {
        self.days.iter().map(count).sum()
    }

    pub fn sum_shares(&self, share: impl Fn(&UnitCounts) -> Share) -> Share {
        let mut sum = Share::default();
        self.days.iter().for_each(|counts| sum.add(share(counts)));
        sum
    }

    /// Returns the worst reserve by a measure, of the newest day if several are equal.
    pub fn worst_reserve(&self, measure: Measure) -> Option<WorstReserve> {
        let of_unit = |counts: &UnitCounts| {
            let worst = Worst::parse(counts.metadata.get(measure.name())?)?;
            Some(WorstReserve { measure, worst, day: counts.day, protocol: counts.protocol.clone()? })
        };
        self.days.iter().filter_map(of_unit).max_by_key(|reserve| (reserve.worst, reserve.day))
    }

    /// Returns the groups of days of a part of the table: of one protocol in tables that have one object per protocol.
    pub async fn groups(&self, protocol: Option<&str>, share: impl Fn(&UnitCounts) -> Share) -> Result<Vec<Group>> {
        let table = format!("{}.{}", self.table.layer.name(), self.table.name);
        let part = protocol.map_or_else(|| table.clone(), |protocol| format!("{table} of {protocol}"));
        let mut gatherer = Gatherer::new(part, self.context.config.checks.share_minimum);
        let is_part = |of: Option<&Arc<str>>| of.is_none_or(|of| Some(&**of) == protocol);
        for counts in self.days.iter().filter(|counts| is_part(counts.protocol.as_ref())) {
            gatherer.add(counts.day, share(counts));
        }
        let older: Vec<_> = self.older.iter().filter(|object| is_part(object.protocol.as_ref())).collect();
        for objects in older.chunks(OLDER_AT_ONCE) {
            if !gatherer.needs_more() {
                break;
            }
            for counts in read_counts(self.context, objects.iter().copied()).await? {
                if gatherer.needs_more() {
                    gatherer.add(counts.day, share(&counts));
                }
            }
        }
        Ok(gatherer.groups())
    }
}

fn day_object((unit, object): (WorkUnit, Entry)) -> Option<DayObject> {
    let protocol = unit.as_protocol_day().ok().map(|(_, protocol)| protocol);
    Some(DayObject { day: unit.day()?, protocol, object })
}

//! The rows of one subgraph at every recorded block, and the look-up of a page.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::Value;

use super::entities::FieldType;
use super::filter::{Filter, field_value};
use super::values::{compare, text_of};
use crate::recording::{Block, Recording, Row, Snapshots};
use crate::server::SchemaVersion;
use crate::timeline::{Timeline, fingerprint};
use std::sync::Arc;

/// One deployment: its tables at each block, and the chain that it has indexed.
pub(super) struct Subgraph {
    pub(super) schema: SchemaVersion,
    /// The hash of the deployment, as `_meta` and error messages name it.
    pub(super) deployment: String,
    pub(super) timeline: Arc<Timeline>,
    pub(super) markets: Table,
    pub(super) positions: Table,
}

/// The rows of one entity by block, sorted by id.
pub(super) struct Table(BTreeMap<u64, Vec<Row>>);

/// Which part of the rows a query wants, and in which order.
pub(super) struct Page {
    pub(super) filter: Filter,
    /// The field to order by, if it is not the id.
    pub(super) order_by: Option<(&'static str, FieldType)>,
    pub(super) descending: bool,
    pub(super) skip: usize,
    pub(super) first: usize,
}

/// The block that a query is pinned to.
pub(super) enum Pin {
    Head,
    Number(i64),
    /// The head, if it is not before this block.
    AtLeast(i64),
    Hash(String),
}

impl Subgraph {
    pub(super) fn new(
        recording: &Recording,
        protocol: &str,
        schema: SchemaVersion,
        timeline: Arc<Timeline>,
    ) -> Subgraph {
        // A real one is the IPFS hash of the manifest; this one is as long, and the same for a recording for good.
        let digits = fingerprint(protocol);
        let deployment = format!("Qm{}", digits.chars().skip(2).take(44).collect::<String>());
        Subgraph {
            schema,
            deployment,
            timeline,
            markets: Table::new(recording, &recording.markets, protocol),
            positions: Table::new(recording, &recording.positions, protocol),
        }
    }

    /// The block that a query is to be answered at, or why there is none, in graph-node's words.
    pub(super) fn resolve(&self, pin: &Pin) -> Result<Block, String> {
        let head = self.timeline.head();
        let number = match pin {
            Pin::Head => return Ok(head),
            Pin::Hash(hash) => {
                let unknown = || "Failed to decode `block.hash` value: `no block with that hash found`".to_owned();
                return self.timeline.by_hash(hash).ok_or_else(unknown);
            }
            Pin::Number(number) | Pin::AtLeast(number) => *number,
        };
        let refuse = |what: String| Err(format!("Failed to decode `block.number` value: `{what}`"));
        let subgraph = &self.deployment;
        if number > head.number as i64 {
            return refuse(format!(
                "subgraph {subgraph} has only indexed up to block number {} and data for block number {number} is \
                 therefore not yet available",
                head.number
            ));
        }
        let first = self.timeline.first().number;
        match (pin, u64::try_from(number)) {
            (Pin::AtLeast(_), _) => Ok(head),
            (_, Ok(number)) if number >= first => Ok(self.timeline.block(number)),
            _ => refuse(format!(
                "subgraph {subgraph} only has data starting at block number {first} and data for block number {number} \
                 is therefore not available"
            )),
        }
    }
}

impl Table {
    fn new(recording: &Recording, snapshots: &Snapshots, protocol: &str) -> Table {
        let recorded = snapshots.get(protocol);
        let table = recording.blocks.iter().map(|block| {
            let mut rows = recorded.and_then(|blocks| blocks.get(&block.number)).cloned().unwrap_or_default();
            // Stable: rows of one id stay in the order of the recording.
            rows.sort_by(|one, other| text_of(&one["id"]).cmp(&text_of(&other["id"])));
            (block.number, rows)
        });
        Table(table.collect())
    }

    /// The rows of a page, from the newest snapshot that is not after the block.
    pub(super) fn page(&self, block: u64, page: &Page) -> Vec<Row> {
        let Some((_, rows)) = self.0.range(..=block).next_back() else { return Vec::new() };
        let rows = in_range(rows, &page.filter);
        let matching = rows.iter().filter(|row| page.filter.accepts(row));
        if let Some((field, field_type)) = page.order_by {
            let value = |row: &Row| field_value(row, field, field_type).clone();
            let mut matching: Vec<(Value, &Row)> = matching.map(|row| (value(row), row)).collect();
            matching.sort_by(|(one, _), (other, _)| {
                let ordering = compare(one, other, field_type.is_number());
                if page.descending { ordering.reverse() } else { ordering }
            });
            return matching.into_iter().map(|(_, row)| row).skip(page.skip).take(page.first).cloned().collect();
        }
        if page.descending {
            matching.rev().skip(page.skip).take(page.first).cloned().collect()
        } else {
            matching.skip(page.skip).take(page.first).cloned().collect()
        }
    }
}

/// The rows whose ids lie in the range of the filter, found by bisection.
fn in_range<'a>(rows: &'a [Row], filter: &Filter) -> &'a [Row] {
    let before = |id: &str, inclusive: bool| {
        rows.partition_point(|row| {
            let known = text_of(&row["id"]);
            if inclusive { known.as_ref() <= id } else { known.as_ref() < id }
        })
    };
    let start = match &filter.low {
        Bound::Unbounded => 0,
        Bound::Included(id) => before(id, false),
        Bound::Excluded(id) => before(id, true),
    };
    let end = match &filter.high {
        Bound::Unbounded => rows.len(),
        Bound::Included(id) => before(id, true),
        Bound::Excluded(id) => before(id, false),
    };
    rows.get(start..end).unwrap_or_default()
}

//! The rows of a subgraph at every recorded block, and the lookup of a page.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::Value;

use super::entities::FieldType;
use super::filter::{Filter, field_value};
use super::past::Past;
use super::values::{compare, text_of};
use crate::recording::{Block, Recording, Row, Snapshots};
use crate::server::{Deployment, SchemaVersion};
use crate::timeline::{Timeline, fingerprint};
use std::sync::{Arc, OnceLock};

/// A deployment: its tables at each block, and the blocks of the chain.
pub(super) struct Subgraph {
    pub(super) schema: SchemaVersion,
    /// The id of the deployment, which `_meta` and error messages contain.
    pub(super) deployment: String,
    pub(super) timeline: Arc<Timeline>,
    /// Whether `_meta` has the hash and the time of its block.
    pub(super) block_details: bool,
    /// The number of blocks before the head whose states are kept.
    history: Option<u64>,
    pub(super) markets: Table,
    pub(super) positions: Table,
}

/// The rows of an entity.
pub(super) struct Table {
    /// By block, sorted by id.
    states: BTreeMap<u64, Vec<Row>>,
    /// What the newest state keeps of the past, once it was asked for.
    past: OnceLock<Past>,
}

/// The filter, order and limits of a query.
pub(super) struct PageQuery {
    pub(super) filter: Filter,
    /// The field to sort by; `None` for the id.
    pub(super) order_by: Option<(&'static str, FieldType)>,
    pub(super) descending: bool,
    pub(super) skip: usize,
    pub(super) first: usize,
}

/// The block of a query.
pub(super) enum BlockSelector {
    Head,
    Number(i64),
    /// The head, which must not be before this block.
    AtLeast(i64),
    Hash(String),
}

impl Subgraph {
    pub(super) fn new(
        recording: &Recording,
        served: &Deployment,
        timeline: Arc<Timeline>,
        block_details: bool,
    ) -> Subgraph {
        let (protocol, schema) = (&served.protocol, served.schema);
        // A real deployment id is the IPFS hash of the manifest. This one has the same length and depends on the
        // protocol only.
        let digits = fingerprint(protocol);
        let deployment = format!("Qm{}", digits.chars().skip(2).take(44).collect::<String>());
        Subgraph {
            schema,
            deployment,
            timeline,
            block_details,
            history: served.history,
            markets: Table::new(recording, &recording.markets, protocol),
            positions: Table::new(recording, &recording.positions, protocol),
        }
    }

    /// Returns the block of a query.
    ///
    /// # Errors
    /// The error message of graph-node for a block that is not available.
    pub(super) fn resolve(&self, selector: &BlockSelector) -> Result<Block, String> {
        let head = self.timeline.head();
        let number = match selector {
            BlockSelector::Head => return Ok(head),
            BlockSelector::Hash(hash) => {
                let unknown = || "Failed to decode `block.hash` value: `no block with that hash found`".to_owned();
                return self.timeline.by_hash(hash).ok_or_else(unknown);
            }
            BlockSelector::Number(number) | BlockSelector::AtLeast(number) => *number,
        };
        let error = |details: String| Err(format!("Failed to decode `block.number` value: `{details}`"));
        let subgraph = &self.deployment;
        if number > head.number as i64 {
            return error(format!(
                "subgraph {subgraph} has only indexed up to block number {} and data for block number {number} is \
                 therefore not yet available",
                head.number
            ));
        }
        let pruned = self.history.map_or(0, |history| head.number.saturating_sub(history));
        let first = self.timeline.first().number.max(pruned);
        match (selector, u64::try_from(number)) {
            (BlockSelector::AtLeast(_), _) => Ok(head),
            (_, Ok(number)) if number >= first => Ok(self.timeline.block(number)),
            _ => error(format!(
                "subgraph {subgraph} only has data starting at block number {first} and data for block number {number} \
                 is therefore not available"
            )),
        }
    }
}

impl Table {
    fn new(recording: &Recording, snapshots: &Snapshots, protocol: &str) -> Table {
        let recorded = snapshots.get(protocol);
        let states = recording.blocks.iter().map(|block| {
            let mut rows = recorded.and_then(|blocks| blocks.get(&block.number)).cloned().unwrap_or_default();
            // The sort is stable: rows with equal ids keep the order of the recording.
            rows.sort_by(|one, other| text_of(&one["id"]).cmp(&text_of(&other["id"])));
            (block.number, rows)
        });
        Table { states: states.collect(), past: OnceLock::new() }
    }

    /// Returns what the newest state keeps of the past.
    pub(super) fn past(&self) -> &Past {
        self.past.get_or_init(|| Past::of(&self.states))
    }

    /// Returns the rows of a page, from the newest snapshot that is not after the block.
    pub(super) fn page(&self, block: u64, query: &PageQuery) -> Vec<Row> {
        self.states.range(..=block).next_back().map_or_else(Vec::new, |(_, rows)| query.page(rows))
    }
}

impl PageQuery {
    /// Returns the rows of a page. The rows are sorted by id.
    pub(super) fn page(&self, rows: &[Row]) -> Vec<Row> {
        let rows = in_range(rows, &self.filter);
        let matching = rows.iter().filter(|row| self.filter.accepts(row));
        if let Some((field, field_type)) = self.order_by {
            let value = |row: &Row| field_value(row, field, field_type).clone();
            let mut matching: Vec<(Value, &Row)> = matching.map(|row| (value(row), row)).collect();
            matching.sort_by(|(one, _), (other, _)| {
                let ordering = compare(one, other, field_type.is_number());
                if self.descending { ordering.reverse() } else { ordering }
            });
            return matching.into_iter().map(|(_, row)| row).skip(self.skip).take(self.first).cloned().collect();
        }
        if self.descending {
            matching.rev().skip(self.skip).take(self.first).cloned().collect()
        } else {
            matching.skip(self.skip).take(self.first).cloned().collect()
        }
    }
}

/// Returns the rows whose ids are in the range of the filter, by binary search.
fn in_range<'a>(rows: &'a [Row], filter: &Filter) -> &'a [Row] {
    let count_before = |id: &str, inclusive: bool| {
        rows.partition_point(|row| {
            let row_id = text_of(&row["id"]);
            if inclusive { row_id.as_ref() <= id } else { row_id.as_ref() < id }
        })
    };
    let start = match &filter.low {
        Bound::Unbounded => 0,
        Bound::Included(id) => count_before(id, false),
        Bound::Excluded(id) => count_before(id, true),
    };
    let end = match &filter.high {
        Bound::Unbounded => rows.len(),
        Bound::Included(id) => count_before(id, true),
        Bound::Excluded(id) => count_before(id, false),
    };
    rows.get(start..end).unwrap_or_default()
}

//! The tables of logs, blocks and transactions in files that others wrote.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use rustc_hash::FxHashSet;

use super::columns::{Shape, Values, find, is_text, require};
use super::filters::{Between, OneOf};
use crate::domain::{Address, HexBytes, TxHash};
use crate::error::{Error, Result};
use crate::feeds::LogQuery;
use crate::lake::scan::ColumnFilter;
use crate::sources::ethereum::Log;

/// The names of the columns of topics, where each has its own.
const TOPICS: [&str; 4] = ["topic0", "topic1", "topic2", "topic3"];

/// A log, and the time that its row has.
pub(super) struct LogRow {
    pub log: Log,
    pub time: Option<i64>,
}

/// A row of the table of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockRow {
    pub number: u64,
    pub hash: Option<HexBytes<32>>,
    pub parent_hash: Option<HexBytes<32>>,
    pub time: Option<i64>,
}

/// The columns of a file of logs.
struct LogColumns {
    block: &'static str,
    index: &'static str,
    transaction: &'static str,
    address: &'static str,
    data: &'static str,
    /// A column with the list of topics, or else one for each.
    topics: Option<&'static str>,
    hash: Option<&'static str>,
    time: Option<&'static str>,
    chain: Option<&'static str>,
}

impl LogColumns {
    fn of(schema: &Schema) -> Result<Self> {
        let topics = find(schema, &["topics"], Shape::BytesList)?;
        if topics.is_none() {
            TOPICS.iter().try_for_each(|name| require(schema, &[name], Shape::Bytes).map(drop))?;
        }
        Ok(LogColumns {
            block: require(schema, &["block_number"], Shape::Number)?,
            index: require(schema, &["log_index"], Shape::Number)?,
            transaction: require(schema, &["transaction_hash"], Shape::Bytes)?,
            // Old versions of cryo have the other name.
            address: require(schema, &["address", "contract_address"], Shape::Bytes)?,
            data: require(schema, &["data"], Shape::Bytes)?,
            topics,
            hash: find(schema, &["block_hash"], Shape::Bytes)?,
            time: find(schema, &["block_timestamp", "timestamp"], Shape::Time)?,
            chain: find(schema, &["chain_id"], Shape::Number)?,
        })
    }

    fn names(&self) -> Vec<&'static str> {
        let required = [self.block, self.index, self.transaction, self.address, self.data];
        let topics = self.topics.map_or_else(|| TOPICS.to_vec(), |topics| vec![topics]);
        let optional = [self.hash, self.time, self.chain].into_iter().flatten();
        required.into_iter().chain(topics).chain(optional).collect()
    }

    fn rows(&self, batch: &RecordBatch, chain_id: u64) -> Result<Vec<LogRow>> {
        let values = |name| Values::of(batch, name);
        let optional = |name: Option<&'static str>| name.map(values).transpose();
        let (blocks, indices) = (values(self.block)?, values(self.index)?);
        let (transactions, addresses) = (values(self.transaction)?, values(self.address)?);
        let data = values(self.data)?;
        let topics = match self.topics {
            Some(list) => vec![values(list)?],
            None => TOPICS.iter().map(|name| values(name)).collect::<Result<_>>()?,
        };
        let (hashes, times, chains) = (optional(self.hash)?, optional(self.time)?, optional(self.chain)?);
        let row = |row: usize| {
            if let Some(chain) = &chains {
                require_chain(chain.number(row)?, chain_id)?;
            }
            let log = Log {
                block_number: blocks.number(row)?,
                block_hash: hashes.as_ref().map(|hashes| hashes.fixed(row)).transpose()?,
                log_index: indices.number(row)?,
                transaction_hash: transactions.fixed(row)?,
                transaction_index: 0,
                address: addresses.fixed(row)?,
                topics: self.topics_of(&topics, row)?,
                data: data.bytes(row)?,
                block_timestamp: None,
            };
            Ok(LogRow { log, time: times.as_ref().and_then(|times| times.seconds(row)) })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn topics_of(&self, columns: &[Values<'_>], row: usize) -> Result<Vec<HexBytes<32>>> {
        let malformed = |problem: &str| Err(Error::corrupt(problem).with("row", row));
        if self.topics.is_some() {
            let topics = columns.first().map_or_else(|| Ok(Vec::new()), |list| list.list(row))?;
            return if topics.len() > TOPICS.len() { malformed("a log has too many topics") } else { Ok(topics) };
        }
        let all = columns.iter().map(|column| column.fixed_or_null(row)).collect::<Result<Vec<_>>>()?;
        let topics: Vec<_> = all.iter().map_while(|topic| *topic).collect();
        match all.iter().flatten().count() == topics.len() {
            true => Ok(topics),
            false => malformed("a log has a topic after one that is missing"),
        }
    }
}

fn require_chain(chain_id: u64, configured: u64) -> Result<()> {
    if chain_id == configured {
        return Ok(());
    }
    Err(Error::bad_input("the logs are those of another chain than the configured one")
        .with("chain_id", chain_id)
        .with("configured", configured))
}

fn within(column: &str, query: &LogQuery<'_>) -> Arc<dyn ColumnFilter> {
    Arc::new(Between { column: column.to_owned(), range: query.first.number..=query.last.number })
}

fn one_of<const N: usize>(
    schema: &Schema,
    column: &str,
    values: impl IntoIterator<Item = HexBytes<N>>,
) -> Arc<dyn ColumnFilter> {
    let values = values.into_iter().collect();
    Arc::new(OneOf { column: column.to_owned(), values, is_text: is_text(schema, column) })
}

/// Converts the rows of a batch.
type Convert<T> = Box<dyn Fn(&RecordBatch) -> Result<Vec<T>> + Send + Sync>;

/// What to read of the files of a table: columns, the rows that pass the filters, and how rows are converted.
pub(super) struct Reading<T> {
    pub columns: Vec<&'static str>,
    pub filters: Vec<Arc<dyn ColumnFilter>>,
    pub convert: Convert<T>,
}

/// Reads the logs of a query from a file of logs.
pub(super) fn logs(schema: &Schema, query: &LogQuery<'_>, chain_id: u64) -> Result<Reading<LogRow>> {
    let columns = LogColumns::of(schema)?;
    let addresses = one_of(schema, columns.address, query.addresses.iter().copied());
    Ok(Reading {
        columns: columns.names(),
        filters: vec![within(columns.block, query), addresses],
        convert: Box::new(move |batch| columns.rows(batch, chain_id)),
    })
}

/// Reads the blocks of a query from a file of blocks.
pub(super) fn blocks(schema: &Schema, query: &LogQuery<'_>) -> Result<Reading<BlockRow>> {
    let number = require(schema, &["number", "block_number"], Shape::Number)?;
    let hash = find(schema, &["hash", "block_hash"], Shape::Bytes)?;
    let parent = find(schema, &["parent_hash"], Shape::Bytes)?;
    let time = find(schema, &["timestamp", "block_timestamp"], Shape::Time)?;
    let convert = move |batch: &RecordBatch| {
        let optional = |name: Option<&'static str>| name.map(|name| Values::of(batch, name)).transpose();
        let (numbers, hashes) = (Values::of(batch, number)?, optional(hash)?);
        let (parents, times) = (optional(parent)?, optional(time)?);
        let row = |row| {
            Ok(BlockRow {
                number: numbers.number(row)?,
                hash: hashes.as_ref().map(|hashes| hashes.fixed(row)).transpose()?,
                parent_hash: parents.as_ref().map(|parents| parents.fixed(row)).transpose()?,
                time: times.as_ref().and_then(|times| times.seconds(row)),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    };
    Ok(Reading {
        columns: [Some(number), hash, parent, time].into_iter().flatten().collect(),
        filters: vec![within(number, query)],
        convert: Box::new(convert),
    })
}

/// Reads the senders of transactions from a file of transactions.
pub(super) fn senders(
    schema: &Schema,
    query: &LogQuery<'_>,
    transactions: &FxHashSet<TxHash>,
) -> Result<Reading<(TxHash, Address)>> {
    let hash = require(schema, &["hash", "transaction_hash"], Shape::Bytes)?;
    let sender = require(schema, &["from_address"], Shape::Bytes)?;
    let block = find(schema, &["block_number"], Shape::Number)?;
    let mut filters: Vec<_> = block.map(|block| within(block, query)).into_iter().collect();
    filters.push(one_of(schema, hash, transactions.iter().copied()));
    let convert = move |batch: &RecordBatch| {
        let (hashes, senders) = (Values::of(batch, hash)?, Values::of(batch, sender)?);
        (0..batch.num_rows()).map(|row| Ok((hashes.fixed(row)?, senders.fixed(row)?))).collect()
    };
    Ok(Reading { columns: vec![hash, sender], filters, convert: Box::new(convert) })
}

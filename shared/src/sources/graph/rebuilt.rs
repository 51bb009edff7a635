//! Markets and positions of a past block, from what the newest state of a subgraph in Messari's schema keeps.
//!
//! An indexer prunes the past states of a market or a position, but not their snapshots, of which each is written once: a
//! `PositionSnapshot` at each change of a balance, and a `MarketHourlySnapshot` at the last event of each hour. What they say up
//! to a block never changes, so these queries are not pinned.

use serde_json::{Map, json};

use super::response::SubgraphState;
use super::rows::{At, BalanceJson, Entity, Market, MarketJson, Position, PositionJson, PriceJson};
use super::snapshot::Snapshot;
use super::{GraphClient, ProcessPage};
use crate::error::{Error, Kind, Result};
use crate::sources::text::{Text, TextRow};
use crate::sources::{Block, Traffic};

/// The number of snapshots of each position that a page has. Almost always the first is the wanted one: others matter only if
/// they are of the same block.
const SNAPSHOTS: usize = 10;

/// The number of snapshots of a position that has [`SNAPSHOTS`] in its last block: the maximum of graph-node.
const ALL_SNAPSHOTS: usize = 1000;

/// The number of such positions that one query asks for.
const POSITIONS_PER_QUERY: usize = 10;

impl At {
    /// Returns the state that the rows of a page describe.
    ///
    /// # Errors
    /// `SourceUnavailable` for the state at another block, `NotReady` for a newest state before the block.
    pub(super) fn state(self, state: SubgraphState, block: u64) -> Result<SubgraphState> {
        let number = state.block.number;
        match self {
            At::Block if number == block => Ok(state),
            At::Block => Err(Error::new(Kind::SourceUnavailable, "the response is for a different block")
                .with("response_block", number)),
            At::Head { .. } if number < block => {
                Err(Error::new(Kind::NotReady, "the subgraph is not indexed up to the block yet").with("head", number))
            }
            // The head moves between pages.
            At::Head { .. } => {
                Ok(SubgraphState { block: Block { number: block, timestamp: None, hash: None }, ..state })
            }
        }
    }
}

/// A row of the newest state with its newest snapshots up to the block. `None`: the response lacks them.
struct WithSnapshots<R, S> {
    row: R,
    snapshots: Option<Vec<S>>,
}

/// A position with up to `N` snapshots.
struct PastPosition<const N: usize>(WithSnapshots<Position, BalanceJson>);

/// A market with its last snapshot.
struct PastMarket(WithSnapshots<Market, PriceJson>);

/// A position at a past block.
enum Past {
    Open(Position),
    /// It was closed, or had no snapshot.
    Absent,
    /// More snapshots of its last block may follow, so the last one is not known.
    Unsure(Position),
}

impl<const N: usize> PastPosition<N> {
    fn at(self, block: u64) -> Result<Past> {
        let WithSnapshots { row: mut position, snapshots } = self.0;
        let snapshots = snapshots.ok_or_else(lacks_snapshots)?;
        let count = snapshots.len();
        let keyed = snapshots.into_iter().map(|snapshot| {
            let key = (block_up_to(&snapshot.block_number, block)?, number("logIndex", &snapshot.log_index)?);
            Ok((key, snapshot.balance))
        });
        let keyed = keyed.collect::<Result<Vec<_>>>()?;
        let first_block = keyed.iter().map(|((block, _), _)| *block).min();
        let Some(((last_block, _), balance)) = keyed.into_iter().max_by_key(|(key, _)| *key) else {
            return Ok(Past::Absent);
        };
        if count >= N && first_block == Some(last_block) {
            return Ok(Past::Unsure(position));
        }
        // As in the state at a block, from which positions without a balance are left out.
        if balance.as_deref() == Some("0") {
            return Ok(Past::Absent);
        }
        position.balance = balance;
        Ok(Past::Open(position))
    }
}

impl PastMarket {
    /// Returns the market at a block, with the limits of today. `None` if it had no event up to the block.
    fn at(self, block: u64) -> Result<Option<Market>> {
        let WithSnapshots { row, snapshots } = self.0;
        let Some(last) = snapshots.ok_or_else(lacks_snapshots)?.into_iter().next() else { return Ok(None) };
        block_up_to(&last.block_number, block)?;
        Ok(Some(Market {
            input_token_price_usd: last.input_token_price_usd,
            total_deposit_balance_usd: last.total_deposit_balance_usd,
            total_borrow_balance_usd: last.total_borrow_balance_usd,
            ..row
        }))
    }
}

fn lacks_snapshots() -> Error {
    Error::corrupt("a row of the response lacks its snapshots")
}

fn number(field: &'static str, text: &Text) -> Result<u64> {
    let number = text.as_deref().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::corrupt("a snapshot in the response lacks a number").with("field", field))
}

fn block_up_to(text: &Text, block: u64) -> Result<u64> {
    let number = number("blockNumber", text)?;
    if number <= block {
        return Ok(number);
    }
    Err(Error::corrupt("a snapshot in the response is after the block").with("snapshot_block", number))
}

impl GraphClient {
    /// Returns all markets as they were at a block, from their hourly snapshots, with the limits of today. A market without a
    /// snapshot up to the block is left out. The subgraph has Messari's schema.
    ///
    /// # Errors
    /// As [`GraphClient::positions`]. `NotReady` if the subgraph is not indexed up to the block.
    pub async fn rebuilt_markets(&self, subgraph_id: &str, block: u64, traffic: &Traffic) -> Result<Snapshot<Market>> {
        let url = self.subgraph_url(subgraph_id)?;
        let process = |page: Vec<PastMarket>| {
            let markets = page.into_iter().filter_map(|market| market.at(block).transpose());
            markets.collect::<Result<Vec<_>>>()
        };
        let snapshot = self.fetch_snapshot(&url, block, vec![Map::new()], &process, traffic).await;
        snapshot.map(Snapshot::flatten).map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// Reads all positions with a balance as they were at a block, from their snapshots, and processes them page by page, as
    /// [`GraphClient::process_position_pages`]. `isCollateral` is that of today. The pages are in no order. The subgraph has
    /// Messari's schema.
    ///
    /// # Errors
    /// As [`GraphClient::rebuilt_markets`], and the errors of `process`.
    pub async fn process_rebuilt_position_pages<P: Send>(
        &self,
        subgraph_id: &str,
        block: u64,
        process: impl Fn(Vec<Position>) -> Result<P> + Sync,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        let snapshot = self.fetch_past_positions(subgraph_id, block, &process, traffic).await;
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    async fn fetch_past_positions<P: Send>(
        &self,
        subgraph_id: &str,
        block: u64,
        process: &impl ProcessPage<Position, P>,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        let url = self.subgraph_url(subgraph_id)?;
        // A condition on the state of a position, such as its closing, could change between two pages.
        let opened = Map::from_iter([("blockNumberOpened_lte".to_owned(), block.to_string().into())]);
        let first = |page: Vec<PastPosition<SNAPSHOTS>>| {
            let (open, unsure) = open_positions(page, block)?;
            Ok((process(open)?, unsure))
        };
        let snapshot = self.fetch_snapshot(&url, block, vec![opened], &first, traffic).await?;
        let (mut pages, unsure): (Vec<P>, Vec<Vec<Position>>) = snapshot.rows.into_iter().unzip();
        let unsure: Vec<Text> = unsure.into_iter().flatten().map(|position| position.id).collect();
        let with_ids = |ids: &[Text]| Map::from_iter([("id_in".to_owned(), json!(ids))]);
        let filters: Vec<_> = unsure.chunks(POSITIONS_PER_QUERY).map(with_ids).collect();
        if !filters.is_empty() {
            let second = |page: Vec<PastPosition<ALL_SNAPSHOTS>>| {
                let (open, unsure) = open_positions(page, block)?;
                if unsure.is_empty() {
                    return process(open);
                }
                Err(Error::corrupt("a position has more snapshots in one block than a page")
                    .with("limit", ALL_SNAPSHOTS))
            };
            let rest = self.fetch_snapshot(&url, block, filters, &second, traffic).await?;
            if rest.deployment != snapshot.deployment {
                let message = "the deployment of the subgraph changed between two pages";
                return Err(Error::new(Kind::SourceUnavailable, message));
            }
            pages.extend(rest.rows);
        }
        Ok(Snapshot { block: snapshot.block, deployment: snapshot.deployment, rows: pages })
    }
}

/// Splits a page into the positions that were open at a block, and those of which that is not known.
fn open_positions<const N: usize>(page: Vec<PastPosition<N>>, block: u64) -> Result<(Vec<Position>, Vec<Position>)> {
    let (mut open, mut unsure) = (Vec::new(), Vec::new());
    for position in page {
        match position.at(block)? {
            Past::Open(position) => open.push(position),
            Past::Unsure(position) => unsure.push(position),
            Past::Absent => {}
        }
    }
    Ok((open, unsure))
}

impl<const N: usize> TextRow for PastPosition<N> {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        self.0.row.for_each(visit);
        let balances = self.0.snapshots.iter().flatten().map(|snapshot| &snapshot.balance);
        balances.for_each(visit);
    }

    fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text)) {
        self.0.row.for_each_repeated(visit);
    }
}

impl TextRow for PastMarket {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        self.0.row.for_each(visit);
        for PriceJson { input_token_price_usd, total_deposit_balance_usd, total_borrow_balance_usd, block_number: _ } in
            self.0.snapshots.iter().flatten()
        {
            [input_token_price_usd, total_deposit_balance_usd, total_borrow_balance_usd]
                .into_iter()
                .for_each(&mut *visit);
        }
    }

    fn for_each_repeated(&mut self, _: &mut impl FnMut(&mut Text)) {}
}

impl<const N: usize> Entity for PastPosition<N> {
    const QUERY: &'static str = "query PastPositions($first: Int!, $where: Position_filter!, $snapshots: Int!, \
        $upTo: PositionSnapshot_filter!) { \
        _meta { block { number } deployment hasIndexingErrors } \
        positions(first: $first, orderBy: id, orderDirection: asc, where: $where) { \
        id side isCollateral market { id name } account { id } \
        snapshots(first: $snapshots, orderBy: blockNumber, orderDirection: desc, where: $upTo) { \
        balance blockNumber logIndex } } }";
    const AT: At = At::Head { snapshots: N };
    type Json = PositionJson;

    fn from_json(mut json: PositionJson) -> Self {
        let snapshots = json.snapshots.take();
        PastPosition(WithSnapshots { row: Position::from_json(json), snapshots })
    }

    fn id(&self) -> Option<&str> {
        self.0.row.id.as_deref()
    }
}

impl Entity for PastMarket {
    const QUERY: &'static str = "query PastMarkets($first: Int!, $where: Market_filter!, $snapshots: Int!, \
        $upTo: MarketHourlySnapshot_filter!) { \
        _meta { block { number } deployment hasIndexingErrors } \
        markets(first: $first, orderBy: id, orderDirection: asc, where: $where) { \
        id name maximumLTV liquidationThreshold inputToken { id symbol decimals } \
        hourlySnapshots(first: $snapshots, orderBy: blockNumber, orderDirection: desc, where: $upTo) { \
        inputTokenPriceUSD totalDepositBalanceUSD totalBorrowBalanceUSD blockNumber } } }";
    const AT: At = At::Head { snapshots: 1 };
    type Json = MarketJson;

    fn from_json(mut json: MarketJson) -> Self {
        let snapshots = json.hourly_snapshots.take();
        PastMarket(WithSnapshots { row: Market::from_json(json), snapshots })
    }

    fn id(&self) -> Option<&str> {
        self.0.row.id.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 100;

    /// Returns the balance of a position with snapshots of `[block, log index, balance]`; `closed` and `unsure` where it has
    /// none.
    fn balance(snapshots: &[[&str; 3]]) -> Result<String> {
        let snapshots = snapshots.iter().map(|[block, log, balance]| {
            format!(r#"{{"blockNumber": "{block}", "logIndex": {log}, "balance": "{balance}"}}"#)
        });
        let json =
            format!(r#"{{"id": "0xa-0xb-LENDER-0", "snapshots": [{}]}}"#, snapshots.collect::<Vec<_>>().join(","));
        Ok(match PastPosition::<3>::from_json(serde_json::from_str(&json).unwrap()).at(BLOCK)? {
            Past::Open(position) => position.balance.to_string(),
            Past::Absent => "absent".to_owned(),
            Past::Unsure(_) => "unsure".to_owned(),
        })
    }

    #[test]
    fn balance_is_that_of_the_last_snapshot_up_to_the_block() {
        for (snapshots, expected) in [
            (&[["90", "5", "7"], ["80", "9", "6"]][..], "7"),
            (&[["90", "5", "7"], ["90", "12", "8"], ["80", "99", "6"]], "8"),
            (&[["9", "1", "1"], ["100", "0", "2"]], "2"),
            (&[["90", "5", "0"], ["80", "9", "6"]], "absent"),
            (&[], "absent"),
            // A fourth may have a greater log index.
            (&[["90", "5", "7"], ["90", "6", "8"], ["90", "2", "9"]], "unsure"),
            (&[["90", "5", "7"], ["90", "6", "8"]], "8"),
        ] {
            assert_eq!(balance(snapshots).unwrap(), expected, "{snapshots:?}");
        }
    }

    #[test]
    fn snapshots_that_do_not_match_the_query_are_corrupt() {
        for snapshots in [[["101", "5", "7"]], [["x", "5", "7"]], [["90", "null", "7"]], [["90", "-1", "7"]]] {
            assert_eq!(balance(&snapshots).unwrap_err().kind(), Kind::CorruptData, "{snapshots:?}");
        }
        for json in [r#"{"id": "0xa"}"#, r#"{"id": "0xa", "snapshots": null}"#] {
            let position = PastPosition::<3>::from_json(serde_json::from_str(json).unwrap());
            assert!(position.at(BLOCK).is_err(), "its snapshots are missing: {json}");
        }
    }

    fn market(snapshots: &str) -> Result<Option<Market>> {
        let json = format!(
            r#"{{"id": "0xb", "maximumLTV": "80", "inputTokenPriceUSD": "9", "hourlySnapshots": {snapshots}}}"#
        );
        PastMarket::from_json(serde_json::from_str(&json).unwrap()).at(BLOCK)
    }

    #[test]
    fn price_and_totals_are_those_of_the_last_hourly_snapshot() {
        let snapshot = |block: &str| {
            let totals = r#""totalDepositBalanceUSD": "2", "totalBorrowBalanceUSD": "3""#;
            format!(r#"[{{"blockNumber": "{block}", "inputTokenPriceUSD": "1", {totals}}}]"#)
        };
        let found = market(&snapshot("100")).unwrap().unwrap();
        assert_eq!(
            [found.input_token_price_usd, found.total_deposit_balance_usd, found.total_borrow_balance_usd],
            ["1", "2", "3"].map(Text::from)
        );
        assert_eq!([found.id, found.maximum_ltv], ["0xb", "80"].map(Text::from));
        assert_eq!(market("[]").unwrap(), None, "it had no event yet");
        assert!(market(&snapshot("101")).is_err() && market("null").is_err());
    }

    #[test]
    fn newest_state_must_not_be_before_the_block() {
        let state = |number| SubgraphState {
            block: Block { number, timestamp: Some(5), hash: Some("0x1".into()) },
            deployment: "Qm".to_owned(),
        };
        let head = At::Head { snapshots: 1 };
        let expected = Block { number: BLOCK, timestamp: None, hash: None };
        for number in [BLOCK, BLOCK + 1] {
            assert_eq!(head.state(state(number), BLOCK).unwrap().block, expected, "equal for all heads");
        }
        assert_eq!(head.state(state(BLOCK - 1), BLOCK).unwrap_err().kind(), Kind::NotReady);
        assert_eq!(At::Block.state(state(BLOCK), BLOCK).unwrap(), state(BLOCK));
        assert_eq!(At::Block.state(state(BLOCK + 1), BLOCK).unwrap_err().kind(), Kind::SourceUnavailable);
    }
}

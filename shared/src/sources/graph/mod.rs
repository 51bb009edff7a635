//! A client of The Graph, for lending subgraphs in Messari's standard schema and in that of Aave's own subgraphs.
//!
//! A [`Snapshot`] contains rows of one block and one deployment. It is read in pages of up to 1,000 rows in id order.
//! If the first page is full, the ids after it are split into ranges by the first hex digit of the account, which are
//! paged in parallel.

mod aave;
mod messages;
#[cfg(feature = "testing")]
mod offline;
mod paging;
mod rebuilt;
mod response;
mod rows;
mod snapshot;

use std::fmt;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::AUTHORIZATION;
use serde_json::{Map, Value, json};
use url::Url;

use super::endpoint::{Endpoint, EndpointSettings, KeyHeader, NO_KEY_HINT};
use super::http::{HttpResponse, UrlSecrets, append_path, base_url};
use super::volume::Volume;
use super::{Block, RateLimit, RetryPolicy, Secret, Traffic};
use crate::config::SourceLimits;
use crate::domain::Address;
use crate::error::{Error, Kind, Result};
pub use aave::{Reserve, UserReserve};
pub use messages::messages;
use paging::IdRange;
use response::{Page, parse_head, parse_page};
use rows::{Entity, MarketWithoutTotals, PositionWithCollaterals};
pub use rows::{Market, Position};
pub use snapshot::Snapshot;
use snapshot::{ProcessedPage, merge_pages};

/// The URL of the gateway of the decentralised network.
pub const LIVE_URL: &str = "https://gateway.thegraph.com/api";

/// The queries of the free plan in a month.
pub const FREE_QUERIES: u64 = 100_000;

/// The default rate limit per key. The gateway documents no limit; indexers return a page within a second, and this
/// value keeps the load of a backfill with many concurrent functions moderate.
pub const REQUESTS_PER_SECOND: u32 = 20;

/// The default number of concurrent requests: half of the id ranges. This hides the latency of the responses, and the
/// other ranges follow when the first ones are finished.
pub const CONCURRENCY: usize = 8;

/// The default timeout of a request. The gateway waits 20 seconds for an indexer, and asks several: over 60 seconds in all.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// The default number of rows per page, which is the maximum of graph-node.
pub const ROWS_PER_PAGE: usize = 1000;

/// The maximum length of a response body, in bytes: many times that of the largest page. Several pages are read at the same
/// time.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// The maximum number of accounts in one filter. An address is 44 bytes of JSON, and some servers reject bodies from
/// 100 KB.
const ACCOUNTS_PER_QUERY: usize = 1000;

/// The settings of a [`GraphClient`].
#[derive(Debug, Clone)]
pub struct GraphSettings {
    /// The base URL, to which `/subgraphs/id/{id}` is appended. https, or http for a loopback address.
    pub url: String,
    /// The API keys, used in rotation. If empty, requests have no key, which a local server may accept.
    pub keys: Vec<Secret>,
    /// The keys of other sources. A server that gets the requests of several may repeat them, too.
    pub other_keys: Vec<Secret>,
    /// The rate limit of each key.
    pub rate: RateLimit,
    /// The maximum number of concurrent requests, of all calls of the client together.
    pub concurrency: usize,
    /// The retry policy for transient errors of a request, and for a change of deployment during a snapshot.
    pub retry: RetryPolicy,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The maximum length of a response body, in bytes.
    pub max_body_bytes: usize,
    /// The number of rows per page, at most 1,000.
    pub rows_per_page: usize,
    /// How much the source may send for a snapshot.
    pub limits: SourceLimits,
}

impl GraphSettings {
    /// Creates the default settings for a URL and keys.
    #[must_use]
    pub fn new(url: impl Into<String>, keys: Vec<Secret>) -> Self {
        GraphSettings {
            url: url.into(),
            keys,
            other_keys: Vec::new(),
            rate: RateLimit::per_second(REQUESTS_PER_SECOND),
            concurrency: CONCURRENCY,
            retry: RetryPolicy::REQUEST,
            timeout: TIMEOUT,
            max_body_bytes: MAX_BODY_BYTES,
            rows_per_page: ROWS_PER_PAGE,
            limits: SourceLimits::default(),
        }
    }
}

/// The newest state of a subgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The newest indexed block; a reorganisation may still replace it.
    pub block: Block,
    /// The deployment that currently serves the subgraph.
    pub deployment: String,
}

/// A function that processes the rows of a page.
trait ProcessPage<E, P>: Fn(Vec<E>) -> Result<P> + Sync {}

impl<E, P, F: Fn(Vec<E>) -> Result<P> + Sync> ProcessPage<E, P> for F {}

/// A client of The Graph. All calls share its connections, limits and keys.
pub struct GraphClient {
    base: Url,
    endpoint: Endpoint,
    concurrency: usize,
    rows_per_page: usize,
    limits: SourceLimits,
}

impl fmt::Debug for GraphClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphClient").finish_non_exhaustive()
    }
}

/// The query for the rows of a block that match a filter.
struct SnapshotQuery<'a> {
    url: &'a Url,
    block: u64,
    filter: &'a Map<String, Value>,
    volume: &'a Volume,
}

impl GraphClient {
    /// Creates a client.
    ///
    /// # Errors
    /// `BadInput` for a URL that could leak a key (http to another machine, or with a user name or query), an invalid
    /// key, a rate or concurrency of zero, or a page size that graph-node does not support.
    pub fn new(settings: GraphSettings) -> Result<Self> {
        if !(1..=ROWS_PER_PAGE).contains(&settings.rows_per_page) {
            return Err(Error::bad_input(format!("the page size for The Graph must be 1 to {ROWS_PER_PAGE} rows")));
        }
        let base = base_url("The Graph", &settings.url)?;
        let endpoint = Endpoint::new(EndpointSettings {
            source: "The Graph",
            base: &base,
            secrets: UrlSecrets { keys: settings.other_keys, ..UrlSecrets::default() },
            no_key_hint: NO_KEY_HINT,
            header: KeyHeader { name: AUTHORIZATION, prefix: "Bearer " },
            keys: settings.keys,
            rate: settings.rate,
            concurrency: settings.concurrency,
            retry: settings.retry,
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })?;
        let GraphSettings { concurrency, rows_per_page, limits, .. } = settings;
        Ok(GraphClient { base, endpoint, concurrency, rows_per_page, limits })
    }

    /// Returns the newest block and the deployment of a subgraph.
    ///
    /// # Errors
    /// As [`GraphClient::positions`].
    pub async fn head(&self, subgraph_id: &str, traffic: &Traffic) -> Result<Head> {
        let url = self.subgraph_url(subgraph_id)?;
        let body =
            json!({ "query": "query Head { _meta { block { number timestamp hash } deployment hasIndexingErrors } }" });
        let state = self.endpoint.request(&url, &body, traffic, parse_head).await;
        let state = state.map_err(|error| error.with("subgraph", subgraph_id))?;
        Ok(Head { block: state.block, deployment: state.deployment })
    }

    /// Returns all markets at a block, without totals if the subgraph's schema lacks them.
    ///
    /// # Errors
    /// As [`GraphClient::positions`].
    pub async fn markets(&self, subgraph_id: &str, block: u64, traffic: &Traffic) -> Result<Snapshot<Market>> {
        let url = self.subgraph_url(subgraph_id)?;
        let all = || vec![Map::new()];
        let mut snapshot = self.fetch_snapshot(&url, block, all(), &Ok, traffic).await.map(Snapshot::flatten);
        if snapshot.as_ref().is_err_and(|error| lacks(error, &TOTALS)) {
            let process = |page: Vec<MarketWithoutTotals>| Ok(page.into_iter().map(|market| market.0).collect());
            snapshot = self.fetch_snapshot(&url, block, all(), &process, traffic).await.map(Snapshot::flatten);
        }
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// Returns all positions with a balance at a block, or only those of the given accounts (`0x…` addresses in upper
    /// or lower case). With `collaterals`, each has the markets that its account uses as collateral, if the subgraph's schema
    /// has them.
    ///
    /// # Errors
    /// After all retries: `Throttled`, `SourceUnavailable` (also if the deployment or the block hash changes between
    /// pages), `NotReady` (the block is not indexed yet). Without retries: `HistoryPruned` (the block is no longer
    /// available), `QuotaExceeded`, `BadCredentials`, `SourceRejected` (a rejected query, an unknown subgraph, indexing
    /// errors), `CorruptData` (a response that does not match the query, that contains the API key, or that exceeds a
    /// limit), `BadInput` (an invalid subgraph id, a block number of 2³¹ or more).
    pub async fn positions(
        &self,
        subgraph_id: &str,
        block: u64,
        accounts: Option<&[String]>,
        collaterals: bool,
        traffic: &Traffic,
    ) -> Result<Snapshot<Position>> {
        let snapshot = self.fetch_positions(subgraph_id, block, position_filters(accounts), collaterals, &Ok, traffic);
        snapshot.await.map(Snapshot::flatten)
    }

    /// Reads all positions with a balance at a block, as [`GraphClient::positions`], and processes them page by page: only the
    /// results of `process` stay in memory. No id is in two pages.
    ///
    /// # Errors
    /// As [`GraphClient::positions`], and the errors of `process`.
    pub async fn process_position_pages<P: Send>(
        &self,
        subgraph_id: &str,
        block: u64,
        collaterals: bool,
        process: impl Fn(Vec<Position>) -> Result<P> + Sync,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        self.fetch_positions(subgraph_id, block, position_filters(None), collaterals, &process, traffic).await
    }

    async fn fetch_positions<P>(
        &self,
        subgraph_id: &str,
        block: u64,
        filters: Vec<Map<String, Value>>,
        collaterals: bool,
        process: &impl ProcessPage<Position, P>,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        let url = self.subgraph_url(subgraph_id)?;
        let with_error = |error: Error| error.with("subgraph", subgraph_id).with("block", block);
        if collaterals {
            let process =
                |page: Vec<PositionWithCollaterals>| process(page.into_iter().map(|position| position.0).collect());
            let snapshot = self.fetch_snapshot(&url, block, filters.clone(), &process, traffic).await;
            if !snapshot.as_ref().is_err_and(|error| lacks(error, &["_enabledCollaterals"])) {
                return snapshot.map_err(with_error);
            }
        }
        self.fetch_snapshot(&url, block, filters, process, traffic).await.map_err(with_error)
    }

    /// Returns the reserves of a pool at a block, from one of Aave's own subgraphs.
    ///
    /// # Errors
    /// As [`GraphClient::positions`].
    pub async fn reserves(
        &self,
        subgraph_id: &str,
        pool: Address,
        block: u64,
        traffic: &Traffic,
    ) -> Result<Snapshot<Reserve>> {
        let url = self.subgraph_url(subgraph_id)?;
        let snapshot = self.fetch_snapshot(&url, block, vec![of_pool(pool)], &Ok, traffic).await.map(Snapshot::flatten);
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// Reads the balances of all users of a pool at a block, or only those of the given accounts, from one of Aave's own
    /// subgraphs. Processes them page by page, as [`GraphClient::process_position_pages`].
    ///
    /// # Errors
    /// As [`GraphClient::positions`], and the errors of `process`.
    pub async fn process_user_reserve_pages<P: Send>(
        &self,
        subgraph_id: &str,
        pool: Address,
        block: u64,
        accounts: Option<&[String]>,
        process: impl Fn(Vec<UserReserve>) -> Result<P> + Sync,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        let url = self.subgraph_url(subgraph_id)?;
        let filters = user_reserve_filters(pool, accounts);
        let snapshot = self.fetch_snapshot(&url, block, filters, &process, traffic).await;
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// Reads a snapshot, and reads all of it again if its pages describe different states.
    async fn fetch_snapshot<E: Entity, P>(
        &self,
        url: &Url,
        block: u64,
        filters: Vec<Map<String, Value>>,
        process: &impl ProcessPage<E, P>,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        // `$block` is a GraphQL `Int`, which has 32 bits.
        if i32::try_from(block).is_err() {
            return Err(Error::bad_input("the block number is too large").with("block", block));
        }
        let filters = &filters;
        let attempt = || async move {
            let volume = &Volume::of_snapshot(&self.limits);
            let queries: Vec<_> = filters.iter().map(|filter| SnapshotQuery { url, block, filter, volume }).collect();
            match self.fetch_all(&queries, process, traffic).await {
                Ok(pages) => merge_pages(pages).map(Ok),
                // The requests of each page have their own retries: after an error, the other pages are not read again.
                Err(error) => Ok(Err(error)),
            }
        };
        self.endpoint.retry().run(traffic, attempt).await?
    }

    async fn fetch_all<E: Entity, P>(
        &self,
        queries: &[SnapshotQuery<'_>],
        process: &impl ProcessPage<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<ProcessedPage<P>>> {
        // Collects the futures, here and below: a stream over the closure would result in a future that cannot be
        // spawned.
        let pages: Vec<_> = queries.iter().map(|query| self.fetch_query(query, process, traffic)).collect();
        let pages: Vec<Vec<ProcessedPage<P>>> = stream::iter(pages).buffered(self.concurrency).try_collect().await?;
        Ok(pages.into_iter().flatten().collect())
    }

    async fn fetch_query<E: Entity, P>(
        &self,
        query: &SnapshotQuery<'_>,
        process: &impl ProcessPage<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<ProcessedPage<P>>> {
        let (first, cursor) = self.fetch_page(query, &IdRange::all(), process, traffic).await?;
        let mut pages = vec![first];
        if let Some(cursor) = cursor {
            let ranges = IdRange::split_after(&cursor);
            let count = ranges.len();
            let ranges: Vec<_> =
                ranges.into_iter().map(|range| self.fetch_range(query, range, process, traffic)).collect();
            // Returns the ranges in order. All run concurrently, and the endpoint limits the number of concurrent
            // requests.
            let rest: Vec<Vec<ProcessedPage<P>>> = stream::iter(ranges).buffered(count).try_collect().await?;
            pages.extend(rest.into_iter().flatten());
        }
        Ok(pages)
    }

    async fn fetch_range<E: Entity, P>(
        &self,
        query: &SnapshotQuery<'_>,
        mut range: IdRange,
        process: &impl ProcessPage<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<ProcessedPage<P>>> {
        let mut pages = Vec::new();
        loop {
            let (page, cursor) = self.fetch_page(query, &range, process, traffic).await?;
            pages.push(page);
            match cursor {
                Some(cursor) => range = range.after(&cursor),
                None => return Ok(pages),
            }
        }
    }

    /// Returns one page of a range, and the id after which the next page starts, if any.
    async fn fetch_page<E: Entity, P>(
        &self,
        query: &SnapshotQuery<'_>,
        range: &IdRange,
        process: &impl ProcessPage<E, P>,
        traffic: &Traffic,
    ) -> Result<(ProcessedPage<P>, Option<String>)> {
        let mut filter = query.filter.clone();
        range.add_to_filter(&mut filter);
        let mut variables = E::AT.variables(query.block);
        variables.insert("first".to_owned(), Value::from(self.rows_per_page));
        variables.insert("where".to_owned(), Value::from(nest_alternatives(filter)));
        let body = json!({ "query": E::QUERY, "variables": variables });
        let parse = |response: &HttpResponse| {
            let page: Page<E> = parse_page(response)?;
            let state = E::AT.state(page.state, query.block)?;
            query.volume.add(&page.rows, response.body.len())?;
            let cursor = range.next_cursor(&page.rows, self.rows_per_page)?;
            Ok((ProcessedPage { state, rows: process(page.rows)? }, cursor))
        };
        self.endpoint.request(query.url, &body, traffic, parse).await
    }

    fn subgraph_url(&self, id: &str) -> Result<Url> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::bad_input("a subgraph id must consist of letters and digits").with("subgraph", id));
        }
        append_path(&self.base, &["subgraphs", "id", id])
    }
}

/// The fields of a market that some schemas lack.
const TOTALS: [&str; 2] = ["totalDepositBalanceUSD", "totalBorrowBalanceUSD"];

/// Returns whether a query was rejected because the schema has no such fields.
fn lacks(error: &Error, fields: &[&str]) -> bool {
    error.kind() == Kind::SourceRejected && fields.iter().any(|field| error.to_string().contains(field))
}

/// Returns filters whose rows, concatenated, are in id order: the accounts are sorted, and ids start with the account.
fn position_filters(accounts: Option<&[String]>) -> Vec<Map<String, Value>> {
    let with_balance = Map::from_iter([("balance_not".to_owned(), Value::from("0"))]);
    filters_of_accounts(&with_balance, "account_in", accounts)
}

fn of_pool(pool: Address) -> Map<String, Value> {
    Map::from_iter([("pool".to_owned(), Value::from(pool.to_string()))])
}

/// Returns filters for the rows of which one of the three balances is not 0: most rows of users have none.
fn user_reserve_filters(pool: Address, accounts: Option<&[String]>) -> Vec<Map<String, Value>> {
    let balances = ["scaledATokenBalance_not", "scaledVariableDebt_not", "principalStableDebt_not"];
    let mut filter = of_pool(pool);
    filter.insert(OR.to_owned(), balances.map(|name| json!({ name: "0" })).into());
    filters_of_accounts(&filter, "user_in", accounts)
}

/// The name of the alternatives in a filter.
const OR: &str = "or";

/// Nests the alternatives of a filter: graph-node accepts them only where no other conditions are beside them.
fn nest_alternatives(mut filter: Map<String, Value>) -> Map<String, Value> {
    match filter.remove(OR) {
        Some(alternatives) => Map::from_iter([("and".to_owned(), json!([filter, { OR: alternatives }]))]),
        None => filter,
    }
}

/// Returns a filter, or one for each part of the accounts.
fn filters_of_accounts(
    filter: &Map<String, Value>,
    field: &str,
    accounts: Option<&[String]>,
) -> Vec<Map<String, Value>> {
    let Some(accounts) = accounts else { return vec![filter.clone()] };
    // graph-node stores addresses in lower case. Where ids are of type `ID`, the comparison is case-sensitive.
    let mut accounts: Vec<String> = accounts.iter().map(|account| account.to_ascii_lowercase()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let of_accounts = |accounts: &[String]| {
        let mut filter = filter.clone();
        filter.insert(field.to_owned(), Value::from(accounts));
        filter
    };
    if accounts.is_empty() {
        // Sends a request all the same: a snapshot without rows also has a block and a deployment.
        return vec![of_accounts(&[])];
    }
    accounts.chunks(ACCOUNTS_PER_QUERY).map(of_accounts).collect()
}

//! The Graph: lending subgraphs in Messari's standard schema.
//!
//! A [`Snapshot`] is of one block and one deployment. It comes in pages of up to 1,000 rows in id order; when the first is
//! full, the ids after it are split into ranges by the first hex digit of the account, and those are paged at the same time.

mod answer;
mod messages;
#[cfg(feature = "testing")]
mod offline;
mod paging;
mod rows;

use std::fmt;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::AUTHORIZATION;
use serde_json::{Map, Value, json};
use url::Url;

use super::endpoint::{Endpoint, EndpointSettings, KeyHeader};
use super::http::{MAX_BODY_BYTES, base_url, below};
use super::{Block, RateLimit, RetryPolicy, Secret, Traffic};
use crate::error::{Error, Kind, Result};
use answer::{Page, State, parse_head, read_page};
pub use messages::messages;
use paging::Range;
use rows::Entity;
pub use rows::{Market, Position};

/// The gateway of the decentralised network.
pub const LIVE_URL: &str = "https://gateway.thegraph.com/api";

/// The gateway names no limit; indexers answer a pinned page within a second, and this keeps a backfill of many functions
/// at once polite.
pub const REQUESTS_PER_SECOND: u32 = 20;

/// Half of the id ranges at once: enough to hide the answers' latency, and pages of ranges that are done make room for
/// the others.
pub const CONCURRENCY: usize = 8;

/// The gateway gives up on its indexers after about 30 seconds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Rows in a page: the most that graph-node gives.
pub const ROWS_PER_PAGE: usize = 1000;

/// Accounts in one filter. An address is 44 bytes of JSON, and servers begin to refuse bodies at 100 KB.
const ACCOUNTS_PER_QUERY: usize = 1000;

/// How The Graph is asked.
#[derive(Debug, Clone)]
pub struct GraphSettings {
    /// The base address, below which `/subgraphs/id/{id}` lies. https, or http to this machine.
    pub url: String,
    /// API keys; they take turns. None: requests carry no key, which a server on this machine may accept.
    pub keys: Vec<Secret>,
    /// The rate of each key.
    pub rate: RateLimit,
    /// Requests at once, of all calls of the client together.
    pub concurrency: usize,
    /// How passing faults of a request, and changes of a deployment during a snapshot, are tried again.
    pub retry: RetryPolicy,
    /// The time that one request may take.
    pub timeout: Duration,
    /// The longest body that is read, in bytes.
    pub max_body_bytes: usize,
    /// Rows in a page, at most 1,000.
    pub rows_per_page: usize,
}

impl GraphSettings {
    /// The usual settings for an address and keys.
    #[must_use]
    pub fn new(url: impl Into<String>, keys: Vec<Secret>) -> Self {
        GraphSettings {
            url: url.into(),
            keys,
            rate: RateLimit::per_second(REQUESTS_PER_SECOND),
            concurrency: CONCURRENCY,
            retry: RetryPolicy::REQUEST,
            timeout: TIMEOUT,
            max_body_bytes: MAX_BODY_BYTES,
            rows_per_page: ROWS_PER_PAGE,
        }
    }
}

/// The newest state of a subgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The newest block that it has indexed; it may still be reorganised.
    pub block: Block,
    /// The deployment that serves the subgraph now.
    pub deployment: String,
}

/// All rows of one kind, as of one block of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// The block that was asked for.
    pub block: Block,
    /// The deployment that answered: the same for every page.
    pub deployment: String,
    /// The rows in id order, as delivered; or what was kept of each page, in that order.
    pub rows: Vec<T>,
}

impl<T> Snapshot<Vec<T>> {
    /// The rows of all pages.
    fn flat(self) -> Snapshot<T> {
        let mut rows = Vec::with_capacity(self.rows.iter().map(Vec::len).sum());
        self.rows.into_iter().for_each(|page| rows.extend(page));
        Snapshot { block: self.block, deployment: self.deployment, rows }
    }
}

/// What is kept of a page, with the state that it is of.
struct Kept<P> {
    state: State,
    rows: P,
}

/// Makes of a page's rows what is to be kept of them.
trait Keep<E, P>: Fn(Vec<E>) -> Result<P> + Sync {}

impl<E, P, F: Fn(Vec<E>) -> Result<P> + Sync> Keep<E, P> for F {}

/// A client of The Graph. Built once; all calls share its connections, limits and keys.
pub struct GraphClient {
    base: Url,
    endpoint: Endpoint,
    rows_per_page: usize,
}

impl fmt::Debug for GraphClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphClient").finish_non_exhaustive()
    }
}

/// What one snapshot asks for.
struct Ask<'a> {
    url: &'a Url,
    block: u64,
    filter: Map<String, Value>,
}

impl GraphClient {
    /// A client of some settings.
    ///
    /// # Errors
    /// `BadInput` for an address that could leak a key (plain http to another machine, a user or query in it), an unusable
    /// key, a rate or concurrency of zero, or pages that graph-node does not give.
    pub fn new(settings: GraphSettings) -> Result<Self> {
        if !(1..=ROWS_PER_PAGE).contains(&settings.rows_per_page) {
            return Err(Error::bad_input(format!("a page of The Graph has 1 to {ROWS_PER_PAGE} rows")));
        }
        let base = base_url("The Graph", &settings.url)?;
        let endpoint = Endpoint::new(EndpointSettings {
            source: "The Graph",
            base: &base,
            header: KeyHeader { name: AUTHORIZATION, prefix: "Bearer " },
            keys: settings.keys,
            rate: settings.rate,
            concurrency: settings.concurrency,
            retry: settings.retry,
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })?;
        Ok(GraphClient { base, endpoint, rows_per_page: settings.rows_per_page })
    }

    /// The newest block of a subgraph.
    ///
    /// # Errors
    /// As [`GraphClient::positions`].
    pub async fn head(&self, subgraph_id: &str, traffic: &Traffic) -> Result<Head> {
        let url = self.subgraph(subgraph_id)?;
        let body =
            json!({ "query": "query Head { _meta { block { number timestamp hash } deployment hasIndexingErrors } }" });
        let read = |answer: &_| parse_head(&self.endpoint, answer);
        let state = self.endpoint.ask(&url, &body, traffic, read).await;
        let state = state.map_err(|error| error.with("subgraph", subgraph_id))?;
        Ok(Head { block: state.block, deployment: state.deployment })
    }

    /// All markets at a block.
    ///
    /// # Errors
    /// As [`GraphClient::positions`].
    pub async fn markets(&self, subgraph_id: &str, block: u64, traffic: &Traffic) -> Result<Snapshot<Market>> {
        let url = self.subgraph(subgraph_id)?;
        let snapshot = self.snapshot(&url, block, vec![Map::new()], &Ok, traffic).await.map(Snapshot::flat);
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// All positions with a balance at a block, or those of some accounts (`0x…` addresses in any case).
    ///
    /// # Errors
    /// After all tries: `Throttled`, `SourceUnavailable` (also: the deployment or the block's hash changed from page to
    /// page), `NotReady` (the block is not indexed yet). At once: `HistoryPruned` (the block is not kept any more),
    /// `QuotaExceeded`, `BadCredentials`, `SourceRejected` (a query that the server refuses, an unknown subgraph, indexing
    /// errors), `CorruptData` (an answer without the shape that was asked for), `BadInput` (no subgraph's id, a block
    /// number beyond 2³¹).
    pub async fn positions(
        &self,
        subgraph_id: &str,
        block: u64,
        accounts: Option<&[String]>,
        traffic: &Traffic,
    ) -> Result<Snapshot<Position>> {
        let url = self.subgraph(subgraph_id)?;
        let snapshot = self.snapshot(&url, block, position_filters(accounts), &Ok, traffic).await.map(Snapshot::flat);
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// All positions with a balance at a block, page by page: of each page only what `keep` makes of it stays in memory. No id
    /// is in two pages.
    ///
    /// # Errors
    /// As [`GraphClient::positions`], and those of `keep`.
    pub async fn process_position_pages<P: Send>(
        &self,
        subgraph_id: &str,
        block: u64,
        keep: impl Fn(Vec<Position>) -> Result<P> + Sync,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        let url = self.subgraph(subgraph_id)?;
        let snapshot = self.snapshot(&url, block, position_filters(None), &keep, traffic).await;
        snapshot.map_err(|error| error.with("subgraph", subgraph_id).with("block", block))
    }

    /// Takes a snapshot, and takes the whole of it again if its pages are not of one state.
    async fn snapshot<E: Entity, P>(
        &self,
        url: &Url,
        block: u64,
        filters: Vec<Map<String, Value>>,
        keep: &impl Keep<E, P>,
        traffic: &Traffic,
    ) -> Result<Snapshot<P>> {
        // `$block` is an `Int`, and those end there.
        if i32::try_from(block).is_err() {
            return Err(Error::bad_input("no block has such a number").with("block", block));
        }
        let asks: Vec<Ask<'_>> = filters.into_iter().map(|filter| Ask { url, block, filter }).collect();
        let asks = &asks;
        let once = || async move {
            match self.pages(asks, keep, traffic).await {
                Ok(pages) => one_state(pages).map(Ok),
                // Each page has been tried as often as it may: a failed one does not start the others again.
                Err(error) => Ok(Err(error)),
            }
        };
        self.endpoint.retry().run(traffic, once).await?
    }

    async fn pages<E: Entity, P>(
        &self,
        asks: &[Ask<'_>],
        keep: &impl Keep<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<Kept<P>>> {
        // Collected, here and below: a stream over the closure would make the future one that can't be spawned.
        let pages: Vec<_> = asks.iter().map(|ask| self.pages_of(ask, keep, traffic)).collect();
        let pages: Vec<Vec<Kept<P>>> = stream::iter(pages).buffered(CONCURRENCY).try_collect().await?;
        Ok(pages.into_iter().flatten().collect())
    }

    async fn pages_of<E: Entity, P>(
        &self,
        ask: &Ask<'_>,
        keep: &impl Keep<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<Kept<P>>> {
        let (first, last_id) = self.page(ask, &Range::all(), keep, traffic).await?;
        let mut pages = vec![first];
        if let Some(last_id) = last_id {
            let ranges = Range::split_after(&last_id);
            let count = ranges.len();
            let ranges: Vec<_> =
                ranges.into_iter().map(|range| self.pages_of_range(ask, range, keep, traffic)).collect();
            // In the order of the ranges, whichever is done first. All are under way; the endpoint bounds the requests.
            let rest: Vec<Vec<Kept<P>>> = stream::iter(ranges).buffered(count).try_collect().await?;
            pages.extend(rest.into_iter().flatten());
        }
        Ok(pages)
    }

    async fn pages_of_range<E: Entity, P>(
        &self,
        ask: &Ask<'_>,
        mut range: Range,
        keep: &impl Keep<E, P>,
        traffic: &Traffic,
    ) -> Result<Vec<Kept<P>>> {
        let mut pages = Vec::new();
        loop {
            let (page, last_id) = self.page(ask, &range, keep, traffic).await?;
            pages.push(page);
            match last_id {
                Some(last_id) => range = range.after(&last_id),
                None => return Ok(pages),
            }
        }
    }

    /// One page of a range, and the id after which the next one begins.
    async fn page<E: Entity, P>(
        &self,
        ask: &Ask<'_>,
        range: &Range,
        keep: &impl Keep<E, P>,
        traffic: &Traffic,
    ) -> Result<(Kept<P>, Option<String>)> {
        let mut filter = ask.filter.clone();
        range.narrow(&mut filter);
        let variables = json!({ "block": ask.block, "first": self.rows_per_page, "where": filter });
        let body = json!({ "query": E::QUERY, "variables": variables });
        let read = |answer: &_| {
            let page: Page<E> = read_page(&self.endpoint, answer)?;
            let answered = page.state.block.number;
            if answered != ask.block {
                return Err(
                    Error::new(Kind::SourceUnavailable, "the answer is of another block").with("answered", answered)
                );
            }
            let next = range.next(&page.rows, self.rows_per_page)?;
            Ok((Kept { state: page.state, rows: keep(page.rows)? }, next))
        };
        self.endpoint.ask(ask.url, &body, traffic, read).await
    }

    fn subgraph(&self, id: &str) -> Result<Url> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::bad_input("a subgraph's id is letters and digits").with("subgraph", id));
        }
        below(&self.base, &["subgraphs", "id", id])
    }
}

/// Filters whose answers, one after the other, are in id order: accounts sorted, since ids begin with them.
fn position_filters(accounts: Option<&[String]>) -> Vec<Map<String, Value>> {
    let open = Map::from_iter([("balance_not".to_owned(), Value::from("0"))]);
    let Some(accounts) = accounts else { return vec![open] };
    // Lower case, as graph-node stores addresses: where ids are `ID`, another case matches nothing.
    let mut accounts: Vec<String> = accounts.iter().map(|account| account.to_ascii_lowercase()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let of_accounts = |accounts: &[String]| {
        let mut filter = open.clone();
        filter.insert("account_in".to_owned(), Value::from(accounts));
        filter
    };
    if accounts.is_empty() {
        // Asked all the same: a snapshot names the block and the deployment, rows or none.
        return vec![of_accounts(&[])];
    }
    accounts.chunks(ACCOUNTS_PER_QUERY).map(of_accounts).collect()
}

/// Puts pages together, if all are of one state.
fn one_state<P>(pages: Vec<Kept<P>>) -> Result<Snapshot<P>> {
    let mut rows = Vec::with_capacity(pages.len());
    let mut pages = pages.into_iter();
    let Some(Kept { state: State { mut block, deployment }, rows: first }) = pages.next() else {
        return Err(Error::internal("a snapshot without a page"));
    };
    rows.push(first);
    for page in pages {
        if page.state.deployment != deployment {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "the subgraph moved to another deployment between two pages",
            ));
        }
        // Not every indexer says timestamp and hash; those that do must agree.
        let other = page.state.block;
        if differ(&block.hash, &other.hash) || differ(&block.timestamp, &other.timestamp) {
            return Err(Error::new(Kind::SourceUnavailable, "the pages are of two blocks with the same number"));
        }
        block.hash = block.hash.or(other.hash);
        block.timestamp = block.timestamp.or(other.timestamp);
        rows.push(page.rows);
    }
    Ok(Snapshot { block, deployment, rows })
}

fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
    a.is_some() && b.is_some() && a != b
}

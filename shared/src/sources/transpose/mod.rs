//! A client of Transpose, an HTTP API for SQL queries that are executed by PostgreSQL.
//!
//! The server truncates a response at 10 MB or at its time limit, with status 200 and `truncated: true`, so that a
//! short page is not necessarily the last one. The module `paging` ensures that no rows are lost.

mod liquidation;
#[cfg(feature = "testing")]
mod offline;
mod paging;
#[cfg(test)]
mod paging_tests;
mod response;
mod rows;
mod sql;

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderName;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use super::endpoint::{Endpoint, EndpointSettings, KeyHeader, NO_KEY_HINT};
use super::http::{UrlSecrets, append_path, base_url};
use super::text::{Text, intern};
use super::volume::Volume;
use super::{Block, RateLimit, RetryPolicy, Secret, Traffic};
use crate::config::SourceLimits;
use crate::error::{Error, Kind, Result};
pub use liquidation::{Leg, LiquidationLegs};
use paging::{EventPage, Pager, Progress};
use response::{Results, parse};
use rows::{BlockRow, CountRow, timestamp_from_seconds};
pub use rows::{EVENT_COLUMNS, Event};

/// The URL of the live API.
pub const LIVE_URL: &str = "https://api.transpose.io";

/// The default rate limit per key: that of free keys, and one day of a category usually takes a single request.
pub const REQUESTS_PER_SECOND: u32 = 1;

/// What a request costs, in credits per second of the server's time. A GB of responses costs 5,000 credits more.
pub const CREDITS_PER_SECOND: f64 = 60.0;

/// The credits of a free key in a month.
pub const FREE_CREDITS: u64 = 250_000;

/// The default number of concurrent requests. The pages of one query are sequential, so this only matters for
/// concurrent calls.
pub const CONCURRENCY: usize = 4;

/// The default number of rows per page. Credits are charged per request, and a row is 0.8 to 1 KB of JSON, so this is
/// about the most that a response can hold (10 MB). A truncated page only costs one more request.
pub const ROWS_PER_PAGE: usize = 10_000;

/// The maximum length of a response body, in bytes. The server truncates at 10 MB.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// The time limit that is sent to the server, which is also the limit of the free tier. It results in a truncated
/// response instead of a dropped connection.
const SERVER_TIMEOUT: Duration = Duration::from_secs(25);

/// The default timeout of a request: twice the server's time limit, after which a body of up to 10 MB is sent.
pub const TIMEOUT: Duration = Duration::from_secs(50);

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The settings of a [`TransposeClient`].
#[derive(Debug, Clone)]
pub struct TransposeSettings {
    /// The base URL, to which `/sql` is appended. https, or http for a loopback address.
    pub url: String,
    /// The API keys, used in rotation. If empty, requests have no key, which a local server may accept.
    pub keys: Vec<Secret>,
    /// The keys of other sources. A server that gets the requests of several may repeat them, too.
    pub other_keys: Vec<Secret>,
    /// The rate limit of each key.
    pub rate: RateLimit,
    /// The maximum number of concurrent requests, of all calls of the client together.
    pub concurrency: usize,
    /// The retry policy for transient errors of a request.
    pub retry: RetryPolicy,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The maximum length of a response body, in bytes.
    pub max_body_bytes: usize,
    /// The number of rows per page of events.
    pub rows_per_page: usize,
    /// How much the source may send for the events of a query.
    pub limits: SourceLimits,
}

impl TransposeSettings {
    /// Creates the default settings for a URL and keys.
    #[must_use]
    pub fn new(url: impl Into<String>, keys: Vec<Secret>) -> Self {
        TransposeSettings {
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

/// A query for the events of a protocol and category in a time range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsQuery {
    /// `protocol_name` (`aave`, `compound`, …).
    pub protocol_name: String,
    /// `contract_version` (`v2`, …).
    pub contract_version: String,
    /// `category`: deposit, borrow, repay, withdraw or liquidation.
    pub category: String,
    /// The start of the range, in seconds since 1970-01-01T00:00:00Z.
    pub from: i64,
    /// The exclusive end of the range, in seconds since 1970-01-01T00:00:00Z.
    pub to: i64,
}

impl EventsQuery {
    /// Checks that rows match this query; missing fields and invalid timestamps match. A cache that confuses two
    /// queries must not fill a day or category with the rows of another.
    fn check(&self, rows: &[Event]) -> Result<()> {
        let is = |field: &Text, expected: &str| field.as_deref().is_none_or(|value| value == expected);
        let matches = |row: &Event| {
            is(&row.category, &self.category)
                && is(&row.protocol_name, &self.protocol_name)
                && is(&row.contract_version, &self.contract_version)
                && row.time().is_none_or(|time| (self.from..self.to).contains(&time.as_second()))
        };
        match rows.iter().find(|row| !matches(row)) {
            None => Ok(()),
            Some(row) => {
                Err(Error::new(Kind::SourceUnavailable, "the response has a row that does not match the query")
                    .with("row_category", &row.category)
                    .with("row_timestamp", &row.timestamp))
            }
        }
    }
}

/// The longest and the shortest average time between blocks of the chain, in seconds, and a tolerance: they bound the time of
/// a block whose number is known.
const SECONDS_PER_BLOCK: [i64; 2] = [20, 10];
const TIME_TOLERANCE: i64 = 3600;

/// A client of Transpose. All calls share its connections, limits and keys.
pub struct TransposeClient {
    url: Url,
    endpoint: Endpoint,
    rows_per_page: usize,
    limits: SourceLimits,
}

impl fmt::Debug for TransposeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransposeClient").finish_non_exhaustive()
    }
}

impl TransposeClient {
    /// Creates a client.
    ///
    /// # Errors
    /// `BadInput` for a URL that could leak a key (http to another machine, or with a user name or query), an invalid
    /// key, or a rate, concurrency or page size of zero.
    pub fn new(settings: TransposeSettings) -> Result<Self> {
        if settings.rows_per_page == 0 {
            return Err(Error::bad_input("the page size must be at least one row"));
        }
        let base = base_url("Transpose", &settings.url)?;
        let endpoint = Endpoint::new(EndpointSettings {
            source: "Transpose",
            base: &base,
            secrets: UrlSecrets { keys: settings.other_keys, ..UrlSecrets::default() },
            no_key_hint: NO_KEY_HINT,
            header: KeyHeader { name: API_KEY, prefix: "" },
            keys: settings.keys,
            rate: settings.rate,
            concurrency: settings.concurrency,
            retry: settings.retry,
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })?;
        let TransposeSettings { rows_per_page, limits, .. } = settings;
        Ok(TransposeClient { url: append_path(&base, &["sql"])?, endpoint, rows_per_page, limits })
    }

    /// Returns all events of a query, ordered by (timestamp, log_index), including rows without one of them. A row that
    /// the source sends twice is returned twice.
    ///
    /// # Errors
    /// After all retries: `Throttled`, `SourceUnavailable` (also: rows out of order, rows that do not match the query,
    /// or a single log index whose rows are truncated each time). Without retries: `QuotaExceeded` (out of credits),
    /// `BadCredentials`, `SourceRejected` (a rejected query), `CorruptData` (a response without the expected structure,
    /// that contains the API key or exceeds a limit, or a truncated page without a row to continue from), `BadInput` (an
    /// invalid time).
    pub async fn events(&self, query: &EventsQuery, traffic: &Traffic) -> Result<Vec<Event>> {
        let events = self.fetch_all(query, traffic).await;
        events.map_err(|error| {
            error
                .with("protocol_name", &query.protocol_name)
                .with("contract_version", &query.contract_version)
                .with("category", &query.category)
                .with("from", query.from)
        })
    }

    async fn fetch_all(&self, query: &EventsQuery, traffic: &Traffic) -> Result<Vec<Event>> {
        let (mut pager, volume) = (Pager::new(), Volume::of_events(&self.limits));
        loop {
            let page = self.fetch_page(query, &pager, &volume, traffic).await?;
            match pager.add(page)? {
                Progress::More(more) => pager = more,
                Progress::Done(events) => return Ok(events),
            }
        }
    }

    async fn fetch_page(
        &self,
        query: &EventsQuery,
        pager: &Pager,
        volume: &Volume,
        traffic: &Traffic,
    ) -> Result<EventPage> {
        let statement = sql::events(query, pager.request(), self.rows_per_page)?;
        self.query(&statement, traffic, |mut results: Results<Event>| {
            volume.add(&results.rows, results.bytes)?;
            intern(&mut results.rows);
            let partial = results.truncated || results.rows.len() >= self.rows_per_page;
            let page = EventPage { rows: results.rows, partial };
            query.check(&page.rows)?;
            pager.request().check(&page).map(|()| page)
        })
        .await
    }

    /// Returns the number of events that match any of the queries, which must be disjoint. A row that the source has
    /// twice counts twice.
    ///
    /// # Errors
    /// As [`TransposeClient::events`]; `CorruptData` for a count that is not an integer.
    pub async fn count_events(&self, queries: &[EventsQuery], traffic: &Traffic) -> Result<u64> {
        let count = self.query(&sql::count(queries)?, traffic, |results: Results<CountRow>| one_count(&results)).await;
        let first = queries.first();
        let category = first.map_or("", |query| query.category.as_str());
        count.map_err(|error| error.with("category", category).with("from", first.map_or(0, |query| query.from)))
    }

    /// Returns the first block at or after a time (seconds since 1970-01-01T00:00:00Z), or `None` if there is none yet.
    ///
    /// # Errors
    /// As [`TransposeClient::events`]; `CorruptData` for a row without a number or a timestamp.
    pub async fn first_block(&self, at_or_after: i64, traffic: &Traffic) -> Result<Option<Block>> {
        let statement = sql::first_block(at_or_after)?;
        let earliest = timestamp_from_seconds(at_or_after)?.as_second();
        let block = self.query(&statement, traffic, |results| {
            let block = one_block(results)?;
            match block.as_ref().and_then(|block| block.timestamp) {
                Some(time) if time < earliest => {
                    Err(Error::new(Kind::SourceUnavailable, "the block is before the requested time"))
                }
                _ => Ok(block),
            }
        });
        block.await.map_err(|error| error.with("at_or_after", at_or_after))
    }

    /// Returns the newest block of the source; a reorganisation may still replace it.
    ///
    /// # Errors
    /// As [`TransposeClient::first_block`]; `SourceUnavailable` if the source has no block.
    pub async fn head_block(&self, traffic: &Traffic) -> Result<Block> {
        let block =
            |results| one_block(results)?.ok_or_else(|| Error::new(Kind::SourceUnavailable, "the source has no block"));
        self.query(&sql::head_block(), traffic, block).await
    }

    /// Returns the time of a block, in seconds since 1 January 1970 UTC.
    ///
    /// # Errors
    /// As [`TransposeClient::first_block`]; `NotReady` if the source does not have the block yet.
    pub async fn time_of_block(&self, number: u64, traffic: &Traffic) -> Result<i64> {
        let head = self.head_block(traffic).await?;
        let later = || Error::new(Kind::NotReady, "the source does not have the block yet").with("block", number);
        let (Some(depth), Some(newest)) = (head.number.checked_sub(number), head.timestamp) else {
            return Err(later());
        };
        if depth == 0 {
            return Ok(newest);
        }
        let depth = i64::try_from(depth).map_err(|_| later())?;
        let [slowest, fastest] = SECONDS_PER_BLOCK.map(|seconds| newest.saturating_sub(depth.saturating_mul(seconds)));
        let times = slowest.saturating_sub(TIME_TOLERANCE)..=fastest.saturating_add(TIME_TOLERANCE);
        let block = self.query(&sql::block(number, times)?, traffic, one_block).await?;
        let time = block.filter(|block| block.number == number).and_then(|block| block.timestamp);
        time.ok_or_else(|| {
            Error::new(Kind::SourceUnavailable, "the source does not have the block").with("block", number)
        })
    }

    async fn query<T: Default + DeserializeOwned, U>(
        &self,
        statement: &str,
        traffic: &Traffic,
        accept: impl Fn(Results<T>) -> Result<U>,
    ) -> Result<U> {
        let body = json!({
            "sql": statement,
            "parameters": {},
            "options": { "stringify_numbers": true, "timeout": SERVER_TIMEOUT.as_millis() as u64 },
        });
        self.endpoint.request(&self.url, &body, traffic, |response| accept(parse(response)?)).await
    }
}

/// Returns the count of a response.
fn one_count(results: &Results<CountRow>) -> Result<u64> {
    let [row] = results.rows.as_slice() else {
        return Err(Error::new(Kind::SourceUnavailable, "the response to a count does not have one row"));
    };
    let count = row.count.as_deref().and_then(|count| count.parse().ok());
    count.ok_or_else(|| Error::corrupt("the count in the response is not an integer").with("count", &row.count))
}

/// Returns the block of a response with at most one row.
fn one_block(results: Results<BlockRow>) -> Result<Option<Block>> {
    if results.truncated && results.rows.is_empty() {
        return Err(Error::new(Kind::SourceUnavailable, "the response was truncated before its first row"));
    }
    results.rows.into_iter().next().map(BlockRow::into_block).transpose()
}

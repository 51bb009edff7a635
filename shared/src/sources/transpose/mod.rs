//! Transpose: SQL over HTTP, PostgreSQL behind it.
//!
//! An answer stops at 10 MB or at its time limit, with status 200 and `truncated: true`: a short page is no sign of the end.
//! How nothing is lost all the same is in `paging`.

mod answer;
mod liquidation;
#[cfg(feature = "testing")]
mod offline;
mod paging;
#[cfg(test)]
mod paging_tests;
mod rows;
mod sql;

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderName;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use super::endpoint::{Endpoint, EndpointSettings, KeyHeader};
use super::http::{MAX_BODY_BYTES, base_url, below};
use super::text::{Text, share};
use super::{Block, RateLimit, RetryPolicy, Secret, Traffic};
use crate::error::{Error, Kind, Result};
use answer::{Results, read};
pub use liquidation::{Leg, LiquidationLegs};
use paging::{EventPage, Pager, Progress};
use rows::{BlockRow, moment_of};
pub use rows::{EVENT_COLUMNS, Event};

/// The live API.
pub const LIVE_URL: &str = "https://api.transpose.io";

/// Careful: the provider names no rate, only that there is one (429), and a day of one category is mostly a single request.
pub const REQUESTS_PER_SECOND: u32 = 2;

/// A page follows from the one before it; more at once only serves several calls at the same time.
pub const CONCURRENCY: usize = 4;

/// Rows in a page. A row is 0.8 to 1 KB of JSON, so this is just what an answer can hold (10 MB), and credits are spent per
/// request. A page that is cut shorter than this costs nothing but the next request.
pub const ROWS_PER_PAGE: usize = 10_000;

/// What the server is told to stop at, as the free tier would anyway: a cut answer instead of a dropped connection.
const SERVER_TIMEOUT: Duration = Duration::from_secs(25);

/// Twice the server's limit: the body of 10 MB comes after it.
pub const TIMEOUT: Duration = Duration::from_secs(50);

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How Transpose is asked.
#[derive(Debug, Clone)]
pub struct TransposeSettings {
    /// The base address, below which `/sql` lies. https, or http to this machine.
    pub url: String,
    /// API keys; they take turns. None: requests carry no key, which a server on this machine may accept.
    pub keys: Vec<Secret>,
    /// The rate of each key.
    pub rate: RateLimit,
    /// Requests at once, of all calls of the client together.
    pub concurrency: usize,
    /// How passing faults of a request are tried again.
    pub retry: RetryPolicy,
    /// The time that one request may take.
    pub timeout: Duration,
    /// The longest body that is read, in bytes.
    pub max_body_bytes: usize,
    /// Rows in a page of events.
    pub rows_per_page: usize,
}

impl TransposeSettings {
    /// The usual settings for an address and keys.
    #[must_use]
    pub fn new(url: impl Into<String>, keys: Vec<Secret>) -> Self {
        TransposeSettings {
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

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsQuery {
    /// `protocol_name` (`aave`, `compound`, …).
    pub protocol_name: String,
    /// `contract_version` (`v2`, …).
    pub contract_version: String,
    /// `category`: deposit, borrow, repay, withdraw or liquidation.
    pub category: String,
    /// The first second of the span, since 1970-01-01T00:00:00Z.
    pub from: i64,
    /// The first second after it.
    pub to: i64,
}

impl EventsQuery {
    /// Holds rows to be those that are asked for, as far as they say what they are. A cache that mixes up two questions must not
    /// fill one day or category with the rows of another.
    fn check(&self, rows: &[Event]) -> Result<()> {
        let is = |field: &Text, asked: &str| field.as_deref().is_none_or(|said| said == asked);
        let is_asked_for = |row: &Event| {
            is(&row.category, &self.category)
                && is(&row.protocol_name, &self.protocol_name)
                && is(&row.contract_version, &self.contract_version)
                && row.time().is_none_or(|time| (self.from..self.to).contains(&time.as_second()))
        };
        match rows.iter().find(|row| !is_asked_for(row)) {
            None => Ok(()),
            Some(row) => Err(Error::new(Kind::SourceUnavailable, "there are rows that were not asked for")
                .with("row_category", &row.category)
                .with("row_timestamp", &row.timestamp)),
        }
    }
}

/// A client of Transpose. Built once; all calls share its connections, limits and keys.
pub struct TransposeClient {
    url: Url,
    endpoint: Endpoint,
    rows_per_page: usize,
}

impl fmt::Debug for TransposeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransposeClient").finish_non_exhaustive()
    }
}

impl TransposeClient {
    /// A client of some settings.
    ///
    /// # Errors
    /// `BadInput` for an address that could leak a key (plain http to another machine, a user or query in it), an unusable
    /// key, or a rate, concurrency or page of zero.
    pub fn new(settings: TransposeSettings) -> Result<Self> {
        if settings.rows_per_page == 0 {
            return Err(Error::bad_input("a page has at least one row"));
        }
        let base = base_url("Transpose", &settings.url)?;
        let endpoint = Endpoint::new(EndpointSettings {
            source: "Transpose",
            base: &base,
            header: KeyHeader { name: API_KEY, prefix: "" },
            keys: settings.keys,
            rate: settings.rate,
            concurrency: settings.concurrency,
            retry: settings.retry,
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })?;
        Ok(TransposeClient { url: below(&base, &["sql"])?, endpoint, rows_per_page: settings.rows_per_page })
    }

    /// All events of a query, in the order of (timestamp, log_index); rows that lack one of them are among them. A row can
    /// come twice if the source sends it twice.
    ///
    /// # Errors
    /// After all tries: `Throttled`, `SourceUnavailable` (also: rows out of order, rows of another question, or one place in the chain whose rows are
    /// cut short again and again). At once: `QuotaExceeded` (out of credits), `BadCredentials`, `SourceRejected` (a query
    /// that the server refuses), `CorruptData` (an answer without the shape that it must have, or without a row to page on
    /// from), `BadInput` (a time that no calendar has).
    pub async fn events(&self, query: &EventsQuery, traffic: &Traffic) -> Result<Vec<Event>> {
        let events = self.all_pages(query, traffic).await;
        events.map_err(|error| {
            error
                .with("protocol_name", &query.protocol_name)
                .with("contract_version", &query.contract_version)
                .with("category", &query.category)
                .with("from", query.from)
        })
    }

    async fn all_pages(&self, query: &EventsQuery, traffic: &Traffic) -> Result<Vec<Event>> {
        let mut pager = Pager::new();
        loop {
            let page = self.page(query, &pager, traffic).await?;
            match pager.take(page)? {
                Progress::More(more) => pager = more,
                Progress::Done(events) => return Ok(events),
            }
        }
    }

    async fn page(&self, query: &EventsQuery, pager: &Pager, traffic: &Traffic) -> Result<EventPage> {
        let statement = sql::events(query, pager.ask(), self.rows_per_page)?;
        self.ask(&statement, traffic, |mut results: Results<Event>| {
            share(&mut results.rows);
            let cut = results.truncated || results.rows.len() >= self.rows_per_page;
            let page = EventPage { rows: results.rows, cut };
            query.check(&page.rows)?;
            pager.ask().check(&page).map(|()| page)
        })
        .await
    }

    /// The first block at or after a time (seconds since 1970-01-01T00:00:00Z), or `None` if the chain is not there yet.
    ///
    /// # Errors
    /// As [`TransposeClient::events`]; `CorruptData` for a row without number or time.
    pub async fn first_block(&self, at_or_after: i64, traffic: &Traffic) -> Result<Option<Block>> {
        let statement = sql::first_block(at_or_after)?;
        let earliest = moment_of(at_or_after)?.as_second();
        let found = self.ask(&statement, traffic, |results| {
            let block = one_block(results)?;
            match block.as_ref().and_then(|block| block.timestamp) {
                Some(time) if time < earliest => {
                    Err(Error::new(Kind::SourceUnavailable, "the block is from before the time"))
                }
                _ => Ok(block),
            }
        });
        found.await.map_err(|error| error.with("at_or_after", at_or_after))
    }

    /// The newest block that the source has; it may still be reorganised.
    ///
    /// # Errors
    /// As [`TransposeClient::first_block`]; `SourceUnavailable` for a source without any block.
    pub async fn head_block(&self, traffic: &Traffic) -> Result<Block> {
        let block =
            |results| one_block(results)?.ok_or_else(|| Error::new(Kind::SourceUnavailable, "there is no block"));
        self.ask(&sql::head_block(), traffic, block).await
    }

    async fn ask<T: Default + DeserializeOwned, U>(
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
        self.endpoint.ask(&self.url, &body, traffic, |answer| accept(read(&self.endpoint, answer)?)).await
    }
}

/// The block of an answer of at most one row.
fn one_block(results: Results<BlockRow>) -> Result<Option<Block>> {
    if results.truncated && results.rows.is_empty() {
        return Err(Error::new(Kind::SourceUnavailable, "the answer was cut short before its first row"));
    }
    results.rows.into_iter().next().map(BlockRow::block).transpose()
}

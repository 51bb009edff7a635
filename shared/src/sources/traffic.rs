//! Counters of requests, retries, bytes and pages.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::Kind;

/// Counters that the calls of a client increment. All tasks of a step (or of a unit) share one.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
    retries: [AtomicU64; Kind::ALL.len()],
}

impl Traffic {
    /// Creates counters that are all zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the current values.
    #[must_use]
    pub fn report(&self) -> TrafficReport {
        let retries = Kind::ALL.iter().zip(&self.retries);
        let retries = retries.map(|(kind, count)| (kind.name().to_owned(), count.load(Ordering::Relaxed)));
        TrafficReport {
            requests: self.requests.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            retries: retries.filter(|(_, count)| *count > 0).collect(),
            milliseconds: 0,
        }
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_page(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self, kind: Kind) {
        let index = Kind::ALL.iter().position(|other| *other == kind);
        if let Some(count) = index.and_then(|index| self.retries.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The values of a [`Traffic`], for a step's report. Reports can be added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// The number of HTTP requests sent, including retries: what an API bills.
    pub requests: u64,
    /// The number of responses that were accepted.
    pub pages: u64,
    /// The size of the response bodies in bytes, after decompression.
    pub bytes: u64,
    /// The number of retries per kind of error, by the name of the kind.
    pub retries: BTreeMap<String, u64>,
    /// How long the calls of the step took that sent the requests, in milliseconds.
    #[serde(default)]
    pub milliseconds: u64,
}

impl AddAssign<&TrafficReport> for TrafficReport {
    fn add_assign(&mut self, other: &TrafficReport) {
        self.requests += other.requests;
        self.pages += other.pages;
        self.bytes += other.bytes;
        self.milliseconds += other.milliseconds;
        for (kind, count) in &other.retries {
            *self.retries.entry(kind.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_every_kind_and_adds_reports() {
        let traffic = Traffic::new();
        for kind in Kind::ALL {
            traffic.count_retry(kind);
        }
        traffic.count_retry(Kind::Throttled);
        traffic.count_request();
        traffic.count_page();
        traffic.count_bytes(17);
        let mut sum = traffic.report();
        sum += &traffic.report();
        assert_eq!((sum.requests, sum.pages, sum.bytes), (2, 2, 34));
        assert_eq!(sum.retries.len(), Kind::ALL.len());
        assert_eq!((sum.retries["Throttled"], sum.retries["NotReady"]), (4, 2));
    }

    #[test]
    fn omits_kinds_without_retries() {
        assert_eq!(
            serde_json::to_string(&Traffic::new().report()).unwrap(),
            r#"{"requests":0,"pages":0,"bytes":0,"retries":{},"milliseconds":0}"#
        );
    }
}

//! What went over the wire: requests, retries, bytes and pages.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::Kind;

/// Counters that every call of a client adds to. One per step (or per unit) is shared by all tasks of it.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
    retries: [AtomicU64; Kind::ALL.len()],
}

impl Traffic {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The figures as of now.
    #[must_use]
    pub fn report(&self) -> TrafficReport {
        let retries = Kind::ALL.iter().zip(&self.retries);
        let retries = retries.map(|(kind, count)| (kind.name().to_owned(), count.load(Ordering::Relaxed)));
        TrafficReport {
            requests: self.requests.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            retries: retries.filter(|(_, count)| *count > 0).collect(),
        }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn page(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn retry(&self, kind: Kind) {
        let slot = Kind::ALL.iter().position(|one| *one == kind).and_then(|index| self.retries.get(index));
        if let Some(slot) = slot {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The figures of a [`Traffic`], for a step's report; they add up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// HTTP requests sent, retries included: what an API bills.
    pub requests: u64,
    /// Answers of rows that were accepted.
    pub pages: u64,
    /// Bytes of the answers' bodies, after decompression.
    pub bytes: u64,
    /// How often something was asked again, by the name of the error's kind.
    pub retries: BTreeMap<String, u64>,
}

impl AddAssign<&TrafficReport> for TrafficReport {
    fn add_assign(&mut self, other: &TrafficReport) {
        self.requests += other.requests;
        self.pages += other.pages;
        self.bytes += other.bytes;
        for (kind, count) in &other.retries {
            *self.retries.entry(kind.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_counter_and_reports_add_up() {
        let traffic = Traffic::new();
        for kind in Kind::ALL {
            traffic.retry(kind);
        }
        traffic.retry(Kind::Throttled);
        traffic.request();
        traffic.page();
        traffic.received(17);
        let mut sum = traffic.report();
        sum += &traffic.report();
        assert_eq!((sum.requests, sum.pages, sum.bytes), (2, 2, 34));
        assert_eq!(sum.retries.len(), Kind::ALL.len());
        assert_eq!((sum.retries["Throttled"], sum.retries["NotReady"]), (4, 2));
    }

    #[test]
    fn what_did_not_happen_is_not_listed() {
        assert_eq!(
            serde_json::to_string(&Traffic::new().report()).unwrap(),
            r#"{"requests":0,"pages":0,"bytes":0,"retries":{}}"#
        );
    }
}

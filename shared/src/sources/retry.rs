//! The one place where something is tried again.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

use super::traffic::Traffic;
use crate::error::{Error, Result};

/// How often, and after how long, a passing fault is tried again.
///
/// The n-th wait is drawn evenly from zero to `first_wait` · 2ⁿ, at most `longest_wait` ("full jitter": tasks that failed
/// together do not come back together). A `Retry-After` of the source is waited out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least one is made.
    pub tries: usize,
    /// Upper bound of the first wait.
    pub first_wait: Duration,
    /// Upper bound of every wait.
    pub longest_wait: Duration,
    /// The longest `Retry-After` that is waited out here. On a longer one the error is returned at once: a function that
    /// sleeps for minutes is paid for, the state machine waits for free.
    pub longest_retry_after: Duration,
}

impl RetryPolicy {
    /// For one request of a step. Seven tries span up to about 40 seconds: longer than a rolling restart of a gateway or
    /// a change of indexers takes, and short enough that a step still has time to report and leave the rest to the machine.
    pub const REQUEST: RetryPolicy = RetryPolicy {
        tries: 7,
        first_wait: Duration::from_millis(500),
        longest_wait: Duration::from_secs(15),
        longest_retry_after: Duration::from_secs(60),
    };

    /// For tests against a server on loopback: as many tries, and no wait that a person would notice.
    pub const LOOPBACK: RetryPolicy = RetryPolicy {
        tries: 7,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        longest_retry_after: Duration::from_secs(2),
    };

    /// Does something, and does it again while it fails with a transient kind and tries are left. The last error is
    /// returned. Every repetition is counted in `traffic` and logged.
    ///
    /// # Errors
    /// The operation's last error.
    pub async fn run<T, F, Fut>(&self, traffic: &Traffic, operation: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        operation
            .retry(FullJitter(*self))
            .when(|error: &Error| error.kind().is_transient())
            .adjust(|error: &Error, wait| self.wait_for(error, wait))
            .notify(|error: &Error, wait| {
                traffic.retry(error.kind());
                tracing::warn!(kind = error.kind().name(), error = error.details(), ?wait, "trying again");
            })
            .await
    }

    fn wait_for(&self, error: &Error, wait: Option<Duration>) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        // On top of what the source asked for, or all that were told the same number would return at the same moment.
        wait.filter(|_| asked <= self.longest_retry_after).map(|wait| wait.saturating_add(asked))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::REQUEST
    }
}

/// The waits of a policy, as `backon` wants them.
struct FullJitter(RetryPolicy);

impl BackoffBuilder for FullJitter {
    type Backoff = std::vec::IntoIter<Duration>;

    fn build(self) -> Self::Backoff {
        let policy = self.0;
        let plain = ExponentialBuilder::new()
            .with_min_delay(policy.first_wait)
            .with_max_delay(policy.longest_wait)
            .with_max_times(policy.tries.saturating_sub(1));
        // backon's jitter adds an even draw from zero to the wait; without the wait itself that draw is the full jitter.
        let jittered = plain.with_jitter().build();
        jittered
            .zip(plain.build())
            .map(|(jittered, plain)| jittered.saturating_sub(plain))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Kind;

    async fn tries_of(kind: Kind, policy: RetryPolicy, retry_after: Option<Duration>) -> (usize, Traffic) {
        let (traffic, tries) = (Traffic::new(), AtomicUsize::new(0));
        let outcome: Result<()> = policy
            .run(&traffic, || async {
                tries.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(kind, "no").with_retry_after(retry_after))
            })
            .await;
        assert_eq!(outcome.unwrap_err().kind(), kind);
        (tries.into_inner(), traffic)
    }

    #[tokio::test]
    async fn only_transient_kinds_are_tried_again() {
        for kind in Kind::ALL {
            let (tries, traffic) = tries_of(kind, RetryPolicy::LOOPBACK, None).await;
            assert_eq!(tries, if kind.is_transient() { 7 } else { 1 }, "{kind}");
            assert_eq!(traffic.report().retries.values().sum::<u64>(), tries as u64 - 1);
        }
    }

    #[tokio::test]
    async fn one_try_is_one_try() {
        let policy = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
        assert_eq!(tries_of(Kind::Throttled, policy, None).await.0, 1);
    }

    #[tokio::test]
    async fn a_wait_too_long_is_left_to_the_caller() {
        let longest = RetryPolicy::LOOPBACK.longest_retry_after;
        let (tries, _) = tries_of(Kind::Throttled, RetryPolicy::LOOPBACK, Some(longest + Duration::from_secs(1))).await;
        assert_eq!(tries, 1);
    }

    #[test]
    fn a_wait_is_the_sources_wish_and_the_jitter() {
        let error = Error::new(Kind::Throttled, "no").with_retry_after(Some(Duration::from_secs(3)));
        let wait = RetryPolicy::REQUEST.wait_for(&error, Some(Duration::from_millis(20)));
        assert_eq!(wait, Some(Duration::from_millis(3020)));
        assert_eq!(RetryPolicy::REQUEST.wait_for(&error, None), None);
    }

    #[test]
    fn waits_are_drawn_from_zero_to_a_growing_bound() {
        let policy = RetryPolicy { tries: 6, longest_wait: Duration::from_secs(4), ..RetryPolicy::REQUEST };
        let bounds = [500, 1000, 2000, 4000, 4000].map(Duration::from_millis);
        let draws: Vec<Vec<Duration>> = (0..200).map(|_| FullJitter(policy).build().collect()).collect();
        for (n, bound) in bounds.into_iter().enumerate() {
            let waits: Vec<Duration> = draws.iter().map(|waits| waits[n]).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{n}");
            assert!(
                waits.iter().any(|wait| *wait < bound / 4) && waits.iter().any(|wait| *wait > bound / 4 * 3),
                "{n}"
            );
        }
        assert!(draws.iter().all(|waits| waits.len() == bounds.len()));
    }
}

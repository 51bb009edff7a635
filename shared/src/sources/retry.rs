//! Retries with exponential backoff. No other module retries requests.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

use super::traffic::Traffic;
use crate::error::{Error, Result};

/// The number of attempts and the backoff between them, for transient errors.
///
/// The n-th wait (n from 0) is uniformly random between zero and `initial_backoff` · 2ⁿ, with `max_backoff` as the
/// maximum ("full jitter": tasks that fail at the same time do not retry at the same time). The source's `Retry-After`
/// is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of attempts, including the first; at least one is made.
    pub tries: usize,
    /// The upper bound of the first wait.
    pub initial_backoff: Duration,
    /// The upper bound of all waits.
    pub max_backoff: Duration,
    /// The longest `Retry-After` to wait for. If it is longer, the error is returned at once: sleeping in a Lambda
    /// function costs money, waiting in the state machine does not.
    pub max_retry_after: Duration,
}

impl RetryPolicy {
    /// The policy for a request of a step. Seven attempts take up to about 40 seconds: longer than a rolling restart of
    /// a gateway or a switch between indexers, and short enough for the step to report and leave the rest to the state
    /// machine.
    pub const REQUEST: RetryPolicy = RetryPolicy {
        tries: 7,
        initial_backoff: Duration::from_millis(500),
        max_backoff: Duration::from_secs(15),
        max_retry_after: Duration::from_secs(60),
    };

    /// The policy for tests with a server on the loopback interface: the same number of attempts, with very short
    /// waits.
    pub const LOOPBACK: RetryPolicy = RetryPolicy {
        tries: 7,
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(4),
        max_retry_after: Duration::from_secs(2),
    };

    /// Runs an operation, and repeats it while it returns a transient error and attempts are left. Each retry is
    /// counted in `traffic` and logged.
    ///
    /// # Errors
    /// The error of the last attempt.
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
                traffic.count_retry(error.kind());
                tracing::warn!(kind = error.kind().name(), error = error.details(), ?wait, "retrying");
            })
            .await
    }

    fn wait_for(&self, error: &Error, wait: Option<Duration>) -> Option<Duration> {
        let retry_after = error.retry_after().unwrap_or_default();
        // The jitter is added to `Retry-After`: otherwise all clients that received the same value would retry at the
        // same time.
        wait.filter(|_| retry_after <= self.max_retry_after).map(|wait| wait.saturating_add(retry_after))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::REQUEST
    }
}

/// The waits of a policy, as a backoff of `backon`.
struct FullJitter(RetryPolicy);

impl BackoffBuilder for FullJitter {
    type Backoff = std::vec::IntoIter<Duration>;

    fn build(self) -> Self::Backoff {
        let policy = self.0;
        let plain = ExponentialBuilder::new()
            .with_min_delay(policy.initial_backoff)
            .with_max_delay(policy.max_backoff)
            .with_max_times(policy.tries.saturating_sub(1));
        // backon adds a uniformly random duration between zero and the wait to the wait. Subtracting the wait gives
        // full jitter.
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

    async fn count_attempts(kind: Kind, policy: RetryPolicy, retry_after: Option<Duration>) -> (usize, Traffic) {
        let (traffic, attempts) = (Traffic::new(), AtomicUsize::new(0));
        let outcome: Result<()> = policy
            .run(&traffic, || async {
                attempts.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(kind, "failed").with_retry_after(retry_after))
            })
            .await;
        assert_eq!(outcome.unwrap_err().kind(), kind);
        (attempts.into_inner(), traffic)
    }

    #[tokio::test]
    async fn retries_only_transient_errors() {
        for kind in Kind::ALL {
            let (attempts, traffic) = count_attempts(kind, RetryPolicy::LOOPBACK, None).await;
            assert_eq!(attempts, if kind.is_transient() { 7 } else { 1 }, "{kind}");
            assert_eq!(traffic.report().retries.values().sum::<u64>(), attempts as u64 - 1);
        }
    }

    #[tokio::test]
    async fn a_policy_of_one_attempt_does_not_retry() {
        let policy = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
        assert_eq!(count_attempts(Kind::Throttled, policy, None).await.0, 1);
    }

    #[tokio::test]
    async fn does_not_wait_for_a_long_retry_after() {
        let too_long = RetryPolicy::LOOPBACK.max_retry_after + Duration::from_secs(1);
        let (attempts, _) = count_attempts(Kind::Throttled, RetryPolicy::LOOPBACK, Some(too_long)).await;
        assert_eq!(attempts, 1);
    }

    #[test]
    fn waits_for_retry_after_plus_jitter() {
        let error = Error::new(Kind::Throttled, "failed").with_retry_after(Some(Duration::from_secs(3)));
        let wait = RetryPolicy::REQUEST.wait_for(&error, Some(Duration::from_millis(20)));
        assert_eq!(wait, Some(Duration::from_millis(3020)));
        assert_eq!(RetryPolicy::REQUEST.wait_for(&error, None), None);
    }

    #[test]
    fn waits_are_random_below_a_growing_bound() {
        let policy = RetryPolicy { tries: 6, max_backoff: Duration::from_secs(4), ..RetryPolicy::REQUEST };
        let bounds = [500, 1000, 2000, 4000, 4000].map(Duration::from_millis);
        let samples: Vec<Vec<Duration>> = (0..200).map(|_| FullJitter(policy).build().collect()).collect();
        for (n, bound) in bounds.into_iter().enumerate() {
            let waits: Vec<Duration> = samples.iter().map(|waits| waits[n]).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{n}");
            assert!(
                waits.iter().any(|wait| *wait < bound / 4) && waits.iter().any(|wait| *wait > bound / 4 * 3),
                "{n}"
            );
        }
        assert!(samples.iter().all(|waits| waits.len() == bounds.len()));
    }
}

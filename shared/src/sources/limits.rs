//! API keys, and the rate limit of each.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Result};

/// An API key. Neither `Debug` nor `Display` shows it.
///
/// ```
/// use defi_shared::sources::Secret;
/// let key = Secret::new("0123456789abcdef");
/// assert_eq!(format!("{key} {key:?}"), "*** ***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a key. Leading and trailing whitespace, such as the line break at the end of a file, is removed.
    #[must_use]
    pub fn new(key: impl AsRef<str>) -> Self {
        Secret(key.as_ref().trim().to_owned())
    }

    /// Parses a comma-separated list of keys. Empty entries are skipped.
    #[must_use]
    pub fn parse_list(keys: &str) -> Vec<Self> {
        keys.split(',').map(Secret::new).filter(|key| !key.0.is_empty()).collect()
    }

    /// Returns the key itself, for use in a request header only.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The rate limit of each API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests per second, of all processes together.
    pub per_second: u32,
    /// The number of processes that share the limit.
    pub shared_by: u32,
}

impl RateLimit {
    /// Returns a rate limit that this process shares with no other.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        RateLimit { per_second, shared_by: 1 }
    }

    /// Returns the interval between two requests: 3% longer than the rate requires. Requests that are sent at even
    /// intervals do not arrive at even intervals, and a server with a strict limit would count one request too many in
    /// some seconds.
    fn interval(self) -> Result<Duration> {
        if self.per_second == 0 || self.shared_by == 0 {
            return Err(Error::bad_input(
                "a rate limit needs at least one request per second and at least one process",
            ));
        }
        Ok(Duration::from_millis(1030) * self.shared_by / self.per_second)
    }
}

/// The API keys of a source, used in rotation. Each key has its own rate limit.
pub(crate) struct KeyRing {
    slots: Vec<KeySlot>,
    next: AtomicUsize,
}

struct KeySlot {
    key: Option<Secret>,
    limiter: RateLimiter,
}

/// Spaces requests evenly, in the order of the calls. A limiter that allows bursts of, for example, one second's
/// requests would send almost twice the rate in the second after a pause. A limiter that never catches up would lose
/// the time by which its timer fires late, a few percent of the rate.
struct RateLimiter {
    interval: Duration,
    next: Mutex<Instant>,
}

/// The maximum timer delay that is caught up, so that it does not postpone later requests. A longer delay is a pause.
const TIMER_TOLERANCE: Duration = Duration::from_millis(5);

impl RateLimiter {
    fn new(interval: Duration, start: Instant) -> Self {
        RateLimiter { interval, next: Mutex::new(start) }
    }

    async fn acquire(&self) {
        let mut next = self.next.lock().await;
        if Instant::now() < *next {
            sleep_until(*next).await;
        }
        let now = Instant::now();
        let started = if now > *next + TIMER_TOLERANCE { now } else { *next };
        *next = started + self.interval;
    }
}

impl KeyRing {
    /// Creates a ring of keys. Without keys, requests are sent without a key, under one rate limit.
    pub(crate) fn new(keys: Vec<Secret>, rate: RateLimit) -> Result<Self> {
        let interval = rate.interval()?;
        let keys = if keys.is_empty() { vec![None] } else { keys.into_iter().map(Some).collect() };
        // The keys start at different times: requests that are sent at the same instant delay each other and arrive
        // unevenly.
        let (start, offset) = (Instant::now(), interval / u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let slots = (0..)
            .zip(keys)
            .map(|(number, key)| KeySlot { key, limiter: RateLimiter::new(interval, start + offset * number) });
        let slots = slots.collect();
        Ok(KeyRing { slots, next: AtomicUsize::new(0) })
    }

    /// Returns the next key, once its rate limit allows a request.
    pub(crate) async fn acquire(&self) -> Option<&Secret> {
        let slot = self.slots.get(self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len())?;
        slot.limiter.acquire().await;
        slot.key.as_ref()
    }

    /// Replaces the keys in a string from a source, which may quote the request in an error message.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.keys().fold(text.to_owned(), |text, key| text.replace(key.expose(), "***"))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.slots.iter().filter_map(|slot| slot.key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_used_in_rotation() {
        let ring = KeyRing::new(Secret::parse_list(" a, b,,c\n"), RateLimit::per_second(1000)).unwrap();
        let mut used = String::new();
        for _ in 0..7 {
            used.push_str(ring.acquire().await.unwrap().expose());
        }
        assert_eq!(used, "abcabca");
    }

    #[tokio::test]
    async fn no_keys_give_requests_without_a_key() {
        assert_eq!(KeyRing::new(Vec::new(), RateLimit::per_second(1000)).unwrap().acquire().await, None);
    }

    #[tokio::test]
    async fn rate_limit_holds_after_a_pause() {
        let ring = KeyRing::new(Vec::new(), RateLimit::per_second(100)).unwrap();
        ring.acquire().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        for _ in 0..21 {
            ring.acquire().await;
        }
        // A busy machine only makes this longer, so that the assertion is not flaky.
        assert!(start.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn each_key_has_its_own_limit() {
        let ring = KeyRing::new(Secret::parse_list("a,b"), RateLimit::per_second(1)).unwrap();
        let next = |key: usize| *ring.slots[key].limiter.next.try_lock().unwrap();
        let (a, b) = (next(0), next(1));
        assert_eq!(b - a, Duration::from_millis(515), "the keys start at different times");
        ring.acquire().await;
        assert!(next(0) >= a + Duration::from_millis(1030));
        assert_eq!(next(1), b);
    }

    #[test]
    fn rejects_a_rate_of_zero() {
        assert!(KeyRing::new(Vec::new(), RateLimit::per_second(0)).is_err());
        assert!(KeyRing::new(Vec::new(), RateLimit { per_second: 1, shared_by: 0 }).is_err());
    }

    #[test]
    fn processes_share_a_rate() {
        assert_eq!(RateLimit { per_second: 20, shared_by: 3 }.interval().unwrap(), Duration::from_micros(154_500));
    }

    #[test]
    fn redacts_all_keys() {
        let ring = KeyRing::new(Secret::parse_list("abc123,xyz789"), RateLimit::per_second(1)).unwrap();
        assert_eq!(ring.redact("bad keys abc123 and xyz789"), "bad keys *** and ***");
    }
}

//! API keys, and the rate limit of each.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// The API keys of a source, used in rotation. Each key has its own rate limit. A key whose quota is used up is set
/// aside while others are left.
pub(crate) struct KeyRing {
    slots: Vec<KeySlot>,
    next: AtomicUsize,
}

/// A key of a [`KeyRing`], or the only slot of a ring without keys.
pub(crate) struct KeySlot {
    /// The position in the list of keys, from 1. Messages name a key by it.
    number: usize,
    key: Option<Secret>,
    limiter: RateLimiter,
    is_set_aside: AtomicBool,
}

impl KeySlot {
    /// Returns the key, or `None` for requests without a key.
    pub(crate) fn key(&self) -> Option<&Secret> {
        self.key.as_ref()
    }

    fn is_set_aside(&self) -> bool {
        self.is_set_aside.load(Ordering::Relaxed)
    }
}

/// Spaces requests evenly, in the order of the calls. A limiter that allows bursts of, for example, one second's
/// requests would send almost twice the rate in the second after a pause. A limiter that never catches up would lose
/// the time by which its timer fires late, a few percent of the rate.
struct RateLimiter {
    interval: Duration,
    next: Mutex<Instant>,
}

/// The maximum part of a request's delay that is caught up, so that late timers do not postpone later requests. Intervals are
/// 3 % longer than the limit requires, which are 30 ms in each second: a third of it is for late timers, and the rest for
/// the network.
const TIMER_TOLERANCE: Duration = Duration::from_millis(10);

impl RateLimiter {
    fn new(interval: Duration, start: Instant) -> Self {
        RateLimiter { interval, next: Mutex::new(start) }
    }

    async fn acquire(&self) {
        let mut next = self.next.lock().await;
        if Instant::now() < *next {
            sleep_until(*next).await;
        }
        *next = self.after(*next, Instant::now());
    }

    /// Returns when the request after one may start that was to start at a time, and started now.
    fn after(&self, scheduled: Instant, now: Instant) -> Instant {
        now.max(scheduled + TIMER_TOLERANCE) - TIMER_TOLERANCE + self.interval
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
        let slots = (0..).zip(1..).zip(keys).map(|((delay, number), key)| KeySlot {
            number,
            key,
            limiter: RateLimiter::new(interval, start + offset * delay),
            is_set_aside: AtomicBool::new(false),
        });
        let slots = slots.collect();
        Ok(KeyRing { slots, next: AtomicUsize::new(0) })
    }

    /// Returns the next key that is not set aside, once its rate limit allows a request.
    ///
    /// # Errors
    /// `Internal` if the ring is empty, which [`KeyRing::new`] rules out.
    pub(crate) async fn acquire(&self) -> Result<&KeySlot> {
        let usable: Vec<_> = self.slots.iter().filter(|slot| !slot.is_set_aside()).collect();
        // Between two checks, another request may have set the last key aside.
        let usable = if usable.is_empty() { self.slots.iter().collect() } else { usable };
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % usable.len().max(1);
        let slot = usable.get(turn).copied().ok_or_else(|| Error::internal("a source has no slot for a key"))?;
        slot.limiter.acquire().await;
        Ok(slot)
    }

    /// Sets a key aside, for the lifetime of the ring, and returns whether others are left. If none is left, all are
    /// used again by later requests: their quotas may have been raised until then.
    pub(crate) fn set_aside(&self, slot: &KeySlot) -> bool {
        slot.is_set_aside.store(true, Ordering::Relaxed);
        let is_one_left = self.slots.iter().any(|slot| !slot.is_set_aside());
        if !is_one_left {
            self.slots.iter().for_each(|slot| slot.is_set_aside.store(false, Ordering::Relaxed));
        }
        is_one_left
    }

    /// Names one of several keys for messages, such as `2 of 3`, without the key itself.
    pub(crate) fn name_of(&self, slot: &KeySlot) -> Option<String> {
        (self.slots.len() > 1).then(|| format!("{} of {}", slot.number, self.slots.len()))
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
            used.push_str(ring.acquire().await.unwrap().key().unwrap().expose());
        }
        assert_eq!(used, "abcabca");
    }

    #[tokio::test]
    async fn key_that_is_set_aside_is_skipped_until_none_is_left() {
        let ring = KeyRing::new(Secret::parse_list("a,b,c"), RateLimit::per_second(100_000)).unwrap();
        let next = async || ring.acquire().await.unwrap().key().unwrap().expose().to_owned();
        assert!(ring.set_aside(&ring.slots[1]));
        assert_eq!(ring.name_of(&ring.slots[1]).as_deref(), Some("2 of 3"));
        let mut used = String::new();
        for _ in 0..6 {
            used.push_str(&next().await);
        }
        assert_eq!(used, "acacac", "the others take equal turns");
        assert!(ring.set_aside(&ring.slots[0]));
        assert_eq!((next().await, next().await), ("c".to_owned(), "c".to_owned()));
        assert!(!ring.set_aside(&ring.slots[2]));
        let mut used = vec![next().await, next().await, next().await];
        used.sort_unstable();
        assert_eq!(used, ["a", "b", "c"], "a later request tries all of them again");
    }

    #[tokio::test]
    async fn no_keys_give_requests_without_a_key() {
        let ring = KeyRing::new(Vec::new(), RateLimit::per_second(1000)).unwrap();
        assert_eq!(ring.acquire().await.unwrap().key(), None);
    }

    #[tokio::test]
    async fn rate_limit_holds_after_a_pause() {
        let ring = KeyRing::new(Vec::new(), RateLimit::per_second(100)).unwrap();
        ring.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        for _ in 0..21 {
            ring.acquire().await.unwrap();
        }
        // 20 intervals of 10.3 ms. A busy machine only makes this longer, so that the assertion is not flaky.
        assert!(start.elapsed() >= Duration::from_millis(206) - TIMER_TOLERANCE);
    }

    #[test]
    fn late_request_postpones_the_next_by_what_is_beyond_the_tolerance() {
        let (milliseconds, start) = (Duration::from_millis, Instant::now());
        let limiter = RateLimiter::new(milliseconds(100), start);
        for (late, next) in [(0, 100), (6, 100), (10, 100), (11, 101), (250, 340)] {
            assert_eq!(limiter.after(start, start + milliseconds(late)), start + milliseconds(next), "{late} ms late");
        }
    }

    #[tokio::test]
    async fn each_key_has_its_own_limit() {
        let ring = KeyRing::new(Secret::parse_list("a,b"), RateLimit::per_second(1)).unwrap();
        let next = |key: usize| *ring.slots[key].limiter.next.try_lock().unwrap();
        let (a, b) = (next(0), next(1));
        assert_eq!(b - a, Duration::from_millis(515), "the keys start at different times");
        ring.acquire().await.unwrap();
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
}

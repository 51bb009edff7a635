//! API keys, and the rate at which each may be used.

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
    /// A key; white space around it (the line break of a file, say) is no part of it.
    #[must_use]
    pub fn new(key: impl AsRef<str>) -> Self {
        Secret(key.as_ref().trim().to_owned())
    }

    /// The keys of a comma-separated list; empty entries are none.
    #[must_use]
    pub fn parse_list(keys: &str) -> Vec<Self> {
        keys.split(',').map(Secret::new).filter(|key| !key.0.is_empty()).collect()
    }

    /// The key itself, for the request's header alone.
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

/// How often each key may be used by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second, of all processes together.
    pub per_second: u32,
    /// Processes that share them.
    pub shared_by: u32,
}

impl RateLimit {
    /// A rate that is for this process alone.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        RateLimit { per_second, shared_by: 1 }
    }

    /// The time from one request to the next: three hundredths more than the rate has it. What leaves evenly arrives unevenly, and a
    /// server that counts strictly would find one request too many in some second.
    fn between(self) -> Result<Duration> {
        if self.per_second == 0 || self.shared_by == 0 {
            return Err(Error::bad_input(
                "the rate of an API is at least one request per second, for at least one process",
            ));
        }
        Ok(Duration::from_millis(1030) * self.shared_by / self.per_second)
    }
}

/// The keys of one API. Each has its own limit, and they take turns.
pub(crate) struct KeyRing {
    turns: Vec<Turn>,
    next: AtomicUsize,
}

struct Turn {
    key: Option<Secret>,
    pace: Pace,
}

/// Requests evenly spaced, in the order in which they asked. A limiter with a burst, of a second's worth say, would after a pause
/// put nearly twice the rate into one second; one without loses what its timer is late by, a few hundredths of the rate.
struct Pace {
    between: Duration,
    next: Mutex<Instant>,
}

/// A wait that ended so much too late does not delay the waits after it. Anything longer is a pause, and is not made up for.
const GRAIN: Duration = Duration::from_millis(5);

impl Pace {
    fn new(between: Duration, begin: Instant) -> Self {
        Pace { between, next: Mutex::new(begin) }
    }

    async fn turn(&self) {
        let mut next = self.next.lock().await;
        if Instant::now() < *next {
            sleep_until(*next).await;
        }
        let now = Instant::now();
        let begun = if now > *next + GRAIN { now } else { *next };
        *next = begun + self.between;
    }
}

impl KeyRing {
    /// The ring of some keys; without any, requests go out without a key, under one limit.
    pub(crate) fn new(keys: Vec<Secret>, rate: RateLimit) -> Result<Self> {
        let between = rate.between()?;
        let keys = if keys.is_empty() { vec![None] } else { keys.into_iter().map(Some).collect() };
        // Keys set off one after another: requests that leave in the same instant hold each other up, and arrive unevenly.
        let (begin, apart) = (Instant::now(), between / u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let turns = (0..).zip(keys).map(|(number, key)| Turn { key, pace: Pace::new(between, begin + apart * number) });
        let turns = turns.collect();
        Ok(KeyRing { turns, next: AtomicUsize::new(0) })
    }

    /// The next key, as soon as its limit allows a request with it.
    pub(crate) async fn turn(&self) -> Option<&Secret> {
        let turn = self.turns.get(self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len())?;
        turn.pace.turn().await;
        turn.key.as_ref()
    }

    /// A text from outside without any of the keys: a server may say in an error what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        let keys = self.turns.iter().filter_map(|turn| turn.key.as_ref());
        keys.fold(text.to_owned(), |text, key| text.replace(key.expose(), "***"))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.turns.iter().filter_map(|turn| turn.key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_take_turns() {
        let ring = KeyRing::new(Secret::parse_list(" a, b,,c\n"), RateLimit::per_second(1000)).unwrap();
        let mut seen = String::new();
        for _ in 0..7 {
            seen.push_str(ring.turn().await.unwrap().expose());
        }
        assert_eq!(seen, "abcabca");
    }

    #[tokio::test]
    async fn no_key_is_one_limit_without_a_key() {
        assert_eq!(KeyRing::new(Vec::new(), RateLimit::per_second(1000)).unwrap().turn().await, None);
    }

    #[tokio::test]
    async fn the_rate_is_kept_even_after_a_pause() {
        let ring = KeyRing::new(Vec::new(), RateLimit::per_second(100)).unwrap();
        ring.turn().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        for _ in 0..21 {
            ring.turn().await;
        }
        // A busy machine can only make this longer: the assertion can't fail by noise.
        assert!(start.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn each_key_has_its_own_limit() {
        let ring = KeyRing::new(Secret::parse_list("a,b"), RateLimit::per_second(1)).unwrap();
        let next = |key: usize| *ring.turns[key].pace.next.try_lock().unwrap();
        let (a, b) = (next(0), next(1));
        assert_eq!(b - a, Duration::from_millis(515), "they set off one after the other");
        ring.turn().await;
        assert!(next(0) >= a + Duration::from_millis(1030));
        assert_eq!(next(1), b);
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        assert!(KeyRing::new(Vec::new(), RateLimit::per_second(0)).is_err());
        assert!(KeyRing::new(Vec::new(), RateLimit { per_second: 1, shared_by: 0 }).is_err());
    }

    #[test]
    fn a_rate_is_shared() {
        assert_eq!(RateLimit { per_second: 20, shared_by: 3 }.between().unwrap(), Duration::from_micros(154_500));
    }

    #[test]
    fn a_text_from_outside_loses_the_keys() {
        let ring = KeyRing::new(Secret::parse_list("abc123,xyz789"), RateLimit::per_second(1)).unwrap();
        assert_eq!(ring.redact("bad keys abc123 and xyz789"), "bad keys *** and ***");
    }
}

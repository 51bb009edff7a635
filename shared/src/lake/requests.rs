//! Many requests at once. A response of an object store takes tens of milliseconds whatever its size, so requests that do
//! not depend on each other are not sent one after another.

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Result;

/// The number of small requests at once: footers, listings, heads, deletions, and objects of a few kilobytes.
pub const SMALL_REQUESTS: usize = 64;

/// The number of objects of any size that are read or written at once. Their bytes are in memory together.
pub const WHOLE_OBJECTS: usize = 8;

/// Calls `request` for each item, for at most `limit` of them at once, and returns the results in the order of the items.
///
/// # Errors
/// The first error, in the order of the items. Requests that are still running then are aborted.
pub async fn in_order<I: IntoIterator, T, F: Future<Output = Result<T>>>(
    items: I,
    limit: usize,
    request: impl FnMut(I::Item) -> F,
) -> Result<Vec<T>> {
    stream::iter(items.into_iter().map(request)).buffered(limit).try_collect().await
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Error;
    use crate::testing::SimulatedClock;

    #[test]
    fn results_are_in_the_order_of_the_items_and_at_most_the_limit_runs_at_once() {
        let clock = SimulatedClock::new();
        let request = |number: u64| {
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(10 - number)).await;
                if number < 8 { Ok(number) } else { Err(Error::internal(number.to_string())) }
            }
        };
        clock.runtime().unwrap().block_on(async {
            assert_eq!(in_order(0..4, 2, request).await.unwrap(), [0, 1, 2, 3]);
            assert_eq!(clock.now(), Duration::from_secs(18), "10 and 9 seconds, then 8 and 7");
            let error = in_order(6..10, 9, request).await.unwrap_err();
            assert!(error.to_string().contains('8'), "not the error of the request that ended first: {error}");
        });
    }
}

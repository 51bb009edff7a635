//! Runs CPU-bound work without blocking async tasks.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::{block_in_place, spawn_blocking};

use crate::error::{Error, Result};

/// Returns the number of CPUs.
#[must_use]
pub fn num_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// One permit per CPU.
static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(num_cpus())));

/// Runs long CPU-bound work, such as decoding a file, on a blocking thread. At most one call per CPU runs at a time:
/// more would not finish sooner, and would use more memory. If the future is dropped, `work` still runs to its end, and
/// counts as running until then.
///
/// # Errors
/// The error of `work`, or `Internal` if `work` panics or is cancelled.
pub async fn spawn_cpu<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    #[cfg(feature = "testing")]
    let _awaited = Awaited::new();
    spawn_with_permit(&PERMITS, work).await
}

#[cfg(feature = "testing")]
thread_local! {
    /// The number of calls of [`spawn_cpu`] that have not returned yet.
    static AWAITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts a call of [`spawn_cpu`] until it is dropped.
#[cfg(feature = "testing")]
struct Awaited;

#[cfg(feature = "testing")]
impl Awaited {
    fn new() -> Self {
        AWAITED.set(AWAITED.get().wrapping_add(1));
        Awaited
    }
}

#[cfg(feature = "testing")]
impl Drop for Awaited {
    fn drop(&mut self) {
        AWAITED.set(AWAITED.get().wrapping_sub(1));
    }
}

/// Returns whether a task of this thread waits for [`spawn_cpu`]. Right only on a runtime with one thread, whose tasks
/// stay on it.
#[cfg(feature = "testing")]
pub(crate) fn is_awaited() -> bool {
    AWAITED.get() != 0
}

/// Runs work on a blocking thread that holds a permit until the work has ended.
async fn spawn_with_permit<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let interrupted = |source: &str| Error::internal("CPU-bound work was interrupted").with_source(source.to_owned());
    let permit = Arc::clone(permits).acquire_owned().await.map_err(|source| interrupted(&source.to_string()))?;
    let permitted = move || {
        let _permit = permit;
        work()
    };
    spawn_blocking(permitted).await.map_err(|source| interrupted(&source.to_string()))?
}

/// Runs CPU-bound work of more than a moment, such as parsing a page or sorting a day's rows, on the current thread. On
/// a multi-threaded runtime, the other tasks of this thread move to another one, so that requests are not delayed by
/// the work.
pub fn run_cpu<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn permit_is_held_until_abandoned_work_has_ended() {
        let permits = Arc::new(Semaphore::new(1));
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let work = move || {
            let _ = started.send(());
            let _ = may_end.recv();
            Ok(())
        };
        let running = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { spawn_with_permit(&permits, work).await }
        });
        has_started.await.unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert_eq!(permits.available_permits(), 0, "the work goes on");
        end.send(()).unwrap();
        let permit = tokio::time::timeout(Duration::from_secs(10), permits.acquire()).await;
        assert!(permit.unwrap().is_ok());
    }

    #[tokio::test]
    async fn permit_of_work_that_panics_is_free_again() {
        let permits = Arc::new(Semaphore::new(1));
        let result: Result<()> = spawn_with_permit(&permits, || panic!("a defect")).await;
        assert_eq!(result.unwrap_err().kind(), crate::Kind::Internal);
        assert_eq!(permits.available_permits(), 1);
    }
}

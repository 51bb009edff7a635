//! Runs CPU-bound work without blocking async tasks.

use std::num::NonZero;
use std::sync::LazyLock;

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
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(num_cpus()));

/// Runs long CPU-bound work, such as decoding a file, on a blocking thread. At most one call per CPU runs at a time:
/// more would not finish sooner, and would use more memory.
///
/// # Errors
/// The error of `work`, or `Internal` if `work` panics or is cancelled.
pub async fn spawn_cpu<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let interrupted = |source: &str| Error::internal("CPU-bound work was interrupted").with_source(source.to_owned());
    let permit = PERMITS.acquire().await.map_err(|source| interrupted(&source.to_string()))?;
    let result = spawn_blocking(work).await;
    drop(permit);
    result.map_err(|source| interrupted(&source.to_string()))?
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

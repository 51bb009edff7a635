//! Work for a processor among tasks that wait.

use std::num::NonZero;
use std::sync::LazyLock;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::{block_in_place, spawn_blocking};

use crate::error::{Error, Result};

/// How many there are.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

static FREE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(processors()));

/// Does work that takes a processor for long, such as decoding a file, away from the tasks that wait. No more is done at once than
/// there are processors: it would end no sooner, and take the memory of all of it together.
///
/// # Errors
/// Those of the work.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let cut_short = |cause: &str| Error::internal("work was cut short").because(cause.to_owned());
    let free = FREE.acquire().await.map_err(|cause| cut_short(&cause.to_string()))?;
    let done = spawn_blocking(work).await;
    drop(free);
    done.map_err(|cause| cut_short(&cause.to_string()))?
}

/// Does work that takes a processor for more than a moment, such as parsing a page or sorting a day's rows. The tasks that wait on
/// this thread go on on another one meanwhile: requests leave when it is their turn, and not when a sort is done.
pub fn at_work<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

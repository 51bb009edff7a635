//! Runs CPU-bound work without blocking async tasks, on a pool of one thread per CPU: more work at a time would not finish
//! sooner, and would use more memory. While work is waiting, these threads never sleep between two pieces of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use crate::error::{Error, Result};

/// Returns the number of CPUs.
#[must_use]
pub fn num_cpus() -> usize {
    rayon::current_num_threads()
}

/// Runs long CPU-bound work, such as decoding a file, on the pool, in the order of the calls. If the future is dropped, work
/// that has started still runs to its end, and other work is not started.
///
/// # Errors
/// The error of `work`, or `Internal` if `work` panics.
pub async fn spawn_cpu<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    #[cfg(feature = "testing")]
    let _awaited = Awaited::new();
    let (done, result) = oneshot::channel();
    rayon::spawn_fifo(move || {
        if !done.is_closed() {
            // Nobody waits for the result if the future was dropped meanwhile.
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        }
    });
    match result.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(panic.downcast_ref::<&str>().map_or("no message", |message| *message))),
        Err(_) => Err(panicked("its thread ended")),
    }
}

fn panicked(message: &str) -> Error {
    Error::internal("CPU-bound work panicked").with_source(message.to_owned())
}

/// Runs work on every item, on the pool, and blocks the current thread until all of it has ended.
pub fn for_each_parallel<T: Send>(items: &mut [T], work: impl Fn(&mut T) + Sync + Send) {
    items.par_iter_mut().for_each(work);
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Occupies every thread of the pool until the returned sender is dropped.
    fn occupy_pool() -> (mpsc::Sender<()>, Vec<tokio::task::JoinHandle<Result<()>>>) {
        let (end, may_end) = mpsc::channel::<()>();
        let may_end = Arc::new(std::sync::Mutex::new(may_end));
        let (started, has_started) = mpsc::channel();
        let occupy = |_| {
            let (may_end, started) = (Arc::clone(&may_end), started.clone());
            tokio::spawn(spawn_cpu(move || {
                let _ = started.send(());
                let _ = may_end.lock().map(|may_end| may_end.recv());
                Ok(())
            }))
        };
        let running = (0..num_cpus()).map(occupy).collect();
        for _ in 0..num_cpus() {
            has_started.recv().unwrap();
        }
        (end, running)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_nobody_waits_for_is_not_started() {
        let (end, running) = occupy_pool();
        let count = Arc::new(AtomicUsize::new(0));
        let work = |count: &Arc<AtomicUsize>| {
            let count = Arc::clone(count);
            tokio::spawn(spawn_cpu(move || Ok(count.fetch_add(1, Ordering::SeqCst))))
        };
        let abandoned = work(&count);
        let awaited = work(&count);
        tokio::task::yield_now().await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        drop(end);
        for running in running {
            running.await.unwrap().unwrap();
        }
        assert_eq!(awaited.await.unwrap().unwrap(), 0, "the abandoned work ran");
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_the_pool_goes_on() {
        for _ in 0..2 * num_cpus() {
            let result: Result<()> = spawn_cpu(|| panic!("a defect")).await;
            assert_eq!(result.unwrap_err().kind(), crate::Kind::Internal);
        }
        assert_eq!(spawn_cpu(|| Ok(5)).await.unwrap(), 5);
    }

    #[test]
    fn every_item_is_worked_on_once() {
        let mut items: Vec<_> = (0..100).collect();
        for_each_parallel(&mut items, |item| *item += 1);
        assert_eq!(items, (1..101).collect::<Vec<_>>());
    }
}

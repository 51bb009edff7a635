//! A clock that passes only while nothing else is left to do, to measure waiting without waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::cpu;
use crate::error::{Error, Result};

/// A simulated clock. Its time passes when every task of its [runtime](SimulatedClock::runtime) waits: it jumps to the
/// time at which the first sleeping task wakes. Computing takes no time, so equal work takes equal time.
///
/// Tasks may wait for the clock and for [`spawn_cpu`](crate::cpu::spawn_cpu), but for nothing else that another thread or
/// process does: the clock would not know of it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedClock(Arc<Mutex<Sleepers>>);

#[derive(Debug, Default)]
struct Sleepers {
    now: Duration,
    /// The sleeping tasks, by the time at which they wake and the order in which they fell asleep.
    tasks: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    count: u64,
}

impl SimulatedClock {
    /// Creates a clock at time zero.
    #[must_use]
    pub fn new() -> Self {
        SimulatedClock::default()
    }

    /// Returns the time that has passed.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.sleepers().now
    }

    /// Waits until the time has passed on this clock.
    pub async fn sleep(&self, time: Duration) {
        let awake = {
            let mut sleepers = self.sleepers();
            let (wake, awake) = oneshot::channel();
            sleepers.count += 1;
            let key = (sleepers.now + time, sleepers.count);
            sleepers.tasks.insert(key, wake);
            awake
        };
        // The other end is dropped only after it was used.
        let _ = awake.await;
    }

    /// Creates the runtime that the clock belongs to. It has one thread.
    ///
    /// # Errors
    /// The runtime could not be created.
    pub fn runtime(&self) -> Result<Runtime> {
        let clock = self.clone();
        // The thread parks when no task can run.
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(move || clock.advance()).build();
        runtime.map_err(|cause| Error::internal("cannot create a runtime").with_source(cause))
    }

    /// Wakes the tasks that wake first, unless work on another thread is about to end.
    fn advance(&self) {
        if cpu::is_awaited() {
            return;
        }
        let mut sleepers = self.sleepers();
        // A task that was aborted does not wake.
        sleepers.tasks.retain(|_, task| !task.is_closed());
        let Some((now, _)) = sleepers.tasks.keys().next().copied() else { return };
        sleepers.now = now;
        let later = sleepers.tasks.split_off(&(now, u64::MAX));
        let awake = std::mem::replace(&mut sleepers.tasks, later);
        drop(sleepers);
        // A task may be aborted in this moment.
        awake.into_values().for_each(|task| task.send(()).unwrap_or_default());
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_passes_only_while_all_tasks_sleep() {
        let clock = SimulatedClock::new();
        clock.runtime().unwrap().block_on(async {
            join_all((1..=100).map(|_| clock.sleep(SECOND))).await;
            assert_eq!(clock.now(), SECOND, "at the same time");
            for _ in 0..100 {
                clock.sleep(SECOND).await;
            }
            assert_eq!(clock.now(), 101 * SECOND, "one after another");
        });
    }

    #[test]
    fn computing_takes_no_time() {
        let clock = SimulatedClock::new();
        clock.runtime().unwrap().block_on(async {
            let work = || {
                std::thread::sleep(Duration::from_millis(20));
                Ok(())
            };
            let slow = async {
                cpu::spawn_cpu(work).await.unwrap();
                clock.now()
            };
            let ((), computed_at) = tokio::join!(clock.sleep(SECOND), slow);
            assert_eq!((computed_at, clock.now()), (Duration::ZERO, SECOND));
        });
    }

    #[test]
    fn tasks_wake_in_the_order_of_their_times() {
        let clock = SimulatedClock::new();
        let order = Mutex::new(Vec::new());
        clock.runtime().unwrap().block_on(join_all([3, 1, 2, 1].map(|seconds| {
            let (clock, order) = (&clock, &order);
            async move {
                clock.sleep(seconds * SECOND).await;
                order.lock().unwrap().push((seconds, clock.now()));
            }
        })));
        let expected = [1, 1, 2, 3].map(|seconds| (seconds, seconds * SECOND));
        assert_eq!(*order.lock().unwrap(), expected);
    }

    #[test]
    fn aborted_task_does_not_wake() {
        let clock = SimulatedClock::new();
        clock.runtime().unwrap().block_on(async {
            tokio::select! {
                () = clock.sleep(SECOND) => {}
                () = clock.sleep(9 * SECOND) => {}
            }
            clock.sleep(20 * SECOND).await;
            assert_eq!(clock.now(), 21 * SECOND);
        });
    }
}

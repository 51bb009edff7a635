//! Work for a processor among tasks that wait.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Does work that takes a processor for more than a moment, such as parsing a page or sorting a day's rows. The tasks that wait on
/// this thread go on on another one meanwhile: requests leave when it is their turn, and not when a sort is done.
pub fn at_work<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

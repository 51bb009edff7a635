//! What the benchmarks need of Rust: stage tables of any size, the jobs that are timed over them, the floor that they are held to,
//! and the kernels whose instructions are counted.

pub mod floor;
pub mod generate;
pub mod kernels;
pub mod policy;
pub mod rebuild;

use std::path::Path;
use std::sync::Arc;

use defi_shared::Result;
use defi_shared::step::{Context, context_of};

/// The context of a function over a lake in a folder, whose sources nobody asks.
///
/// # Errors
/// None but a defect of the build.
pub async fn context(lake: &Path) -> Result<Context> {
    let lake: Arc<str> = lake.to_string_lossy().into();
    context_of(&move |name| (name == "LAKE").then(|| lake.to_string())).await
}

//! The Rust part of the benchmarks: a generator of stage tables, the timed jobs, the floor of their run time, and the
//! kernels whose instructions are counted.

pub mod floor;
pub mod generate;
pub mod kernels;
pub mod policy;
pub mod rebuild;
pub mod replay;

use std::path::Path;
use std::sync::Arc;

use defi_shared::Result;
use defi_shared::step::{Context, context_from};

/// Returns the context of a function over a lake in a folder. The benchmarks make no requests to its sources.
///
/// # Errors
/// The built-in configuration is invalid, which is a defect.
pub async fn context(lake: &Path) -> Result<Context> {
    let lake: Arc<str> = lake.to_string_lossy().into();
    context_from(&move |name| (name == "LAKE").then(|| lake.to_string())).await
}

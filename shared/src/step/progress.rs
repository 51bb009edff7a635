//! How far a step is, for whoever watches.

use std::fmt::Debug;

/// Told how far a step is.
pub trait Progress: Debug + Send + Sync {
    /// A step has this many units to do.
    fn begin(&self, step: &'static str, units: usize);
    /// A step did one.
    fn advance(&self, step: &'static str);
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn begin(&self, _: &'static str, _: usize) {}
    fn advance(&self, _: &'static str) {}
}

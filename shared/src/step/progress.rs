//! The progress of a step, for user interfaces.

use std::fmt::Debug;

use crate::pipeline::Step;

/// Receives the progress of steps.
pub trait Progress: Debug + Send + Sync {
    /// A step starts to process this many units.
    fn begin(&self, step: Step, units: usize);
    /// A step has completed one unit.
    fn advance(&self, step: Step);
}

/// Discards all progress.
#[derive(Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: Step, _: usize) {}
    fn advance(&self, _: Step) {}
}

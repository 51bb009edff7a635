//! x
pub mod recording;

//! x
pub mod recording;
pub mod sample;

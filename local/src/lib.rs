//! x
pub mod recording;
pub mod sample;
pub mod server;

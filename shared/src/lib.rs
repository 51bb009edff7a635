//! What every step of defi-features shares.

pub mod error;
pub mod sources;

pub use error::{Error, Kind, Result};

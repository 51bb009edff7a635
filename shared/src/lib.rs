//! What every step of defi-features shares.

pub mod error;

pub use error::{Error, Kind, Result};

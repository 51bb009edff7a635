//! What every step of defi-features shares. Layers import downwards only: step → lake, catalog, sources → tables → domain.

pub mod domain;
pub mod error;
pub mod tables;

pub use error::{Error, Kind, Result};

//! The code that the steps of defi-features share. Modules depend downwards only: step → lake, catalog, sources →
//! tables → domain.

#[cfg(feature = "aws")]
pub mod aws;
pub mod catalog;
pub mod config;
pub mod contracts;
pub mod cpu;
pub mod domain;
pub mod error;
pub mod executions;
pub mod feeds;
pub mod lake;
pub mod logging;
pub mod pipeline;
pub mod plan;
pub mod sources;
pub mod step;
pub mod tables;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, Kind, Result};

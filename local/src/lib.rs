//! The pipeline on one machine: the `defi` command, the sample chain and its API server, and questions to a local lake.

#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod doctor;
pub mod features;
pub mod output;
#[cfg(feature = "sql")]
pub mod query;
pub mod recording;
pub mod run;
pub mod sample;
pub mod server;
pub mod source;
mod tables;
pub mod wallet;

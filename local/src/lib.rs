//! The pipeline on one machine: the `defi` command, the sample chain and its API server, questions to a local lake, and reports of it.

#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod doctor;
pub mod features;
pub mod handlers;
mod lake;
pub mod output;
#[cfg(feature = "sql")]
pub mod query;
pub mod recording;
pub mod report;
pub mod run;
pub mod sample;
pub mod server;
pub mod source;
mod tables;
pub mod wallet;

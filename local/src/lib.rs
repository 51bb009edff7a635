//! The `defi` command: runs the pipeline on one machine, queries, explains, exports and checks a lake, and controls
//! runs in AWS.

// Everything that the command prints goes through `output`, which escapes it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod env;
pub mod export;
pub mod features;
mod get;
pub mod handlers;
pub mod hint;
pub mod lake;
mod log_files;
pub mod output;
#[cfg(feature = "sql")]
pub mod query;
pub mod report;
pub mod run;
pub mod source;
mod tables;
pub mod verify;
pub mod wallet;

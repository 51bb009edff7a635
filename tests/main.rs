//! The integration tests of the pipeline, in one binary, because each binary links the whole workspace.
//!
//! `load` and `fuzz` need a process of their own and are separate binaries (see `local/Cargo.toml`).
//!
//! Tests in this binary run concurrently, as many as there are CPUs. They must not depend on state of the process: they
//! set no environment variable and do not change the current directory, but pass both to the processes that they start.

// clippy.toml allows these in test functions, but not in the helper functions of tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[cfg(feature = "sql")]
mod answers;
mod bad_input;
#[cfg(feature = "sql")]
mod cases;
mod dictionary;
mod doctor;
mod faults;
#[cfg(feature = "sql")]
mod features_in_sql;
mod get;
mod instants;
#[cfg(unix)]
mod kills;
mod lake;
mod latency;
mod output;
#[cfg(feature = "sql")]
mod queries;
mod rebuilt;
#[cfg(feature = "sql")]
mod recordings;
mod report;
mod resume;
mod schemas;
mod secrets;
mod steps;
mod support;
mod tampering;

//! Helpers that several integration tests share. `fuzz` is a binary of its own and includes `mutation` and `objects`
//! itself.

pub mod command;
pub mod fault_bench;
pub mod fault_tally;
pub mod page;
#[cfg(unix)]
pub mod reader;
pub mod recording;
#[cfg(unix)]
pub mod scenarios;
pub mod server;
pub mod tree;

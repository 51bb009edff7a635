//! The simulated data sources: a generated sample chain, recordings of the two APIs, and a server that serves both APIs
//! from them, optionally with faults, and a server with faults in front of an Ethereum node. The crate does not depend on the `defi` command.

pub mod faults;
pub mod recording;
pub mod sample;
pub mod server;
mod timeline;
mod times;

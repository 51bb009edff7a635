//! Tests of the clients with an HTTP server on the loopback interface.

// clippy.toml allows these in tests, but clippy does not recognize that this whole crate is one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ethereum;
mod ethereum_faults;
mod ethereum_node;
mod graph;
mod graph_faults;
mod keys;
mod loopback;
mod transpose;
mod volume;

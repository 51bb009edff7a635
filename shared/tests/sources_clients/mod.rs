//! The two clients against a real HTTP server on loopback.

// clippy.toml allows these in tests, but doesn't see that all of this is one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod graph;
mod graph_faults;
mod loopback;
mod transpose;

//! Tests of the simulated APIs, and of the server in front of a node, over HTTP.

// clippy.toml allows these in test functions, but not in the helper functions of tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod chain;
mod ethereum;
mod graph;
mod pages;
mod support;
mod transpose;

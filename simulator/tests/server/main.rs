//! Tests of the simulated APIs over HTTP.

// clippy.toml allows these in test functions, but not in the helper functions of tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod graph;
mod pages;
mod support;
mod transpose;

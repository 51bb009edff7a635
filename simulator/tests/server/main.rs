//! Tests of the simulated APIs over HTTP.

mod graph;
mod support;
mod transpose;

//! The integration tests of `defi-shared`, in one binary: each further binary would link everything again.

#[cfg(all(feature = "aws", feature = "testing"))]
mod contract;
mod sources_clients;

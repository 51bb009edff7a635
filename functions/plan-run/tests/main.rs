//! The integration tests of `plan-run`, in one binary.

mod serve;
mod step;

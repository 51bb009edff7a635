//! What tests of steps need.

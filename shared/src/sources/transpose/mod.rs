//! Transpose.

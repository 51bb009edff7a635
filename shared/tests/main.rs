//! The integration tests of `defi-shared`, in one binary: each further binary would link everything again.

#[cfg(all(feature = "aws", feature = "testing"))]
mod contract;
#[cfg(all(feature = "aws", feature = "testing"))]
mod local_aws;
mod log_files;
#[cfg(all(feature = "aws", feature = "testing"))]
mod s3_answers;
mod sources_clients;

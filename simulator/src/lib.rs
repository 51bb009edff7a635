//! The simulated world: the sample chain, recordings of the two APIs, and the server that answers both APIs over them, with faults
//! on request. It knows nothing of the `defi` command.

pub mod faults;
pub mod recording;
pub mod sample;
pub mod server;
mod timeline;

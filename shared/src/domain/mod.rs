//! Domain types and calculations: addresses, amounts, days, times, events, links, prices, health and the fold. No I/O.

mod address;
mod amount;
mod day;
mod event;
mod figure;
pub mod fold;
pub mod health;
mod links;
pub mod log_events;
pub mod price;
pub mod replay;
mod shards;
mod time;
mod wallets;

pub use address::{Address, HexBytes, NATIVE_ETH, TxHash};
pub use amount::{BaseUnits, decimal};
pub use day::{Day, SECONDS_PER_DAY};
pub use event::{Category, Side};
pub use figure::Figure;
pub use links::{Link, Links};
pub use shards::{addresses_of, shard_of};
pub use time::parse_time;

/// The number of blocks on top of a block at which it counts as final. No reorganization of Ethereum was ever deeper.
pub const FINAL_DEPTH: u64 = 64;

//! The contracts of the lending protocols: their events and functions, encoded and decoded by `alloy-sol-types`. The
//! declarations are those of the contracts' sources. Nothing here reads from a node or knows an address.
//!
//! | module | contents |
//! |---|---|
//! | [`aave_v2`] | Aave v2: the pool, its tokens and its price oracle |
//! | [`compound_v2`] | Compound v2: the Comptroller, its cTokens and its price oracle |
//! | [`multicall`] | Multicall3: many calls in one |

#[expect(clippy::too_many_arguments, reason = "an event of the contracts has eight")]
pub mod aave_v2;
pub mod compound_v2;
pub mod multicall;

use alloy_primitives::B256;
pub use alloy_primitives::U256;
use alloy_sol_types::SolEventInterface;

use crate::error::{Error, Result};

/// The maximum number of topics of a log.
pub const MAX_TOPICS: usize = 4;

/// Decodes a log as one of the events `E` of its contract, whose topics are `known` in ascending order. `None` for
/// another event of the contract.
///
/// # Errors
/// `CorruptData` for one of the events with another number of topics or with data that are too short.
pub fn decode_event<E: SolEventInterface>(known: &[[u8; 32]], topics: &[[u8; 32]], data: &[u8]) -> Result<Option<E>> {
    if topics.first().is_none_or(|topic| known.binary_search(topic).is_err()) {
        return Ok(None);
    }
    let mut words = [B256::ZERO; MAX_TOPICS];
    words.iter_mut().zip(topics).for_each(|(word, topic)| *word = B256::from(*topic));
    let words = words.get(..topics.len()).ok_or_else(|| Error::corrupt("a log has more than four topics"))?;
    E::decode_raw_log(words, data)
        .map(Some)
        .map_err(|cause| Error::corrupt("the log is not a valid event of its contract").with_source(cause))
}

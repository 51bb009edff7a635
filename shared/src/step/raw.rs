//! From rows as the sources hand them over to rows of the raw layer, where more than one step needs it.

use std::sync::Arc;

use crate::sources::graph::Position;
use crate::tables::{RawPosition, Timestamp};

/// A position as The Graph gave it, with the protocol and the block that its snapshot is of.
#[must_use]
pub fn raw_position(
    position: Position,
    protocol: &Arc<str>,
    block_number: i64,
    block_timestamp: Timestamp,
) -> RawPosition {
    RawPosition {
        id: position.id.0,
        balance: position.balance.0,
        side: position.side.0,
        is_collateral: position.is_collateral.0,
        market_id: position.market_id.0,
        market_name: position.market_name.0,
        account_id: position.account_id.0,
        protocol: Arc::clone(protocol),
        block_number,
        block_timestamp,
    }
}

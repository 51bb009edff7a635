//! Conversions from rows of the sources to rows of the raw layer that several steps use.

use std::sync::Arc;

use crate::sources::graph::Position;
use crate::tables::{RawPosition, Timestamp};

/// Converts a position of The Graph, and adds the protocol and block of its snapshot.
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

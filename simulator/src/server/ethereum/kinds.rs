//! The faults of a node: name, and whether a retry succeeds.

/// Declares the faults in one table, so that each has a name and a persistence.
macro_rules! node_faults {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $persistence:ident,)+) => {
        /// A fault in the answer to a JSON-RPC request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum NodeFault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl NodeFault {
            /// All faults.
            pub const ALL: &[NodeFault] = &[$(NodeFault::$variant),+];

            /// Returns the stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(NodeFault::$variant => $name,)+
                }
            }

            /// Returns whether the request succeeds if it is repeated often enough.
            #[must_use]
            pub fn is_transient(self) -> bool {
                let persistence = match self {
                    $(NodeFault::$variant => Persistence::$persistence,)+
                };
                persistence == Persistence::Transient
            }
        }
    };
}

/// Whether a retry of the same request can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Persistence {
    /// The request succeeds once it has been repeated often enough.
    Transient,
    /// Every answer has the fault.
    Permanent,
}

node_faults! {
    /// A log of a block outside the range.
    LogOutsideRange "log_outside_range" Transient,
    /// Two logs in the wrong order.
    LogsUnordered "logs_unordered" Transient,
    /// A log that is marked as removed by a reorganization.
    LogRemoved "log_removed" Transient,
    /// A log of a contract that was not asked for.
    LogOfOtherAddress "log_of_other_address" Transient,
    /// A log with five topics.
    TooManyTopics "too_many_topics" Transient,
    /// A log whose data end within a byte.
    OddData "odd_data" Transient,
    /// A log that is there twice, which changes nothing.
    LogRepeated "log_repeated" Transient,
    /// Two different logs under one block hash and index.
    TwoLogsUnderOneKey "two_logs_under_one_key" Transient,
    /// A log whose block hash is not that of the other logs of its block. Only blocks with several logs can have it.
    BlockHashChanged "block_hash_changed" Transient,
    /// Null instead of a block.
    NullBlock "null_block" Transient,
    /// Another block than the requested one.
    OtherBlock "other_block" Transient,
    /// Null instead of a receipt.
    NullReceipt "null_receipt" Transient,
    /// The backend does not have the block yet.
    Behind "behind" Transient,
    /// A rate limit, as an error with status 200.
    Throttled "throttled" Transient,
    /// A backend that is not available, as an error with status 200.
    Unavailable "unavailable" Transient,
    /// A batch is refused as a whole.
    BatchRefused "batch_refused" Transient,
    /// The answers of a batch are in another order, which changes nothing.
    BatchReordered "batch_reordered" Transient,
    /// An answer of a batch is missing.
    BatchIncomplete "batch_incomplete" Transient,
    /// A batch has an answer to a request that was not sent.
    BatchSurplus "batch_surplus" Transient,
    /// `eth_getLogs` leaves out some logs, which `eth_getBlockReceipts` has.
    LogsLeftOut "logs_left_out" Permanent,
    /// `eth_getLogs` has no logs.
    LogsEmpty "logs_empty" Permanent,
    /// Some logs lack their last topic.
    TopicMissing "topic_missing" Permanent,
    /// The data of some logs are cut off.
    ShortData "short_data" Permanent,
    /// The logs of some blocks have a block hash that the block does not have.
    BlockHashDiffers "block_hash_differs" Permanent,
    /// The node no longer has the state or the block.
    Pruned "pruned" Permanent,
    /// The node no longer has the state of the block, for calls of contracts. It has blocks and logs.
    StatePruned "state_pruned" Permanent,
    /// The node serves another chain.
    OtherChain "other_chain" Permanent,
    /// The newest block and the final block are, from the second request on, far below the first ones.
    HeadFallsBack "head_falls_back" Permanent,
    /// Calls of contracts are rejected, alone and in a Multicall.
    CallReverts "call_reverts" Permanent,
    /// The node does not have `eth_getBlockReceipts`.
    NoBlockReceipts "no_block_receipts" Permanent,
    /// The month's quota is used up.
    QuotaExceeded "quota_exceeded" Permanent,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn fault_names_are_unique() {
        let names: BTreeSet<_> = NodeFault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), NodeFault::ALL.len());
    }
}

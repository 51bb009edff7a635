//! What the messages of graph-node and of the gateway mean. The status is 200 for nearly all of them.

use crate::error::Kind;

/// Messages by the pieces that all occur in them, in lower case; the first row that fits counts.
///
/// The order matters: graph-node wraps "not yet" and "pruned" into "Failed to decode `block.number`", the gateway says both
/// "auth error: payment required" and "auth error: API key not found".
const MEANINGS: &[(Kind, &[&str])] = &[
    (Kind::NotReady, &["only indexed up to block"]),
    (Kind::NotReady, &["not yet available"]),
    (Kind::NotReady, &["block", "not indexed"]),
    (Kind::NotReady, &["block", "not yet indexed"]),
    (Kind::NotReady, &["not started syncing"]),
    (Kind::HistoryPruned, &["only has data starting at block"]),
    // graph-node has the same words for a pruned block and for one before the subgraph's first: so have we.
    (Kind::HistoryPruned, &["before minimum `startblock`"]),
    (Kind::HistoryPruned, &["pruned"]),
    (Kind::HistoryPruned, &["block", "not available"]),
    (Kind::QuotaExceeded, &["payment required"]),
    (Kind::QuotaExceeded, &["spend limit"]),
    (Kind::QuotaExceeded, &["query budget"]),
    (Kind::QuotaExceeded, &["querying not activated"]),
    (Kind::QuotaExceeded, &["quota"]),
    (Kind::BadCredentials, &["auth error"]),
    (Kind::BadCredentials, &["api key"]),
    (Kind::BadCredentials, &["unauthorized"]),
    (Kind::BadCredentials, &["not authorized"]),
    (Kind::BadCredentials, &["authorization header"]),
    (Kind::Throttled, &["rate limit"]),
    (Kind::Throttled, &["too many requests"]),
    (Kind::SourceRejected, &["bad query"]),
    (Kind::SourceRejected, &["parse error"]),
    (Kind::SourceRejected, &["syntax error"]),
    (Kind::SourceRejected, &["cannot query field"]),
    (Kind::SourceRejected, &["has no field"]),
    (Kind::SourceRejected, &["unknown field"]),
    (Kind::SourceRejected, &["unknown argument"]),
    (Kind::SourceRejected, &["unknown type"]),
    (Kind::SourceRejected, &["not defined by type"]),
    (Kind::SourceRejected, &["no value provided for required"]),
    (Kind::SourceRejected, &["invalid value"]),
    (Kind::SourceRejected, &["failed to coerce value"]),
    (Kind::SourceRejected, &["failed to decode"]),
    (Kind::SourceRejected, &["variable", "of type"]),
    (Kind::SourceRejected, &["argument must be between"]),
    (Kind::SourceRejected, &["exceeds the limit"]),
    (Kind::SourceRejected, &["larger than the allowed limit"]),
    (Kind::SourceRejected, &["too complex"]),
    (Kind::SourceRejected, &["too deep"]),
    (Kind::SourceRejected, &["too expensive"]),
    (Kind::SourceRejected, &["subgraph not found"]),
    (Kind::SourceRejected, &["deployment", "does not exist"]),
    (Kind::SourceRejected, &["indexing_error"]),
    (Kind::SourceUnavailable, &["timed out"]),
    (Kind::SourceUnavailable, &["timeout"]),
    (Kind::SourceUnavailable, &["store error"]),
    (Kind::SourceUnavailable, &["entities from store"]),
    (Kind::SourceUnavailable, &["overloaded"]),
    (Kind::SourceUnavailable, &["indexers"]),
    (Kind::SourceUnavailable, &["unavailable"]),
    (Kind::SourceUnavailable, &["reorgani"]),
    (Kind::SourceUnavailable, &["missing block"]),
    (Kind::SourceUnavailable, &["internal error"]),
    (Kind::SourceUnavailable, &["panic processing query"]),
    (Kind::SourceUnavailable, &["try again"]),
    // Last, since a passing fault may well speak of something that it did not find.
    (Kind::SourceRejected, &["not found"]),
];

/// The kind that a message stands for, or `None` for one never seen.
pub(super) fn kind_of(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    match message.split_once("bad indexers: {") {
        Some((_, indexers)) => Some(kind_of_all(indexers)),
        None => kind_of_one(&message),
    }
}

/// The gateway lists what each indexer said. Only what all of them say is so: while one of them timed out, a block that
/// the others have pruned can still be had. What an indexer says of payment is between the gateway and it.
fn kind_of_all(indexers: &str) -> Kind {
    let mut kinds = indexers.split(", 0x").map(|said| kind_of_one(said).unwrap_or(Kind::SourceUnavailable));
    let first = kinds.next().unwrap_or(Kind::SourceUnavailable);
    let settled = matches!(first, Kind::NotReady | Kind::HistoryPruned | Kind::SourceRejected);
    if settled && kinds.all(|kind| kind == first) { first } else { Kind::SourceUnavailable }
}

fn kind_of_one(message: &str) -> Option<Kind> {
    let row = || MEANINGS.iter().find(|(_, pieces)| pieces.iter().all(|piece| message.contains(piece)));
    missing_block(message).or_else(|| row().map(|(kind, _)| *kind))
}

/// "missing block: 17, latest: 16": the gateway has the same words for a block that an indexer does not have yet and for one
/// that it does not have any more; the numbers tell.
fn missing_block(message: &str) -> Option<Kind> {
    let numbers = message.split_once("missing block: ")?.1;
    let (missing, latest) = numbers.split_once(", latest: ")?;
    let (missing, latest): (u64, u64) = (missing.parse().ok()?, leading_digits(latest).parse().ok()?);
    Some(if missing > latest { Kind::NotReady } else { Kind::HistoryPruned })
}

fn leading_digits(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message for each row of the table, in its order: words of graph-node, the gateway and GraphQL servers.
    const MESSAGES: &[&str] = &[
        "Failed to decode `block.number` value: `subgraph QmX has only indexed up to block number 16 and data for block number 17 is therefore not yet available`",
        "data for block number 17 is not yet available",
        "block 17 is not indexed",
        "block 17 is not yet indexed",
        "deployment QmX has not started syncing yet",
        "Failed to decode `block.number` value: `subgraph QmX only has data starting at block number 99 and data for block number 17 is therefore not available`",
        "bad query: requested block 1, before minimum `startBlock` of manifest 16291071",
        "the state at block 17 was pruned",
        "block 17 is not available",
        "auth error: payment required for subsequent requests for this API key",
        "auth error: spend limit exceeded for this API key",
        "Exceeded query budget",
        "Querying not activated yet; make sure to add some GRT to your balance in the studio",
        "monthly quota reached",
        "auth error: malformed token",
        "invalid API key",
        "Unauthorized",
        "Subgraph not authorized by user",
        "missing authorization header",
        "rate limit exceeded",
        "Too many requests, please try again later",
        "bad query: missing query",
        "query parse error: Parse error at 1:1",
        "Syntax Error: Expected Name, found }",
        "Cannot query field \"ltv\" on type \"Market\".",
        "Type `Market` has no field `ltv`",
        "Unknown field \"ltv\" on type \"Market\".",
        "Unknown argument \"blok\" on field \"markets\" of type \"Query\".",
        "Unknown type \"Markt_filter\".",
        "Field \"id_like\" is not defined by type \"Market_filter\".",
        "No value provided for required argument: `block`",
        "Invalid value provided for argument `first`: Int(Number(5000))",
        "Failed to coerce value `x` of field `id` to scalar type `Bytes`",
        "Failed to decode `Bytes` value: `Odd number of digits`",
        "Variable \"$where\" of type \"Position_filter\" used in position expecting type \"Market_filter\".",
        "The `first` argument must be between 0 and 1000, but is 5000",
        "query potentially returns `9` entities or more and thereby exceeds the limit of `1` entities. Possible solutions are reducing the depth of the query, querying fewer relationships or using `first` to return smaller collections",
        "the result size of 9 is larger than the allowed limit of 1",
        "Query is too complex.",
        "Query is nested too deep.",
        "query is too expensive",
        "subgraph not found: no allocations",
        "deployment `QmX` does not exist",
        "indexing_error",
        "Query timed out",
        "gateway timeout",
        "Store error: database unavailable",
        "Failed to get entities from store: no connection",
        "service is overloaded and can not run the query right now. Please try again in a few minutes",
        "no indexers found",
        "Service Unavailable",
        "the chain was reorganized while executing the query",
        "missing block",
        "internal error: failed to send",
        "panic processing query: oops",
        "Something went wrong, try again",
        "Not found",
    ];

    #[test]
    fn each_row_of_the_table_has_its_message() {
        assert_eq!(MESSAGES.len(), MEANINGS.len());
        for (message, (kind, pieces)) in MESSAGES.iter().zip(MEANINGS) {
            let lower = message.to_lowercase();
            let first = MEANINGS.iter().find(|(_, pieces)| pieces.iter().all(|piece| lower.contains(piece))).unwrap();
            assert_eq!(first.1, *pieces, "{message}");
            assert_eq!(kind_of(message), Some(*kind), "{message}");
        }
    }

    #[test]
    fn an_unknown_message_has_no_kind() {
        assert_eq!(kind_of("the stars are not right"), None);
    }

    #[test]
    fn numbers_tell_a_block_not_indexed_yet_from_a_pruned_one() {
        assert_eq!(kind_of("bad indexers: {0xab: Unavailable(missing block: 17, latest: 16)}"), Some(Kind::NotReady));
        assert_eq!(
            kind_of("bad indexers: {0xab: Unavailable(missing block: 17, latest: 99)}"),
            Some(Kind::HistoryPruned)
        );
        assert_eq!(kind_of("bad indexers: {0xab: Unavailable(missing block: 17)}"), Some(Kind::SourceUnavailable));
    }

    #[test]
    fn only_what_all_indexers_say_is_so() {
        let pruned = "0xab: Unavailable(missing block: 17, latest: 99)";
        let both = format!("bad indexers: {{{pruned}, {pruned}}}");
        assert_eq!(kind_of(&both), Some(Kind::HistoryPruned));
        for other in ["0xcd: Timeout", "0xcd: BadResponse(402)", "0xcd: Unavailable(missing block: 17, latest: 16)"] {
            let mixed = format!("bad indexers: {{{pruned}, {other}}}");
            assert_eq!(kind_of(&mixed), Some(Kind::SourceUnavailable), "{mixed}");
        }
        let unpaid = "bad indexers: {0xab: BadResponse(402 payment required)}";
        assert_eq!(kind_of(unpaid), Some(Kind::SourceUnavailable));
        let expensive = "bad indexers: {0xab: BadResponse(unattestable response: query is too expensive)}";
        assert_eq!(kind_of(expensive), Some(Kind::SourceRejected));
    }
}

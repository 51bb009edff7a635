//! What the messages of graph-node and of the gateway mean. The status is 200 for nearly all of them.

use crate::error::Kind;

/// A kind, the pieces that all occur in a message of it, in lower case, and such a message in the words of graph-node, the
/// gateway or a GraphQL server.
type Meaning = (Kind, &'static [&'static str], &'static str);

/// The first row that fits counts.
///
/// The order matters: graph-node wraps "not yet" and "pruned" into "Failed to decode `block.number`", the gateway says both
/// "auth error: payment required" and "auth error: API key not found".
#[rustfmt::skip] // a table: one meaning after the other
const MEANINGS: &[Meaning] = &[
    (Kind::NotReady, &["only indexed up to block"],
     "Failed to decode `block.number` value: `subgraph QmX has only indexed up to block number 16 and data for block number 17 is therefore not yet available`"),
    (Kind::NotReady, &["not yet available"], "data for block number 17 is not yet available"),
    (Kind::NotReady, &["block", "not indexed"], "block 17 is not indexed"),
    (Kind::NotReady, &["block", "not yet indexed"], "block 17 is not yet indexed"),
    (Kind::NotReady, &["not started syncing"], "deployment QmX has not started syncing yet"),
    (Kind::HistoryPruned, &["only has data starting at block"],
     "Failed to decode `block.number` value: `subgraph QmX only has data starting at block number 99 and data for block number 17 is therefore not available`"),
    // graph-node has the same words for a pruned block and for one before the subgraph's first: so have we.
    (Kind::HistoryPruned, &["before minimum `startblock`"],
     "bad query: requested block 1, before minimum `startBlock` of manifest 16291071"),
    (Kind::HistoryPruned, &["pruned"], "the state at block 17 was pruned"),
    (Kind::HistoryPruned, &["block", "not available"], "block 17 is not available"),
    (Kind::QuotaExceeded, &["payment required"],
     "auth error: payment required for subsequent requests for this API key"),
    (Kind::QuotaExceeded, &["spend limit"], "auth error: spend limit exceeded for this API key"),
    (Kind::QuotaExceeded, &["query budget"], "Exceeded query budget"),
    (Kind::QuotaExceeded, &["querying not activated"],
     "Querying not activated yet; make sure to add some GRT to your balance in the studio"),
    (Kind::QuotaExceeded, &["quota"], "monthly quota reached"),
    (Kind::BadCredentials, &["auth error"], "auth error: malformed token"),
    (Kind::BadCredentials, &["api key"], "invalid API key"),
    (Kind::BadCredentials, &["unauthorized"], "Unauthorized"),
    (Kind::BadCredentials, &["not authorized"], "Subgraph not authorized by user"),
    (Kind::BadCredentials, &["authorization header"], "missing authorization header"),
    (Kind::Throttled, &["rate limit"], "rate limit exceeded"),
    (Kind::Throttled, &["too many requests"], "Too many requests, please try again later"),
    (Kind::SourceRejected, &["bad query"], "bad query: missing query"),
    (Kind::SourceRejected, &["parse error"], "query parse error: Parse error at 1:1"),
    (Kind::SourceRejected, &["syntax error"], "Syntax Error: Expected Name, found }"),
    (Kind::SourceRejected, &["cannot query field"], "Cannot query field \"ltv\" on type \"Market\"."),
    (Kind::SourceRejected, &["has no field"], "Type `Market` has no field `ltv`"),
    (Kind::SourceRejected, &["unknown field"], "Unknown field \"ltv\" on type \"Market\"."),
    (Kind::SourceRejected, &["unknown argument"], "Unknown argument \"blok\" on field \"markets\" of type \"Query\"."),
    (Kind::SourceRejected, &["unknown type"], "Unknown type \"Markt_filter\"."),
    (Kind::SourceRejected, &["not defined by type"], "Field \"id_like\" is not defined by type \"Market_filter\"."),
    (Kind::SourceRejected, &["no value provided for required"], "No value provided for required argument: `block`"),
    (Kind::SourceRejected, &["invalid value"], "Invalid value provided for argument `first`: Int(Number(5000))"),
    (Kind::SourceRejected, &["failed to coerce value"],
     "Failed to coerce value `x` of field `id` to scalar type `Bytes`"),
    (Kind::SourceRejected, &["failed to decode"], "Failed to decode `Bytes` value: `Odd number of digits`"),
    (Kind::SourceRejected, &["variable", "of type"],
     "Variable \"$where\" of type \"Position_filter\" used in position expecting type \"Market_filter\"."),
    (Kind::SourceRejected, &["argument must be between"],
     "The `first` argument must be between 0 and 1000, but is 5000"),
    (Kind::SourceRejected, &["exceeds the limit"],
     "query potentially returns `9` entities or more and thereby exceeds the limit of `1` entities. Possible solutions are reducing the depth of the query, querying fewer relationships or using `first` to return smaller collections"),
    (Kind::SourceRejected, &["larger than the allowed limit"],
     "the result size of 9 is larger than the allowed limit of 1"),
    (Kind::SourceRejected, &["too complex"], "Query is too complex."),
    (Kind::SourceRejected, &["too deep"], "Query is nested too deep."),
    (Kind::SourceRejected, &["too expensive"], "query is too expensive"),
    (Kind::SourceRejected, &["subgraph not found"], "subgraph not found: no allocations"),
    (Kind::SourceRejected, &["deployment", "does not exist"], "deployment `QmX` does not exist"),
    (Kind::SourceRejected, &["indexing_error"], "indexing_error"),
    (Kind::SourceUnavailable, &["timed out"], "Query timed out"),
    (Kind::SourceUnavailable, &["timeout"], "gateway timeout"),
    (Kind::SourceUnavailable, &["store error"], "Store error: database unavailable"),
    (Kind::SourceUnavailable, &["entities from store"], "Failed to get entities from store: no connection"),
    (Kind::SourceUnavailable, &["overloaded"],
     "service is overloaded and can not run the query right now. Please try again in a few minutes"),
    (Kind::SourceUnavailable, &["indexers"], "no indexers found"),
    (Kind::SourceUnavailable, &["unavailable"], "Service Unavailable"),
    (Kind::SourceUnavailable, &["reorgani"], "the chain was reorganized while executing the query"),
    (Kind::SourceUnavailable, &["missing block"], "missing block"),
    (Kind::SourceUnavailable, &["internal error"], "internal error: failed to send"),
    (Kind::SourceUnavailable, &["panic processing query"], "panic processing query: oops"),
    (Kind::SourceUnavailable, &["try again"], "Something went wrong, try again"),
    // Last, since a passing fault may well speak of something that it did not find.
    (Kind::SourceRejected, &["not found"], "Not found"),
];

/// A message of each meaning with its kind, for servers that stand in for The Graph.
pub fn messages() -> impl Iterator<Item = (Kind, &'static str)> {
    MEANINGS.iter().map(|(kind, _, example)| (*kind, *example))
}

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
    missing_block(message).or_else(|| meaning_of(message).map(|(kind, ..)| *kind))
}

fn meaning_of(message: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|(_, pieces, _)| pieces.iter().all(|piece| message.contains(piece)))
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

    #[test]
    fn each_row_of_the_table_has_its_message() {
        for (kind, pieces, example) in MEANINGS {
            assert_eq!(meaning_of(&example.to_lowercase()).unwrap().1, *pieces, "{example}");
            assert_eq!(kind_of(example), Some(*kind), "{example}");
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

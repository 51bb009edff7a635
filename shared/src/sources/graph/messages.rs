//! Error kinds of the messages of graph-node and the gateway. Almost all of these messages come with status 200.

use crate::error::Kind;

/// An error kind, the lower-case substrings that a message of this kind contains (all of them), and an example: a
/// message of graph-node, the gateway or a GraphQL server.
type Rule = (Kind, &'static [&'static str], &'static str);

/// The rules for messages; the first match wins.
///
/// The order matters: graph-node wraps "not yet" and "pruned" messages in "Failed to decode `block.number`", and the
/// gateway returns both "auth error: payment required" and "auth error: API key not found".
#[rustfmt::skip] // keeps one rule per line or two
const RULES: &[Rule] = &[
    (Kind::NotReady, &["only indexed up to block"],
     "Failed to decode `block.number` value: `subgraph QmX has only indexed up to block number 16 and data for block number 17 is therefore not yet available`"),
    (Kind::NotReady, &["not yet available"], "data for block number 17 is not yet available"),
    (Kind::NotReady, &["block", "not indexed"], "block 17 is not indexed"),
    (Kind::NotReady, &["block", "not yet indexed"], "block 17 is not yet indexed"),
    (Kind::NotReady, &["not started syncing"], "deployment QmX has not started syncing yet"),
    (Kind::HistoryPruned, &["only has data starting at block"],
     "Failed to decode `block.number` value: `subgraph QmX only has data starting at block number 99 and data for block number 17 is therefore not available`"),
    // graph-node's message for a pruned block is the same as for a block before the subgraph's first one, so the kind
    // is too.
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
    (Kind::SourceUnavailable, &["no allocations"], "subgraph not found: no allocations"),
    (Kind::SourceRejected, &["subgraph not found"], "subgraph not found: QmX"),
    (Kind::SourceRejected, &["filter must by an object"], "Filter must by an object"),
    (Kind::SourceRejected, &["has no attribute"], "Entity `Market` has no attribute `ltv`"),
    (Kind::SourceRejected, &["null value resolved"], "Null value resolved for non-null field `maximumLTV`"),
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
    // Last, because the message of a transient error may also say that something was not found.
    (Kind::SourceRejected, &["not found"], "Not found"),
];

/// Returns an example message of each rule with its kind, for servers that simulate The Graph.
pub fn messages() -> impl Iterator<Item = (Kind, &'static str)> {
    RULES.iter().map(|(kind, _, example)| (*kind, *example))
}

/// Returns the kind of a message, or `None` if the message is unknown.
pub(super) fn classify(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    match message.split_once("bad indexers: {") {
        Some((_, indexers)) => Some(classify_indexers(indexers)),
        None => classify_one(&message),
    }
}

/// Returns the kind of a gateway message that lists the error of each indexer. An error is conclusive only if all
/// indexers agree: if one timed out, it may still have a block that the others have pruned. Payment errors of an
/// indexer are never conclusive, because they concern the gateway and not the client.
fn classify_indexers(indexers: &str) -> Kind {
    let mut kinds = indexers.split(", 0x").map(|error| classify_one(error).unwrap_or(Kind::SourceUnavailable));
    let first = kinds.next().unwrap_or(Kind::SourceUnavailable);
    let conclusive = matches!(first, Kind::NotReady | Kind::HistoryPruned | Kind::SourceRejected);
    if conclusive && kinds.all(|kind| kind == first) { first } else { Kind::SourceUnavailable }
}

/// Returns the kind of a message that is still sent after all retries, if that is another one. Of indexers that are days apart,
/// one has pruned a block that others do not have yet, and a block that is missing without more is one that nobody has any
/// more: another attempt asks another indexer.
pub(super) fn kind_after_retries(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    let indexers = message.split_once("bad indexers: {").map_or(message.as_str(), |(_, indexers)| indexers);
    let is_pruned = |error: &str| {
        let is_bare = error.contains("missing block: ") && !error.contains(", latest: ");
        is_bare || classify_one(error) == Some(Kind::HistoryPruned)
    };
    indexers.split(", 0x").any(is_pruned).then_some(Kind::HistoryPruned)
}

fn classify_one(message: &str) -> Option<Kind> {
    classify_missing_block(message).or_else(|| find_rule(message).map(|(kind, ..)| *kind))
}

fn find_rule(message: &str) -> Option<&'static Rule> {
    RULES.iter().find(|(_, substrings, _)| substrings.iter().all(|substring| message.contains(substring)))
}

/// Classifies "missing block: 17, latest: 16". The gateway's message is the same for a block that an indexer does not
/// have yet and for one that it has pruned; the numbers show which.
fn classify_missing_block(message: &str) -> Option<Kind> {
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
    fn each_rule_matches_its_example() {
        for (kind, substrings, example) in RULES {
            assert_eq!(find_rule(&example.to_lowercase()).unwrap().1, *substrings, "{example}");
            assert_eq!(classify(example), Some(*kind), "{example}");
        }
    }

    #[test]
    fn unknown_messages_have_no_kind() {
        assert_eq!(classify("a message that no server sends"), None);
    }

    #[test]
    fn block_numbers_distinguish_not_indexed_from_pruned() {
        assert_eq!(classify("bad indexers: {0xab: Unavailable(missing block: 17, latest: 16)}"), Some(Kind::NotReady));
        assert_eq!(
            classify("bad indexers: {0xab: Unavailable(missing block: 17, latest: 99)}"),
            Some(Kind::HistoryPruned)
        );
        assert_eq!(classify("bad indexers: {0xab: Unavailable(missing block: 17)}"), Some(Kind::SourceUnavailable));
    }

    #[test]
    fn one_pruned_indexer_or_a_bare_missing_block_is_conclusive_after_all_retries() {
        let pruned = "0xab: Unavailable(missing block: 17, latest: 99)";
        let lagging = "0xcd: Unavailable(missing block: 17, latest: 16)";
        for (message, kind) in [
            (format!("bad indexers: {{{lagging}, {pruned}}}"), Some(Kind::HistoryPruned)),
            (format!("bad indexers: {{{lagging}, 0xef: Timeout}}"), None),
            ("bad indexers: {0xab: Unavailable(missing block: 17)}".to_owned(), Some(Kind::HistoryPruned)),
            (format!("bad indexers: {{{lagging}, 0xef: Unavailable(missing block: 17)}}"), Some(Kind::HistoryPruned)),
            ("missing block: 17".to_owned(), Some(Kind::HistoryPruned)),
            ("Query timed out".to_owned(), None),
        ] {
            assert_eq!(kind_after_retries(&message), kind, "{message}");
        }
    }

    #[test]
    fn an_error_is_conclusive_only_if_all_indexers_agree() {
        let pruned = "0xab: Unavailable(missing block: 17, latest: 99)";
        let both = format!("bad indexers: {{{pruned}, {pruned}}}");
        assert_eq!(classify(&both), Some(Kind::HistoryPruned));
        for other in ["0xcd: Timeout", "0xcd: BadResponse(402)", "0xcd: Unavailable(missing block: 17, latest: 16)"] {
            let mixed = format!("bad indexers: {{{pruned}, {other}}}");
            assert_eq!(classify(&mixed), Some(Kind::SourceUnavailable), "{mixed}");
        }
        let unpaid = "bad indexers: {0xab: BadResponse(402 payment required)}";
        assert_eq!(classify(unpaid), Some(Kind::SourceUnavailable));
        let expensive = "bad indexers: {0xab: BadResponse(unattestable response: query is too expensive)}";
        assert_eq!(classify(expensive), Some(Kind::SourceRejected));
    }
}

//! What the error messages of nodes and of their providers mean.
//!
//! The text decides, and the code only where no text is known: `-32000`, `-32005` and `-32602` stand for a range that
//! is too wide as well as for a rate limit or a block that a backend does not have yet.

use std::fmt;

use crate::error::{Error, Kind};

/// What an error of a node means for the request that caused it. It is the source of the [`Error`], so that it gets
/// through the retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An error of a kind that all sources have.
    Plain(Kind),
    /// The node limits the blocks of a request.
    TooManyBlocks,
    /// The node limits the rows, the size or the time of an answer.
    TooMuch,
    /// The node accepts no batches, or only shorter ones.
    BatchRefused,
    /// A call needs more gas than the node allows, or failed in a way that the node does not name.
    OutOfGas,
    /// The contract rejected the call.
    Reverted,
    /// The node does not have the method.
    NoMethod,
    /// The node does not have the block or transaction: it is behind, or the data are pruned.
    Missing(Expected),
    /// The answer contradicts itself or the request.
    Wrong,
}

/// Where on the chain a request's data are, for the meaning of an answer that does not have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// At the newest blocks.
    Newest,
    /// At a block.
    Block(u64),
    /// At a block that the client does not know, but that is in the past.
    Past,
}

impl Meaning {
    /// Returns the kind of the error. A missing block is retried, for the backend may be behind, and so is a wrong
    /// answer.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Meaning::Plain(kind) => kind,
            Meaning::Missing(_) => Kind::NotReady,
            Meaning::Wrong => Kind::SourceUnavailable,
            _ => Kind::SourceRejected,
        }
    }

    /// Returns the meaning of an error.
    pub(super) fn of(error: &Error) -> Option<Meaning> {
        std::error::Error::source(error)?.downcast_ref().copied()
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Meaning::Plain(kind) => kind.name(),
            Meaning::TooManyBlocks => "the node limits the blocks of a request",
            Meaning::TooMuch => "the node limits what a request may return",
            Meaning::BatchRefused => "the node refuses the batch",
            Meaning::OutOfGas => "the call ran out of gas",
            Meaning::Reverted => "the contract rejected the call",
            Meaning::NoMethod => "the node does not have the method",
            Meaning::Missing(_) => "the node does not have the block or transaction",
            Meaning::Wrong => "the answer is wrong",
        })
    }
}

impl std::error::Error for Meaning {}

/// A meaning, the lower-case substrings that a message of this meaning contains (all of them), and an example.
type Rule = (Meaning, &'static [&'static str], &'static str);

const THROTTLED: Meaning = Meaning::Plain(Kind::Throttled);
const UNAVAILABLE: Meaning = Meaning::Plain(Kind::SourceUnavailable);
const NOT_READY: Meaning = Meaning::Plain(Kind::NotReady);
const PRUNED: Meaning = Meaning::Plain(Kind::HistoryPruned);
const QUOTA: Meaning = Meaning::Plain(Kind::QuotaExceeded);
const CREDENTIALS: Meaning = Meaning::Plain(Kind::BadCredentials);
const REJECTED: Meaning = Meaning::Plain(Kind::SourceRejected);
const MISSING: Meaning = Meaning::Missing(Expected::Newest);

/// The rules for messages; the first match wins.
#[rustfmt::skip] // keeps one rule per line or two
const RULES: &[Rule] = &[
    // Before the ranges: this one is about a backend that is behind.
    (NOT_READY, &["beyond current head"], "block range extends beyond current head block"),
    (NOT_READY, &["after last accepted block"], "cannot query after last accepted block"),
    (Meaning::BatchRefused, &["batch"], "batch too large"),
    // Before the rate limits: "limit exceeded" is a part of several.
    (Meaning::TooManyBlocks, &["block range should work"],
     "You can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block range should work: [0x10, 0x19]"),
    (Meaning::TooMuch, &["more than", "results"], "query returned more than 10000 results"),
    (Meaning::TooMuch, &["max results"], "query exceeds max results 20000, retry with the range 16-31"),
    (Meaning::TooMuch, &["too many results"], "too many results, narrow the filter"),
    (Meaning::TooMuch, &["logs matched"], "logs matched by query exceeds limit of 10000"),
    (Meaning::TooMuch, &["response size"], "Log response size exceeded."),
    (Meaning::TooMuch, &["response is too big"], "Response is too big"),
    (Meaning::TooMuch, &["response too large"], "response too large"),
    (Meaning::TooMuch, &["block range", "timeout"], "query timeout exceeded. Consider reducing your block range."),
    (Meaning::TooMuch, &["entity too large"], "Request Entity Too Large"),
    (Meaning::TooManyBlocks, &["block range is too wide"], "block range is too wide"),
    (Meaning::TooManyBlocks, &["limited to", "range"], "eth_getLogs is limited to a 10,000 range"),
    (Meaning::TooManyBlocks, &["limited to", "blocks"], "eth_getLogs is limited to 100 blocks"),
    (Meaning::TooManyBlocks, &["block range limit"], "Block range limit exceeded."),
    (Meaning::TooManyBlocks, &["maximum block range"], "exceed maximum block range: 50000"),
    (Meaning::TooManyBlocks, &["max block range"], "exceeds max block range 2000"),
    (Meaning::TooManyBlocks, &["ranges over"], "ranges over 10000 blocks are not supported on freetier"),
    (Meaning::TooManyBlocks, &["range", "too large"], "block range too large, range: 200000, max: 100000"),
    (Meaning::TooManyBlocks, &["range", "too wide"], "the requested range is too wide"),
    (Meaning::TooManyBlocks, &["range", "exceed"], "requested range exceeds 5000 blocks"),
    (Meaning::TooManyBlocks, &["too many blocks"], "requested too many blocks from 1 to 2000, maximum is set to 1000"),
    (Meaning::TooManyBlocks, &["limit the query to at most"], "please limit the query to at most 1000 blocks"),
    (QUOTA, &["monthly", "exceeded"], "Monthly capacity limit exceeded. Visit the dashboard to upgrade your scaling policy."),
    (QUOTA, &["daily", "exceeded"], "daily request count exceeded, request rate limited"),
    (QUOTA, &["quota"], "quota reached"),
    (QUOTA, &["payment required"], "payment required"),
    (QUOTA, &["out of credits"], "your account is out of credits"),
    (CREDENTIALS, &["api key"], "invalid api key"),
    (CREDENTIALS, &["authenticated"], "Must be authenticated!"),
    (CREDENTIALS, &["unauthorized"], "Unauthorized"),
    (CREDENTIALS, &["invalid project id"], "invalid project id"),
    (THROTTLED, &["limit exceeded"], "limit exceeded"),
    (THROTTLED, &["rate limit"], "rate limit reached"),
    (THROTTLED, &["rate exceeded"], "project ID request rate exceeded"),
    (THROTTLED, &["request limit"], "request limit reached"),
    (THROTTLED, &["too many requests"], "Too Many Requests"),
    (THROTTLED, &["per second"], "Your app has exceeded its compute units per second capacity."),
    (THROTTLED, &["throttl"], "request throttled"),
    (UNAVAILABLE, &["no backend is currently healthy"], "no backend is currently healthy to serve traffic"),
    (PRUNED, &["pruned"], "Pruned history unavailable"),
    (PRUNED, &["pruning"], "old data not available due to pruning"),
    (PRUNED, &["missing trie node"], "missing trie node 3f5c (path ) state 0x3f5c is not available"),
    (PRUNED, &["historical state"], "required historical state unavailable (reexec=0)"),
    (PRUNED, &["state", "not available"], "state 0x3f5c is not available"),
    (PRUNED, &["proof window"], "distance to target block exceeds maximum proof window"),
    (PRUNED, &["archive"], "this request needs an archive node"),
    (MISSING, &["header not found"], "header not found"),
    (MISSING, &["block not found"], "finalized block not found"),
    (MISSING, &["unknown block"], "Unknown block"),
    (MISSING, &["could not find block"], "could not find block: 17"),
    (MISSING, &["block height is"], "BlockOutOfRangeError: block height is 16 but requested was 17"),
    (MISSING, &["header for hash not found"], "header for hash not found"),
    (Meaning::Reverted, &["revert"], "execution reverted"),
    (Meaning::Reverted, &["invalid opcode"], "invalid opcode: INVALID"),
    (Meaning::Reverted, &["opcode", "not"], "EVM error: OpcodeNotFound"),
    (Meaning::Reverted, &["bad instruction"], "Bad instruction fe"),
    (Meaning::Reverted, &["invalidfeopcode"], "EVM error InvalidFEOpcode"),
    (Meaning::Reverted, &["invalid jump"], "invalid jump destination"),
    (Meaning::Reverted, &["stack underflow"], "stack underflow (0 <=> 1)"),
    (Meaning::OutOfGas, &["out of gas"], "out of gas"),
    (Meaning::OutOfGas, &["outofgas"], "EVM error OutOfGas"),
    (Meaning::OutOfGas, &["gas required exceeds"], "gas required exceeds allowance (50000000)"),
    (Meaning::OutOfGas, &["vm execution error"], "VM execution error."),
    (Meaning::NoMethod, &["method", "not"], "the method eth_getBlockReceipts does not exist/is not available"),
    (Meaning::NoMethod, &["unsupported method"], "Unsupported method: eth_getBlockReceipts"),
    (UNAVAILABLE, &["timeout"], "request timeout"),
    (UNAVAILABLE, &["timed out"], "the request timed out"),
    (UNAVAILABLE, &["deadline exceeded"], "context deadline exceeded"),
    (UNAVAILABLE, &["unavailable"], "Service Unavailable"),
    (UNAVAILABLE, &["overloaded"], "the node is overloaded"),
    (UNAVAILABLE, &["try again"], "temporary failure, try again"),
    (UNAVAILABLE, &["internal error"], "internal error"),
    (REJECTED, &["invalid argument"], "invalid argument 0: hex string without 0x prefix"),
    (REJECTED, &["invalid params"], "Invalid params"),
    (REJECTED, &["invalid request"], "Invalid Request"),
    (REJECTED, &["parse error"], "Parse error"),
];

/// Returns an example message of each rule, for servers that simulate a node.
pub fn messages() -> impl Iterator<Item = (Meaning, &'static str)> {
    RULES.iter().map(|(meaning, _, example)| (*meaning, *example))
}

/// Returns the meaning of a message, or `None` if it is unknown.
pub(super) fn classify(message: &str) -> Option<Meaning> {
    let message = message.to_lowercase();
    let rule = RULES.iter().find(|(_, parts, _)| parts.iter().all(|part| message.contains(part)));
    rule.map(|(meaning, ..)| *meaning)
}

/// Returns the meaning of an error code, for messages that are unknown.
pub(super) fn classify_code(code: i64) -> Option<Meaning> {
    Some(match code {
        3 => Meaning::Reverted,
        429 | -32005 => THROTTLED,
        4444 => PRUNED,
        -32001 => MISSING,
        -32015 => Meaning::OutOfGas,
        -32600 | -32602 | -32700 => REJECTED,
        -32601 | -32004 => Meaning::NoMethod,
        -32603 => UNAVAILABLE,
        _ => return None,
    })
}

/// Returns the range that a message suggests: its last two numbers in brackets (`[0x10, 0x19]`) or after `range`
/// (`16-31`).
pub(super) fn suggested_range(message: &str) -> Option<(u64, u64)> {
    let message = message.to_lowercase();
    let after = ["should work", "with the range", "with this block range"];
    let rest = after.iter().find_map(|text| message.split_once(text).map(|(_, rest)| rest))?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|text| !text.is_empty());
    let number = |text: &str| super::hex::quantity(text).or_else(|| text.parse().ok());
    let (from, to) = (number(numbers.next()?)?, number(numbers.next()?)?);
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_matches_its_example() {
        for (meaning, parts, example) in RULES {
            assert_eq!(classify(example), Some(*meaning), "{example}");
            let lower = example.to_lowercase();
            assert!(parts.iter().all(|part| lower.contains(part)), "{example}");
        }
        assert_eq!(classify("a message that no node sends"), None);
    }

    /// The texts that the design names.
    #[test]
    fn known_texts_have_their_meaning() {
        let ranges = [
            "query returned more than 10000 results",
            "query exceeds max results 20000, retry with the range 16-31",
            "this block range should work: [0x10, 0x19]",
            "block range is too wide",
            "limited to a 10,000 range",
            "limited to 1024 block range",
            "Block range limit exceeded.",
            "exceed maximum block range: 50000",
            "ranges over 10000 blocks are not supported",
        ];
        for text in ranges {
            assert!(matches!(classify(text), Some(Meaning::TooManyBlocks | Meaning::TooMuch)), "{text}");
        }
        for (text, kind) in [
            ("limit exceeded", Kind::Throttled),
            ("no backend is currently healthy", Kind::SourceUnavailable),
            ("Monthly capacity limit exceeded", Kind::QuotaExceeded),
            ("block range extends beyond current head block", Kind::NotReady),
            ("header not found", Kind::NotReady),
            ("block not found", Kind::NotReady),
            ("Unknown block", Kind::NotReady),
            ("Pruned history unavailable", Kind::HistoryPruned),
            ("old data not available due to pruning", Kind::HistoryPruned),
            ("state at block #17 is pruned", Kind::HistoryPruned),
            ("missing trie node 3f5c (path )", Kind::HistoryPruned),
            ("historical state 3f5c is not available", Kind::HistoryPruned),
        ] {
            assert_eq!(classify(text).map(Meaning::kind), Some(kind), "{text}");
        }
        for text in ["VM execution error", "out of gas"] {
            assert_eq!(classify(text), Some(Meaning::OutOfGas), "{text}");
        }
    }

    #[test]
    fn a_code_has_several_meanings_and_the_text_decides() {
        assert_eq!(classify_code(-32005), Some(THROTTLED));
        assert_eq!(classify("query returned more than 10000 results"), Some(Meaning::TooMuch));
        assert_eq!(classify("daily request count exceeded, request rate limited"), Some(QUOTA));
        assert_eq!(classify_code(-32602), Some(REJECTED));
        assert_eq!(classify("block range extends beyond current head block"), Some(NOT_READY));
        assert_eq!(classify("Block range limit exceeded."), Some(Meaning::TooManyBlocks));
    }

    #[test]
    fn suggested_ranges_are_hex_or_decimal() {
        for (message, range) in [
            ("query exceeds max results 20000, retry with the range 16-31", Some((16, 31))),
            ("Based on your parameters, this block range should work: [0x10, 0x19]", Some((16, 25))),
            ("query returned more than 10000 results. Try with this block range [0x1, 0x2].", Some((1, 2))),
            ("retry with the range 31-16", None),
            ("retry with the range", None),
            ("retry with the range 1-x", None),
            ("query returned more than 10000 results", None),
        ] {
            assert_eq!(suggested_range(message), range, "{message}");
        }
    }
}

//! The client of an Ethereum node through the server with faults: transient ones change nothing, and permanent ones
//! are noticed, or change exactly what they are about.

use std::collections::BTreeSet;

use defi_shared::domain::TxHash;
use defi_shared::error::{Kind, Result};
use defi_shared::sources::ethereum::{Call, CallOutcome, EthereumClient, EthereumSettings, Header, Log};
use defi_shared::sources::{RateLimit, RetryPolicy, Secret, Traffic};
use defi_simulator::faults::{Attempts, Fault, FaultRule, Faults};
use defi_simulator::server::ethereum::{EthereumNode, MethodCount, NodeFault, NodeFaults, NodeLimits, NodeOptions};

use super::chain::{A, B, HEAD, MULTICALL, START, hash, start};

fn client(node: &EthereumNode) -> EthereumClient {
    let settings = EthereumSettings {
        multicall: Some(MULTICALL),
        rate: RateLimit::per_second(100_000),
        retry: RetryPolicy { tries: 12, ..RetryPolicy::LOOPBACK },
        ..EthereumSettings::new(Secret::new(node.url()), 7)
    };
    EthereumClient::new(settings).unwrap()
}

/// Everything that a client reads.
#[derive(Debug, PartialEq)]
struct Read {
    finalized: Header,
    first: Option<u64>,
    headers: Vec<Header>,
    logs: Vec<Log>,
    block_logs: Option<Vec<Log>>,
    senders: usize,
    calls: Vec<CallOutcome>,
    code: Vec<bool>,
}

fn calls() -> Vec<Call> {
    (0..120_u32).map(|number| Call { to: A, data: number.to_be_bytes().to_vec() }).collect()
}

async fn read(client: &EthereumClient) -> Result<Read> {
    let traffic = &Traffic::new();
    let numbers: Vec<u64> = (100..180).collect();
    let hashes: Vec<TxHash> = (0..90).map(|number| TxHash::parse(&hash(number)).unwrap()).collect();
    let senders = client.senders(&hashes, traffic).await?;
    Ok(Read {
        finalized: client.finalized(traffic).await?,
        first: client.first_block(START + 12 * 700 - 3, traffic).await?.map(|header| header.number),
        headers: client.headers(&numbers, traffic).await?,
        logs: client.logs(&[A, B], 0, 1000, traffic).await?.logs,
        block_logs: client.block_logs(7, traffic).await?,
        senders: senders.values().filter(|sender| **sender == A).count(),
        calls: client.call(&calls(), 500, traffic).await?,
        code: client.has_code(&[A, MULTICALL], 500, traffic).await?,
    })
}

async fn node(options: NodeOptions) -> EthereumNode {
    EthereumNode::start(start().await, options).await.unwrap()
}

async fn truth() -> Read {
    let read = read(&client(&node(NodeOptions::default()).await)).await.unwrap();
    assert_eq!((read.logs.len(), read.first, read.senders, read.finalized.number), (1500, Some(700), 90, HEAD - 64));
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_change_nothing() {
    let (truth, mut seen) = (truth().await, BTreeSet::new());
    for seed in 0..30 {
        let attempts = if seed % 2 == 0 { Attempts::First(2) } else { Attempts::Any };
        let http = [
            Fault::TooManyRequests,
            Fault::InternalServerError,
            Fault::BadGateway,
            Fault::Html,
            Fault::CutJson,
            Fault::EmptyBody,
            Fault::Closed,
            Fault::Reset,
            Fault::ResetInBody,
        ];
        let rule = |fault| FaultRule { fault, per_mille: 15, attempts };
        let options = NodeOptions {
            faults: Some(NodeFaults::transient(seed, 200, attempts)),
            http_faults: Some(Faults { seed, script: http.map(rule).into(), ..Faults::default() }),
            limits: NodeLimits { blocks: Some(40), logs: Some(55), batch: Some(30), call_bytes: Some(6_000) },
            ..NodeOptions::default()
        };
        let node = node(options).await;
        assert_eq!(read(&client(&node)).await.unwrap(), truth, "seed {seed}");
        seen.extend(node.fault_counts().into_keys());
        assert!(!node.http_fault_counts().faults.is_empty(), "seed {seed}");
        node.stop().await;
    }
    let transient = NodeFault::ALL.iter().filter(|fault| fault.is_transient()).map(|fault| fault.name());
    assert_eq!(seen, transient.collect(), "all faults occur");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_fault_that_stays_is_an_error_and_not_a_wrong_answer() {
    let truth = truth().await;
    for fault in NodeFault::ALL.iter().copied().filter(|fault| fault.is_transient()) {
        let node = node(NodeOptions { faults: Some(NodeFaults::always(fault)), ..NodeOptions::default() }).await;
        let read = read(&client(&node)).await;
        use NodeFault::{BatchRefused, BatchReordered, LogRepeated, NullBlock, NullReceipt};
        let kind = match fault {
            BatchRefused | BatchReordered | LogRepeated => None,
            NullBlock | NullReceipt => Some(Kind::HistoryPruned),
            NodeFault::Behind | NodeFault::BatchIncomplete => read.as_ref().err().map(|error| error.kind()),
            NodeFault::Throttled => Some(Kind::Throttled),
            NodeFault::Unavailable => Some(Kind::SourceUnavailable),
            _ => Some(Kind::CorruptData),
        };
        assert!(node.fault_counts().contains_key(fault.name()), "{}", fault.name());
        assert_eq!(read.as_ref().err().map(|error| error.kind()), kind, "{}: {read:?}", fault.name());
        assert!(read.is_err() || read.unwrap() == truth, "{}", fault.name());
    }
}

/// Reads through a node with one permanent fault, in a share of what can have it.
async fn with_fault(fault: NodeFault, per_mille: u64) -> Result<Read> {
    let mut faults = NodeFaults::always(fault);
    faults.script[0].per_mille = per_mille;
    read(&client(&node(NodeOptions { faults: Some(faults), ..NodeOptions::default() }).await)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_faults_are_noticed_or_change_only_what_they_are_about() {
    let truth = truth().await;
    for (fault, kind) in [
        (NodeFault::OtherChain, Kind::BadInput),
        (NodeFault::Pruned, Kind::HistoryPruned),
        (NodeFault::StatePruned, Kind::HistoryPruned),
        (NodeFault::QuotaExceeded, Kind::QuotaExceeded),
        (NodeFault::HeadFallsBack, Kind::CorruptData),
    ] {
        let error = with_fault(fault, 1000).await.err();
        // The head is read twice: by a search for a block.
        let second = async || {
            let node = node(NodeOptions { faults: Some(NodeFaults::always(fault)), ..NodeOptions::default() }).await;
            let client = client(&node);
            client.head(&Traffic::new()).await?;
            client.head(&Traffic::new()).await
        };
        let error = match error {
            Some(error) => error,
            None => second().await.unwrap_err(),
        };
        assert_eq!(error.kind(), kind, "{}", fault.name());
    }
    // These can only be noticed by comparing answers, so the client returns what the node sent, always the same.
    let keys = |logs: &[Log]| logs.iter().map(|log| (log.block_number, log.log_index)).collect::<BTreeSet<_>>();
    let left_out = with_fault(NodeFault::LogsLeftOut, 100).await.unwrap();
    assert_eq!(left_out.logs, with_fault(NodeFault::LogsLeftOut, 100).await.unwrap().logs);
    assert!(keys(&left_out.logs).is_subset(&keys(&truth.logs)) && left_out.logs.len() < truth.logs.len());
    assert_eq!(left_out.block_logs, truth.block_logs);
    assert_eq!(with_fault(NodeFault::LogsEmpty, 1000).await.unwrap().logs, []);
    let short = with_fault(NodeFault::ShortData, 100).await.unwrap();
    assert!((1..500).contains(&short.logs.iter().filter(|log| log.data.len() == 16).count()));
    let topics = with_fault(NodeFault::TopicMissing, 100).await.unwrap();
    assert!((1..500).contains(&topics.logs.iter().filter(|log| log.topics.len() == 1).count()));
    let hashes = with_fault(NodeFault::BlockHashDiffers, 100).await.unwrap();
    let differs = |(log, right): &(&Log, &Log)| log.block_hash != right.block_hash;
    assert!((1..500).contains(&hashes.logs.iter().zip(&truth.logs).filter(differs).count()));
    assert_eq!((hashes.headers, hashes.block_logs), (truth.headers, truth.block_logs));
    assert_eq!(with_fault(NodeFault::NoBlockReceipts, 1000).await.unwrap().block_logs, None);
    let calls = with_fault(NodeFault::CallReverts, 100).await.unwrap().calls;
    let reverted = calls.iter().filter(|call| **call == CallOutcome::Reverted).count();
    assert!((1..40).contains(&reverted), "{reverted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn selected_calls_are_rejected_alone_and_in_a_multicall() {
    let rejected_calls = vec![vec![0, 0, 0, 17]];
    let faults = NodeFaults { rejected_calls, ..NodeFaults::always(NodeFault::CallReverts) };
    let node = node(NodeOptions { faults: Some(faults), ..NodeOptions::default() }).await;
    let client = client(&node);
    let expected: Vec<CallOutcome> = (0..120_u32)
        .map(|number| match number {
            17 => CallOutcome::Reverted,
            _ => CallOutcome::Returned(number.to_be_bytes().to_vec()),
        })
        .collect();
    assert_eq!(client.call(&calls(), 5, &Traffic::new()).await.unwrap(), expected);
    assert_eq!(client.call_alone(&calls(), 5, &Traffic::new()).await.unwrap(), expected);
}

#[tokio::test]
async fn answers_without_faults_are_those_of_the_node() {
    let node = node(NodeOptions::default()).await;
    let post = async |body: &'static str| {
        let request = reqwest::Client::new().post(format!("{}/v2/key", node.url()));
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        response.text().await.unwrap()
    };
    let answer = r#"{"jsonrpc":"2.0","id":5,"result":"0x7"}"#;
    assert_eq!(post(r#"{"id": 5, "method": "eth_chainId", "params": []}"#).await, answer);
    assert_eq!(post(r#"[{"id": 5, "method": "eth_chainId", "params": []}]"#).await, format!("[{answer}]"));
    assert!(post("hello").await.contains("Parse error"));
    let two = r#"[{"id": 1, "method": "eth_chainId", "params": []}, {"id": 2, "method": "eth_chainId", "params": []}]"#;
    post(two).await;
    let expected = MethodCount { requests: 3, calls: 4 };
    assert_eq!(node.method_counts().into_iter().collect::<Vec<_>>(), [("eth_chainId".to_owned(), expected)]);
}

//! Checks an Ethereum node: its chain, its head, the configured contracts, and whether it has old logs and old states.

use std::fmt::Display;

use defi_shared::config::{Protocol, Root};
use defi_shared::domain::{Address, Day};
use defi_shared::error::{Kind, Result};
use defi_shared::sources::ethereum::EthereumClient;
use defi_shared::step::Context;

use super::Finding;
use super::head::check_head;
use defi_pages::number::with_thousands;

/// The number of old blocks whose logs are asked for, 20 minutes: few requests, even at a node that allows short ranges.
const OLD_BLOCKS: u64 = 100;

/// Checks the node of a context, from which nothing of the lake is read.
pub(super) async fn check(context: &Context, node: &EthereumClient) -> Vec<Finding> {
    let traffic = &context.traffic;
    if let Err(error) = node.require_chain(traffic).await {
        return vec![Finding::error("Ethereum node", &error)];
    }
    let mut findings = vec![match node.head(traffic).await {
        Err(error) => Finding::error("Ethereum node", &error),
        Ok(head) => check_head("Ethereum node", head.number, Some(head.timestamp), false),
    }];
    findings.push(Finding::ok(item("chain"), format!("its id is {}", context.config.chain.chain_id)));
    let newest = match node.finalized(traffic).await {
        Ok(block) => block.number,
        Err(error) => {
            findings.push(Finding::error(item("final block"), &error));
            return findings;
        }
    };
    findings.push(Finding::ok(item("final block"), with_thousands(newest)));
    findings.push(check_tokens(context, node, newest).await);
    for protocol in &context.config.protocols {
        let checked = check_protocol(context, node, protocol, newest).await;
        findings.extend(checked.unwrap_or_else(|error| vec![Finding::error(item(&protocol.name), &error)]));
    }
    findings
}

fn item(name: impl Display) -> String {
    format!("Ethereum node, {name}")
}

/// Checks that the contracts of `[chain]` exist.
async fn check_tokens(context: &Context, node: &EthereumClient, newest: u64) -> Finding {
    let item = item("contracts of [chain]");
    let chain = &context.config.chain;
    let named = [("wrapped_ether", Some(chain.wrapped_ether)), ("multicall", chain.multicall)];
    let named: Vec<_> = named.into_iter().filter_map(|(name, address)| Some((name, address?))).collect();
    let addresses: Vec<Address> = named.iter().map(|(_, address)| *address).collect();
    let has_code = match node.has_code(&addresses, newest, &context.traffic).await {
        Ok(has_code) => has_code,
        Err(error) => return Finding::error(item, &error),
    };
    let names = |exists: bool| -> Vec<&str> {
        named.iter().zip(&has_code).filter(|(_, has_code)| **has_code == exists).map(|((name, _), _)| *name).collect()
    };
    match names(false).as_slice() {
        [] => Finding::ok(item, format!("there: {}", names(true).join(", "))),
        missing => Finding::fail(
            item,
            format!("there is no contract at {}", missing.join(", ")),
            "correct the section chain of the configuration, or use a node of its chain",
        ),
    }
}

/// Checks the contracts of a protocol, and whether the node has its logs and its state at an old block.
///
/// # Errors
/// The contracts can't be found.
async fn check_protocol(
    context: &Context,
    node: &EthereumClient,
    protocol: &Protocol,
    newest: u64,
) -> Result<Vec<Finding>> {
    let name = &protocol.name;
    let addresses = context.contracts(name, newest, &context.traffic).await?.addresses();
    let found = Finding::ok(item(name), format!("{} contracts", addresses.len()));
    // On the mainnet a block before the Merge, which many nodes no longer have.
    let first = protocol.contracts()?.first_block;
    let old = first + newest.saturating_sub(first) / 4;
    let logs = check_old_logs(context, node, &addresses, old, newest).await;
    let logs = logs.unwrap_or_else(|error| match error.kind() {
        Kind::HistoryPruned => Finding::warn("", error.details(), OLD_LOGS_NEEDED),
        _ => Finding::error("", &error),
    });
    let root = match protocol.root()? {
        Root::AaveV2 { addresses_provider } => addresses_provider,
        Root::CompoundV2 { comptroller } => comptroller,
    };
    let state = match node.has_code(&[root], old, &context.traffic).await {
        Ok(has_code) if has_code.contains(&true) => {
            Finding::ok("", format!("block {}: an archive node", with_thousands(old)))
        }
        Ok(_) => Finding::warn(
            "",
            format!("block {}: {root} has no code there, although it was created before", with_thousands(old)),
            "correct first_block of the protocol in the configuration, or use another node",
        ),
        Err(error) if error.kind() == Kind::HistoryPruned => Finding::warn("", error.details(), ARCHIVE_NEEDED),
        Err(error) => Finding::error("", &error),
    };
    let named = |finding, what: &str| Finding { what: item(format_args!("{name}, {what}")), ..finding };
    Ok(vec![found, named(logs, "old logs"), named(state, "old state")])
}

const OLD_LOGS_NEEDED: &str =
    "a lake that begins with all logs needs a node that keeps them, or files of logs (defi run --logs)";

const ARCHIVE_NEEDED: &str =
    "a full node serves daily runs between 00:20 and 00:40 UTC; days before need an archive node";

/// Checks that the node has logs of some old blocks. Some nodes answer with none where they no longer have them.
async fn check_old_logs(
    context: &Context,
    node: &EthereumClient,
    addresses: &[Address],
    old: u64,
    newest: u64,
) -> Result<Finding> {
    let last = (old + OLD_BLOCKS - 1).min(newest);
    let days = node.headers(&[old], &context.traffic).await?;
    let day = days.first().map_or_else(String::new, |header| Day::from_epoch_seconds(header.timestamp).to_string());
    let logs = node.logs(addresses, old, last, &context.traffic).await?.logs.len();
    let found = format!("blocks {} to {} of {day}: {logs} logs", with_thousands(old), with_thousands(last));
    Ok(match logs {
        0 => Finding::warn(
            "",
            found,
            "if there should be some, use another node: some answer with none instead of an error",
        ),
        _ => Finding::ok("", found),
    })
}

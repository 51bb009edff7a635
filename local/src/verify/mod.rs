//! `defi verify`: compares accounts of a published day with what the contracts say of them.

mod ask;
mod compare;
mod report;
mod sample;
mod snapshot;

use std::sync::Arc;

use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::sources::Secret;
use defi_shared::step::Context;
use defi_shared::step::history::Markets;
use defi_shared::tables::DailyBlock;

use crate::lake::{ReadOptions, published_set};
use crate::source::Source;
use ask::Answers;
use compare::{Comparison, LIMIT, Scale};
use report::{LeftOut, ProtocolReport, Report};
use sample::{Account, Accounts};

/// The options of `defi verify`.
#[derive(Debug)]
pub struct Options {
    /// The URL of the node, which is a secret.
    pub url: Option<Secret>,
    /// A published day. Default: the newest day.
    pub as_of: Option<Day>,
    /// The maximum number of accounts of each protocol.
    pub accounts: usize,
    /// Print JSON instead of text.
    pub json: bool,
}

/// Compares accounts of a published day with the contracts at the day's first block, and prints what agrees.
///
/// # Errors
/// `QualityFailed` if a value differs, after all is printed. `BadInput` without a node, for a day that is not published, a
/// node of another chain, or a configuration without the contracts of a protocol; `HistoryPruned` if the node no longer has
/// the state of the block, and the errors of the lake and of the node.
pub async fn verify(options: &Options, args: &ReadOptions) -> Result<()> {
    let url = options.url.clone().ok_or_else(|| {
        Error::bad_input("no Ethereum node is named")
            .with_hint("put the URL of one into the variable ETHEREUM_RPC_URL, or name it with --rpc-url")
    })?;
    let (lake, registry) = crate::lake::open(args).await?;
    let as_of = published_set(&registry, options.as_of).await?.as_of;
    let mut config = crate::config::configuration()?;
    let opened = Source::Node { url, logs: None }.open(&mut config).await?;
    let context = Context::new(lake, registry, Arc::new(config), opened.clients, as_of);
    let report = compare_all(&context, as_of, options.accounts).await.map_err(|error| match error.kind() {
        Kind::HistoryPruned => error
            .with("as_of", as_of)
            .with_hint("use an archive node, or --as-of with a day whose state this node still has"),
        _ => error,
    })?;
    report.print(options.json)?;
    report.require_agreement()
}

async fn compare_all(context: &Context, as_of: Day, count: usize) -> Result<Report> {
    let block = context.first_block(as_of).await?;
    let number = block.number()?;
    let configured = context.config.protocol_names();
    let snapshot = snapshot::accounts(&context.lake, as_of, &configured).await?;
    // Before any request: a protocol in the lake that the configuration does not have is an error.
    snapshot.keys().try_for_each(|protocol| context.config.protocol(protocol).map(drop))?;
    if snapshot.is_empty() {
        return Err(Error::bad_input("the lake has no accounts of the configured protocols on this day")
            .with("as_of", as_of)
            .with_hint("choose another --as-of, or the configuration that the lake was filled with (DEFI_CONFIG)"));
    }
    require_same_chain(context, &block).await?;
    let markets = Markets::load(&context.lake, &context.config, &[as_of]).await?;
    let prices = markets.prices_on(as_of);
    let mut protocols = Vec::new();
    for (protocol, accounts) in &snapshot {
        let answers = ask::ask(context, protocol, number, accounts.choose(count)).await;
        let answers = answers.map_err(|error| error.with("protocol", protocol))?;
        // The lake's balances are whole base units of each market's token. Aave's own are, too.
        let quotes = prices.market_quotes(protocol);
        let base_unit_eth = |decimals: i32, price_eth: f64| price_eth / 10_f64.powi(decimals);
        let rounding_eth = quotes.values().map(|quote| base_unit_eth(quote.decimals, quote.price_eth)).sum();
        protocols.push(compare_protocol(protocol, accounts, answers, rounding_eth));
    }
    let without_snapshot = configured.into_iter().filter(|name| !snapshot.contains_key(*name)).map(str::to_owned);
    Ok(Report { as_of, block_number: number, limit: LIMIT, protocols, without_snapshot: without_snapshot.collect() })
}

/// Checks that the node has the block that the lake has.
async fn require_same_chain(context: &Context, block: &DailyBlock) -> Result<()> {
    let number = block.number()?;
    let hint = "use a node of the chain that the lake was filled from";
    let headers = context.node()?.headers(&[number], &context.traffic).await.map_err(|error| match error.kind() {
        Kind::NotReady => error.with_hint(format!("wait until the node has caught up, or {hint}")),
        _ => error,
    })?;
    let is_same = headers.iter().all(|header| {
        let has_same_hash =
            block.block_hash.as_ref().is_none_or(|hash| hash.eq_ignore_ascii_case(&header.hash.to_string()));
        header.timestamp == block.epoch_timestamp && has_same_hash
    });
    if is_same {
        return Ok(());
    }
    Err(Error::bad_input("the day's first block in the lake is another one than that of the node")
        .with("block", number)
        .with_hint(hint))
}

fn compare_protocol(protocol: &str, accounts: &Accounts, answers: Answers, rounding_eth: f64) -> ProtocolReport {
    let scale = Scale { eth_price: answers.eth_price, rounding_eth };
    let chosen = answers.accounts.len();
    let chosen_without_health = answers.accounts.iter().filter(|(account, _)| !account.health.has_exposure()).count();
    let mut compared: Vec<(Account, Vec<Comparison>)> = Vec::new();
    let mut left_out = Vec::new();
    for (account, answer) in answers.accounts {
        match answer {
            Ok(answer) => compared.push((account, compare::compare(&account.health, &answer, &scale))),
            Err(reason) => left_out.push(LeftOut { account: account.address.to_string(), reason }),
        }
    }
    let differs = |(_, values): &&(Account, Vec<Comparison>)| !values.iter().all(compare::agrees);
    ProtocolReport {
        protocol: protocol.to_owned(),
        unit: answers.unit.name(),
        accounts: accounts.with_health.len(),
        chosen,
        chosen_without_health,
        quantities: compare::summarize(&compared),
        differing: compared.iter().filter(differs).map(|(account, _)| account.address.to_string()).collect(),
        left_out,
    }
}

//! Returns the published features of wallets, at the moment of a decision: in a few milliseconds, without a query engine.
//! It only reads, and no run calls it. It is called with its input as the event, or through its function URL.

mod columns;
mod reader;
mod url;

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Result};
use defi_shared::step::{now, parse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use reader::FeatureReader;

/// The name of the function.
pub const NAME: &str = "get-features";

/// The maximum number of wallets of one call. Wallets are spread over all pages of a set, so that many of them read most of
/// it: whoever needs more reads the set.
pub const MAX_WALLETS: usize = 1_000;

/// Which features of which wallets to return.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The wallets. Default: none, which tells the day and the age of the set.
    pub wallets: Vec<Address>,
    /// A published day. Default: the newest.
    pub as_of: Option<Day>,
    /// The names of the features. Default: all.
    pub features: Option<Vec<String>>,
}

/// The features of the wallets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The as-of day of the set.
    pub as_of: Day,
    /// The seconds since 00:00:00 UTC of that day. What happened since is not in the features.
    pub age_seconds: i64,
    /// `wallet_address` and the features of each wallet, in the order of the request.
    pub rows: Vec<Map<String, Value>>,
    /// The wallets without a row: no event before the day involves them.
    pub unknown: Vec<Address>,
}

/// Returns the features of wallets. Each wallet is answered once, however often it is named. `now` is the time of the
/// request in epoch seconds.
///
/// # Errors
/// `BadInput` for too many wallets, an unknown feature, or a day that is not published; `NotReady` if nothing is published
/// yet; and the errors of the lake and the catalog.
pub async fn get(reader: &FeatureReader, input: &Input, now: i64) -> Result<Output> {
    let wanted: BTreeSet<Address> = input.wallets.iter().copied().collect();
    if wanted.len() > MAX_WALLETS {
        return Err(Error::bad_input(format!("{} wallets are more than the {MAX_WALLETS} of one call", wanted.len()))
            .with_hint("divide them among several calls, or export the set with defi features"));
    }
    let columns = columns::requested(input.features.as_deref())?;
    let (set, batches) = reader.read(input.as_of, &wanted, &columns).await?;
    let mut found = BTreeMap::new();
    for batch in &batches {
        for (wallet, row) in columns::rows(batch, &columns)? {
            found.insert(wallet, row);
        }
    }
    let (mut rows, mut unknown, mut answered) = (Vec::new(), Vec::new(), BTreeSet::new());
    for wallet in input.wallets.iter().filter(|wallet| answered.insert(**wallet)) {
        match found.remove(&wallet.to_string()) {
            Some(row) => rows.push(row),
            None => unknown.push(*wallet),
        }
    }
    Ok(Output { as_of: set.as_of, age_seconds: (now - set.as_of.start()).max(0), rows, unknown })
}

/// Responds to an event: the input itself, or a request to the function URL, whose body is the input.
///
/// # Errors
/// Those of [`get`] and an invalid input. An error of a request to the function URL is a response with its status.
pub async fn respond(reader: &FeatureReader, event: Value) -> Result<Value> {
    if url::is_request(&event) {
        let output = match url::body(&event) {
            Ok(input) => answer(reader, input).await,
            Err(error) => Err(error),
        };
        return Ok(url::response(output));
    }
    answer(reader, event).await
}

async fn answer(reader: &FeatureReader, input: Value) -> Result<Value> {
    let output = get(reader, &parse(input)?, now()?).await?;
    serde_json::to_value(output).map_err(|cause| Error::internal("cannot serialize the features").with_source(cause))
}

//! One wallet: everything that a lake knows about it, and how each of its features came about.

mod explain;
mod figures;
mod gather;
mod listing;
mod page;
mod positions;
mod text;

use std::path::Path;

use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Result};

use crate::lake::ReadOptions;
use crate::output::{line, write_page};
use gather::Wallet;

/// What is asked.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The wallet.
    pub address: Address,
    /// A published day; default: the newest.
    pub as_of: Option<Day>,
    /// Only this feature, with the rows that it came from; `all` for each of them.
    pub explain: Option<&'a str>,
    /// JSON instead of text.
    pub json: bool,
    /// A page in this file instead.
    pub html: Option<&'a Path>,
}

/// Tells about a wallet on standard output.
///
/// # Errors
/// `BadInput` for an address that is no wallet as of the day, or a feature that is none; `CorruptData` where the rows of the lake do
/// not come to the feature that it holds; and the lake's errors.
pub async fn tell(asked: &Asked<'_>, args: &ReadOptions) -> Result<()> {
    let (lake, registry) = crate::lake::open(args).await?;
    let wallet = Wallet::gather(&lake, &registry, asked.address, asked.as_of).await?;
    let features: Vec<_> = match asked.explain {
        Some(feature) if feature != "all" => vec![feature],
        None if asked.html.is_none() => {
            return if asked.json { line(json(&wallet.to_json()?)?) } else { text::wallet(&wallet) };
        }
        _ => wallet.features.iter().map(|feature| feature.name).collect(),
    };
    let mut explanations = Vec::new();
    for feature in features {
        explanations.push(explain::explain(&lake, &wallet, feature).await?);
    }
    match (asked.html, explanations.as_slice()) {
        (Some(file), all) => {
            write_page(file, &page::markup(&wallet, all)?)?;
            line(file.display())?;
        }
        (None, [explanation]) if asked.json => line(json(explanation)?)?,
        (None, all) if asked.json => line(json(&all)?)?,
        (None, all) => all.iter().try_for_each(|explanation| text::explanation(&wallet, explanation))?,
    }
    match explanations.iter().find(|explanation| !explanation.agrees) {
        None => Ok(()),
        Some(explanation) => Err(Error::corrupt("the rows do not come to the feature that is published")
            .with("feature", explanation.feature)
            .with("published", explanation.published)
            .with("from_the_rows", explanation.value)
            .next("a day was made anew after the set was built; build it again with defi run --force --as-of")),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|cause| Error::internal("no JSON").because(cause))
}

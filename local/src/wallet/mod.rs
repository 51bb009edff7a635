//! `defi wallet`: shows the data of one wallet in a lake, and explains its features.

mod explain;
mod feature;
mod gather;
mod listing;
mod page;
mod positions;
mod text;

use std::path::Path;

use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Result};

use crate::hint::CallOptions;
use crate::lake::ReadOptions;
use crate::output::{self, line, write_file};
use gather::Wallet;

/// The options of `defi wallet`.
#[derive(Debug)]
pub struct Options<'a> {
    /// The wallet.
    pub address: Address,
    /// A published day. Default: the newest day.
    pub as_of: Option<Day>,
    /// Explain this feature instead of showing the wallet. `all` explains every feature.
    pub explain: Option<&'a str>,
    /// Print JSON instead of text.
    pub json: bool,
    /// Write an HTML page to this file instead of printing.
    pub html: Option<&'a Path>,
}

/// Prints a wallet or the explanations of its features to standard output, or writes its page to a file.
///
/// # Errors
/// `BadInput` if the address is not a wallet as of the day or the feature does not exist, `CorruptData` if a feature
/// recomputed from the rows differs from the published one, and the errors of the lake.
pub async fn show(options: &Options<'_>, args: &ReadOptions) -> Result<()> {
    let (lake, registry) = crate::lake::open(args).await?;
    let wallet = Wallet::read(&lake, &registry, options.address, options.as_of).await?;
    let features: Vec<_> = match options.explain {
        Some(feature) if feature != "all" => vec![feature],
        None if options.html.is_none() => {
            return if options.json {
                output::json(&wallet.to_json()?)
            } else {
                text::print_wallet(&wallet, &CallOptions::from(args))
            };
        }
        _ => wallet.features.iter().map(|feature| feature.name).collect(),
    };
    let mut explanations = Vec::new();
    for feature in features {
        explanations.push(explain::explain(&lake, &wallet, feature).await?);
    }
    match (options.html, explanations.as_slice()) {
        (Some(file), all) => {
            write_file(file, &page::render(&wallet, all)?)?;
            line(file.display())?;
        }
        (None, [explanation]) if options.json => output::json(explanation)?,
        (None, all) if options.json => output::json(&all)?,
        (None, all) => all.iter().try_for_each(|explanation| text::print_explanation(&wallet, explanation))?,
    }
    match explanations.iter().find(|explanation| !explanation.agrees) {
        None => Ok(()),
        Some(explanation) => Err(Error::corrupt("the feature recomputed from the rows differs from the published one")
            .with("feature", explanation.feature)
            .with("published", explanation.published)
            .with("from_the_rows", explanation.value)
            .with_hint(
                "a day was recomputed after the features were built; rebuild them with defi run --force --as-of",
            )),
    }
}

//! A snapshot: the rows of one block and one deployment, merged from pages.

use super::response::SubgraphState;
use crate::error::{Error, Kind, Result};
use crate::sources::Block;

/// All markets or positions at one block of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// The requested block.
    pub block: Block,
    /// The deployment that served all pages.
    pub deployment: String,
    /// The rows as sent, in id order; or the processed pages, in that order.
    pub rows: Vec<T>,
}

impl<T> Snapshot<Vec<T>> {
    /// Concatenates the rows of all pages.
    pub(super) fn flatten(self) -> Snapshot<T> {
        let mut rows = Vec::with_capacity(self.rows.iter().map(Vec::len).sum());
        self.rows.into_iter().for_each(|page| rows.extend(page));
        Snapshot { block: self.block, deployment: self.deployment, rows }
    }
}

/// A page after processing, and the state that it describes.
pub(super) struct ProcessedPage<P> {
    pub state: SubgraphState,
    pub rows: P,
}

/// Merges pages into a snapshot. Returns an error if they describe different states.
pub(super) fn merge_pages<P>(pages: Vec<ProcessedPage<P>>) -> Result<Snapshot<P>> {
    let mut rows = Vec::with_capacity(pages.len());
    let mut pages = pages.into_iter();
    let Some(ProcessedPage { state: SubgraphState { mut block, deployment }, rows: first }) = pages.next() else {
        return Err(Error::internal("a snapshot has no pages"));
    };
    rows.push(first);
    for page in pages {
        if page.state.deployment != deployment {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "the deployment of the subgraph changed between two pages",
            ));
        }
        // Some indexers omit the timestamp and the hash; all others must agree.
        let other = page.state.block;
        if conflict(&block.hash, &other.hash) || conflict(&block.timestamp, &other.timestamp) {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "the pages are from different blocks with the same number",
            ));
        }
        block.hash = block.hash.or(other.hash);
        block.timestamp = block.timestamp.or(other.timestamp);
        rows.push(page.rows);
    }
    Ok(Snapshot { block, deployment, rows })
}

fn conflict<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
    a.is_some() && b.is_some() && a != b
}

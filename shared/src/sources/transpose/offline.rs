//! Parsing of responses without a network, for tests and benchmarks.

use reqwest::StatusCode;

use super::paging::{EventPage, PageRequest, Pager, Progress};
use super::response::{Results, parse};
use super::rows::BlockRow;
use super::{Event, TransposeClient};
use crate::error::Result;
use crate::sources::Block;
use crate::sources::http::HttpResponse;

fn ok(body: &[u8]) -> HttpResponse {
    HttpResponse { status: StatusCode::OK, retry_after: None, body: body.to_vec() }
}

impl TransposeClient {
    /// Parses the body of a response with the first page of events. Returns `None` if there are more pages.
    ///
    /// # Errors
    /// As [`TransposeClient::events`], without retries.
    pub fn parse_events(&self, body: &[u8]) -> Result<Option<Vec<Event>>> {
        let Results { rows, truncated, .. } = parse(&ok(body))?;
        let page = EventPage { rows, partial: truncated };
        PageRequest::First.check(&page)?;
        match Pager::new().add(page)? {
            Progress::Done(rows) => Ok(Some(rows)),
            Progress::More(_) => Ok(None),
        }
    }

    /// Parses the body of a response with blocks.
    ///
    /// # Errors
    /// As [`TransposeClient::head_block`], without retries.
    pub fn parse_blocks(&self, body: &[u8]) -> Result<Vec<Block>> {
        let Results { rows, .. } = parse::<BlockRow>(&ok(body))?;
        rows.into_iter().map(BlockRow::into_block).collect()
    }
}

//! Reading answers that came another way than over the wire: what tests make up.

use reqwest::StatusCode;

use super::answer::{Results, read};
use super::paging::{Ask, EventPage, Pager, Progress};
use super::rows::BlockRow;
use super::{Event, TransposeClient};
use crate::error::Result;
use crate::sources::Block;
use crate::sources::http::Answer;

fn ok(body: &[u8]) -> Answer {
    Answer { status: StatusCode::OK, retry_after: None, body: body.to_vec() }
}

impl TransposeClient {
    /// The events in an answer to the first question for them; none where there are more to ask for.
    ///
    /// # Errors
    /// As [`TransposeClient::events`], without tries.
    pub fn parse_events(&self, body: &[u8]) -> Result<Option<Vec<Event>>> {
        let Results { rows, truncated } = read(&self.endpoint, &ok(body))?;
        let page = EventPage { rows, cut: truncated };
        Ask::First.check(&page)?;
        match Pager::new().take(page)? {
            Progress::Done(rows) => Ok(Some(rows)),
            Progress::More(_) => Ok(None),
        }
    }

    /// The blocks in an answer.
    ///
    /// # Errors
    /// As [`TransposeClient::head_block`], without tries.
    pub fn parse_blocks(&self, body: &[u8]) -> Result<Vec<Block>> {
        let Results { rows, .. } = read::<BlockRow>(&self.endpoint, &ok(body))?;
        rows.into_iter().map(BlockRow::block).collect()
    }
}

//! Reading answers that came another way than over the wire: what tests make up.

use reqwest::StatusCode;

use super::answer::{Page, parse_head, read_page};
use super::paging::Range;
use super::rows::Entity;
use super::{GraphClient, Head, Market, Position, ROWS_PER_PAGE};
use crate::error::Result;
use crate::sources::http::Answer;

fn ok(body: &[u8]) -> Answer {
    Answer { status: StatusCode::OK, retry_after: None, body: body.to_vec() }
}

impl GraphClient {
    /// The newest state that an answer speaks of.
    ///
    /// # Errors
    /// As [`GraphClient::head`], without tries.
    pub fn parse_head(&self, body: &[u8]) -> Result<Head> {
        let state = parse_head(&self.endpoint, &ok(body))?;
        Ok(Head { block: state.block, deployment: state.deployment })
    }

    /// The markets in an answer.
    ///
    /// # Errors
    /// As [`GraphClient::markets`], without tries.
    pub fn parse_markets(&self, body: &[u8]) -> Result<Vec<Market>> {
        self.read_rows(body)
    }

    /// The positions in an answer.
    ///
    /// # Errors
    /// As [`GraphClient::positions`], without tries.
    pub fn parse_positions(&self, body: &[u8]) -> Result<Vec<Position>> {
        self.read_rows(body)
    }

    /// The rows of a page that was asked for after an id, once it is known where the next page would begin.
    fn read_rows<E: Entity>(&self, body: &[u8]) -> Result<Vec<E>> {
        let page: Page<E> = read_page(&self.endpoint, &ok(body))?;
        Range::all().after("0x").next(&page.rows, ROWS_PER_PAGE)?;
        Ok(page.rows)
    }
}

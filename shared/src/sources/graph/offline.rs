//! Parsing of responses without a network, for tests and benchmarks.

use reqwest::StatusCode;

use super::paging::IdRange;
use super::response::{Page, parse_head, parse_page};
use super::rows::Entity;
use super::{GraphClient, Head, Market, Position, ROWS_PER_PAGE};
use crate::error::Result;
use crate::sources::http::HttpResponse;

fn ok(body: &[u8]) -> HttpResponse {
    HttpResponse { status: StatusCode::OK, retry_after: None, body: body.to_vec() }
}

impl GraphClient {
    /// Parses the body of a response to the query for the newest state.
    ///
    /// # Errors
    /// As [`GraphClient::head`], without retries.
    pub fn parse_head(&self, body: &[u8]) -> Result<Head> {
        let state = parse_head(&ok(body))?;
        Ok(Head { block: state.block, deployment: state.deployment })
    }

    /// Parses the body of a response with markets.
    ///
    /// # Errors
    /// As [`GraphClient::markets`], without retries.
    pub fn parse_markets(&self, body: &[u8]) -> Result<Vec<Market>> {
        self.parse_rows(body)
    }

    /// Parses the body of a response with positions.
    ///
    /// # Errors
    /// As [`GraphClient::positions`], without retries.
    pub fn parse_positions(&self, body: &[u8]) -> Result<Vec<Position>> {
        self.parse_rows(body)
    }

    /// Parses the rows of a page after the first one, including the check that determines where the next page starts.
    fn parse_rows<E: Entity>(&self, body: &[u8]) -> Result<Vec<E>> {
        let page: Page<E> = parse_page(&ok(body))?;
        IdRange::all().after("0x").next_cursor(&page.rows, ROWS_PER_PAGE)?;
        Ok(page.rows)
    }
}

//! A node as a feed of logs.

use async_trait::async_trait;

use super::{FeedLogs, LogFeed, LogQuery};
use crate::error::Result;
use crate::sources::Traffic;
use crate::sources::ethereum::EthereumClient;

#[async_trait]
impl LogFeed for EthereumClient {
    async fn logs(&self, query: &LogQuery<'_>, traffic: &Traffic) -> Result<FeedLogs> {
        let batch = EthereumClient::logs(self, query.addresses, query.first.number, query.last.number, traffic).await?;
        Ok(FeedLogs { batch, ..FeedLogs::default() })
    }
}

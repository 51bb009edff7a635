//! Checks the sources: API keys, URLs, head blocks and deployments of the subgraphs, or a node.

use std::sync::Arc;

use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::lake::{FolderStore, Lake, WorkUnit};
use defi_shared::sources::graph::Head;
use defi_shared::sources::{Block, Traffic};
use defi_shared::step::Context;
use defi_shared::tables::RAW_POSITIONS;
use jiff::Timestamp;

use super::Finding;
use super::head::check_head;
use crate::lake::LakeOptions;
use crate::source::Source;

/// The time between blocks on Ethereum since proof of stake.
const SECONDS_PER_BLOCK: i64 = 12;

/// Checks the sources. The deployments are compared with those in the lake.
pub(super) async fn check(
    source: &Source,
    mut config: Config,
    lake: Option<&Lake>,
    local: &LakeOptions,
) -> Vec<Finding> {
    let opened = match source.open(&mut config).await {
        Ok(opened) => opened,
        Err(error) => return vec![Finding::error("sources", &error)],
    };
    let traffic = Traffic::new();
    if let Some(node) = opened.clients.node.clone() {
        // Nothing of the lake is read.
        let lake = Lake::new(FolderStore::new(&local.folder));
        let registry = catalog::registry_in_lake(&lake, local.env.name());
        let today = Day::from_epoch_seconds(Timestamp::now().as_second());
        let context = Context::new(lake, registry, Arc::new(config), opened.clients, today);
        return super::node::check(&context, &node).await;
    }
    let newest = opened.clients.transpose.head_block(&traffic).await;
    let mut findings = vec![match &newest {
        Err(error) => Finding::error("Transpose", error),
        Ok(block) => check_head("Transpose", block.number, block.timestamp, opened.days.is_some()),
    }];
    for protocol in &config.protocols {
        let item = format!("The Graph, {}", protocol.name);
        let head = match protocol.subgraph() {
            Ok(subgraph) => opened.clients.graph.head(subgraph, &traffic).await,
            Err(error) => Err(error),
        };
        match head {
            Err(error) => findings.push(Finding::error(item, &error)),
            Ok(head) => {
                let time = head.block.timestamp.or_else(|| estimated_time(head.block.number, newest.as_ref().ok()?));
                findings.push(check_head(&item, head.block.number, time, opened.days.is_some()));
                if let Some(lake) = lake {
                    findings.push(check_deployment(&item, lake, &protocol.name, &head).await);
                }
            }
        }
    }
    findings
}

/// Estimates the time of a block, which subgraphs often do not say, from that of the newest block of the chain.
fn estimated_time(number: u64, newest: &Block) -> Option<i64> {
    let behind = i64::try_from(newest.number.saturating_sub(number)).ok()?;
    Some(newest.timestamp?.saturating_sub(behind.saturating_mul(SECONDS_PER_BLOCK)))
}

/// Compares the current deployment of a subgraph with the one that the newest snapshot in the lake is from.
async fn check_deployment(item: &str, lake: &Lake, protocol: &str, head: &Head) -> Finding {
    let item = format!("{item}, deployment");
    let protocol: Arc<str> = protocol.into();
    let newest = lake.units(&RAW_POSITIONS).await.map(|units| {
        let is_of_protocol = |unit: &WorkUnit| matches!(unit, WorkUnit::ProtocolDay(_, name) if *name == protocol);
        units.into_iter().rev().find(is_of_protocol)
    });
    let metadata = match newest {
        Err(error) => return Finding::error(item, &error),
        Ok(None) => return Finding::ok(item, format!("{}; the lake has no snapshot yet", head.deployment)),
        Ok(Some(unit)) => lake.file_metadata(&RAW_POSITIONS, &unit).await,
    };
    match metadata.map(|metadata| metadata.and_then(|(metadata, _)| metadata.get("deployment").cloned())) {
        Err(error) => Finding::error(item, &error),
        Ok(Some(previous)) if previous != head.deployment => Finding::warn(
            item,
            format!("the current deployment is {}, the newest snapshot is from {previous}", head.deployment),
            "compare the two versions of the subgraph; defi run --force recomputes all days from the current one",
        ),
        Ok(_) => Finding::ok(item, &head.deployment),
    }
}

//! The two sources: keys, addresses, head blocks, deployments.

use std::sync::Arc;

use defi_shared::config::Config;
use defi_shared::lake::{Lake, Unit};
use defi_shared::sources::Traffic;
use defi_shared::sources::graph::Head;
use defi_shared::tables::RAW_POSITIONS;
use jiff::Timestamp;

use super::Finding;
use crate::source::Source;
use defi_pages::number::{duration, grouped};

/// A head block older than this means that a source has fallen behind.
const FRESH_SECONDS: i64 = 3_600;

/// Everything about the sources; the lake tells which deployments answered before.
pub(super) async fn examine(source: &Source, mut config: Config, lake: Option<&Lake>) -> Vec<Finding> {
    let opened = match source.open(&mut config).await {
        Ok(opened) => opened,
        Err(error) => return vec![Finding::error("sources", &error)],
    };
    let traffic = Traffic::new();
    let mut findings = vec![match opened.clients.transpose.head_block(&traffic).await {
        Err(error) => Finding::error("Transpose", &error),
        Ok(block) => head("Transpose", block.number, block.timestamp, opened.days.is_some()),
    }];
    for protocol in &config.protocols {
        let what = format!("The Graph, {}", protocol.name);
        match opened.clients.graph.head(&protocol.subgraph_id, &traffic).await {
            Err(error) => findings.push(Finding::error(what, &error)),
            Ok(found) => {
                findings.push(head(&what, found.block.number, found.block.timestamp, opened.days.is_some()));
                if let Some(lake) = lake {
                    findings.push(deployment(&what, lake, &protocol.name, &found).await);
                }
            }
        }
    }
    findings
}

/// A source's newest block; of a recording nobody expects a new one.
fn head(what: &str, number: u64, timestamp: Option<i64>, is_recorded: bool) -> Finding {
    let Some(time) = timestamp else {
        return Finding::ok(what, format!("answers, head block {}", grouped(number)));
    };
    let age = Timestamp::now().as_second() - time;
    let found = format!("answers, head block {} of {} ago", grouped(number), duration(age));
    if age > FRESH_SECONDS && !is_recorded {
        return Finding::warn(
            what,
            found,
            "wait until it has caught up: days that are not final there are not extracted",
        );
    }
    Finding::ok(what, found)
}

/// The deployment that answers now, against the one that the newest snapshot is from.
async fn deployment(what: &str, lake: &Lake, protocol: &str, head: &Head) -> Finding {
    let what = format!("{what}, deployment");
    let protocol: Arc<str> = protocol.into();
    let newest = lake.units(&RAW_POSITIONS).await.map(|units| {
        let of_protocol = |unit: &Unit| matches!(unit, Unit::DayAndProtocol(_, of) if *of == protocol);
        units.into_iter().rev().find(of_protocol)
    });
    let facts = match newest {
        Err(error) => return Finding::error(what, &error),
        Ok(None) => return Finding::ok(what, format!("{}; the lake has no snapshot yet", head.deployment)),
        Ok(Some(unit)) => lake.facts(&RAW_POSITIONS, &unit).await,
    };
    match facts.map(|facts| facts.and_then(|(facts, _)| facts.get("deployment").cloned())) {
        Err(error) => Finding::error(what, &error),
        Ok(Some(before)) if before != head.deployment => Finding::warn(
            what,
            format!("{} answers now, the newest snapshot is from {before}", head.deployment),
            "compare the two versions of the subgraph; defi run --force makes all days anew from the new one",
        ),
        Ok(_) => Finding::ok(what, &head.deployment),
    }
}

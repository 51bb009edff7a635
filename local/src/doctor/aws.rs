//! Checks the deployed environment: its state machine, secrets, bucket and catalog, with the permissions of the user.

use defi_shared::aws::{configuration, has_secret, secret};
use defi_shared::executions::StateMachine;
use defi_shared::lake::Lake;

use super::Finding;
use crate::env::Env;

/// Checks an environment. Returns the findings, and the lake if the environment is deployed.
pub(super) async fn check(env: Env) -> (Vec<Finding>, Option<Lake>) {
    let (aws, name) = (configuration().await, env.name());
    let mut findings = Vec::new();
    // Only a deployment with a node as its source has the secret of the node's URL.
    let from_a_node = has_secret(&aws, &format!("defi-{name}/ethereum-api-key")).await.unwrap_or(false);
    for source in if from_a_node { &["ethereum"][..] } else { &["graph", "transpose"] } {
        let item = format!("secret defi-{name}/{source}-api-key");
        findings.push(match secret(&aws, &format!("defi-{name}/{source}-api-key")).await {
            Ok(keys) => Finding::ok(item, format!("{} keys", keys.len())),
            Err(error) => Finding::error(item, &error),
        });
    }
    let machine = match StateMachine::find(&aws, &format!("defi-{name}")).await {
        Ok(machine) => machine,
        Err(error) => {
            findings.push(Finding::error("state machine", &error));
            return (findings, None);
        }
    };
    findings.push(match machine.newest(1).await {
        Err(error) => Finding::error("state machine", &error),
        Ok(newest) => match newest.first() {
            None => Finding::warn("state machine", "no execution exists yet", "start one with defi start"),
            Some(run) if run.status == "SUCCEEDED" || run.status == "RUNNING" => {
                Finding::ok("state machine", format!("the newest execution, {}: {}", run.name, run.status))
            }
            Some(run) => Finding::fail(
                "state machine",
                format!("the newest execution, {}: {}", run.name, run.status),
                format!("show its error: defi status {}", run.name),
            ),
        },
    });
    match crate::aws::lake(&aws, env).await {
        Ok((lake, registry)) => {
            findings.extend(super::lake::check(&lake, &registry).await);
            (findings, Some(lake))
        }
        Err(error) => {
            findings.push(Finding::error("lake", &error));
            (findings, None)
        }
    }
}

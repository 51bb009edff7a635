//! The deployed environment: its state machine, secrets, bucket and catalog, with the rights of whoever asks.

use defi_shared::aws::{configuration, secret};
use defi_shared::executions::StateMachine;
use defi_shared::lake::Lake;

use super::Finding;
use crate::env::Env;

/// Everything about an environment, and its lake.
pub(super) async fn examine(env: Env) -> (Vec<Finding>, Option<Lake>) {
    let (aws, name) = (configuration().await, env.name());
    let mut findings = Vec::new();
    for source in ["graph", "transpose"] {
        let what = format!("secret defi-{name}/{source}-api-key");
        findings.push(match secret(&aws, &format!("defi-{name}/{source}-api-key")).await {
            Ok(keys) => Finding::ok(what, format!("{} keys", keys.len())),
            Err(error) => Finding::error(what, &error),
        });
    }
    let machine = match StateMachine::named(&aws, &format!("defi-{name}")).await {
        Ok(machine) => machine,
        Err(error) => {
            findings.push(Finding::error("state machine", &error));
            return (findings, None);
        }
    };
    findings.push(match machine.newest(1).await {
        Err(error) => Finding::error("state machine", &error),
        Ok(newest) => match newest.first() {
            None => Finding::warn("state machine", "there was no execution yet", "begin one with defi start"),
            Some(run) if run.status == "SUCCEEDED" || run.status == "RUNNING" => {
                Finding::ok("state machine", format!("the newest execution, {}: {}", run.name, run.status))
            }
            Some(run) => Finding::fail(
                "state machine",
                format!("the newest execution, {}: {}", run.name, run.status),
                format!("see why: defi status --env {name} {}", run.name),
            ),
        },
    });
    let (lake, registry) = crate::aws::lake_of(&aws, &machine, env);
    findings.extend(super::lake::examine(&lake, &registry).await);
    (findings, Some(lake))
}

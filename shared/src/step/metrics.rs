//! Metrics for CloudWatch in the embedded metric format: a JSON line on standard output, from which CloudWatch Logs
//! extracts the metrics.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Report;
use crate::pipeline::Step;

/// The CloudWatch namespace of the metrics.
const NAMESPACE: &str = "DefiFeatures";

/// The metrics of each step, which tell what a run costs: requests to sources, retries of them, and seconds. CloudWatch
/// charges every combination of a metric and its dimensions as a metric, so all other metrics are those of the
/// environment, added up over the steps.
const BY_STEP: [&str; 3] = ["Requests", "Retries", "Seconds"];

/// The output of a step, with metrics.
pub trait StepOutput: Serialize {
    /// Returns the names and values of the metrics.
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

impl StepOutput for Report {
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        let mut counts = vec![
            ("Units", self.units),
            ("UnitsLost", self.lost.count),
            ("RowsIn", self.rows_in),
            ("RowsOut", self.rows_out),
            ("RowsRejected", self.rejected()),
            ("Unpriced", self.unpriced),
            ("Bytes", self.bytes),
        ];
        // A step without a source has no metrics of it.
        if self.traffic.requests > 0 {
            counts.push(("Requests", self.traffic.requests));
            counts.push(("Retries", self.traffic.retries.values().sum()));
        }
        counts.into_iter().map(|(name, count)| (name, count as f64)).collect()
    }
}

/// Writes the metrics of a call, including its duration. An error of standard output is ignored: it should not fail the
/// call.
pub(super) fn write_metrics(step: Step, output: &impl StepOutput, duration: Duration) {
    let mut metrics = output.metrics();
    metrics.push(("Seconds", duration.as_secs_f64()));
    let env = std::env::var("DEFI_ENV").unwrap_or_else(|_| "dev".to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let line = embedded(step, &env, now.as_millis(), &metrics);
    let _ignored = writeln!(std::io::stdout(), "{line}");
}

fn embedded(step: Step, env: &str, milliseconds: u128, metrics: &[(&'static str, f64)]) -> Value {
    let directive = |dimensions: &[&str], by_step: bool| {
        let names = metrics.iter().map(|(name, _)| *name).filter(|name| BY_STEP.contains(name) == by_step);
        let names: Vec<_> = names.map(|name| json!({"Name": name})).collect();
        (!names.is_empty()).then(|| json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": names}))
    };
    let directives = [directive(&["Environment"], false), directive(&["Environment", "Step"], true)];
    let directives: Vec<_> = directives.into_iter().flatten().collect();
    let mut line = Map::new();
    line.insert("_aws".to_owned(), json!({"Timestamp": milliseconds as u64, "CloudWatchMetrics": directives}));
    line.insert("Environment".to_owned(), env.into());
    line.insert("Step".to_owned(), step.name().into());
    line.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the declared metrics of a line as `Name by dimensions`.
    fn declared(line: &Value) -> Vec<String> {
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
        let names = directives.iter().flat_map(|directive| {
            assert_eq!(
                (&directive["Namespace"], directive["Dimensions"].as_array().unwrap().len()),
                (&json!(NAMESPACE), 1)
            );
            let metrics = directive["Metrics"].as_array().unwrap().iter();
            metrics.map(|metric| format!("{} by {}", metric["Name"].as_str().unwrap(), directive["Dimensions"][0]))
        });
        names.collect()
    }

    #[test]
    fn only_requests_retries_and_seconds_are_metrics_of_a_step() {
        let mut report = Report { rows_in: 7, ..Report::default() };
        report.traffic.requests = 3;
        let metrics = [report.metrics(), vec![("Seconds", 0.5)]].concat();
        let line = embedded(Step::ExtractEvents, "dev", 17, &metrics);
        let declared = declared(&line);
        let by_step: Vec<_> = declared.iter().filter(|metric| metric.contains("Step")).collect();
        assert_eq!(
            by_step,
            [
                "Requests by [\"Environment\",\"Step\"]",
                "Retries by [\"Environment\",\"Step\"]",
                "Seconds by [\"Environment\",\"Step\"]",
            ]
        );
        assert!(declared.contains(&"RowsIn by [\"Environment\"]".to_owned()), "{declared:?}");
        assert_eq!((line["RowsIn"].as_f64(), &line["Step"]), (Some(7.0), &json!("extract-events")));
        // Each metric is declared once, and has a value.
        assert_eq!(declared.len(), metrics.len());
        assert!(metrics.iter().all(|(name, value)| line[*name] == json!(value)));
    }

    #[test]
    fn step_without_a_source_has_no_metrics_of_requests() {
        let metrics = Report::default().metrics();
        assert!(!metrics.iter().any(|(name, _)| ["Requests", "Retries"].contains(name)), "{metrics:?}");
        let line = embedded(Step::PlanRun, "dev", 17, &[("Seconds", 0.5)]);
        assert_eq!(declared(&line), ["Seconds by [\"Environment\",\"Step\"]"]);
    }
}

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

/// The output of a step, with metrics.
pub trait StepOutput: Serialize {
    /// Returns the names and values of the metrics.
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

impl StepOutput for Report {
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        [
            ("Units", self.units),
            ("UnitsLost", self.lost.count),
            ("RowsIn", self.rows_in),
            ("RowsOut", self.rows_out),
            ("RowsRejected", self.rejected()),
            ("Unpriced", self.unpriced),
            ("Bytes", self.bytes),
            ("Requests", self.traffic.requests),
            ("Retries", self.traffic.retries.values().sum()),
        ]
        .map(|(name, count)| (name, count as f64))
        .into()
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
    let names: Vec<_> = metrics.iter().map(|(name, _)| json!({"Name": name})).collect();
    let mut line = Map::new();
    let directive =
        json!({"Namespace": NAMESPACE, "Dimensions": [["Environment"], ["Environment", "Step"]], "Metrics": names});
    line.insert("_aws".to_owned(), json!({"Timestamp": milliseconds as u64, "CloudWatchMetrics": [directive]}));
    line.insert("Environment".to_owned(), env.into());
    line.insert("Step".to_owned(), step.name().into());
    line.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_declares_every_metric_that_it_contains() {
        let report = Report { rows_in: 7, ..Report::default() };
        let line = embedded(Step::StageEvents, "dev", 17, &report.metrics());
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            (line["RowsIn"].as_f64(), &line["Step"], &directive["Namespace"]),
            (Some(7.0), &json!("stage-events"), &json!(NAMESPACE))
        );
        let declared = directive["Metrics"].as_array().unwrap();
        assert_eq!(declared.len(), report.metrics().len());
        assert!(declared.iter().all(|metric| line[metric["Name"].as_str().unwrap()].is_number()));
    }
}

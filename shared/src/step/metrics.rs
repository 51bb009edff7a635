//! Figures for CloudWatch, in its embedded metric format: a line on standard output that the log group turns into metrics.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Report;
use crate::pipeline::Step;

/// Where CloudWatch keeps the figures.
const NAMESPACE: &str = "DefiFeatures";

/// What a step answers, and what of it is watched.
pub trait Measured: Serialize {
    /// Figures by name.
    fn figures(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

impl Measured for Report {
    fn figures(&self) -> Vec<(&'static str, f64)> {
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

/// Writes the figures of a call and how long it took. A log that can't be written is no reason to fail it.
pub(super) fn write_metrics(step: Step, output: &impl Measured, took: Duration) {
    let mut figures = output.figures();
    figures.push(("Seconds", took.as_secs_f64()));
    let env = std::env::var("DEFI_ENV").unwrap_or_else(|_| "dev".to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let line = embedded(step, &env, now.as_millis(), &figures);
    let _lost = writeln!(std::io::stdout(), "{line}");
}

fn embedded(step: Step, env: &str, milliseconds: u128, figures: &[(&'static str, f64)]) -> Value {
    let metrics: Vec<_> = figures.iter().map(|(name, _)| json!({"Name": name})).collect();
    let mut line = Map::new();
    let directive =
        json!({"Namespace": NAMESPACE, "Dimensions": [["Environment"], ["Environment", "Step"]], "Metrics": metrics});
    line.insert("_aws".to_owned(), json!({"Timestamp": milliseconds as u64, "CloudWatchMetrics": [directive]}));
    line.insert("Environment".to_owned(), env.into());
    line.insert("Step".to_owned(), step.name().into());
    line.extend(figures.iter().map(|(name, figure)| ((*name).to_owned(), (*figure).into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_each_figure_it_holds() {
        let report = Report { rows_in: 7, ..Report::default() };
        let line = embedded(Step::StageEvents, "dev", 17, &report.figures());
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            (line["RowsIn"].as_f64(), &line["Step"], &directive["Namespace"]),
            (Some(7.0), &json!("stage-events"), &json!(NAMESPACE))
        );
        let named = directive["Metrics"].as_array().unwrap();
        assert_eq!(named.len(), report.figures().len());
        assert!(named.iter().all(|metric| line[metric["Name"].as_str().unwrap()].is_number()));
    }
}

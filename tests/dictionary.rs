//! The generated sections of `docs/features.md` and `docs/tables.md` match the code. With the environment variable
//! `UPDATE_DOCS` set, the test writes them. The example configurations of further protocols are valid.

use std::fmt::Write;

use defi_shared::catalog::{CatalogColumn, catalog_table, catalog_view};
use defi_shared::config::Config;
use defi_shared::domain::Address;
use defi_shared::tables::{
    Column, FEATURES_HISTORY, FeatureRow, InstantKey, LabelRow, Layer, Row, TABLES, Table, VIEWS,
};

use crate::support::page::{check_page, repository_file};

fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_eth") => "ETH",
        _ if name.starts_with("time_since") => "seconds",
        "risk_factor_above_threshold_daily_count" | "health_days" => "days",
        "has_health_now" => "yes or no",
        _ if name.ends_with("_count") => "a count",
        _ => "a ratio",
    }
}

fn features() -> String {
    let mut text = "| feature | type | unit | meaning |\n|---|---|---|---|\n".to_owned();
    for Column { name, data_type, nullable, doc, .. } in FeatureRow::columns().iter().skip(1) {
        let sql = match data_type.to_string().as_str() {
            "Boolean" => "BOOLEAN",
            "Int64" => "BIGINT",
            _ => "DOUBLE",
        };
        let null = if *nullable { ", may be NULL" } else { "" };
        writeln!(text, "| `{name}` | {sql}{null} | {} | {doc} |", unit(name)).unwrap();
    }
    text
}

fn columns<R: Row>() -> String {
    let mut text = "| column | type | meaning |\n|---|---|---|\n".to_owned();
    for Column { name, data_type, nullable, doc, .. } in R::columns() {
        let null = if nullable { ", may be NULL" } else { "" };
        writeln!(text, "| `{name}` | {data_type}{null} | {doc} |").unwrap();
    }
    text
}

fn described(entries: &[CatalogColumn], columns: &[Column]) -> String {
    let mut text = "| column | type | NULL | meaning |\n|---|---|---|---|\n".to_owned();
    for (entry, Column { nullable, .. }) in entries.iter().zip(columns) {
        let null = if *nullable { "yes" } else { "" };
        writeln!(text, "| `{}` | {} | {null} | {} |", entry.name, entry.data_type, entry.comment).unwrap();
    }
    text
}

fn tables() -> String {
    let mut text = String::new();
    for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
        writeln!(text, "\n## db_{}_{{env}}", layer.name()).unwrap();
        for table in TABLES.iter().filter(|table| table.layer == layer) {
            let entry = catalog_table(table).unwrap();
            writeln!(text, "\n### {}.{}\n\n{}\n", layer.name(), table.name, entry.description).unwrap();
            let sorted =
                if table.sorted_by.is_empty() { "not declared".to_owned() } else { table.sorted_by.join(", ") };
            let partitions = match table.partition_columns() {
                [] => "none".to_owned(),
                columns => columns.join(", "),
            };
            writeln!(text, "Folder `{}`, partitions {partitions}, order {sorted}.\n", entry.location).unwrap();
            if *table != &FEATURES_HISTORY && table.prefix() == FEATURES_HISTORY.prefix() {
                writeln!(text, "The columns of defi_features_history, without a partition.").unwrap();
                continue;
            }
            text.push_str(&described(&entry.columns, &(table.columns)()));
        }
        for view in VIEWS.iter().filter(|view| view.layer == layer) {
            let entry = catalog_view(view, "dev", &Address::MIN).unwrap();
            writeln!(text, "\n### {}.{}\n\n{}\n", layer.name(), view.name, entry.description).unwrap();
            let tables: Vec<_> = view.tables().map(Table::full_name).collect();
            writeln!(text, "A view of {}.\n", tables.join(", ")).unwrap();
            text.push_str(&described(&entry.columns, &(view.columns)()));
        }
    }
    text
}

#[test]
fn docs_list_every_table_and_feature_of_the_code() {
    check_page(
        "docs/features.md",
        "dictionary",
        &[("features", features()), ("instants", columns::<InstantKey>()), ("labels", columns::<LabelRow>())],
    );
    check_page("docs/tables.md", "dictionary", &[("tables", tables())]);
}

#[test]
fn example_configurations_only_add_a_protocol() {
    let built_in = Config::built_in().unwrap();
    for name in ["aave-v3-eth", "compound-v3-eth"] {
        let config = Config::from_file(&repository_file(&format!("docs/protocols/{name}.toml"))).unwrap();
        assert!(config.protocol(name).is_ok());
        let other_protocols: Vec<_> =
            config.protocols.iter().filter(|protocol| protocol.name != name).cloned().collect();
        assert_eq!(
            Config { protocols: other_protocols, ..config },
            built_in,
            "{name} differs from the built-in configuration in more than its protocol"
        );
    }
}

//! The README's tables of tables and features come from the code: this test holds them to it, and with `UPDATE_README` set
//! in the environment writes them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::fmt::Write;
use std::path::Path;

use defi_shared::tables::{Column, FeatureRow, Row, TABLES};

fn features() -> String {
    let mut text = "| feature | type | meaning |\n|---|---|---|\n".to_owned();
    for Column { name, data_type, nullable, doc } in FeatureRow::columns().iter().skip(1) {
        let sql = if data_type.to_string() == "Int64" { "BIGINT" } else { "DOUBLE" };
        let null = if *nullable { ", may be NULL" } else { "" };
        writeln!(text, "| `{name}` | {sql}{null} | {doc} |").unwrap();
    }
    text
}

fn tables() -> String {
    let mut text = "| table | partitions | what it holds | columns |\n|---|---|---|---|\n".to_owned();
    for table in TABLES {
        let columns: Vec<_> = (table.columns)().iter().map(|column| format!("`{}`", column.name)).collect();
        let shown = if table.folder == "defi_features" {
            "the wallet and its 26 features".to_owned()
        } else {
            columns.join(" ")
        };
        let (layer, partitions) = (table.layer.name(), table.layout.partition_columns().join(", "));
        writeln!(text, "| `db_{layer}_{{env}}.{}` | {partitions} | {} | {shown} |", table.name, table.doc.trim())
            .unwrap();
    }
    text
}

/// Puts a text between the markers of a name.
fn with_section(readme: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("the README has no section {name}"));
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_readme_lists_every_table_and_every_feature_as_the_code_has_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let wanted = with_section(&with_section(&readme, "features", &features()), "tables", &tables());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        readme == wanted,
        "the README is not what the code says: UPDATE_README=1 cargo test -p defi-local --test readme"
    );
}

//! `defi dbt`: writes a dbt project over the tables of a lake, for dbt-duckdb.

use std::path::PathBuf;

use arrow_schema::DataType;
use defi_shared::catalog::Registry;
use defi_shared::domain::Category;
use defi_shared::domain::health::MAX_RISK;
use defi_shared::error::{Error, Result};
use defi_shared::tables::{self, Column, FEATURES_HISTORY, FEATURES_PUBLISHED, Layer, TABLES, Table, WALLET_HEALTH};

use super::{absolute, folder, quoted};
use crate::lake::{LakeOptions, ReadOptions};
use crate::output::line;

/// The options of a project.
#[derive(Debug)]
pub struct Options {
    /// The folder to write.
    pub folder: PathBuf,
    /// The lake, and the environment.
    pub lake: LakeOptions,
}

const COMMAND: &str = "dbt";

/// Writes the project, and prints what to do next.
///
/// # Errors
/// `BadInput` if there is no lake, nothing is published, or the folder has other content, and the errors of the lake.
pub async fn write(options: &Options) -> Result<()> {
    let lake = ReadOptions { lake: options.lake.clone(), aws: false };
    let (_, registry) = crate::lake::open(&lake).await?;
    crate::lake::published_set(&registry, None).await?;
    let env = options.lake.env.name();
    let mark = |text: &str| text.replace("{mark}", &folder::mark(COMMAND));
    let project = mark(include_str!("dbt_project.yml")).replace("{lake}", &quoted(&absolute(&options.lake.folder)?));
    let newest = mark(include_str!("defi_features.sql")).replace("{database}", &FEATURES_PUBLISHED.database(env));
    let heading =
        format!("# {}. The command replaces this file when it runs again.\nversion: 2\n", folder::mark(COMMAND));
    let files = [
        ("dbt_project.yml", project),
        ("profiles.yml", mark(include_str!("profiles.yml"))),
        ("models/sources.yml", format!("{heading}\nsources:\n{}", sources(&registry, env).await?)),
        ("models/defi_features.sql", newest),
        ("models/defi_features.yml", format!("{heading}\nmodels:\n{}", entry(&FEATURES_PUBLISHED, 2)?)),
        ("tests/generic/in_range.sql", mark(include_str!("in_range.sql"))),
        ("tests/generic/unique_rows.sql", mark(include_str!("unique_rows.sql"))),
    ];
    folder::write(&options.folder, COMMAND, &files)?;
    line(format_args!("{}: a dbt project; go on there with dbt build", options.folder.display()))
}

/// Returns one source per layer, with the tables that the lake has. The newest set is not among them, but a model: where it
/// lies changes with each run.
async fn sources(registry: &Registry, env: &str) -> Result<String> {
    let mut text = String::new();
    for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
        let mut entries = String::new();
        for table in TABLES.iter().filter(|table| table.layer == layer && **table != &FEATURES_PUBLISHED) {
            if registry.is_registered(table).await? {
                entries.push_str(&entry(table, 6)?);
            }
        }
        if !entries.is_empty() {
            text.push_str(&format!("  - name: {}\n    tables:\n{entries}", tables::database(layer, env)));
        }
    }
    Ok(text)
}

/// Returns the entry of a table or model: where its rows are, its columns, and its tests.
fn entry(table: &Table, indent: usize) -> Result<String> {
    let mut lines = vec![format!("- name: {}", table.name), format!("  description: {}", quoted(table.doc.trim()))];
    if *table != FEATURES_PUBLISHED {
        lines.extend(["  config:".to_owned(), "    meta:".to_owned()]);
        lines.push(format!("      external_location: {}", quoted(&rows_of(table))));
    }
    if let Some(key) = key(table) {
        lines.extend(["  data_tests:".to_owned(), format!("    - unique_rows: {{arguments: {{columns: [{key}]}}}}")]);
    }
    lines.push("  columns:".to_owned());
    for column in (table.columns)() {
        lines.push(format!("    - name: {}", column.name));
        lines.push(format!("      description: {}", quoted(&column.doc)));
        lines.push(format!("      data_type: {}", duckdb_type(&column.data_type)?));
        let tests = tests(table, &column);
        if !tests.is_empty() {
            lines.push("      data_tests:".to_owned());
            lines.extend(tests.into_iter().map(|test| format!("        - {test}")));
        }
    }
    Ok(lines.into_iter().map(|line| format!("{:indent$}{line}\n", "")).collect())
}

/// Returns the expression that reads a table. Partition columns stay strings, as in the catalog: `01` is no number.
fn rows_of(table: &Table) -> String {
    let pattern = match table.partition_columns() {
        [] => "*.parquet".to_owned(),
        columns => {
            format!("{}/*.parquet", columns.iter().map(|name| format!("{name}=*")).collect::<Vec<_>>().join("/"))
        }
    };
    format!(
        "read_parquet('{{{{ var('lake') }}}}/{}/{pattern}', hive_partitioning = true, hive_types_autocast = false)",
        table.prefix()
    )
}

/// Returns the columns that no two rows of a table share.
fn key(table: &Table) -> Option<&'static str> {
    let is_event = Category::ALL.iter().any(|category| table == tables::event_table(Layer::Analytics, *category));
    match () {
        () if *table == FEATURES_PUBLISHED => Some("wallet_address"),
        () if *table == FEATURES_HISTORY => Some("wallet_address, as_of"),
        () if *table == WALLET_HEALTH => Some("wallet_address, account_address, protocol, day"),
        () if is_event => Some("transaction_hash, log_index"),
        () => None,
    }
}

/// Returns the tests of a column. Only the tables for users are tested: the others are the pipeline's own.
fn tests(table: &Table, column: &Column) -> Vec<String> {
    let mut tests = Vec::new();
    if table.layer == Layer::Analytics && !column.nullable {
        tests.push("not_null".to_owned());
    }
    if table.prefix() == FEATURES_HISTORY.prefix() {
        tests.extend(range(column));
    }
    tests
}

/// Returns the test of the range of a feature: nothing is negative but a difference, and risk has a limit.
fn range(column: &Column) -> Option<String> {
    let is_risk = column.data_type == DataType::Float64 && column.name.ends_with("risk_factor");
    match column.data_type {
        _ if is_risk => Some(format!("in_range: {{arguments: {{min: 0, max: {MAX_RISK}}}}}")),
        _ if column.name == "borrow_repay_diff_eth" => None,
        DataType::Float64 | DataType::Int64 => Some("in_range: {arguments: {min: 0}}".to_owned()),
        _ => None,
    }
}

/// Returns DuckDB's name of a column's type.
fn duckdb_type(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Float64 => "double".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Timestamp(..) => "timestamp with time zone".to_owned(),
        DataType::Utf8 => "varchar".to_owned(),
        other => return Err(Error::internal(format!("no type of DuckDB is known for {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_table_has_an_entry() {
        for table in TABLES {
            let text = entry(table, 0).unwrap();
            for column in (table.columns)() {
                let lines = format!("    - name: {}\n      description: {}\n", column.name, quoted(&column.doc));
                assert!(text.contains(&lines), "{}.{}", table.name, column.name);
            }
        }
    }

    #[test]
    fn rows_are_read_with_their_partitions() {
        for (table, pattern) in [
            (&FEATURES_HISTORY, "/analytics/features/defi_features/as_of=*/*.parquet'"),
            (&WALLET_HEALTH, "/analytics/features/wallet_health_daily/year=*/month=*/*.parquet'"),
            (&tables::CURRENT_POSITIONS, "/the_graph_current_collateral_positions/*.parquet'"),
        ] {
            let rows = rows_of(table);
            assert!(rows.starts_with("read_parquet('{{ var('lake') }}/") && rows.contains(pattern), "{rows}");
        }
    }

    #[test]
    fn features_have_a_range_but_for_a_difference() {
        let columns = (FEATURES_HISTORY.columns)();
        let range = |name: &str| range(columns.iter().find(|column| column.name == name).unwrap());
        assert_eq!(range("max_risk_factor").unwrap(), "in_range: {arguments: {min: 0, max: 1000000}}");
        assert_eq!(range("risk_factor_above_threshold_daily_count").unwrap(), "in_range: {arguments: {min: 0}}");
        assert_eq!((range("wallet_address"), range("borrow_repay_diff_eth")), (None, None));
    }

    #[test]
    fn only_tables_for_users_have_tests() {
        assert!(!entry(&tables::STAGE_BORROWS, 0).unwrap().contains("data_tests"));
        assert!(
            entry(&tables::BORROWS, 0)
                .unwrap()
                .contains("unique_rows: {arguments: {columns: [transaction_hash, log_index]}}")
        );
    }
}

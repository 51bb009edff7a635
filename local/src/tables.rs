//! The tables of a local lake, as its catalog has them.

use comfy_table::Table;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::tables::{self, FEATURES_PUBLISHED, Layout, TABLES};
use serde::Serialize;

use crate::lake::ReadOptions;
use crate::output::Format;
use crate::output::{line, table, written};

/// A table of the lake.
#[derive(Debug, Serialize)]
struct Listed {
    table: String,
    objects: usize,
    rows: u64,
    columns: usize,
    partitioned_by: String,
    about: String,
}

/// Prints the registered tables of a lake.
///
/// # Errors
/// `BadInput` where there is no lake, and the lake's errors.
pub(crate) async fn list(args: &ReadOptions, format: Format) -> Result<()> {
    let rows = listed(args).await?;
    match format {
        Format::Table => line(shown(&rows)),
        Format::Json => {
            line(serde_json::to_string_pretty(&rows).map_err(|cause| Error::internal("no JSON").because(cause))?)
        }
        Format::Csv => written(as_csv(&rows)),
    }
}

fn as_csv(rows: &[Listed]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    for row in rows {
        writer.serialize(row).map_err(std::io::Error::from)?;
    }
    writer.flush()
}

async fn listed(args: &ReadOptions) -> Result<Vec<Listed>> {
    let (lake, registry) = crate::lake::open(args).await?;
    let env = args.lake.env.name();
    let published = registry.published().await?;
    let newest = registry.newest_published().await?;
    let mut rows = Vec::new();
    for table in TABLES {
        if !registry.is_registered(table).await? {
            continue;
        }
        let is_shown =
            |day: Day| if **table == FEATURES_PUBLISHED { newest == Some(day) } else { published.contains(&day) };
        let mut listed = Listed {
            table: format!("{}.{}", table.database(env), table.name),
            objects: 0,
            rows: 0,
            columns: (table.columns)().len(),
            partitioned_by: table.layout.partition_columns().join(", "),
            about: table.doc.trim().to_owned(),
        };
        for unit in lake.units(table).await? {
            if table.layout == Layout::AsOfAndShard && !unit.day().is_some_and(is_shown) {
                continue;
            }
            let facts = lake.facts(table, &unit).await?;
            listed.objects += 1;
            listed.rows += facts.map_or(0, |(_, rows)| rows);
        }
        rows.push(listed);
    }
    if rows.is_empty() {
        let database = tables::database(tables::Layer::Analytics, env);
        return Err(Error::bad_input(format!("the lake has no tables in {database}")).next("name another --env"));
    }
    Ok(rows)
}

fn shown(rows: &[Listed]) -> Table {
    let mut table = table(&["table", "objects", "rows", "columns", "partitioned by", "what it holds"], 1, 4);
    for row in rows {
        let [objects, count, columns] = [row.objects.to_string(), row.rows.to_string(), row.columns.to_string()];
        table.add_row([&row.table, &objects, &count, &columns, &row.partitioned_by, &row.about]);
    }
    table
}

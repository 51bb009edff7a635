//! `defi tables`: lists the tables of a lake that its catalog contains, and the views of them.

use defi_pages::number::with_thousands;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Entry;
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::tables::{self, FEATURES_PUBLISHED, Layout, TABLES, VIEWS, View};
use serde::Serialize;

use crate::lake::ReadOptions;
use crate::output::{self, Format, StdoutWriter, TextTable, table};

/// A row of the list.
#[derive(Debug, Serialize)]
struct TableInfo {
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
/// `BadInput` if there is no lake or it has no tables of the environment, and the errors of the lake.
pub(crate) async fn list(args: &ReadOptions, format: Format) -> Result<()> {
    let rows = table_infos(args).await?;
    match format {
        Format::Table => to_table(&rows).wrapped().print(),
        Format::Json => output::json(&rows),
        Format::Csv(_) => output::allow_broken_pipe(write_csv(&rows)),
    }
}

fn write_csv(rows: &[TableInfo]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(StdoutWriter::default());
    for row in rows {
        writer.serialize(row).map_err(std::io::Error::from)?;
    }
    writer.flush()
}

async fn table_infos(args: &ReadOptions) -> Result<Vec<TableInfo>> {
    let (lake, registry) = crate::lake::open(args).await?;
    let env = args.lake.env.name();
    let published = registry.published().await?;
    let newest = registry.newest_published().await?;
    let mut rows = Vec::new();
    for table in TABLES {
        if !registry.is_registered(table).await? {
            continue;
        }
        let is_visible =
            |day: Day| if **table == FEATURES_PUBLISHED { newest == Some(day) } else { published.contains(&day) };
        let mut info = TableInfo {
            table: format!("{}.{}", table.database(env), table.name),
            objects: 0,
            rows: 0,
            columns: (table.columns)().len(),
            partitioned_by: table.partition_columns().join(", "),
            about: table.doc.trim().to_owned(),
        };
        let mut objects = lake.objects(table).await?;
        objects.retain(|unit, _| table.layout != Layout::Shard || unit.day().is_some_and(is_visible));
        let count = |object: Entry| {
            let lake = &lake;
            async move { Ok(lake.footer(&object).await?.rows) }
        };
        let counts = in_order(objects.into_values(), SMALL_REQUESTS, count).await?;
        (info.objects, info.rows) = (counts.len(), counts.into_iter().sum());
        rows.push(info);
    }
    let views: Vec<_> = VIEWS.iter().filter_map(|view| view_info(view, env, &rows)).collect();
    rows.extend(views);
    if rows.is_empty() {
        let database = tables::database(tables::Layer::Analytics, env);
        return Err(Error::bad_input(format!("the lake has no tables in {database}")).with_hint("choose another --env"));
    }
    Ok(rows)
}

/// Returns the row of a view, if its tables are in the list.
fn view_info(view: &View, env: &str, tables: &[TableInfo]) -> Option<TableInfo> {
    let listed = |table: &tables::Table| {
        let name = format!("{}.{}", table.database(env), table.name);
        tables.iter().find(|info| info.table == name)
    };
    if !view.tables().all(|table| listed(table).is_some()) {
        return None;
    }
    Some(TableInfo {
        table: format!("{}.{}", view.database(env), view.name),
        objects: 0,
        rows: view.rows_of.iter().filter_map(|table| listed(table)).map(|info| info.rows).sum(),
        columns: (view.columns)().len(),
        partitioned_by: String::new(),
        about: format!("View: {}", view.doc),
    })
}

/// Returns the list for people. It has fewer fields than CSV and JSON, because the names of the tables are long.
fn to_table(rows: &[TableInfo]) -> TextTable {
    let mut table = table(&["table", "objects", "rows", "description"], 1, 3);
    for row in rows {
        table.add_row([&row.table, &with_thousands(row.objects as u64), &with_thousands(row.rows), &row.about]);
    }
    table
}

//! Checks the lake against its catalog.

use std::collections::BTreeSet;

use defi_shared::catalog::{Differences, Registry};
use defi_shared::error::Result;
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::step::OLDER_RULES;
use defi_shared::tables::{self, FEATURES_HISTORY, FEATURES_PUBLISHED, Layout, TABLES, Table};

use super::Finding;

/// The maximum number of names that a finding lists.
const MAX_NAMES: usize = 5;

/// Checks a lake and its catalog.
pub(super) async fn check(lake: &Lake, registry: &Registry) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in TABLES {
        match check_table(lake, registry, table).await {
            Ok(table_findings) => findings.extend(table_findings),
            Err(error) => findings.push(Finding::error(name(table), &error)),
        }
    }
    let results = [("published features", check_published(lake, registry).await), ("runs", check_runs(lake).await)];
    for (item, result) in results {
        findings.push(result.unwrap_or_else(|error| Finding::error(item, &error)));
    }
    findings.push(match lake.store().list("quarantine/").await {
        Err(error) => Finding::error("quarantine", &error),
        Ok(entries) if entries.is_empty() => Finding::ok("quarantine", "no rejected rows"),
        Ok(entries) => {
            let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
            Finding::warn(
                "quarantine",
                count_and_names("units have rejected rows", &keys),
                "read the column reason of these objects",
            )
        }
    });
    findings
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.layer.name(), table.name)
}

/// Formats the number of names, a text and the first names, such as `2 columns differ: a, b`.
fn count_and_names(text: &str, names: &[String]) -> String {
    let first = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    format!("{} {text}: {first}{more}", names.len())
}

async fn check_table(lake: &Lake, registry: &Registry, table: &Table) -> Result<Vec<Finding>> {
    let item = name(table);
    let units = lake.units(table).await?;
    let mut findings = Vec::new();
    match registry.differences(table, &units).await? {
        None if units.is_empty() || *table == FEATURES_PUBLISHED || *table == FEATURES_HISTORY => {
            findings.push(Finding::ok(&item, "no objects yet"));
        }
        None => {
            let found = format!("{} objects, but the table is not in the catalog", units.len());
            findings.push(Finding::fail(&item, found, "register it: defi run --force for one of its days"));
        }
        Some(differences) => findings.extend(catalog_findings(&item, &units, &differences)),
    }
    findings.extend(check_stray_objects(lake, table).await?);
    if let Some(newest) = units.last() {
        findings.extend(check_schema(lake, table, newest).await?);
    }
    Ok(findings)
}

/// Returns one finding per kind of difference between the objects of a table and the catalog.
fn catalog_findings(item: &str, units: &BTreeSet<WorkUnit>, differences: &Differences) -> Vec<Finding> {
    let Differences { columns, unregistered, empty } = differences;
    let names = |partitions: &[defi_shared::catalog::Partition]| -> Vec<String> {
        partitions.iter().map(|partition| partition.values.join("-")).collect()
    };
    let mut findings = Vec::new();
    if !columns.is_empty() {
        let found = count_and_names("columns differ from the code's", columns);
        findings.push(Finding::fail(item, found, "update the catalog: defi run --force for one of its days"));
    }
    if !unregistered.is_empty() {
        let found = count_and_names("partitions with objects are not in the catalog", &names(unregistered));
        findings.push(Finding::fail(item, found, "register them: defi run --force --from and --as-of in that month"));
    }
    if !empty.is_empty() {
        let found = count_and_names("partitions of the catalog have no object", &names(empty));
        findings.push(Finding::warn(item, found, "run these days again, or drop the partitions"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(item, format!("{} objects, as in the catalog", units.len())));
    }
    findings
}

/// Finds objects in the folder of a table that are not units. Readers of the folder would read them, too.
async fn check_stray_objects(lake: &Lake, table: &Table) -> Result<Option<Finding>> {
    // The two tables of features share a folder, which is checked once.
    if *table == FEATURES_PUBLISHED {
        return Ok(None);
    }
    let prefix = format!("{}/", table.prefix());
    let entries = lake.store().list(&prefix).await?;
    let is_unit = |key: &str| key.strip_prefix(&prefix).and_then(|path| WorkUnit::from_path(table, path)).is_some();
    let stray: Vec<_> = entries.into_iter().map(|entry| entry.key).filter(|key| !is_unit(key)).collect();
    let found = (!stray.is_empty()).then(|| count_and_names("objects were not written by any step", &stray));
    Ok(found.map(|found| Finding::fail(name(table), found, "move them out of the folder of the table")))
}

/// Compares the columns of an object with those of the code.
async fn check_schema(lake: &Lake, table: &Table, unit: &WorkUnit) -> Result<Option<Finding>> {
    let key = unit.key(table);
    let Some(bytes) = lake.store().get(&key).await? else { return Ok(None) };
    let actual = defi_shared::lake::parquet::schema(&bytes).map_err(|error| error.with("object", &key))?;
    let expected = tables::schema_of(&(table.columns)());
    if actual.fields() == expected.fields() {
        return Ok(None);
    }
    let columns = |schema: &arrow_schema::Schema| -> BTreeSet<String> {
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    };
    let differences: Vec<_> = columns(&actual).symmetric_difference(&columns(&expected)).cloned().collect();
    let found = format!("{key}: {}", count_and_names("columns differ from the code's", &differences));
    Ok(Some(Finding::fail(name(table), found, "recompute the days of the table: defi run --force")))
}

/// Checks that the day that `defi_features` shows has objects.
async fn check_published(lake: &Lake, registry: &Registry) -> Result<Finding> {
    let item = "published features";
    let Some(newest) = registry.newest_published().await? else {
        return Ok(Finding::warn(item, "nothing is published yet", "publish features with defi run"));
    };
    let exists = lake.units(&FEATURES_HISTORY).await?.into_iter().any(|unit| unit.day() == Some(newest));
    if !exists {
        let found = format!("the catalog shows {newest}, which has no objects");
        return Ok(Finding::fail(item, found, format!("rebuild it: defi run --as-of {newest}")));
    }
    debug_assert!(FEATURES_HISTORY.layout == Layout::Shard);
    let count = registry.published().await?.len();
    Ok(Finding::ok(item, format!("the catalog shows {newest}; {count} days are published")))
}

/// Finds runs that did not finish. The record of objects that older rules computed is not one of a run.
async fn check_runs(lake: &Lake) -> Result<Finding> {
    let markers = lake.store().list("runs/unfinished/").await?;
    let names: Vec<_> = markers
        .iter()
        .filter_map(|entry| entry.key.strip_prefix("runs/unfinished/")?.strip_suffix(".json"))
        .filter(|name| *name != OLDER_RULES)
        .map(str::to_owned)
        .collect();
    let mut unfinished = Vec::new();
    for name in names {
        if lake.store().get(&format!("runs/{name}/report.json")).await?.is_none() {
            unfinished.push(name);
        }
    }
    if unfinished.is_empty() {
        return Ok(Finding::ok("runs", "all runs finished"));
    }
    let found = count_and_names("runs did not finish", &unfinished);
    Ok(Finding::warn("runs", found, "the next run completes them: defi run"))
}

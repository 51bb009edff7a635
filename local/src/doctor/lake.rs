//! The lake against its catalog.

use std::collections::BTreeSet;

use defi_shared::catalog::{Differences, Registry};
use defi_shared::error::Result;
use defi_shared::lake::{Lake, Unit};
use defi_shared::tables::{self, FEATURES_HISTORY, FEATURES_PUBLISHED, Layout, TABLES, Table};

use super::Finding;

/// How many things a finding names.
const NAMED: usize = 5;

/// Everything about a lake and its catalog.
pub(super) async fn examine(lake: &Lake, registry: &Registry) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in TABLES {
        match of_table(lake, registry, table).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::error(name(table), &error)),
        }
    }
    let others = [("published features", published(lake, registry).await), ("runs", runs(lake).await)];
    for (what, found) in others {
        findings.push(found.unwrap_or_else(|error| Finding::error(what, &error)));
    }
    findings.push(match lake.store().list("quarantine/").await {
        Err(error) => Finding::error("quarantine", &error),
        Ok(entries) if entries.is_empty() => Finding::ok("quarantine", "no bad rows"),
        Ok(entries) => {
            let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
            Finding::warn(
                "quarantine",
                named("units with bad rows", &keys),
                "look at the column reason of these objects",
            )
        }
    });
    findings
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.layer.name(), table.name)
}

/// A number of things, the first of them by name.
fn named(what: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{} {what}: {shown}{more}", names.len())
}

async fn of_table(lake: &Lake, registry: &Registry, table: &Table) -> Result<Vec<Finding>> {
    let what = name(table);
    let units = lake.units(table).await?;
    let mut findings = Vec::new();
    match registry.differences(table, &units).await? {
        None if units.is_empty() || *table == FEATURES_PUBLISHED || *table == FEATURES_HISTORY => {
            findings.push(Finding::ok(&what, "no objects yet"));
        }
        None => {
            let found = format!("{} objects, and no such table in the catalog", units.len());
            findings.push(Finding::fail(&what, found, "register it: defi run --force for one of its days"));
        }
        Some(differences) => findings.extend(of_differences(&what, &units, &differences)),
    }
    findings.extend(stray(lake, table).await?);
    if let Some(newest) = units.last() {
        findings.extend(schema(lake, table, newest).await?);
    }
    Ok(findings)
}

fn of_differences(what: &str, units: &BTreeSet<Unit>, differences: &Differences) -> Vec<Finding> {
    let Differences { columns, unregistered, empty } = differences;
    let places = |partitions: &[defi_shared::catalog::Partition]| -> Vec<String> {
        partitions.iter().map(|partition| partition.values.join("-")).collect()
    };
    let mut findings = Vec::new();
    if !columns.is_empty() {
        let found = named("columns differ from the code's", columns);
        findings.push(Finding::fail(what, found, "bring the entry up to date: defi run --force for one of its days"));
    }
    if !unregistered.is_empty() {
        let found = named("partitions with objects are not in the catalog", &places(unregistered));
        findings.push(Finding::fail(what, found, "register them: defi run --force --from and --as-of in that month"));
    }
    if !empty.is_empty() {
        let found = named("partitions of the catalog have no object", &places(empty));
        findings.push(Finding::warn(what, found, "run these days again, or drop the partitions"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(what, format!("{} objects, as the catalog has it", units.len())));
    }
    findings
}

/// Objects in the table's folder that are no units: readers of the folder would take them in.
async fn stray(lake: &Lake, table: &Table) -> Result<Option<Finding>> {
    // Features are one folder with two tables: looked at once.
    if *table == FEATURES_PUBLISHED {
        return Ok(None);
    }
    let prefix = format!("{}/", table.prefix());
    let entries = lake.store().list(&prefix).await?;
    let is_unit = |key: &str| key.strip_prefix(&prefix).and_then(|path| Unit::of_key(table, path)).is_some();
    let stray: Vec<_> = entries.into_iter().map(|entry| entry.key).filter(|key| !is_unit(key)).collect();
    let found = (!stray.is_empty()).then(|| named("objects that no step wrote", &stray));
    Ok(found.map(|found| Finding::fail(name(table), found, "move them out of the table's folder")))
}

/// The columns of an object against the code's.
async fn schema(lake: &Lake, table: &Table, unit: &Unit) -> Result<Option<Finding>> {
    let key = unit.key(table);
    let Some(bytes) = lake.store().get(&key).await? else { return Ok(None) };
    let held = defi_shared::lake::parquet::schema(&bytes).map_err(|error| error.with("object", &key))?;
    let wanted = tables::schema_of(&(table.columns)());
    if held.fields() == wanted.fields() {
        return Ok(None);
    }
    let of = |schema: &arrow::datatypes::Schema| -> BTreeSet<String> {
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    };
    let differ: Vec<_> = of(&held).symmetric_difference(&of(&wanted)).cloned().collect();
    let found = format!("{key}: {}", named("columns differ from the code's", &differ));
    let mend = "make the table's days anew: defi run --force";
    Ok(Some(Finding::fail(name(table), found, mend)))
}

/// What `defi_features` shows.
async fn published(lake: &Lake, registry: &Registry) -> Result<Finding> {
    let what = "published features";
    let Some(newest) = registry.newest_published().await? else {
        return Ok(Finding::warn(what, "nothing is published yet", "publish features with defi run"));
    };
    let there = lake.units(&FEATURES_HISTORY).await?.into_iter().any(|unit| unit.day() == Some(newest));
    if !there {
        let found = format!("the catalog shows {newest}, of which there are no objects");
        return Ok(Finding::fail(what, found, format!("build it again: defi run --as-of {newest}")));
    }
    debug_assert!(FEATURES_HISTORY.layout == Layout::AsOfAndShard);
    let count = registry.published().await?.len();
    Ok(Finding::ok(what, format!("{newest} is shown; {count} days are published")))
}

/// Runs that did not get to their end.
async fn runs(lake: &Lake) -> Result<Finding> {
    let notes = lake.store().list("runs/unfinished/").await?;
    let names: Vec<_> = notes
        .iter()
        .filter_map(|entry| entry.key.strip_prefix("runs/unfinished/")?.strip_suffix(".json"))
        .map(str::to_owned)
        .collect();
    let mut unfinished = Vec::new();
    for name in names {
        if lake.store().get(&format!("runs/{name}/report.json")).await?.is_none() {
            unfinished.push(name);
        }
    }
    if unfinished.is_empty() {
        return Ok(Finding::ok("runs", "all got to their end"));
    }
    let found = named("runs did not get to their end", &unfinished);
    Ok(Finding::warn("runs", found, "the next run completes them: defi run"))
}

//! Checks the lake against its catalog, the footers of its objects, and that nothing else is in it.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::Schema;
use defi_shared::catalog::{Differences, Registry};
use defi_shared::error::{Kind, Result};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Entry, FeatureSet, Footer, Lake, Provenance, WorkUnit};
use defi_shared::step::{OLDER_RULES, RUN_REPORT, RunId, recorded_runs};
use defi_shared::tables::{
    self, Column, FEATURES_HISTORY, FEATURES_PUBLISHED, RAW_LOGS, RAW_MARKETS, RAW_POSITIONS, TABLES, Table,
};
use futures::{StreamExt, stream};

use super::Finding;

/// The maximum number of names that a finding lists.
const MAX_NAMES: usize = 5;

/// The prefix of states.
const STATES: &str = "state/";

/// The prefixes of builds, and of their checked copies.
const BUILDS: &str = "analytics/features/builds/";
const CHECKED: &str = "analytics/features/checked/";

/// The places in a lake outside its tables.
const OTHER_PLACES: [&str; 8] = [STATES, BUILDS, CHECKED, "digests/", "quarantine/", "runs/", "catalog/", "chain.json"];

/// What is found about objects whose footer can't be read.
const DAMAGED: &str = "objects are damaged (CorruptData)";

/// Checks a lake and its catalog.
pub(super) async fn check(lake: &Lake, registry: &Registry) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in TABLES {
        match check_table(lake, registry, table).await {
            Ok(table_findings) => findings.extend(table_findings),
            Err(error) => findings.push(Finding::error(name(table), &error)),
        }
    }
    match check_stray_objects(lake).await {
        Ok(stray) => findings.extend(stray),
        Err(error) => findings.push(Finding::error("stray files", &error)),
    }
    match check_other_objects(lake).await {
        Ok(damaged) => findings.extend(damaged),
        Err(error) => findings.push(Finding::error("states and builds", &error)),
    }
    match check_digests(lake).await {
        Ok(differing) => findings.extend(differing),
        Err(error) => findings.push(Finding::error("digests", &error)),
    }
    let results = [("published features", check_published(lake, registry).await), ("runs", check_runs(lake).await)];
    for (item, result) in results {
        findings.push(result.unwrap_or_else(|error| Finding::error(item, &error)));
    }
    findings.push(check_lost(lake).await.unwrap_or_else(|error| Finding::error("lost days", &error)));
    findings.extend(check_lost_rates(lake).await.unwrap_or_else(|error| Some(Finding::error("lost rates", &error))));
    findings.push(match lake.store().list("quarantine/").await {
        Err(error) => Finding::error("quarantine", &error),
        Ok(entries) if entries.is_empty() => Finding::ok("quarantine", "no rejected rows"),
        Ok(entries) => {
            let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
            Finding::warn(
                "quarantine",
                count_and_names("units have rejected rows", &keys),
                "read the column reason of these objects, as docs/operations.md shows (Why rows are in quarantine)",
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
    let objects = lake.objects(table).await?;
    let units: BTreeSet<_> = objects.keys().cloned().collect();
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
    // The two tables of features share a folder, which is checked once.
    if *table != FEATURES_PUBLISHED {
        findings.extend(check_objects(lake, table, &objects).await?);
    }
    Ok(findings)
}

/// Returns one finding per kind of difference between the objects of a table and the catalog.
fn catalog_findings(item: &str, units: &BTreeSet<WorkUnit>, differences: &Differences) -> Vec<Finding> {
    let Differences { columns, location, unregistered, empty } = differences;
    let names = |partitions: &[defi_shared::catalog::Partition]| -> Vec<String> {
        partitions.iter().map(|partition| partition.values.join("-")).collect()
    };
    let mut findings = Vec::new();
    if !columns.is_empty() {
        let found = count_and_names("columns differ from the code's", columns);
        findings.push(Finding::fail(item, found, "update the catalog: defi run --force for one of its days"));
    }
    if let Some(location) = location {
        let found = format!("the catalog points to {location}, not to the folder of its objects");
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

/// Checks the footer of every object of a table: that it is readable, and names the table, the unit and the columns that
/// it should.
async fn check_objects(lake: &Lake, table: &Table, objects: &BTreeMap<WorkUnit, Entry>) -> Result<Vec<Finding>> {
    let item = name(table);
    let columns = (table.columns)();
    let expected = tables::schema_of(&columns);
    let (mut damaged, mut misplaced, mut other_columns) = (Vec::new(), Vec::new(), Vec::new());
    let footers = stream::iter(objects).map(|(unit, object)| async move { (unit, object, lake.footer(object).await) });
    let mut footers = footers.buffered(SMALL_REQUESTS);
    while let Some((unit, object, footer)) = footers.next().await {
        let Some(footer) = intact(object, footer, &mut damaged)? else { continue };
        let said = ["table", "unit"].map(|key| footer.metadata.get(key).map_or("none", String::as_str));
        if said != [item.as_str(), unit.to_string().as_str()] {
            misplaced.push(format!("{} (table {}, unit {})", object.key, said[0], said[1]));
        }
        if !has_columns(&footer.schema, &columns) {
            other_columns.push(format!("{} ({})", object.key, column_differences(&footer.schema, &expected)));
        }
    }
    let findings = [
        (damaged, DAMAGED, "recompute their days: defi run --force --from and --as-of"),
        (
            misplaced,
            "objects are of another table or unit",
            "recompute their days: defi run --force --from and --as-of",
        ),
        (
            other_columns,
            "objects have other columns than the code",
            "recompute the days of the table: defi run --force",
        ),
    ];
    let findings = findings.into_iter().filter(|(names, ..)| !names.is_empty());
    Ok(findings.map(|(names, text, fix)| Finding::fail(&item, count_and_names(text, &names), fix)).collect())
}

/// Returns the footer of an object, or `None` if the object is damaged and was added to `damaged`.
fn intact(object: &Entry, footer: Result<Footer>, damaged: &mut Vec<String>) -> Result<Option<Footer>> {
    match footer {
        Err(error) if error.kind() == Kind::CorruptData => {
            damaged.push(format!("{} ({} bytes)", object.key, object.size));
            Ok(None)
        }
        footer => footer.map(Some),
    }
}

/// Returns whether a schema consists of the given columns. Those that were added later may be absent.
fn has_columns(schema: &Schema, columns: &[Column]) -> bool {
    let is_present = |column: &&Column| !column.null_if_absent || schema.index_of(column.name).is_ok();
    let present: Vec<_> = columns.iter().filter(is_present).cloned().collect();
    schema.fields() == tables::schema_of(&present).fields()
}

/// Returns the columns that only one of two schemas has, with their types.
fn column_differences(actual: &Schema, expected: &Schema) -> String {
    let columns = |schema: &Schema| -> BTreeSet<String> {
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    };
    let differences: Vec<_> = columns(actual).symmetric_difference(&columns(expected)).cloned().collect();
    differences.join(", ")
}

/// Checks the footer of every Parquet object below the prefixes that are no table's.
async fn check_other_objects(lake: &Lake) -> Result<Option<Finding>> {
    let mut damaged = Vec::new();
    for prefix in [STATES, BUILDS, CHECKED] {
        let objects = lake.store().list(prefix).await?;
        let objects = objects.into_iter().filter(|object| object.key.ends_with(".parquet"));
        let footers = stream::iter(objects).map(|object| async move { (lake.footer(&object).await, object) });
        let mut footers = footers.buffered(SMALL_REQUESTS);
        while let Some((footer, object)) = footers.next().await {
            intact(&object, footer, &mut damaged)?;
        }
    }
    let found = (!damaged.is_empty()).then(|| count_and_names(DAMAGED, &damaged));
    Ok(found.map(|found| Finding::fail("states and builds", found, "delete them: the next run makes them again")))
}

/// Compares the objects of tables, builds and states with the digests that were recorded when a step wrote them.
async fn check_digests(lake: &Lake) -> Result<Vec<Finding>> {
    let keys = lake.recorded_objects().await?.into_iter().map(|entry| entry.key).collect();
    let Provenance { as_written, changed, foreign, older } = lake.provenance(&keys).await?;
    let fix = "find out who wrote them, delete them and what was computed from them, and run again";
    let problems = [(changed, "objects differ from what a step wrote"), (foreign, "objects were written by no step")];
    let problems = problems.into_iter().filter(|(keys, _)| !keys.is_empty());
    let mut findings: Vec<_> =
        problems.map(|(keys, text)| Finding::fail("digests", count_and_names(text, &keys), fix)).collect();
    let missing: Vec<_> = lake.missing_objects().await?.into_iter().collect();
    if !missing.is_empty() {
        let found = count_and_names("objects that a step wrote are missing", &missing);
        let fix = "if a run was interrupted, run again; if not, they were deleted: docs/operations.md says what can be had again";
        findings.push(Finding::warn("digests", found, fix));
    }
    if findings.is_empty() {
        let no_record = match older.len() {
            0 => String::new(),
            count => format!("; {count} have no record: they are older than the records"),
        };
        findings.push(Finding::ok("digests", format!("{as_written} objects are as a step wrote them{no_record}")));
    }
    Ok(findings)
}

/// Finds objects and files that no table, and nothing else in the lake, knows. Readers of a table's folder would read
/// those in it.
async fn check_stray_objects(lake: &Lake) -> Result<Vec<Finding>> {
    let (mut in_table, mut elsewhere) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    let listed = lake.store().list("").await?.into_iter().filter(|entry| !is_known(&entry.key));
    // Most readers ignore a hidden file of another format, but some read a hidden Parquet file.
    let hidden = lake.store().list_hidden().await?;
    let (hidden_parquet, other_hidden): (Vec<_>, Vec<_>) =
        hidden.into_iter().partition(|entry| entry.key.ends_with(".parquet"));
    for entry in listed.chain(hidden_parquet) {
        match table_of(&entry.key) {
            Some(table) => in_table.entry(name(table)).or_default().push(entry.key),
            None => elsewhere.push(entry.key),
        }
    }
    elsewhere.extend(other_hidden.into_iter().map(|entry| entry.key));
    let mut findings: Vec<_> = in_table
        .into_iter()
        .map(|(table, keys)| {
            let found = count_and_names("objects were not written by any step", &keys);
            Finding::fail(table, found, "move them out of the folder of the table")
        })
        .collect();
    if !elsewhere.is_empty() {
        let found = count_and_names("files belong to nothing in the lake", &elsewhere);
        findings.push(Finding::warn("stray files", found, "move them out of the lake"));
    }
    Ok(findings)
}

/// Returns the table whose folder an object is in. The two tables of features share a folder.
fn table_of(key: &str) -> Option<&'static Table> {
    TABLES
        .iter()
        .copied()
        .rev()
        .find(|table| key.strip_prefix(&table.prefix()).is_some_and(|path| path.starts_with('/')))
}

/// Whether an object is a unit of a table, or in a place for something else.
fn is_known(key: &str) -> bool {
    let is_unit = |table: &Table| WorkUnit::from_key(table, key).is_some();
    OTHER_PLACES.iter().any(|place| key.starts_with(place)) || table_of(key).is_some_and(is_unit)
}

/// Checks where the catalog points: `defi_features` to a day that has objects, and every published day to the set that
/// passed its checks.
async fn check_published(lake: &Lake, registry: &Registry) -> Result<Finding> {
    let item = "published features";
    let Some(set) = registry.newest_set().await? else {
        return Ok(Finding::warn(item, "nothing is published yet", "publish features with defi run"));
    };
    let newest = set.as_of;
    if newest > defi_shared::step::today()? {
        let found = format!("the catalog shows {newest}, which is in the future: nothing can be published anymore");
        return Ok(Finding::fail(item, found, "delete the table defi_features from the catalog, and run again"));
    }
    if lake.shards(&set).await?.is_empty() {
        let found = format!("the catalog shows {newest}, which has no objects");
        return Ok(Finding::fail(item, found, format!("rebuild it: defi run --as-of {newest}")));
    }
    let published = registry.published_sets().await?;
    let count = published.len();
    let sets: BTreeSet<_> = published.into_iter().chain([set]).collect();
    let checked = |set: FeatureSet| async move { Ok((is_the_checked_set(lake, &set).await?, set)) };
    let checked = in_order(sets, WHOLE_OBJECTS, checked).await?;
    let others: Vec<_> = checked.into_iter().filter(|(is_checked, _)| !is_checked).map(|(_, set)| set).collect();
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(|set| format!("{} ({})", set.as_of, set.folder)).collect();
        let found = count_and_names("published sets are not those that passed their checks", &names);
        return Ok(Finding::fail(item, found, "build and publish them again: defi run --force with --as-of"));
    }
    Ok(Finding::ok(item, format!("the catalog shows {newest}; {count} days are published")))
}

/// Returns whether a set to which the catalog points is the one that passed its checks. The record of a check is gone
/// where the inputs of the set changed afterwards, and is that of the build while a day is made again: then only the
/// place is known.
async fn is_the_checked_set(lake: &Lake, set: &FeatureSet) -> Result<bool> {
    if !set.can_be_published() {
        return Ok(false);
    }
    let (passed, build) = (lake.recorded_check(set.as_of).await?, lake.shards(&FeatureSet::build(set.as_of)).await?);
    let digest = match passed {
        Some(passed) if build.is_empty() || set.is_checked_copy() => passed.digest,
        _ if set.is_checked_copy() => return Ok(false),
        _ => return Ok(true),
    };
    Ok(lake.set_digest(set).await?.is_some_and(|actual| actual.to_string() == digest))
}

/// Lists the days whose snapshots their source no longer had, and those that were rebuilt.
async fn check_lost(lake: &Lake) -> Result<Finding> {
    let (mut lost, mut rebuilt) = (Vec::new(), Vec::new());
    for table in [&RAW_MARKETS, &RAW_POSITIONS] {
        let (lost_units, present) = (lake.lost_units(table).await?, lake.units(table).await?);
        let name = |unit: &WorkUnit| format!("{unit} of {}", table.name);
        lost.extend(lost_units.difference(&present).map(name));
        rebuilt.extend(lost_units.intersection(&present).map(name));
    }
    let rebuilt = match rebuilt.as_slice() {
        [] => String::new(),
        rebuilt => format!("; {}", count_and_names("snapshots were rebuilt", rebuilt)),
    };
    if lost.is_empty() {
        return Ok(Finding::ok("lost days", format!("no snapshot is lost{rebuilt}")));
    }
    let found = count_and_names("snapshots are lost", &lost) + &rebuilt;
    let hint = "if a source has them again: defi run --retry-lost; from what a subgraph in Messari's schema keeps: \
        defi run --rebuild-lost";
    Ok(Finding::warn("lost days", found, hint))
}

/// Lists the logs that a node without old states gave, which lack the rates of liquidations. `None` if there are none.
async fn check_lost_rates(lake: &Lake) -> Result<Option<Finding>> {
    let lost: Vec<_> = lake.lost_units(&RAW_LOGS).await?.iter().map(WorkUnit::to_string).collect();
    let found = count_and_names("objects of logs have liquidations in Compound with the rate of the next day", &lost);
    let how = "with an archive node: defi run --retry-lost";
    Ok((!lost.is_empty()).then(|| Finding::warn("lost rates", found, how)))
}

/// Finds runs that did not finish.
async fn check_runs(lake: &Lake) -> Result<Finding> {
    let runs = recorded_runs(lake).await?.into_iter().map(|(run, _)| run);
    let is_unfinished = |run: RunId| async move {
        let report = lake.store().get_suffix(&run.key(RUN_REPORT), 1).await?;
        Ok(report.is_none().then(|| run.to_string()))
    };
    let unfinished = in_order(runs.filter(|run| run.to_string() != OLDER_RULES), SMALL_REQUESTS, is_unfinished).await?;
    let unfinished: Vec<_> = unfinished.into_iter().flatten().collect();
    if unfinished.is_empty() {
        return Ok(Finding::ok("runs", "all runs finished"));
    }
    let found = count_and_names("runs did not finish", &unfinished);
    Ok(Finding::warn("runs", found, "the next run completes them: defi run"))
}

#[cfg(test)]
mod tests {
    use defi_shared::tables::{Row, StagedMarket};

    use super::*;

    #[test]
    fn only_columns_that_were_added_later_may_be_absent() {
        let columns = StagedMarket::columns();
        let without = |name: &str| {
            let others: Vec<_> = columns.iter().filter(|column| column.name != name).cloned().collect();
            has_columns(&tables::schema_of(&others), &columns)
        };
        assert!(without("") && without("total_deposit_balance_usd") && without("total_borrow_balance_usd"));
        assert!(!without("input_token_price_usd") && !without("market_id"));
        assert!(!has_columns(&StagedMarket::schema(), &columns[1..]), "an additional column");
    }
}

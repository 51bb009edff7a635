//! Features as of an instant are computed only from blocks strictly before it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use defi_shared::domain::{Category, Day, HexBytes};
use defi_shared::lake::{FileMetadata, FolderStore, Lake, WorkUnit};
use defi_shared::step::commit;
use defi_shared::tables::{
    self, DAILY_BLOCKS, DailyBlock, FEATURES_HISTORY, FeatureRow, Layer, PricedEvent, WALLET_HEALTH, WALLET_LINKS,
    WalletHealth, WalletLink,
};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tempfile::tempdir;

use crate::support::command::{command, output, path_str, succeed};
use crate::support::recording::recording_folder;

/// The rows of an export, each as a map from column to value.
type Rows = Vec<BTreeMap<String, String>>;

fn parse_rows(csv: &str) -> Rows {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|line| header.iter().cloned().zip(line).collect()).collect()
}

/// Exports the features as of the instant of each borrow.
fn features_at_borrows(lake: &Path) -> Rows {
    parse_rows(&succeed(&mut command(&["features", "--at-borrows", "--lake", path_str(lake)])))
}

/// Runs a small sample chain into a lake.
fn run_sample(lake: &Path, seed: &str) {
    let sample = ["--wallets", "100", "--days", "14", "--seed", seed];
    succeed(command(&["run", "--lake", path_str(lake)]).args(sample));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

fn number(row: &BTreeMap<String, String>, column: &str) -> i64 {
    row[column].parse().expect("a number")
}

/// Changes all data of a lake from a block on: amounts, additional events, health and links.
async fn change_data_from(lake: &Lake, block: i64) {
    for category in Category::ALL {
        let table = tables::event_table(Layer::Analytics, category);
        for unit in lake.units(table).await.expect("units") {
            let mut events: Vec<PricedEvent> = lake.require(table, &unit).await.expect("events");
            let mut extra = Vec::new();
            for event in events.iter_mut().filter(|event| event.block_number >= block) {
                event.quantity_eth = event.quantity_eth.map_or(Some(3.0), |quantity| Some(quantity * 7.0 + 1.0));
                let mut additional = event.clone();
                additional.log_index += 100_000;
                additional.protocol = "compound-v2-eth".into();
                extra.push(additional);
            }
            events.extend(extra);
            events.sort_by_key(|event| (event.index_address, event.transaction_hash, event.log_index));
            commit(lake, table, &unit, events, FileMetadata::new()).await.expect("the unit is written");
        }
    }
    let mut first_changed = None;
    for unit in lake.units(&WALLET_HEALTH).await.expect("units") {
        let Some(day) = unit.day() else { continue };
        let blocks: Vec<DailyBlock> = lake.require(&DAILY_BLOCKS, &WorkUnit::Day(day)).await.expect("a block");
        if blocks[0].block_number < block {
            continue;
        }
        let mut rows: Vec<WalletHealth> = lake.require(&WALLET_HEALTH, &unit).await.expect("health");
        for row in &mut rows {
            row.collateral_eth += 1000.0;
            row.debt_eth = row.debt_eth * 3.0 + 1.0;
            row.available_borrows_eth += 5.0;
            row.risk_factor += 0.5;
        }
        commit(lake, &WALLET_HEALTH, &unit, rows, FileMetadata::new()).await.expect("the unit is written");
        first_changed = first_changed.or(Some(day));
    }
    // Link every wallet to another wallet's account, from the first changed day on.
    for unit in lake.units(&WALLET_LINKS).await.expect("units") {
        if unit.day().is_none_or(|day| first_changed.is_none_or(|first| day < first)) {
            continue;
        }
        let mut links: Vec<WalletLink> = lake.require(&WALLET_LINKS, &unit).await.expect("links");
        let accounts: Vec<_> = links.iter().map(|link| link.account_address).collect();
        for (link, account) in links.clone().into_iter().zip(accounts.into_iter().rev()) {
            links.push(WalletLink { account_address: account, ..link });
        }
        links.sort_by_key(|link| (link.wallet_address, link.account_address));
        links.dedup_by_key(|link| (link.wallet_address, link.account_address));
        commit(lake, &WALLET_LINKS, &unit, links, FileMetadata::new()).await.expect("the unit is written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_data_does_not_change_a_row() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    run_sample(&lake, "3");
    let before = features_at_borrows(&lake);
    assert!(before.len() > 50, "{}", before.len());
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let mut rounds_with_changes = 0;
    for round in 0..8 {
        let cut = number(before.choose(&mut random).expect("a row"), "block_number") + random.random_range(0..2);
        let changed_lake = folder.path().join(format!("lake-{round}"));
        copy(&lake, &changed_lake);
        change_data_from(&Lake::new(FolderStore::open_for_run(&changed_lake).expect("a lake")), cut).await;
        let after = features_at_borrows(&changed_lake);
        let before_cut = |rows: &Rows| -> Rows {
            // The instant of a borrow is just before its block, so that data of the block itself does not count either.
            let mut rows = rows.clone();
            rows.retain(|row| number(row, "block_number") <= cut && number(row, "log_index") < 100_000);
            // The amount of the borrow itself is known, and was changed too.
            let changed = rows.iter_mut().filter(|row| number(row, "block_number") == cut);
            changed.for_each(|row| drop(row.remove("borrow_amount_eth")));
            rows
        };
        assert_eq!(before_cut(&before), before_cut(&after), "data of block {cut} or later changed an earlier row");
        rounds_with_changes += usize::from(before != after);
    }
    assert!(rounds_with_changes > 4, "later rows changed in only {rounds_with_changes} rounds");
}

#[tokio::test(flavor = "multi_thread")]
async fn features_just_after_a_snapshot_equal_those_of_its_day() {
    let folder = tempdir().expect("a temporary folder");
    let path = folder.path().join("lake");
    for as_of in ["2023-01-09", "2023-01-14"] {
        let sample = ["--wallets", "100", "--days", "14", "--seed", "4", "--as-of", as_of];
        succeed(command(&["run", "--lake", path_str(&path)]).args(sample));
    }
    let lake = Lake::new(FolderStore::new(&path));
    let day: Day = "2023-01-09".parse().expect("a valid day");
    let blocks: Vec<DailyBlock> = lake.require(&DAILY_BLOCKS, &WorkUnit::Day(day)).await.expect("a block");
    let instant = blocks[0].epoch_timestamp + 1;
    for category in Category::ALL {
        let events: Vec<PricedEvent> =
            lake.require(tables::event_table(Layer::Analytics, category), &WorkUnit::Day(day)).await.expect("events");
        assert!(
            events.iter().all(|event| event.epoch_timestamp >= instant),
            "the sample chain has an event before the instant"
        );
    }
    let mut published: Vec<FeatureRow> = Vec::new();
    for unit in lake.units(&FEATURES_HISTORY).await.expect("units").iter().filter(|unit| unit.day() == Some(day)) {
        published.extend(lake.require::<FeatureRow>(&FEATURES_HISTORY, unit).await.expect("features"));
    }
    let instants = folder.path().join("instants.csv");
    let mut list = "wallet_address,time\n".to_owned();
    published.iter().for_each(|row| list.push_str(&format!("{},{instant}\n", row.wallet_address)));
    fs::write(&instants, list).expect("a file");
    let at_instant =
        parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&path), "--at", path_str(&instants)])));
    let daily = parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&path), "--as-of", "2023-01-09"])));
    assert_eq!(at_instant.len(), daily.len());
    let elapsed = instant - day.start();
    for (at_instant, daily) in at_instant.iter().zip(&daily) {
        assert_eq!(at_instant["snapshot_day"], "2023-01-09");
        for (column, value) in daily.iter().filter(|(column, _)| *column != "as_of") {
            if column.starts_with("time_since") && !value.is_empty() {
                assert_eq!(number(at_instant, column), number(daily, column) + elapsed, "{column}");
            } else {
                assert_eq!(&at_instant[column], value, "{column} of {}", daily["wallet_address"]);
            }
        }
    }
    // One second earlier is the time of the snapshot's block itself.
    fs::write(&instants, format!("{},{}\n", published[0].wallet_address, instant - 1)).expect("a file");
    let early =
        parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&path), "--at", path_str(&instants)])));
    assert_eq!(early[0]["snapshot_day"], "2023-01-08");
}

#[test]
fn borrow_in_a_days_first_block_excludes_that_days_snapshot() {
    let Some(recording) = recording_folder("golden-two-protocols") else { return };
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--recording", path_str(&recording)]));
    let blocks = fs::read_to_string(recording.join("blocks.jsonl")).expect("blocks");
    let first_blocks: Vec<serde_json::Value> =
        blocks.lines().map(|line| serde_json::from_str(line).expect("a block")).collect();
    let rows = features_at_borrows(&lake);
    let mut early = 0;
    for row in &rows {
        let day: Day = row["time"].get(..10).expect("a day").parse().expect("a valid day");
        let is_first = first_blocks.iter().any(|block| block["block_number"] == number(row, "block_number"));
        early += usize::from(is_first);
        let expected = if is_first { day.previous() } else { day };
        let is_expected = row["snapshot_day"].is_empty() || row["snapshot_day"] == expected.to_string();
        assert!(is_expected, "{row:?}");
    }
    assert!(early > 0, "the recording has no borrow in a day's first block");
}

/// Midnight of the newest day needs the events before it, which the lake has: all features of events are those of the day.
#[test]
fn midnight_of_the_newest_day_has_the_events_of_its_set() {
    let folder = tempdir().expect("a temporary folder");
    let (lake, list) = (folder.path().join("lake"), folder.path().join("list.csv"));
    run_sample(&lake, "3");
    let daily = parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&lake)])));
    let at = |time: &str| {
        let lines: Vec<_> = daily.iter().map(|row| format!("{},{time}\n", row["wallet_address"])).collect();
        fs::write(&list, lines.concat()).expect("a file");
        parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&lake), "--at", path_str(&list)])))
    };
    let midnight = at("2023-01-15T00:00:00Z");
    assert_eq!(midnight, at("2023-01-15").to_vec());
    assert_eq!(midnight.len(), daily.len());
    for (at_midnight, daily) in midnight.iter().zip(&daily) {
        assert_eq!((daily["as_of"].as_str(), at_midnight["snapshot_day"].as_str()), ("2023-01-15", "2023-01-14"));
        let of_events = ["sum_eth", "count", "diff_eth", "time_since"];
        let is_of_events =
            |column: &str| of_events.iter().any(|part| column.contains(part)) && !column.contains("threshold");
        for (column, value) in daily.iter().filter(|(column, _)| is_of_events(column)) {
            assert_eq!(&at_midnight[column], value, "{column} of {}", daily["wallet_address"]);
        }
    }
    assert_eq!(at("2023-01-01T00:00:00Z").len(), daily.len(), "the first midnight has no event before it");
}

/// What is known at the end of the horizon says what happened within it.
#[test]
fn labels_are_what_the_features_at_the_end_of_the_horizon_have_more() {
    const HORIZON: i64 = 3 * 86_400;
    let folder = tempdir().expect("a temporary folder");
    let (lake, list) = (folder.path().join("lake"), folder.path().join("list.csv"));
    run_sample(&lake, "3");
    let borrows =
        parse_rows(&succeed(&mut command(&["features", "--at-borrows", "--label", "3d", "--lake", path_str(&lake)])));
    let end = "2023-01-15".parse::<Day>().expect("a day").start();
    let second = |row: &BTreeMap<String, String>| row["time"].parse::<jiff::Timestamp>().expect("a time").as_second();
    for row in &borrows {
        assert_eq!(row["label_censored"] == "true", second(row) + HORIZON >= end, "{row:?}");
        assert!(!row["borrow_protocol"].is_empty() && row["borrow_token_address"].starts_with("0x"), "{row:?}");
    }
    let instants: Vec<_> = borrows
        .iter()
        .filter(|row| row["label_censored"] == "false")
        .map(|row| (row["wallet_address"].clone(), second(row)))
        .collect();
    let at = |seconds: i64, label: &[&str]| -> BTreeMap<(String, i64), BTreeMap<String, String>> {
        let lines: Vec<_> = instants.iter().map(|(wallet, time)| format!("{wallet},{}\n", time + seconds)).collect();
        fs::write(&list, lines.concat()).expect("a file");
        let mut command = command(&["features", "--lake", path_str(&lake), "--at", path_str(&list)]);
        let rows = parse_rows(&succeed(command.args(label)));
        rows.into_iter().map(|row| ((row["wallet_address"].clone(), second(&row) - seconds), row)).collect()
    };
    let (labelled, later) = (at(0, &["--label", "3d"]), at(HORIZON + 1, &[]));
    let (mut liquidated, mut at_risk) = (0, 0);
    for (instant, row) in &labelled {
        let grows = |count: &str| number(&later[instant], count) > number(row, count);
        let is = |label: &str| row[label] == "true";
        assert_eq!(is("label_liquidated"), grows("liquidation_count"), "{row:?}");
        assert_eq!(is("label_at_risk"), grows("risk_factor_above_threshold_daily_count"), "{row:?}");
        assert_eq!(is("label_liquidated"), !row["label_seconds_to_liquidation"].is_empty());
        assert_eq!(is("label_at_risk"), !row["label_seconds_to_risk"].is_empty());
        assert!(row["borrow_protocol"].is_empty(), "a requested time has no borrow");
        liquidated += usize::from(is("label_liquidated"));
        at_risk += usize::from(is("label_at_risk"));
    }
    let count = labelled.len();
    assert!((1..count).contains(&liquidated) && (1..count).contains(&at_risk), "{liquidated}, {at_risk} of {count}");
}

/// Two sets are published, and a set is served a day and a half after it.
#[test]
fn rows_as_served_are_those_of_the_newest_set_that_was_published() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let mut sets: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for as_of in ["2023-01-05", "2023-01-09", "2023-01-15"] {
        let sample = ["--wallets", "100", "--days", "14", "--seed", "3", "--as-of", as_of];
        succeed(command(&["run", "--lake", path_str(&lake)]).args(sample));
        let rows = parse_rows(&succeed(&mut command(&["features", "--lake", path_str(&lake)])));
        sets.insert(as_of.to_owned(), rows.into_iter().map(|row| (row["wallet_address"].clone(), row)).collect());
    }
    let at_borrows = |arguments: &[&str]| {
        let mut command = command(&["features", "--at-borrows", "--label", "1d", "--lake", path_str(&lake)]);
        parse_rows(&succeed(command.args(arguments)))
    };
    let (rows, exact) = (at_borrows(&["--as-served", "36h"]), at_borrows(&[]));
    assert_eq!(rows.len(), exact.len());
    let (mut unknown, mut without_set) = (0, 0);
    for (row, exact) in rows.iter().zip(&exact) {
        for column in ["wallet_address", "block_number", "log_index", "borrow_amount_eth", "label_at_risk"] {
            assert_eq!(row[column], exact[column], "the borrows are in the order of the chain");
        }
        let time: jiff::Timestamp = row["time"].parse().expect("a time");
        let is_served = |as_of: &&String| as_of.parse::<Day>().expect("a day").start() + 36 * 3_600 <= time.as_second();
        let set = sets.keys().rfind(is_served);
        assert_eq!(row["snapshot_day"], set.cloned().unwrap_or_default());
        let published = set.and_then(|set| sets[set].get(&row["wallet_address"]));
        let features = sets["2023-01-05"].values().next().expect("a row").keys();
        for feature in features.filter(|name| !["wallet_address", "as_of"].contains(&name.as_str())) {
            assert_eq!(row[feature], published.map_or("", |row| &row[feature]), "{feature} of {row:?}");
        }
        without_set += usize::from(set.is_none());
        unknown += usize::from(set.is_some() && published.is_none());
    }
    assert!((1..rows.len()).contains(&without_set) && unknown > 0, "{without_set}, {unknown}");
    let censored = rows.iter().filter(|row| row["label_censored"] == "true").count();
    let arguments = ["features", "--at-borrows", "--label", "1d", "--as-served", "36h", "--lake", path_str(&lake)];
    let said = output(&mut command(&arguments));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    for part in [
        format!("{} of {} rows have no features: {without_set} because no set", without_set + unknown, rows.len()),
        format!("{unknown} because the set does not have the wallet"),
        format!("label_censored: {censored} of {} rows", rows.len()),
    ] {
        assert!(censored > 0 && said.contains(&part), "{part}: {said}");
    }
}

#[test]
fn rejects_invalid_horizons() {
    for (arguments, words) in [
        (&["--at-borrows", "--label", "month"][..], "\"month\" is not a length of time"),
        (&["--label", "30d"], "--at-borrows"),
        (&["--at-borrows", "--label", "0d"], "--label must be longer than 0"),
    ] {
        let rejected = output(command(&["features"]).args(arguments));
        let error = String::from_utf8_lossy(&rejected.stderr).into_owned();
        assert!(rejected.status.code() == Some(2) && error.contains(words), "{error}");
    }
}

#[test]
fn rejects_invalid_instants_and_those_beyond_the_lake() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    run_sample(&lake, "3");
    let wallet = HexBytes([7; 20]);
    for (line, words) in [
        (format!("{wallet},2023-01-15T12:00:00Z"), "does not have all events of 2023-01-15"),
        (format!("{wallet},2022-12-31"), "does not have all events of 2022-12-31"),
        (format!("{wallet},noon"), "line 1: \"noon\" is not a time"),
        ("wallet_address,time\nabc,5".to_owned(), "line 2: \"abc\" is not an address"),
    ] {
        let list = folder.path().join("list.csv");
        fs::write(&list, line).expect("a file");
        let rejected = output(&mut command(&["features", "--lake", path_str(&lake), "--at", path_str(&list)]));
        let error = String::from_utf8_lossy(&rejected.stderr).into_owned();
        assert!(rejected.status.code() == Some(2) && error.contains(words), "{error}");
        assert!(rejected.stdout.is_empty());
    }
}

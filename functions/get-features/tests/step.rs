//! Reads features of published sets in a lake.
#![allow(clippy::unwrap_used)] // for the helper functions, which clippy does not treat as tests

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_schema::DataType;
use bytes::Bytes;
use defi_shared::catalog::Registry;
use defi_shared::domain::fold::WalletState;
use defi_shared::domain::{Address, Day, HexBytes, fold, shard_of};
use defi_shared::lake::{FeatureSet, Lake, PassedCheck, WorkUnit};
use defi_shared::tables::{FEATURES_BUILD, FeatureRow, Row};
use defi_shared::testing::{
    AAVE, AwsCall, SimulatedAws, SimulatedClock, SimulatedGlue, SimulatedS3, TestLake, january, kind,
};
use defi_shared::{Kind, Result};
use get_features::{FeatureReader, Input, Output, get, respond};
use serde_json::{Value, json};

const SHARDS: u32 = 4;

/// The time that each call takes.
const LATENCY: Duration = Duration::from_millis(30);

/// A wallet of any shard.
fn wallet(number: u32) -> Address {
    let mut bytes = [0x11; 20];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    HexBytes(bytes)
}

/// The row of a wallet, with values of every type. Every third one has NULLs. `mark` is the value of one feature.
fn row(number: u32, as_of: Day, mark: i64) -> FeatureRow {
    let time = (!number.is_multiple_of(3)).then(|| as_of.start() - i64::from(number));
    let state = WalletState { is_wallet: true, first_deposit: time, ..WalletState::default() };
    let row = FeatureRow::new(wallet(number), &state, as_of);
    FeatureRow { risk_factor: f64::from(number) / 7.0, borrow_count: i64::from(number), repay_count: mark, ..row }
}

/// Publishes a set of the wallets `0..count` in some shards.
async fn publish(lake: &TestLake, as_of: Day, count: u32, shards: u32, mark: i64) -> Result<()> {
    let mut rows: BTreeMap<u32, Vec<FeatureRow>> = (0..shards).map(|shard| (shard, Vec::new())).collect();
    for number in 0..count {
        rows.entry(shard_of(wallet(number), shards)).or_default().push(row(number, as_of, mark));
    }
    for (shard, mut rows) in rows {
        rows.sort_by_key(|row| row.wallet_address);
        lake.put(&FEATURES_BUILD, &WorkUnit::Shard(as_of, shard), rows).await?;
    }
    let (_, digest) = lake.context.lake.features(&FeatureSet::build(as_of)).await?;
    let wallets = u64::from(count);
    let record = PassedCheck { digest: digest.to_string(), shards, wallets, fold_version: fold::VERSION };
    lake.context.lake.write_passed_check(as_of, &record).await?;
    lake.context.publish(as_of).await
}

fn lake() -> Result<TestLake> {
    Ok(TestLake::new(&[AAVE], january(9))?.with_shards(SHARDS))
}

fn reader(lake: &TestLake) -> FeatureReader {
    let context = lake.context();
    FeatureReader::new(context.lake, context.registry, context.config.shards)
}

fn input(numbers: impl IntoIterator<Item = u32>) -> Input {
    Input { wallets: numbers.into_iter().map(wallet).collect(), ..Input::default() }
}

/// The time of the requests: six hours after 9 January began.
fn now() -> i64 {
    january(9).start() + 6 * 3_600
}

/// Returns the rows as they should be in an output.
fn expected(rows: &[FeatureRow]) -> Vec<Value> {
    let batch = FeatureRow::encode(rows).unwrap();
    let cell = |index: usize, name: &str| {
        let column = batch.column_by_name(name).unwrap();
        match column.data_type() {
            _ if column.is_null(index) => Value::Null,
            DataType::Utf8 => json!(column.as_string::<i32>().value(index)),
            DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(index)),
            DataType::Boolean => json!(column.as_boolean().value(index)),
            _ => json!(column.as_primitive::<Int64Type>().value(index)),
        }
    };
    let columns = FeatureRow::columns();
    let object = |index| columns.iter().map(|column| (column.name.to_owned(), cell(index, column.name))).collect();
    (0..rows.len()).map(object).collect()
}

fn values(output: &Output) -> Vec<Value> {
    output.rows.iter().cloned().map(Value::Object).collect()
}

/// Returns the value of a feature in each row.
fn feature<'a>(output: &'a Output, name: &str) -> Vec<&'a Value> {
    output.rows.iter().map(|row| &row[name]).collect()
}

#[tokio::test]
async fn rows_are_the_published_ones_in_the_order_of_the_request() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(8), 300, SHARDS, 1).await?;
    publish(&lake, january(9), 300, SHARDS, 2).await?;
    let reader = reader(&lake);
    for (as_of, day, mark) in [(None, 9, 2), (Some(january(8)), 8, 1), (Some(january(9)), 9, 2), (None, 9, 2)] {
        for numbers in [(0..300).rev().collect::<Vec<_>>(), vec![7], vec![299, 0, 150]] {
            let rows: Vec<_> = numbers.iter().map(|number| row(*number, january(day), mark)).collect();
            let output = get(&reader, &Input { as_of, ..input(numbers) }, now()).await?;
            assert_eq!((output.as_of, &output.unknown[..]), (january(day), &[][..]));
            assert_eq!(values(&output), expected(&rows));
            assert!(
                rows.len() < 300 || rows.iter().any(|row| row.time_since_first_deposit.is_none()),
                "there are NULLs"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn age_is_counted_from_the_midnight_of_the_day() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(8), 5, SHARDS, 1).await?;
    let output = get(&reader(&lake), &Input::default(), now()).await?;
    let nothing = Output { as_of: january(8), age_seconds: 30 * 3_600, rows: Vec::new(), unknown: Vec::new() };
    assert_eq!(output, nothing);
    assert_eq!(get(&reader(&lake), &Input::default(), 0).await?.age_seconds, 0, "a clock that is behind");
    Ok(())
}

#[tokio::test]
async fn unknown_wallets_are_named_and_each_is_answered_once() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(9), 10, SHARDS, 1).await?;
    let reader = reader(&lake);
    for _ in ["cold", "warm"] {
        let output = get(&reader, &input([3, 77, 3, 5, 99, 77]), now()).await?;
        assert_eq!(feature(&output, "borrow_count"), [3, 5]);
        assert_eq!(output.unknown, [wallet(77), wallet(99)]);
        let ends = Input { wallets: vec![Address::MIN, Address::MAX], ..Input::default() };
        assert_eq!(get(&reader, &ends, now()).await?.unknown, [Address::MIN, Address::MAX]);
    }
    Ok(())
}

#[tokio::test]
async fn features_are_those_that_were_asked_for() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(9), 10, SHARDS, 1).await?;
    let names = ["repay_count", "risk_factor"].map(str::to_owned).to_vec();
    let output = get(&reader(&lake), &Input { features: Some(names), ..input([4]) }, now()).await?;
    let row = json!({"wallet_address": wallet(4), "repay_count": 1, "risk_factor": 4.0 / 7.0});
    assert_eq!(values(&output), [row]);
    let unknown = Input { features: Some(vec!["risk_facto".to_owned()]), ..input([4]) };
    let error = get(&reader(&lake), &unknown, now()).await.unwrap_err();
    assert!(error.kind() == Kind::BadInput && error.hint().contains("risk_factor?"), "{error}");
    Ok(())
}

#[tokio::test]
async fn day_without_a_set_names_the_nearest() -> Result<()> {
    let lake = lake()?;
    let reader = reader(&lake);
    for as_of in [None, Some(january(4))] {
        let error = get(&reader, &Input { as_of, ..input([1]) }, now()).await.unwrap_err();
        assert!(
            error.kind() == Kind::NotReady && error.to_string().contains("no features are published yet"),
            "{error}"
        );
    }
    publish(&lake, january(2), 3, SHARDS, 1).await?;
    publish(&lake, january(8), 3, SHARDS, 1).await?;
    for (day, nearest) in [(1, 2), (4, 2), (6, 8), (30, 8)] {
        let error = get(&reader, &Input { as_of: Some(january(day)), ..input([1]) }, now()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            error.kind() == Kind::BadInput && text.contains(&format!("published day is {}", january(nearest))),
            "{text}"
        );
        assert!(text.contains("2 days are published, from 2023-01-02 to 2023-01-08"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn thousand_wallets_are_one_call_and_more_are_refused() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(9), 1_500, SHARDS, 1).await?;
    let reader = reader(&lake);
    let output = get(&reader, &input(500..1_500), now()).await?;
    assert_eq!((output.rows.len(), output.unknown.len()), (1_000, 0));
    let repeated = Input { wallets: [input(0..1_000).wallets, input(0..1_000).wallets].concat(), ..Input::default() };
    assert_eq!(get(&reader, &repeated, now()).await?.rows.len(), 1_000);
    let error = get(&reader, &input(0..1_001), now()).await.unwrap_err();
    assert!(
        error.kind() == Kind::BadInput && error.to_string().contains("1001 wallets are more than the 1000"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn set_with_another_number_of_shards_is_read() -> Result<()> {
    let lake = lake()?;
    for (day, shards) in [(7, 1), (8, 7), (9, 2)] {
        publish(&lake, january(day), 50, shards, day.into()).await?;
        let reader = reader(&lake);
        for _ in ["cold", "warm"] {
            let output = get(&reader, &input(0..60), now()).await?;
            assert_eq!((output.rows.len(), output.unknown.len()), (50, 10), "{shards} shards");
        }
    }
    Ok(())
}

#[tokio::test]
async fn warm_reader_returns_what_is_published_since() -> Result<()> {
    let lake = lake()?;
    let reader = reader(&lake);
    // The same day again, with as many wallets; with more of them, in other shards; and then the next day.
    for (day, count, shards, mark) in [(8, 50, 4, 1), (8, 50, 4, 2), (8, 60, 4, 3), (8, 60, 3, 4), (9, 60, 3, 5)] {
        publish(&lake, january(day), count, shards, mark).await?;
        for numbers in [vec![1], vec![40, 2], (0..count).collect(), vec![1]] {
            let output = get(&reader, &input(numbers.clone()), now()).await?;
            assert_eq!(output.as_of, january(day));
            assert_eq!(feature(&output, "repay_count"), vec![&json!(mark); numbers.len()], "{mark}");
        }
        let as_of = Some(january(8));
        let output = get(&reader, &Input { as_of, ..input([1]) }, now()).await?;
        assert_eq!(feature(&output, "repay_count"), [mark.min(4)]);
    }
    Ok(())
}

#[tokio::test]
async fn set_that_lacks_an_object_is_an_error_and_not_without_wallets() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(9), 50, SHARDS, 1).await?;
    let set = FeatureSet::published(january(9));
    lake.context.lake.store().delete(&set.key(3)).await?;
    assert_eq!(kind(get(&reader(&lake), &input(0..50), now()).await), Some(Kind::CorruptData));
    lake.context.lake.store().put(&set.key(3), Bytes::from_static(b"PAR1")).await?;
    assert_eq!(kind(get(&reader(&lake), &input(0..50), now()).await), Some(Kind::CorruptData));
    Ok(())
}

/// What a call waits for and asks of AWS, over a set of two shards of 10,000 wallets each.
#[test]
fn warm_call_waits_for_one_request_and_a_cold_one_for_three() {
    let clock = SimulatedClock::new();
    let aws = SimulatedAws::new(&clock, LATENCY);
    let mut lake = TestLake::new(&[AAVE], january(9)).unwrap().with_shards(2);
    lake.context.lake = Lake::new(SimulatedS3::new(&aws));
    lake.context.registry = Registry::new(SimulatedGlue::new(&aws), "dev");
    clock.runtime().unwrap().block_on(async {
        for day in [8, 9] {
            publish(&lake, january(day), 20_000, 2, 1).await.unwrap();
        }
        let reader = reader(&lake);
        let shards: Vec<_> = (0..20).map(|number| shard_of(wallet(number), 2)).collect();
        let in_shard =
            |shard| shards.iter().zip(0..).filter(move |(other, _)| **other == shard).map(|(_, number)| number);
        let [first, second] = [0, 1].map(|shard| in_shard(shard).collect::<Vec<u32>>());
        let (old, one) = (Some(january(8)), || input([first[0]]));
        let three = Some(["risk_factor", "borrow_count", "repay_count"].map(str::to_owned).to_vec());
        for (name, input, waits, gets) in [
            ("cold", one(), 3, 2..=4),
            ("warm", one(), 1, 1..=2),
            ("another wallet of the shard", input([first[1]]), 1, 1..=2),
            ("some features", Input { features: three, ..one() }, 1, 1..=2),
            ("a wallet of another shard", input([second[0]]), 3, 2..=4),
            ("wallets of both shards", input([first[2], second[1]]), 1, 2..=4),
            ("a cold day", Input { as_of: old, ..one() }, 3, 2..=4),
            ("a warm day", Input { as_of: old, ..one() }, 1, 1..=2),
            ("all are warm", one(), 1, 1..=2),
        ] {
            aws.take_calls();
            let start = clock.now();
            let output = get(&reader, &input, now()).await.unwrap();
            assert_eq!((output.rows.len(), output.unknown.len()), (input.wallets.len(), 0), "{name}");
            let (time, calls) = (clock.now() - start, aws.take_calls());
            assert_eq!(time, waits * LATENCY, "{name}: {calls:?}");
            assert!(gets.contains(&calls.count(AwsCall::Get)) && calls.count(AwsCall::Glue) == 1, "{name}: {calls:?}");
            assert!(calls.count(AwsCall::List) <= 2 && calls.count(AwsCall::Put) == 0, "{name}: {calls:?}");
        }
    });
}

#[tokio::test]
async fn events_are_inputs_or_requests_to_the_url() -> Result<()> {
    let lake = lake()?;
    publish(&lake, january(9), 10, SHARDS, 1).await?;
    let reader = reader(&lake);
    let eip55 = wallet(3).to_string().to_uppercase().replacen("0X", "0x", 1);
    let input = json!({"wallets": [eip55], "features": ["borrow_count"]});
    let direct = respond(&reader, input.clone()).await?;
    assert_eq!(direct["rows"], json!([{"wallet_address": wallet(3), "borrow_count": 3}]));
    assert_eq!(respond(&reader, json!(null)).await?["as_of"], "2023-01-09");
    let request = |body: &str| json!({"requestContext": {"http": {"method": "POST"}}, "body": body});
    let response = respond(&reader, request(&input.to_string())).await?;
    let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    assert_eq!((&response["statusCode"], &body["rows"]), (&json!(200), &direct["rows"]));
    for (input, message) in [
        (json!({"wallet": []}), "unknown field `wallet`"),
        (json!({"wallets": ["0x12"]}), "(field=wallets[0])"),
        (json!({"wallets": [wallet(1), "vitalik.eth"]}), "(field=wallets[1])"),
        (json!({"as_of": "today"}), "invalid day"),
        (json!({"features": ["risk"]}), "there is no feature \"risk\""),
        (json!([]), "is not a JSON object"),
    ] {
        let error = respond(&reader, input.clone()).await.unwrap_err();
        assert!(error.kind() == Kind::BadInput && error.to_string().contains(message), "{error}");
        let response = respond(&reader, request(&input.to_string())).await?;
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!((&response["statusCode"], &body["error"]), (&json!(400), &json!("BadInput")), "{body}");
    }
    Ok(())
}

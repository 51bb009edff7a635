use serde_json::json;

use super::*;
use crate::recording::{Block, Snapshots};

fn event(log_index: Value, quantity: &str) -> Map<String, Value> {
    let row = json!({
        "block_number": 7, "log_index": log_index, "timestamp": "2023-01-01T00:00:11Z", "protocol_name": "aave",
        "contract_version": "v2", "quantity": quantity, "metadata": {"a": [1, true]}, "token_id": null,
    });
    row.as_object().unwrap().clone()
}

fn store(events: Vec<Map<String, Value>>) -> Store {
    let recording = Recording {
        name: "tiny".to_owned(),
        protocols: vec![],
        schemas: std::collections::BTreeMap::new(),
        first_day: "2023-01-01".to_owned(),
        last_day: "2023-01-01".to_owned(),
        blocks: vec![Block { number: 7, timestamp: 1_672_531_211 }],
        events,
        markets: Snapshots::new(),
        positions: Snapshots::new(),
        left_out: vec![],
    };
    Store::new(&recording, &Timeline::new(&recording).unwrap()).unwrap()
}

fn limits() -> QueryLimits {
    QueryLimits { page_bytes: 1_000_000, timeout: Duration::from_secs(9), stringify_numbers: true }
}

fn rows(store: &Store, sql: &str, parameters: Value) -> Vec<Value> {
    let page = store.run(sql, parameters.as_object().unwrap(), &limits()).unwrap();
    serde_json::from_slice(format!("[{}]", String::from_utf8(page.rows).unwrap()).as_bytes()).unwrap()
}

fn query_error_message(sql: &str, parameters: Value) -> String {
    match store(vec![]).run(sql, parameters.as_object().unwrap(), &limits()) {
        Err(QueryError::Invalid(message)) => message,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn values_are_returned_as_inserted() {
    let big = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let event = event(json!("x"), big);
    let store = store(vec![event.clone()]);
    let row = &rows(&store, "SELECT * FROM ethereum.lending_events", json!({}))[0];
    assert_eq!(row.as_object().unwrap().len(), EVENT_COLUMNS.len());
    for (column, value) in &event {
        assert_eq!(&row[column], value, "{column}");
    }
    let numbers = QueryLimits { stringify_numbers: false, ..limits() };
    let page = store.run("SELECT quantity FROM ethereum.lending_events", &Map::new(), &numbers).unwrap();
    assert_eq!(String::from_utf8(page.rows).unwrap(), format!("{{\"quantity\":{big}}}"));
}

#[test]
fn missing_keys_sort_last_and_are_returned_as_null() {
    let store = store(vec![event(Value::Null, "1"), event(json!(9), "2"), event(json!(10), "3")]);
    let sql = "SELECT log_index, quantity FROM ethereum.lending_events
               WHERE (timestamp, log_index) > ({{time}}, {{log}}) ORDER BY timestamp, log_index";
    // The parameter as text, too: a client may keep it as text, like large integers.
    for log in [json!(8), json!("8")] {
        let found = rows(&store, sql, json!({"time": "2023-01-01T00:00:11Z", "log": log}));
        let logs: Vec<_> = found.iter().map(|row| row["log_index"].clone()).collect();
        assert_eq!(logs, [json!(9), json!(10), Value::Null]);
    }
}

#[test]
fn timestamps_compare_by_time_and_are_returned_as_recorded() {
    let forms = [
        json!("2023-01-01T00:00:11Z"),
        json!("2023-01-01 00:00:11.5"),
        json!("2023-01-01T02:00:12+02:00"),
        json!(1_672_531_213),
        json!("yesterday"),
    ];
    let events = forms.iter().rev().enumerate().map(|(index, form)| {
        let mut event = event(json!(index), "1");
        event.insert("timestamp".to_owned(), form.clone());
        event
    });
    let store = store(events.collect());
    let times = |condition: &str| -> Vec<Value> {
        let sql = format!("SELECT timestamp FROM ethereum.lending_events {condition} ORDER BY timestamp, log_index");
        rows(&store, &sql, json!({})).into_iter().map(|row| row["timestamp"].clone()).collect()
    };
    let text = json!("1672531213");
    assert_eq!(times(""), [&forms[..3], &[text.clone(), forms[4].clone()]].concat());
    assert_eq!(
        times("WHERE timestamp >= '2023-01-01T00:00:12Z' AND timestamp < '2023-01-02'"),
        [forms[2].clone(), text]
    );
    assert_eq!(times("WHERE (timestamp, log_index) > ('2023-01-01T00:00:11Z', 9)")[0], forms[1]);
    assert_eq!(times("WHERE timestamp = '2023-01-01 00:00:12'"), [forms[2].clone()]);
}

#[test]
fn blocks_table_ends_at_the_head() {
    let found = rows(
        &store(vec![]),
        "SELECT block_number, timestamp FROM ethereum.blocks WHERE timestamp >= {{day}} ORDER BY timestamp LIMIT 2",
        json!({"day": "2023-01-01T00:00:00Z"}),
    );
    assert_eq!(found[0], json!({"block_number": 7, "timestamp": "2023-01-01T00:00:11Z"}));
    assert_eq!(found[1], json!({"block_number": 8, "timestamp": "2023-01-01T00:00:23Z"}));
    let count = rows(&store(vec![]), "SELECT count(*) AS n, max(block_number) AS head FROM ethereum.blocks", json!({}));
    assert_eq!(count[0], json!({"n": 301, "head": 307}));
}

#[test]
fn only_reading_the_two_tables_is_allowed() {
    for sql in [
        "DELETE FROM ethereum.blocks",
        "DROP TABLE ethereum.blocks",
        "INSERT INTO ethereum.blocks VALUES (1, 2, 3) RETURNING 1",
        "PRAGMA table_list",
        "ATTACH 'x.db' AS y",
        "SELECT * FROM ethereum.sqlite_master",
        "SELECT * FROM sqlite_master",
        "SELECT 1; SELECT 2",
        "SELECT 1; DELETE FROM ethereum.blocks",
        "",
        "-- nothing",
    ] {
        query_error_message(sql, json!({}));
    }
    let store = store(vec![]);
    let with = "WITH b AS (SELECT block_number AS n FROM ethereum.blocks) SELECT min(n) AS n FROM b";
    assert_eq!(rows(&store, with, json!({}))[0]["n"], 7);
}

#[test]
fn parameters_must_match_the_query() {
    assert_eq!(query_error_message("SELECT {{a}}", json!({})), "missing parameter: a");
    assert_eq!(query_error_message("SELECT {{a}}", json!({"a": 1, "b": 2})), "unknown parameter: b");
    assert_eq!(query_error_message("SELECT {{a}}", json!({"a": [1]})), "invalid parameter: a");
    assert_eq!(query_error_message("SELECT ?1", json!({})), "parameters are written as {{name}}");
    assert_eq!(query_error_message("SELECT gas FROM ethereum.blocks", json!({})), "no such column: gas");
    let row =
        &rows(&store(vec![]), "SELECT {{a}} AS a, {{b}} AS b, {{c}} AS c", json!({"a": null, "b": "x'", "c": 2}))[0];
    assert_eq!(*row, json!({"a": null, "b": "x'", "c": 2}));
}

#[test]
fn page_is_truncated_at_its_size_but_has_a_row() {
    let store = store((0..10).map(|index| event(json!(index), "1")).collect());
    let sql = "SELECT log_index FROM ethereum.lending_events ORDER BY log_index";
    let run = |page_bytes| store.run(sql, &Map::new(), &QueryLimits { page_bytes, ..limits() }).unwrap();
    let complete = run(10 * 15 + 9);
    assert_eq!((complete.count, complete.truncated, complete.rows.len()), (10, false, 159));
    let truncated = run(10 * 15 + 8);
    assert_eq!((truncated.count, truncated.truncated), (9, true));
    let minimal = run(0);
    assert_eq!((minimal.count, minimal.truncated), (1, true));
}

#[test]
fn endless_query_times_out() {
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)";
    let limits = QueryLimits { timeout: Duration::from_millis(50), page_bytes: usize::MAX, ..limits() };
    let run = |sql: &str| store(vec![]).run(sql, &Map::new(), &limits);
    assert_eq!(run(&format!("{endless} SELECT max(x) FROM c")), Err(QueryError::Timeout));
    let page = run(&format!("{endless} SELECT x FROM c")).unwrap();
    assert!(page.truncated && page.count > 0);
}

#[test]
fn values_statements_and_rows_have_a_maximum_length() {
    let long = format!("SELECT '{}'", "x".repeat(300_000));
    let wide = format!("SELECT {}", vec!["zeroblob(4000000)"; 65].join(", "));
    let compound = vec!["SELECT 1"; 65].join(" UNION ALL ");
    for sql in [
        "SELECT length(zeroblob(1000000000))",
        "SELECT length(hex(zeroblob(3000000)))",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT replace(hex(zeroblob(1000000)), '00', 'xxxxxxxxxxxx')",
        "SELECT group_concat(hex(zeroblob(100000))) FROM ethereum.blocks",
        &format!("SELECT 1 WHERE '' LIKE '{}'", "%_".repeat(100)),
        &long,
        &wide,
        &compound,
    ] {
        let start = Instant::now();
        query_error_message(sql, json!({}));
        assert!(start.elapsed() < Duration::from_secs(5), "{}", &sql[..50]);
    }
    // A statement that counts the events of all protocols that a configuration can have.
    let selection = "(protocol_name = 'aave' AND contract_version = 'v2' AND category = 'borrow' \
                     AND timestamp >= '2023-01-01T00:00:00Z' AND timestamp < '2023-01-02T00:00:00Z')";
    let count = format!("SELECT COUNT(*) AS n FROM ethereum.lending_events WHERE {}", [selection; 64].join(" OR "));
    assert_eq!(rows(&store(vec![]), &count, json!({}))[0]["n"], 0);
}

#[test]
fn time_spent_waiting_for_another_query_counts() {
    let store = store(vec![]);
    let limits = QueryLimits { timeout: Duration::from_millis(50), ..limits() };
    std::thread::scope(|scope| {
        let busy = store.0.lock().unwrap();
        let waiting = scope.spawn(|| store.run("SELECT 1", &Map::new(), &limits));
        std::thread::sleep(Duration::from_millis(100));
        drop(busy);
        assert_eq!(waiting.join().unwrap(), Err(QueryError::Timeout));
    });
}

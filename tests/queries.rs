//! `defi query`: which objects it reads, whose fault an error is, and its output.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use defi_shared::tables::LENDING_EVENTS;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};
use crate::support::page::repository_file;

/// Returns a lake that tests may change.
fn sample_lake() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "30", "--days", "5"]));
    (folder, lake)
}

/// Returns a lake that tests only read.
fn shared_lake() -> &'static Path {
    static LAKE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &LAKE.get_or_init(sample_lake).1
}

/// Returns a lake with events of every category, that tests only read.
fn lake_of_events() -> &'static Path {
    static LAKE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, lake) = LAKE.get_or_init(|| {
        let folder = tempdir().expect("a temporary folder");
        let lake = folder.path().join("lake");
        succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "60", "--days", "14"]));
        (folder, lake)
    });
    lake
}

fn query(lake: &Path, args: &[&str]) -> Command {
    let mut command = command(&["query", "--lake", path_str(lake)]);
    command.args(args);
    command
}

/// Returns the rows of a query.
fn rows(lake: &Path, sql: &str) -> Value {
    serde_json::from_str(&succeed(&mut query(lake, &["--format", "json", sql]))).expect("JSON")
}

fn count(lake: &Path, table: &str) -> u64 {
    rows(lake, &format!("select count(*) as n from {table}"))[0]["n"].as_u64().expect("a number")
}

/// Runs a query that fails, and returns its error: one line that starts with the kind.
fn error(kind: &str, command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{command:?} succeeds: {}", String::from_utf8_lossy(&output.stdout));
    let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{error}"));
    assert!(line.starts_with(&format!("error: {kind}: ")), "{command:?}: {error}");
    line.to_owned()
}

const BLOCKS: &str = "db_raw_dev.ethereum_daily_blocks";
const BLOCK_FOLDER: &str = "raw/transpose/ethereum_daily_blocks/year=2023/month=01";

#[test]
fn folder_of_any_name_gives_the_same_rows() {
    let (folder, lake) = sample_lake();
    let expected = rows(&lake, &format!("select * from {BLOCKS} order by day"));
    assert_eq!(expected.as_array().map(Vec::len), Some(6));
    assert_eq!((&expected[0]["year"], &expected[0]["month"]), (&json!("2023"), &json!("01")));
    for name in ["x[1]", "a*b", "a?", "{a,b}", "100%", "a%20b", "#1", "a b", "ü"] {
        let renamed = folder.path().join(name);
        fs::rename(&lake, &renamed).expect("the lake is renamed");
        assert_eq!(rows(&renamed, &format!("select * from {BLOCKS} order by day")), expected, "{name}");
        assert!(count(&renamed, "db_analytics_dev.defi_features") > 0, "{name}");
        fs::rename(&renamed, &lake).expect("the lake is renamed");
    }
}

#[test]
fn only_the_objects_of_units_are_read() {
    let (_folder, lake) = sample_lake();
    let tables = [
        (BLOCKS, BLOCK_FOLDER, "2023-01-02"),
        (
            "db_raw_dev.the_graph_historical_market_data",
            "raw/the_graph/the_graph_historical_market_data/year=2023/month=01",
            "2023-01-02.aave-v2-eth",
        ),
        ("db_analytics_dev.defi_features", "analytics/features/defi_features/as_of=2023-01-06", "0"),
    ];
    for (table, objects, name) in tables {
        let before = count(&lake, table);
        assert!(before > 0, "{table}");
        let objects = lake.join(objects);
        let object = objects.join(format!("{name}.parquet"));
        for stray in [format!("._{name}"), format!("{name} (1)"), format!("{name}.copy"), "x".to_owned()] {
            fs::copy(&object, objects.join(format!("{stray}.parquet"))).expect("a stray file");
        }
        fs::write(objects.join("empty.parquet"), b"").expect("a stray file");
        assert_eq!(count(&lake, table), before, "{table}");
    }
}

#[test]
fn empty_object_is_an_error_that_names_it() {
    let (_folder, lake) = sample_lake();
    let key = format!("{BLOCK_FOLDER}/2023-01-03.parquet");
    fs::write(lake.join(&key), b"").expect("an empty object");
    for sql in [format!("select count(*) from {BLOCKS}"), format!("select day from {BLOCKS} limit 1")] {
        let error = error("CorruptData", &mut query(&lake, &[&sql]));
        assert!(error.contains(&key) && error.contains("0 bytes"), "{error}");
    }
    // Other tables can be queried.
    assert!(count(&lake, "db_analytics_dev.defi_features") > 0);
}

#[cfg(unix)]
#[test]
fn link_to_an_object_is_read_and_a_link_to_a_folder_is_named() {
    use std::os::unix::fs::symlink;

    let (folder, lake) = sample_lake();
    let (object, moved) = (lake.join(BLOCK_FOLDER).join("2023-01-03.parquet"), folder.path().join("object"));
    let expected = rows(&lake, &format!("select * from {BLOCKS} order by day"));
    fs::rename(&object, &moved).expect("the object");
    symlink(&moved, &object).expect("a link");
    assert_eq!(rows(&lake, &format!("select * from {BLOCKS} order by day")), expected);
    let doctor = output(&mut command(&["doctor", "--lake", path_str(&lake)]));
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));

    fs::remove_file(&moved).expect("the object");
    let dangling = error("BadInput", &mut query(&lake, &[&format!("select * from {BLOCKS}")]));
    assert!(dangling.contains("symbolic link") && dangling.contains(path_str(&object)), "{dangling}");
    fs::remove_file(&object).expect("the link");
    let objects = lake.join(BLOCK_FOLDER);
    fs::rename(&objects, &moved).expect("the folder");
    symlink(&moved, &objects).expect("a link");
    let linked = error("BadInput", &mut query(&lake, &[&format!("select * from {BLOCKS}")]));
    assert!(linked.contains("symbolic link") && linked.contains(path_str(&objects)), "{linked}");
}

#[test]
fn damaged_object_is_named() {
    let (_folder, lake) = sample_lake();
    let key = format!("{BLOCK_FOLDER}/2023-01-03.parquet");
    let intact = fs::read(lake.join(&key)).expect("an object");
    let mut damaged_pages = intact.clone();
    damaged_pages[4..intact.len() / 3].fill(0xff);
    for damaged in [b"PAR1".to_vec(), b"no Parquet file".to_vec(), intact[..intact.len() - 1].to_vec(), damaged_pages] {
        fs::write(lake.join(&key), damaged).expect("a damaged object");
        for format in ["table", "csv", "json"] {
            let error =
                error("CorruptData", &mut query(&lake, &["--format", format, &format!("select * from {BLOCKS}")]));
            assert!(error.contains(&format!("object={key}")), "{error}");
        }
    }
    fs::remove_file(lake.join(&key)).expect("the object");
    assert_eq!(count(&lake, BLOCKS), 5, "a missing day is not an error");
}

#[test]
fn objects_of_other_partitions_are_not_opened() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    for as_of in ["2023-01-04", "2023-01-06"] {
        let sample = ["--wallets", "30", "--days", "5", "--as-of", as_of];
        succeed(command(&["run", "--lake", path_str(&lake)]).args(sample));
    }
    let history = "db_analytics_dev.defi_features_history";
    let days = rows(&lake, &format!("select distinct as_of from {history} order by as_of"));
    assert_eq!(days, json!([{"as_of": "2023-01-04"}, {"as_of": "2023-01-06"}]));
    let newest = count(&lake, "db_analytics_dev.defi_features");
    for filter in [
        "as_of = (select max(as_of) from db_analytics_dev.defi_features)",
        "as_of in (select as_of from db_analytics_dev.defi_features)",
        "substr(as_of, 9) > '04'",
        "as_of > '2023-01-04' and borrow_count >= 0",
        "cast(as_of as date) = date '2023-01-06'",
    ] {
        assert_eq!(count(&lake, &format!("{history} where {filter}")), newest, "{filter}");
    }
    assert_eq!(count(&lake, &format!("{history} where as_of < '2023-01-01' or as_of is null")), 0);
    let key = "analytics/features/defi_features/as_of=2023-01-04/0.parquet";
    fs::write(lake.join(key), b"PAR1").expect("a damaged object");
    assert_eq!(count(&lake, &format!("{history} where as_of = '2023-01-06'")), newest);
    assert_eq!(count(&lake, "db_analytics_dev.defi_features"), newest);
    assert!(error("CorruptData", &mut query(&lake, &[&format!("select * from {history}")])).contains(key));
}

#[test]
fn faults_of_the_sql_are_bad_input() {
    let lake = shared_lake();
    let borrows = "db_stage_dev.transpose_borrow_events";
    for (sql, word) in [
        (format!("select cast(transaction_hash as int) from {borrows}"), "Cast"),
        ("select cast('x' as int)".to_owned(), "x"),
        (format!("select log_index / (log_index - log_index) from {borrows}"), "ivide by zero"),
        ("select 1 / 0".to_owned(), "ivide by zero"),
        (
            format!("select cast(quantity as decimal(38,0)) * cast(1e37 as decimal(38,0)) * 10 from {borrows}"),
            "verflow",
        ),
        ("select cast('1e40' as decimal(38,0))".to_owned(), "1e40"),
        ("select 9223372036854775807 + 1".to_owned(), "verflow"),
        (format!("select log_index - 9223372036854775807 - 9223372036854775807 from {borrows}"), "verflow"),
        (
            format!("select epoch_timestamp * 9223372036854775807 as x from {borrows} where log_index + 1 > 0"),
            "verflow",
        ),
        (format!("select regexp_like(transaction_hash, '(') from {borrows}"), "unclosed group"),
        (format!("select regexp_replace('a', '(' || protocol, 'b') from {borrows}"), "unclosed group"),
        (format!("select arrow_cast(1e300, 'Int64') from {borrows}"), "1e300"),
    ] {
        let error = error("BadInput", &mut query(lake, &[&sql]));
        assert!(error.contains(word), "{sql}: {error}");
        assert_eq!(error.matches("; next: ").count(), 1, "{error}");
    }
}

#[test]
fn answer_that_the_format_cannot_hold_is_bad_input() {
    let lake = shared_lake();
    let interval = "select interval '1 day' as i";
    for (format, sql) in
        [("csv", "select make_array(1, 2) as a"), ("json", "select map([1], [1]) as m"), ("parquet", interval)]
    {
        let error = error("BadInput", &mut query(lake, &["--format", format, sql]));
        assert!(error.contains("choose another --format"), "{error}");
    }
}

#[test]
fn hint_names_what_to_write_instead() {
    let lake = shared_lake();
    for (sql, hint) in [
        ("select * from transpose_repay_events", "such as db_analytics_dev.transpose_repay_events"),
        ("select * from nothing", "such as db_analytics_dev.defi_features"),
        ("select sum(quantity) from db_raw_dev.transpose_borrow_events", "correct the SQL"),
        ("select risk_facto from defi_features", "Did you mean 'defi_features.risk_factor'?; next: correct the SQL"),
        ("select nonsense from defi_features", "'describe TABLE' lists the columns of a table"),
    ] {
        let error = error("BadInput", &mut query(lake, &[sql]));
        assert!(
            error.contains(hint) && !error.contains("bug in DataFusion") && !error.contains("Valid fields"),
            "{error}"
        );
    }
}

#[test]
fn arithmetic_that_does_not_overflow_is_as_before() {
    let lake = shared_lake();
    let sql = "select x + 1 as a, x - 1 as b, x * 2 as c, x + cast(1 as int) as d, x + 0.5 as e, x + null as f, -x as g, \
               arrow_typeof(cast(1 as int) + cast(2 as int)) as h, date '2023-01-01' + interval '1 day' as i \
               from (values (3)) as t(x) where x + 1 = 4";
    assert_eq!(
        rows(lake, sql),
        json!([{"a": 4, "b": 2, "c": 6, "d": 4, "e": 3.5, "f": null, "g": -3, "h": "Int32", "i": "2023-01-02"}])
    );
    let grouped = "select x % 2 + 1, count(*) + 1, sum(x + 1) from (values (1), (2), (3)) as t(x) group by x % 2 + 1 order by x % 2 + 1";
    let csv = succeed(&mut query(lake, &["--format", "csv", grouped]));
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[1..], ["1,2,3", "2,3,6"], "{csv}");
    assert!(lines[0].contains(" + ") && !lines[0].contains("checked"), "{csv}");
}

#[test]
fn sum_that_overflows_is_an_error() {
    let lake = shared_lake();
    let most = "cast('99999999999999999999999999999999999999' as decimal(38,0))";
    let values = |count: usize| {
        let rows: Vec<_> = (0..count).map(|group| format!("({}, {most})", group % 2)).collect();
        format!("(values {}) as t(g, x)", rows.join(", "))
    };
    for sql in [
        // Beyond 38 digits, and beyond 128 bits.
        format!("select sum(x) from {}", values(2)),
        format!("select sum(x) from {}", values(4)),
        format!("select g, sum(x) from {} group by g", values(4)),
        format!("select sum(x) over (order by g) from {}", values(4)),
        format!("select sum(x) over (order by g rows between 1 preceding and current row) from {}", values(4)),
        "select sum(x) from (values (9223372036854775807), (1)) as t(x)".to_owned(),
    ] {
        let error = error("BadInput", &mut query(lake, &[&sql]));
        assert!(error.contains("overflow"), "{sql}: {error}");
    }
    let exact = rows(
        lake,
        &format!(
            "select sum(x) as a, sum(distinct x) as b, sum(-x) as c, sum(x) filter (where x < 0) as d, \
             count(x) as n from {}",
            values(1)
        ),
    );
    let most = "9".repeat(38);
    assert_eq!(exact, json!([{"a": most, "b": most, "c": format!("-{most}"), "d": null, "n": 1}]));
    let types = rows(
        lake,
        "select arrow_typeof(sum(quantity)) as a, arrow_typeof(sum(log_index)) as b, arrow_typeof(sum(epoch_timestamp / 2.0)) as c \
         from db_stage_dev.transpose_borrow_events",
    );
    assert_eq!(types, json!([{"a": "Decimal128(38, 0)", "b": "Int64", "c": "Float64"}]));
}

#[test]
fn sums_of_intermediate_results_beyond_the_type_are_exact() {
    let lake = shared_lake();
    let most = "cast('99999999999999999999999999999999999999' as decimal(38,0))";
    let sum = format!("select sum(x) as s from (values ({most}), ({most}), ({most}), (-{most}), (-{most})) as t(x)");
    assert_eq!(rows(lake, &sum), json!([{"s": "9".repeat(38)}]));
}

#[test]
fn json_keeps_every_digit_and_every_column() {
    let lake = shared_lake();
    let borrows = "db_stage_dev.transpose_borrow_events";
    let sql = format!(
        "select cast(9007199254740993 as decimal(38,0)) as big, cast(1.50 as decimal(9,2)) as small, null as none, \
         [cast(9007199254740993 as decimal(38,0))] as list, cast('NaN' as double) as nan, \
         cast('Infinity' as double) as infinity, 0.5 as half, 7 as seven from {borrows} limit 1"
    );
    assert_eq!(
        rows(lake, &sql),
        json!([{"big": "9007199254740993", "small": "1.50", "none": null, "list": ["9007199254740993"],
                "nan": null, "infinity": null, "half": 0.5, "seven": 7}])
    );
    let quantities = rows(lake, &format!("select quantity from {borrows}"));
    assert!(quantities.as_array().expect("rows").iter().all(|row| row["quantity"].is_string()), "{quantities}");

    let joined = "select a.x, b.x, b.y as x_1 from (values (1)) as a(x), (values (2, 3)) as b(x, y)";
    assert_eq!(succeed(&mut query(lake, &["--format", "json", joined])).trim(), r#"[{"x":1,"x_2":2,"x_1":3}]"#);
    assert_eq!(succeed(&mut query(lake, &["--format", "csv", joined])), "x,x_2,x_1\n1,2,3\n");
}

#[test]
fn sql_comes_from_an_argument_standard_input_or_a_file() {
    let lake = shared_lake();
    let folder = tempdir().expect("a temporary folder");
    let file = folder.path().join("query.sql");
    let sql = "-- how many\nselect 1 as one;\n";
    fs::write(&file, sql).expect("a file");
    let expected = "one\n1\n";
    assert_eq!(succeed(&mut query(lake, &["--format", "csv", sql])), expected);
    assert_eq!(succeed(&mut query(lake, &["--format", "csv", "--file", path_str(&file)])), expected);
    // Without SQL, standard input is read unless it is a terminal.
    for args in [&["--format", "csv", "-"][..], &["--format", "csv"]] {
        let mut command = query(lake, args);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command starts");
        process.stdin.take().expect("stdin is piped").write_all(sql.as_bytes()).expect("the command reads");
        assert_eq!(process.wait_with_output().expect("the command ends").stdout, expected.as_bytes());
    }

    let mut with_mark = b"\xef\xbb\xbf".to_vec();
    with_mark.extend_from_slice(sql.as_bytes());
    fs::write(&file, &with_mark).expect("a file");
    assert_eq!(succeed(&mut query(lake, &["--format", "csv", "--file", path_str(&file)])), expected);
    let mut command = query(lake, &["--format", "csv", "-"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command starts");
    process.stdin.take().expect("stdin is piped").write_all(&with_mark).expect("the command reads");
    assert_eq!(process.wait_with_output().expect("the command ends").stdout, expected.as_bytes());

    let missing = folder.path().join("missing.sql");
    assert!(error("BadInput", &mut query(lake, &["--file", path_str(&missing)])).contains(path_str(&missing)));
    fs::write(&file, b"select '\xff'").expect("a file");
    assert!(error("BadInput", &mut query(lake, &["--file", path_str(&file)])).contains("UTF-8"));
    error("BadInput", &mut query(lake, &["--file", path_str(&file), "select 1"]));
    error("BadInput", &mut query(lake, &["-"]));
}

#[test]
fn unknown_option_is_not_sql() {
    let lake = shared_lake();
    for args in [&["--aws", "select 1"][..], &["--aws"], &["select 1", "--aws"], &["--html", "x", "select 1"], &["-x"]]
    {
        let error = error("BadInput", &mut query(lake, args));
        let option = args.iter().find(|arg| arg.starts_with('-')).expect("an option");
        assert!(error.contains(option) && error.contains("defi query --help"), "{args:?}: {error}");
    }
}

#[test]
fn table_is_escaped_and_data_is_not() {
    let lake = shared_lake();
    let sql = "select 'a\u{1b}[2J\u{202e}' || chr(10) || 'b' as x";
    let table = succeed(&mut query(lake, &[sql]));
    assert!(table.contains(r"| a\u{1b}[2J\u{202e}\nb |"), "{table}");
    assert_eq!(succeed(&mut query(lake, &["--format", "csv", sql])), "x\n\"a\u{1b}[2J\u{202e}\nb\"\n");
    let row: Value = serde_json::from_str(&succeed(&mut query(lake, &["--format", "json", sql]))).expect("JSON");
    assert_eq!(row[0]["x"], "a\u{1b}[2J\u{202e}\nb");
}

#[test]
fn table_needs_no_database_where_its_name_is_unique() {
    let lake = shared_lake();
    for name in ["defi_features", "wallet_health_daily", "ethereum_daily_blocks", "lending_events"] {
        let layer = if name == "ethereum_daily_blocks" { "raw" } else { "analytics" };
        assert_eq!(count(lake, name), count(lake, &format!("db_{layer}_dev.{name}")), "{name}");
    }
    let sql = "select count(*) as n from defi_features join wallet_links on defi_features.wallet_address = wallet_links.wallet_address";
    assert!(rows(lake, sql)[0]["n"].as_u64() > Some(0));
    // Of this name there are tables in three layers.
    error("BadInput", &mut query(lake, &["select * from transpose_borrow_events"]));
}

#[test]
fn lending_events_have_each_event_once_with_its_amounts() {
    let lake = lake_of_events();
    for category in ["borrow", "deposit", "liquidation", "repay", "withdraw"] {
        let table = format!("db_analytics_dev.transpose_{category}_events");
        let columns = "count(*) as n, count(distinct transaction_hash || cast(log_index as varchar)) as logs, \
                       count(quantity) as quantities";
        let expected = rows(lake, &format!("select {columns}, sum(quantity_eth) as eth from {table}"));
        let found = rows(
            lake,
            &format!("select {columns}, sum(amount_eth) as eth from lending_events where category = '{category}'"),
        );
        assert_eq!(found[0]["n"], expected[0]["n"], "{category}");
        assert!(expected[0]["n"].as_u64() > Some(0), "{category}");
        assert_eq!(
            (&found[0]["logs"], &found[0]["quantities"]),
            (&expected[0]["logs"], &expected[0]["quantities"]),
            "{category}"
        );
        let [found, expected] = [found, expected].map(|rows| rows[0]["eth"].as_f64().expect("a sum"));
        assert!((found / expected - 1.0).abs() < 1e-9, "{category}: {found} {expected}");
    }
    // Each row against the market that gave its price, and that of ETH: the sample chain has Aave's prices in ETH.
    let wrong = "with events as (select * from db_analytics_dev.transpose_borrow_events \
          union all select * from db_analytics_dev.transpose_liquidation_events), \
        markets as (select *, date(block_timestamp) as day from db_stage_dev.the_graph_historical_market_data), \
        compared as (select m.price_unit = 'ETH' as in_eth, \
            v.wallet_address <> e.index_address or v.quantity <> e.quantity or v.symbol <> m.input_token_symbol \
            or abs(v.amount * e.price_eth / v.amount_eth - 1) > 1e-9 \
            or abs(case when m.price_unit = 'ETH' then v.amount_eth * eth.input_token_price_usd \
                   else v.amount * m.input_token_price_usd end / v.amount_usd - 1) > 1e-9 as is_wrong \
          from lending_events v \
          join events e on e.category = v.category and e.transaction_hash = v.transaction_hash and e.log_index = v.log_index \
          join markets m on m.market_id = e.price_market_id and m.protocol = e.price_protocol and m.day = e.price_day \
          join markets eth on eth.input_token_symbol = 'ETH' and eth.protocol = 'compound-v2-eth' and eth.day = e.price_day) \
        select count_if(in_eth) > 10 as eth, count_if(in_eth is null) > 10 as usd, count_if(is_wrong is null or is_wrong) as wrong \
        from compared";
    assert_eq!(rows(lake, wrong), json!([{"eth": true, "usd": true, "wrong": 0}]));
}

#[test]
fn lending_events_have_the_documented_columns() {
    let lake = shared_lake();
    let sql = "select column_name as name, data_type as type from information_schema.columns \
               where table_schema = 'db_analytics_dev' and table_name = 'lending_events' order by ordinal_position";
    let found = rows(lake, sql);
    let expected: Vec<_> = (LENDING_EVENTS.columns)()
        .into_iter()
        .map(|column| json!({"name": column.name, "type": column.data_type.to_string()}))
        .collect();
    assert_eq!(found, Value::Array(expected));
}

#[test]
fn native_ether_has_dollars_without_a_market() {
    let lake = lake_of_events();
    let sql = "select count(*) > 5 as any, count(*) - count(amount_usd) as without, count_if(symbol <> 'ETH') as other, \
               count_if(abs(amount - amount_eth) > 1e-12) as wrong from lending_events \
               where token_address = '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee'";
    assert_eq!(rows(lake, sql), json!([{"any": true, "without": 0, "other": 0, "wrong": 0}]));
}

#[test]
fn functions_have_the_names_and_the_meaning_that_they_have_in_athena() {
    let lake = shared_lake();
    let values = "(values (1, 'a'), (2, null), (3, null), (4, null), (10, 'a')) as t(x, s)";
    for (expression, expected) in [
        ("date_diff('day', date '2023-01-01', date '2023-01-31')", json!(30)),
        ("date_diff('day', timestamp '2023-01-01 12:00:00', timestamp '2023-01-02 11:59:59')", json!(0)),
        (
            "date_diff('hour', min(arrow_cast(timestamp '2023-01-01 00:00:00', 'Timestamp(ms, \"UTC\")')), date '2023-01-02')",
            json!(24),
        ),
        ("date_diff('month', date '2023-03-31', date '2023-02-28')", json!(-1)),
        ("date_diff('day', null, date '2023-01-31')", json!(null)),
        ("sum(date_diff('day', from_unixtime(0), from_unixtime(x * 86400 + 1)))", json!(20)),
        ("approx_percentile(x, 0.5)", json!(3.0)),
        ("approx_percentile(x, 0)", json!(1.0)),
        ("approx_percentile(cast(x as decimal(38,0)), 1)", json!(10.0)),
        ("arbitrary(s)", json!("a")),
        ("any_value(s)", json!("a")),
        ("arbitrary(cast(null as int))", json!(null)),
        ("count_if(x > 2)", json!(3)),
        ("count_if(s = 'a')", json!(2)),
        ("count_if(x > 2) filter (where x < 10)", json!(2)),
        ("arrow_typeof(from_iso8601_timestamp('2023-01-01T00:00:00Z'))", json!("Timestamp(ms, \"UTC\")")),
        ("from_iso8601_timestamp('2023-01-01T02:00:00.5+02:00') = timestamp '2023-01-01 00:00:00.5'", json!(true)),
        ("from_iso8601_timestamp('2023-01-01')", json!("2023-01-01T00:00:00Z")),
        ("from_iso8601_date('2023-01-31')", json!("2023-01-31")),
        ("date('2023-01-31')", json!("2023-01-31")),
        ("date(from_iso8601_timestamp('2023-01-31T23:59:59Z'))", json!("2023-01-31")),
    ] {
        assert_eq!(rows(lake, &format!("select {expression} as v from {values}"))[0]["v"], expected, "{expression}");
    }
    assert_eq!(rows(lake, &format!("select count_if(x > 2) as v from {values} where x > 100")), json!([{"v": 0}]));
    let grouped = format!("select x % 2 as g, count_if(x > 2) as v from {values} group by x % 2 order by g");
    assert_eq!(rows(lake, &grouped), json!([{"g": 0, "v": 2}, {"g": 1, "v": 1}]));
    for (expression, word) in [
        ("date_diff('days', date '2023-01-01', date '2023-01-31')", "\"days\""),
        ("date_diff('day', '2023-01-01', '2023-01-31')", "date '2023-01-01'"),
        ("from_iso8601_timestamp('yesterday')", "yesterday"),
        ("approx_percentile(x, 2)", "between 0.0 and 1.0"),
    ] {
        let error = error("BadInput", &mut query(lake, &[&format!("select {expression} from {values}")]));
        assert!(error.contains(word), "{expression}: {error}");
    }
}

#[test]
fn saved_queries_of_athena_run_unchanged() {
    let lake = shared_lake();
    let athena = fs::read_to_string(repository_file("infra/athena.tf")).expect("the file");
    let queries: Vec<_> =
        athena.split("<<-SQL\n").skip(1).map(|text| text.split("\n      SQL").next().expect("SQL")).collect();
    assert!(queries.len() >= 6);
    for sql in queries {
        rows(lake, &sql.replace("${local.environment}", "dev"));
    }
}

#[test]
fn answer_is_a_table_in_markdown() {
    let lake = shared_lake();
    let sql = "select 1 as n, 'a|b <i>' as \"x_y\", null as none";
    let expected = "| n | x_y        | none |\n|---|------------|------|\n| 1 | a\\|b \\<i\\> |      |\n";
    assert_eq!(succeed(&mut query(lake, &["--format", "markdown", sql])), expected);
}

#[test]
fn file_is_written_when_the_answer_is_complete() {
    let (_folder, lake) = sample_lake();
    let file = lake.with_file_name("answer");
    for format in ["table", "csv", "json", "markdown", "parquet", "arrow"] {
        let sql = "select * from defi_features order by wallet_address";
        let expected = output(&mut query(&lake, &["--format", format, sql])).stdout;
        assert_eq!(succeed(&mut query(&lake, &["--format", format, "--output", path_str(&file), sql])), "");
        assert!(fs::read(&file).expect("the file") == expected && !expected.is_empty(), "{format}");
    }
    let before = fs::read(&file).expect("the file");
    let object = lake.join(BLOCK_FOLDER).join("2023-01-03.parquet");
    fs::write(&object, b"PAR1").expect("a damaged object");
    for (kind, sql) in
        [("CorruptData", "select * from ethereum_daily_blocks"), ("BadInput", "select 1 / 0"), ("BadInput", "select")]
    {
        error(kind, &mut query(&lake, &["--format", "csv", "--output", path_str(&file), sql]));
        assert!(fs::read(&file).expect("the file") == before, "the old file stays: {sql}");
    }
}

//! The API key appears in no error, log or row, wherever and in whatever form a source repeats it.

use std::io;
use std::sync::{Arc, Mutex};

use defi_shared::config::Config;
use defi_shared::error::{Kind, Result};
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{EventsQuery, TransposeClient, TransposeSettings};
use defi_shared::sources::{RateLimit, RetryPolicy, Secret, Traffic};
use defi_shared::step::Clients;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::graph::{BLOCK, SUBGRAPH, meta, position};
use super::loopback::{TestResponse, TestServer};

const KEY: &str = "Gr4ph+4f1c9a7e2b8d4065/a3f7e91c6d20b85a";

/// The base64 of "Bearer " and the key.
const BASE64: &str = "QmVhcmVyIEdyNHBoKzRmMWM5YTdlMmI4ZDQwNjUvYTNmN2U5MWM2ZDIwYjg1YQ==";

/// A value to replace by the key.
const PLACE: &str = "@@";

fn each(encode: impl Fn(char) -> String) -> String {
    KEY.chars().map(encode).collect()
}

/// Returns the forms in which an answer repeats the key, within a JSON string.
fn forms() -> Vec<String> {
    let code = |c: char| c as u32;
    vec![
        KEY.to_owned(),
        format!("Bearer {KEY}"),
        KEY.to_lowercase(),
        KEY.to_uppercase(),
        BASE64.to_owned(),
        each(|c| if c.is_alphanumeric() { c.to_string() } else { format!("%{:02X}", code(c)) }),
        each(|c| format!("%{:02x}", code(c))),
        each(|c| format!("\\u{:04x}", code(c))),
        each(|c| if c == '/' { "\\/".to_owned() } else { c.to_string() }),
        each(|c| format!("&#{};", code(c))),
        // Truncated by the source.
        format!("key {}…", &KEY[..22]),
        format!("…{}", &KEY[KEY.len() - 22..]),
    ]
}

/// Asserts that a text contains no 16 characters of the key, and none of its forms.
fn assert_contains_no_key(context: &str, text: &str) {
    let lower = text.to_lowercase();
    let parts = [KEY, BASE64].into_iter().flat_map(|form| (0..form.len() - 16).map(|from| &form[from..from + 16]));
    for part in parts.map(str::to_owned).chain(forms().into_iter().skip(5)) {
        assert!(!lower.contains(&part.to_lowercase()), "{context}: {part} is in {text}");
    }
}

/// A log of all levels and targets.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    pub fn start() -> (Log, DefaultGuard) {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    pub fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().unwrap())).into_owned()
    }
}

/// The status, the headers and the body of an answer.
type Answer = (u16, Vec<(&'static str, String)>, String);

/// A server with an answer that changes, both clients of it, and their log.
struct Echo {
    answer: Arc<Mutex<Answer>>,
    graph: GraphClient,
    transpose: TransposeClient,
    log: Log,
    _subscriber: DefaultGuard,
}

/// The calls of the clients.
const CALLS: [&str; 7] = ["head", "markets", "positions", "events", "count_events", "first_block", "head_block"];

impl Echo {
    async fn start() -> Self {
        let (log, subscriber) = Log::start();
        let answer = Arc::new(Mutex::new((200, Vec::new(), String::new())));
        let respond = Arc::clone(&answer);
        let server = TestServer::start(move |request| {
            assert!(format!("{:?}", request.headers).contains(KEY), "the key was not sent");
            let (status, headers, body) = respond.lock().unwrap().clone();
            headers
                .into_iter()
                .fold(TestResponse::new(status, body), |response, (name, value)| response.with_header(name, value))
        })
        .await;
        let keys = || vec![Secret::new(KEY)];
        let (rate, retry) = (RateLimit::per_second(1_000_000), RetryPolicy { tries: 2, ..RetryPolicy::LOOPBACK });
        let graph = GraphSettings { rate, retry, ..GraphSettings::new(&server.url, keys()) };
        let transpose = TransposeSettings { rate, retry, ..TransposeSettings::new(&server.url, keys()) };
        let (graph, transpose) = (GraphClient::new(graph).unwrap(), TransposeClient::new(transpose).unwrap());
        Echo { answer, graph, transpose, log, _subscriber: subscriber }
    }

    /// Makes a call whose answer repeats the key. Asserts that it fails and that the key appears nowhere.
    async fn call(&self, call: &str, status: u16, headers: &[(&'static str, String)], body: &str) {
        *self.answer.lock().unwrap() = (status, headers.to_vec(), body.to_owned());
        let (kind, shown) = self.outcome(call).await;
        let context = format!("{call}, {status}, {headers:?}, {body}");
        assert!(kind.is_some() || !body.contains(KEY), "{context}: the rows were accepted: {shown}");
        assert_contains_no_key(&context, &shown);
        assert_contains_no_key(&context, &self.log.take());
    }

    /// Returns the kind of the error of a call, and everything that can be shown of its outcome.
    async fn outcome(&self, call: &str) -> (Option<Kind>, String) {
        fn describe<T: std::fmt::Debug>(outcome: Result<T>) -> (Option<Kind>, String) {
            let error = outcome.as_ref().err();
            let text = error.map(|error| format!("{error} {error:#?}")).unwrap_or_default();
            (error.map(|error| error.kind()), format!("{text} {outcome:?}"))
        }
        let traffic = Traffic::new();
        let query = || EventsQuery {
            protocol_name: "aave".to_owned(),
            contract_version: "v2".to_owned(),
            category: "borrow".to_owned(),
            from: 1_672_531_200,
            to: 1_672_617_600,
        };
        match call {
            "head" => describe(self.graph.head(SUBGRAPH, &traffic).await),
            "markets" => describe(self.graph.markets(SUBGRAPH, BLOCK, &traffic).await),
            "positions" => describe(self.graph.positions(SUBGRAPH, BLOCK, None, false, &traffic).await),
            "events" => describe(self.transpose.events(&query(), &traffic).await),
            "count_events" => describe(self.transpose.count_events(&[query()], &traffic).await),
            "first_block" => describe(self.transpose.first_block(1_672_531_200, &traffic).await),
            _ => describe(self.transpose.head_block(&traffic).await),
        }
    }
}

/// A server that gets the requests of both sources knows both keys.
#[tokio::test]
async fn key_of_the_other_source_is_recognized() {
    const OTHER: &str = "tr4nspose-k3y-0123456789";
    let server = TestServer::start(|_| TestResponse::new(400, format!("seen {KEY} and {OTHER}"))).await;
    let graph = GraphSettings::new(&server.url, vec![Secret::new(KEY)]);
    let transpose = TransposeSettings::new(&server.url, vec![Secret::new(OTHER)]);
    let clients = Clients::new(&Config::built_in().unwrap(), graph, transpose, 1).unwrap();
    let traffic = Traffic::new();
    for error in [
        clients.graph.head(SUBGRAPH, &traffic).await.unwrap_err(),
        clients.transpose.head_block(&traffic).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("seen *** and ***"), "{error}");
    }
}

/// Returns an answer that a call accepts.
fn answer(call: &str) -> Value {
    let data = |name: &str, rows: Value| json!({"data": {"_meta": meta(BLOCK, "QmA"), name: rows}, "extensions": {}});
    let results = |row: Value| {
        let stats = json!({"count": 1, "size": 9, "time": 1, "truncated": false});
        json!({"status": "success", "message": null, "stats": stats, "results": [row]})
    };
    let block = || json!({"block_number": 16_308_190, "timestamp": "2023-01-01T00:00:11Z", "block_hash": "0xab"});
    let token = json!({"id": "0xa", "symbol": "WETH", "decimals": 18});
    match call {
        "head" => data("other", json!(null)),
        "markets" => {
            let market = json!({"id": "0xa", "name": "Aave WETH", "maximumLTV": "82.5", "liquidationThreshold": "86",
                "inputTokenPriceUSD": "1200.5", "totalDepositBalanceUSD": "1", "totalBorrowBalanceUSD": "1",
                "inputToken": token});
            data("markets", json!([market]))
        }
        "positions" => data("positions", json!([position("0xa-0xb-LENDER-0"), position("0xb-0xb-LENDER-0")])),
        "events" => results(json!({"category": "borrow", "block_number": 16_308_190, "log_index": 7,
            "timestamp": "2023-01-01T00:00:11Z", "transaction_hash": "0xab", "protocol_name": "aave",
            "contract_version": "v2", "market_address": "0xa", "token_address": "0xa", "token_id": null,
            "account_address": "0xa", "sender_address": "0xa", "quantity": "1500000", "liquidator_address": null,
            "quantity_liquidated": null, "liquidated_token_address": null, "metadata": {"a": [1, 2.5]}})),
        "count_events" => results(json!({"count": 17})),
        _ => results(block()),
    }
}

/// Returns copies of a value: in each, one of its scalars, or the name of one of its fields, is the place for the key.
fn with_places(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => {
            let mut copies = Vec::new();
            for (name, field) in fields {
                let with = |name: &str, field: Value| {
                    let mut copy = fields.clone();
                    copy.insert(name.to_owned(), field);
                    Value::Object(copy)
                };
                copies.push(with(PLACE, field.clone()));
                copies.extend(with_places(field).into_iter().map(|field| with(name, field)));
            }
            copies
        }
        Value::Array(items) => {
            let mut copies = Vec::new();
            for (index, item) in items.iter().enumerate() {
                for copy in with_places(item) {
                    let mut items = items.clone();
                    items[index] = copy;
                    copies.push(Value::Array(items));
                }
            }
            copies
        }
        _ => vec![json!(PLACE)],
    }
}

#[tokio::test]
async fn key_in_any_field_of_an_answer_appears_nowhere() {
    let echo = Echo::start().await;
    for call in CALLS {
        *echo.answer.lock().unwrap() = (200, Vec::new(), answer(call).to_string());
        let (kind, shown) = echo.outcome(call).await;
        assert_eq!(kind, None, "{call} accepts the answer without a key: {shown}");
        for body in with_places(&answer(call)) {
            for form in forms() {
                echo.call(call, 200, &[], &body.to_string().replace(PLACE, &form)).await;
            }
        }
    }
}

#[tokio::test]
async fn key_in_data_is_an_error() {
    let echo = Echo::start().await;
    for form in forms() {
        let mut body = answer("positions");
        body["data"]["positions"][0]["market"]["name"] = json!(PLACE);
        *echo.answer.lock().unwrap() = (200, Vec::new(), body.to_string().replace(PLACE, &form));
        let (kind, shown) = echo.outcome("positions").await;
        assert_eq!(kind, Some(Kind::CorruptData), "{form}");
        assert!(shown.contains("the data in the response contain the API key"), "{shown}");
    }
}

#[tokio::test]
async fn key_in_an_error_appears_nowhere() {
    let echo = Echo::start().await;
    let errors = [
        json!({"errors": [{"message": PLACE}]}).to_string(),
        json!({"errors": [{"message": format!("auth error: {PLACE}")}, {"message": PLACE}]}).to_string(),
        json!({"errors": [{"code": PLACE}]}).to_string(),
        json!({"errors": PLACE}).to_string(),
        json!({"message": PLACE}).to_string(),
        json!({"status": "error", "message": format!("the statement timed out: {PLACE}")}).to_string(),
        json!([PLACE]).to_string(),
        PLACE.to_owned(),
        format!("<html>{PLACE}</html>"),
        format!("error code: {PLACE}"),
        // The limit of a message is within the key.
        format!("{}{PLACE}", "x".repeat(490)),
        // The connection is closed within the key.
        format!("{{\"message\": \"{PLACE}"),
    ];
    for status in [200, 302, 401, 403, 404, 429, 503] {
        for error in &errors {
            for form in forms() {
                for call in ["head", "count_events"] {
                    echo.call(call, status, &[], &error.replace(PLACE, &form)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn key_in_a_header_appears_nowhere() {
    let echo = Echo::start().await;
    for name in ["retry-after", "location", "www-authenticate", "content-type", "content-encoding", "x-request-id"] {
        for status in [200, 302, 401, 429, 503] {
            for form in forms().into_iter().filter(|form| form.is_ascii()) {
                for call in ["head", "count_events"] {
                    echo.call(call, status, &[(name, form.clone())], "{}").await;
                }
            }
        }
    }
}

#[tokio::test]
async fn key_in_the_path_of_the_url_appears_nowhere() {
    const PATH_KEY: &str = "4f1c9a7e2b8d4065a3f7e91c6d20b85a";
    let (log, _subscriber) = Log::start();
    let server = TestServer::start(|request| {
        assert!(request.path.contains(PATH_KEY));
        TestResponse::new(404, json!({"message": format!("no page {}", request.path)}).to_string())
    })
    .await;
    let settings = GraphSettings::new(format!("{}/api/{PATH_KEY}", server.url), Vec::new());
    let error = GraphClient::new(settings).unwrap().head(SUBGRAPH, &Traffic::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("SourceRejected: {\"message\":\"no page /api/***/subgraphs"), "{error}");
    assert!(!format!("{error:?} {}", log.take()).contains(PATH_KEY));
}

//! Runs the binary of the function against a test server for the Lambda Runtime API.
#![allow(clippy::unwrap_used)] // for the helper functions, which clippy does not treat as tests

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use defi_shared::testing::{AAVE, TestLake, january};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The time limit for a response of the function. Only a very busy machine reaches it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Enough time for an invocation.
const MINUTES: Duration = Duration::from_secs(120);

/// The result that the function posts for an invocation: `response` or `error`, and the body.
type InvocationResult = (String, Value);

/// The state of the test server.
#[derive(Clone)]
struct RuntimeApi {
    events: Arc<Mutex<VecDeque<Value>>>,
    /// The time that each invocation has.
    time: Duration,
    results: UnboundedSender<InvocationResult>,
}

/// Returns the next invocation. After the last one it waits forever, as Lambda does.
async fn next_invocation(State(api): State<RuntimeApi>) -> Response {
    let Some(event) = api.events.lock().unwrap().pop_front() else { return std::future::pending().await };
    let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + api.time;
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:000000000000:function:plan-run".to_owned()),
    ];
    (headers, Json(event)).into_response()
}

/// Receives the result of an invocation.
async fn receive_result(
    State(api): State<RuntimeApi>,
    Path((_, outcome)): Path<(String, String)>,
    body: Bytes,
) -> StatusCode {
    api.results.send((outcome, serde_json::from_slice(&body).unwrap())).unwrap();
    StatusCode::ACCEPTED
}

/// Starts a server with these invocations. Returns its address and a channel with the results that it receives.
async fn start_runtime_api(
    events: impl Into<VecDeque<Value>>,
    time: Duration,
) -> (String, UnboundedReceiver<InvocationResult>) {
    let (sender, results) = unbounded_channel();
    let api = RuntimeApi { events: Arc::new(Mutex::new(events.into())), time, results: sender };
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
        .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(receive_result))
        .with_state(api);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, results)
}

/// Starts the function over a lake, with these invocations, and returns their results.
async fn results_of<const N: usize>(test_lake: &TestLake, events: [Value; N], time: Duration) -> Vec<InvocationResult> {
    let (address, mut incoming) = start_runtime_api(events, time).await;
    let _function = Function::start(&address, test_lake);
    let mut results = Vec::new();
    while results.len() < N {
        results.push(tokio::time::timeout(RESPONSE_TIMEOUT, incoming.recv()).await.unwrap().unwrap());
    }
    results
}

/// Returns the outcome and the kind of the error of each result.
fn kinds(results: &[InvocationResult]) -> Vec<(&str, Option<&str>)> {
    results.iter().map(|(outcome, body)| (outcome.as_str(), body["errorType"].as_str())).collect()
}

/// The process of the function. It is killed when dropped.
struct Function(Child);

impl Function {
    fn start(address: &str, test_lake: &TestLake) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plan-run"));
        command.env_clear().env("AWS_LAMBDA_RUNTIME_API", address).env("LAKE", test_lake.folder());
        let function = [("NAME", "plan-run"), ("MEMORY_SIZE", "512"), ("VERSION", "1")];
        command.envs(function.map(|(name, value)| (format!("AWS_LAMBDA_FUNCTION_{name}"), value)));
        Function(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn responds_to_lambda_with_results_and_error_kinds() {
    let test_lake = TestLake::new(&[AAVE], january(3)).unwrap();
    let one_day = json!({"as_of": "2020-12-01", "from": "2020-12-01"});
    let events = [json!({}), json!(null), one_day, json!({"asof": "2023-01-01"}), json!({"as_of": "2199-01-01"})];
    let results = results_of(&test_lake, events, MINUTES).await;
    let response = ("response", None);
    let rejected = ("error", Some("BadInput"));
    assert_eq!(
        kinds(&results),
        [rejected, rejected, response, rejected, rejected],
        "a rejected call does not end the function"
    );
    let (everything, one_day) = (&results[0].1, &results[2].1);
    assert!(
        everything["errorMessage"].as_str().unwrap().contains("days from 2019-05-17 on are missing"),
        "{everything}"
    );
    assert_eq!((&one_day["as_of"], &one_day["units"][0]), (&json!("2020-12-01"), &json!(["extract-daily-blocks", 1])));
    assert!(results[3].1["errorMessage"].as_str().unwrap().contains("asof"));
    assert!(test_lake.folder().join(one_day["plan"].as_str().unwrap()).is_file(), "the plan is in the lake");
    assert_eq!(results[1].1, *everything, "null input, as the console sends it, is the default input");
}

#[tokio::test]
async fn call_of_an_execution_that_lost_the_lease_does_nothing() {
    let test_lake = TestLake::new(&[AAVE], january(3)).unwrap();
    test_lake.context.take_lease("arn:first").await.unwrap();
    let event = |by: &str| json!({"as_of": "2020-12-01", "from": "2020-12-01", "execution": "arn:first", "lease": by});
    let results = results_of(&test_lake, [event("arn:second"), event("arn:first")], MINUTES).await;
    assert_eq!(kinds(&results), [("error", Some("AlreadyRunning")), ("response", None)]);
    let plans = test_lake.objects("runs").await.unwrap().into_keys().filter(|key| key.ends_with("plan.json"));
    assert_eq!(plans.collect::<Vec<_>>(), [results[1].1["plan"].as_str().unwrap()]);
}

#[tokio::test]
async fn call_ends_with_an_error_before_its_process_is_killed() {
    let test_lake = TestLake::new(&[AAVE], january(3)).unwrap();
    let results = results_of(&test_lake, [json!({"as_of": "2020-12-01"})], Duration::from_secs(3)).await;
    assert_eq!(kinds(&results), [("error", Some("Internal"))]);
    assert!(results[0].1["errorMessage"].as_str().unwrap().contains("too short"), "{}", results[0].1);
}

//! The function itself, against a server on loopback that speaks the Lambda Runtime API.
#![allow(clippy::unwrap_used)] // in the functions that the tests share

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
use defi_shared::testing::{AAVE, Lab, january};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long the function may take for an answer; a machine has to be very busy for this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the function posted: `response` or `error`, and the body.
type Posted = (String, Value);

#[derive(Clone)]
struct Lambda {
    events: Arc<Mutex<VecDeque<Value>>>,
    posted: UnboundedSender<Posted>,
}

/// The next invocation; after the last one it waits, as Lambda does.
async fn next(State(lambda): State<Lambda>) -> Response {
    let Some(event) = lambda.events.lock().unwrap().pop_front() else { return std::future::pending().await };
    let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(120);
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:000000000000:function:plan-run".to_owned()),
    ];
    (headers, Json(event)).into_response()
}

async fn outcome(State(lambda): State<Lambda>, Path((_, what)): Path<(String, String)>, body: Bytes) -> StatusCode {
    lambda.posted.send((what, serde_json::from_slice(&body).unwrap())).unwrap();
    StatusCode::ACCEPTED
}

/// A server with these invocations, and what is posted to it.
async fn lambda(events: impl Into<VecDeque<Value>>) -> (String, UnboundedReceiver<Posted>) {
    let (posted, outcomes) = unbounded_channel();
    let lambda = Lambda { events: Arc::new(Mutex::new(events.into())), posted };
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(outcome))
        .with_state(lambda);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, outcomes)
}

/// The function's process; it ends with the test.
struct Function(Child);

impl Function {
    fn start(address: &str, lab: &Lab) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plan-run"));
        command.env_clear().env("AWS_LAMBDA_RUNTIME_API", address).env("LAKE", lab.folder());
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
async fn the_function_answers_lambda_and_its_errors_carry_their_kind() {
    let lab = Lab::new(&[AAVE], january(3)).unwrap();
    let one_day = json!({"as_of": "2020-12-01", "from": "2020-12-01"});
    let events = [json!({}), one_day, json!({"asof": "2023-01-01"}), json!({"as_of": "2199-01-01"}), json!(null)];
    let (address, mut outcomes) = lambda(events).await;
    let _function = Function::start(&address, &lab);
    let mut posted = Vec::new();
    while posted.len() < 5 {
        posted.push(tokio::time::timeout(PATIENCE, outcomes.recv()).await.unwrap().unwrap());
    }
    let kinds: Vec<_> = posted.iter().map(|(what, body)| (what.as_str(), body["errorType"].as_str())).collect();
    let response = ("response", None);
    let refused = ("error", Some("BadInput"));
    assert_eq!(kinds, [response, response, refused, refused, response], "one refused call does not end the function");
    let (everything, one_day) = (&posted[0].1, &posted[1].1);
    assert_eq!(everything["nothing_to_do"], false);
    assert_eq!((&one_day["as_of"], &one_day["units"][0]), (&json!("2020-12-01"), &json!(["extract-daily-blocks", 1])));
    assert!(posted[2].1["errorMessage"].as_str().unwrap().contains("asof"));
    assert!(lab.folder().join(one_day["plan"].as_str().unwrap()).is_file(), "the plan lies in the lake");
    assert_eq!(posted[4].1["nothing_to_do"], false, "null is the console's nothing");
}

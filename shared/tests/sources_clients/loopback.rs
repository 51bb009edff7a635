//! An HTTP server on the loopback interface that returns the responses of a test and records its requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;

#[derive(Debug, Clone)]
pub struct TestRequest {
    /// The number of earlier requests.
    pub number: usize,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl TestRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub struct TestResponse {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    pub delay: Duration,
}

impl TestResponse {
    pub fn new(status: u16, body: impl Into<Body>) -> Self {
        TestResponse { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO }
    }

    pub fn json(body: &Value) -> Self {
        TestResponse::new(200, body.to_string())
    }

    pub fn with_header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

pub struct TestServer {
    pub url: String,
    requests: Arc<Mutex<Vec<TestRequest>>>,
    max_concurrent: Arc<AtomicUsize>,
}

impl TestServer {
    pub async fn start(respond: impl Fn(&TestRequest) -> TestResponse + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, max_concurrent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (respond, log, max, current) =
            (Arc::new(respond), requests.clone(), max_concurrent.clone(), Arc::new(AtomicUsize::new(0)));
        let handle = move |uri: Uri, headers: HeaderMap, body: String| {
            let (respond, log, max, current) = (respond.clone(), log.clone(), max.clone(), current.clone());
            async move {
                max.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let request = {
                    let mut log = log.lock().unwrap();
                    let body = serde_json::from_str(&body).unwrap();
                    let request = TestRequest { number: log.len(), path: uri.path().to_owned(), headers, body };
                    log.push(request.clone());
                    request
                };
                let response = respond(&request);
                tokio::time::sleep(response.delay).await;
                current.fetch_sub(1, Ordering::SeqCst);
                let mut builder = Response::builder().status(StatusCode::from_u16(response.status).unwrap());
                for (name, value) in response.headers {
                    builder = builder.header(name, value);
                }
                builder.body(response.body).unwrap()
            }
        };
        let app = Router::new().fallback(handle);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        TestServer { url, requests, max_concurrent }
    }

    pub fn requests(&self) -> Vec<TestRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn max_concurrent(&self) -> usize {
        self.max_concurrent.load(Ordering::SeqCst)
    }
}

/// Returns a pseudo-random number that depends only on `n`, so that every test run gets the same numbers.
pub fn pseudo_random(n: usize) -> usize {
    let n = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize
}

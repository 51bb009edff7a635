//! Tests that web pages can't talk to the server.

use crate::support::{AAVE, start, tiny};
use serde_json::{Value, json};

/// The headers of a request that replace or add to those of the client.
type Headers = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn requests_that_a_web_page_could_send_are_not_answered() {
    let server = start(&tiny("aave-v2-eth", vec![])).await;
    let graph = format!("{}/subgraphs/id/{AAVE}", server.graph_url());
    let transpose = format!("{}/sql", server.transpose_url());
    for (url, body, field) in [
        (&graph, json!({"query": "{ positions { id } }"}), "data"),
        (&transpose, json!({"sql": "SELECT 1 AS one"}), "results"),
    ] {
        let send = async |headers: Headers| {
            let mut request = crate::support::client().post(url).body(body.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.unwrap();
            let allows_others = response.headers().contains_key("access-control-allow-origin");
            (response.status().as_u16(), response.text().await.unwrap(), allows_others)
        };
        let (status, answer, allows_others) = send(&[("content-type", "application/json")]).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, answer.get(field).is_some(), allows_others), (200, true, false), "{answer}");
        for (headers, expected) in [
            // A name of the page's own site that resolves to loopback.
            (&[("content-type", "application/json"), ("host", "attacker.example:8700")] as Headers, 421),
            (&[("content-type", "application/json"), ("origin", "http://attacker.example")], 403),
            (&[("content-type", "application/json"), ("origin", "null")], 403),
            // Without a preflight, a page may send these types only.
            (&[("content-type", "text/plain")], 415),
            (&[("content-type", "application/x-www-form-urlencoded")], 415),
            (&[], 415),
        ] {
            let (status, answer, _) = send(headers).await;
            assert_eq!(status, expected, "{headers:?}");
            assert!(!answer.contains(field), "{headers:?}: {answer}");
        }
        let preflight = crate::support::client().request(reqwest::Method::OPTIONS, url);
        let preflight = preflight.header("origin", "http://attacker.example").send().await.unwrap();
        assert_eq!(preflight.status(), 403);
        assert!(!preflight.headers().contains_key("access-control-allow-origin"));
    }
    assert_eq!(server.request_count(), 2);
}

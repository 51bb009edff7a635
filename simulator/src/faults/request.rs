//! Requests, parsed as far as the faults need it.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::kinds::{Api, Fault};

/// The limit of a request body. Most have a few hundred bytes; the largest lists a thousand accounts.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The start of the condition that selects the events after a key, which later pages have.
const KEYSET_CONDITION: &str = " AND (timestamp, log_index) > (";

/// A request with its body.
pub(super) struct ParsedRequest {
    parts: Parts,
    body: Bytes,
    json: Value,
}

impl ParsedRequest {
    /// Reads a request. A body that is too long or incomplete is read as empty.
    pub(super) async fn read(request: Request) -> ParsedRequest {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        ParsedRequest { parts, body, json }
    }

    /// Returns the key of the request: the hash of its path and body. All attempts of a request have the same key.
    pub(super) fn key(&self) -> [u8; 32] {
        let path = self.parts.uri.path().as_bytes();
        Sha256::new().chain_update(path).chain_update([0]).chain_update(&self.body).finalize().into()
    }

    /// Builds the request again, with its own body or another one.
    pub(super) fn to_request(&self, body: Option<Bytes>) -> Request {
        Request::from_parts(self.parts.clone(), Body::from(body.unwrap_or_else(|| self.body.clone())))
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.parts.extensions.get().cloned()
    }

    /// Returns whether a fault is applicable to the request. It may still not be applicable to its response.
    pub(super) fn supports(&self, fault: Fault) -> bool {
        let is_graph = self.parts.uri.path().starts_with("/subgraphs/");
        match fault.api() {
            Api::Graph if !is_graph => false,
            Api::Transpose if is_graph => false,
            _ => match fault {
                Fault::HeadBehind | Fault::Pruned | Fault::PrunedByOne | Fault::MissingBlock | Fault::OtherBlock => {
                    self.block().is_some()
                }
                Fault::RepeatedPage | Fault::OtherDeployment | Fault::ReorganisedBlock => {
                    self.first_page_body().is_some()
                }
                Fault::OtherRows => self.other_category_body().is_some(),
                _ => true,
            },
        }
    }

    /// Returns the block that a request to The Graph is pinned to.
    pub(super) fn block(&self) -> Option<u64> {
        self.json.pointer("/variables/block")?.as_u64()
    }

    /// Returns the body of the request that is answered instead of this one, for faults that do so.
    pub(super) fn substitute_body(&self, fault: Fault) -> Option<Bytes> {
        match fault {
            Fault::RepeatedPage => self.first_page_body(),
            Fault::OtherRows => self.other_category_body(),
            _ => None,
        }
    }

    /// Returns the body that requests events of another category.
    fn other_category_body(&self) -> Option<Bytes> {
        let sql = self.json.get("sql")?.as_str()?;
        let (before, rest) = sql.split_once("category = '")?;
        let (category, after) = rest.split_once('\'')?;
        let other = if category == "deposit" { "borrow" } else { "deposit" };
        self.with_sql(format!("{before}category = '{other}'{after}"))
    }

    fn with_sql(&self, sql: String) -> Option<Bytes> {
        let mut json = self.json.clone();
        json.as_object_mut()?.insert("sql".to_owned(), Value::from(sql));
        Some(json.to_string().into())
    }

    /// Returns the body that requests the first page, if this request is for a later page.
    fn first_page_body(&self) -> Option<Bytes> {
        let mut json = self.json.clone();
        if let Some(filter) = json.pointer_mut("/variables/where").and_then(Value::as_object_mut) {
            let is_first = filter.get("id_gt").and_then(Value::as_str) == Some("");
            filter.remove("id_gte");
            filter.remove("id_lt");
            filter.insert("id_gt".to_owned(), Value::from(""));
            return (!is_first).then(|| json.to_string().into());
        }
        let sql = json.get("sql")?.as_str()?;
        let (before, rest) = sql.split_once(KEYSET_CONDITION)?;
        let (_, after) = rest.split_once(')')?;
        self.with_sql(format!("{before}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn request(path: &str, body: Value) -> ParsedRequest {
        ParsedRequest::read(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }

    fn parsed(body: Option<Bytes>) -> Option<Value> {
        body.map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn first_page_body_is_derived_from_a_later_page() {
        let page = async |filter: Value| request("/subgraphs/id/x", json!({"variables": {"where": filter}})).await;
        let first = json!({"variables": {"where": {"balance_not": "0", "id_gt": ""}}});
        for later in
            [json!({"balance_not": "0", "id_gt": "0x1", "id_lt": "0x2"}), json!({"balance_not": "0", "id_gte": "0x2"})]
        {
            assert_eq!(parsed(page(later).await.first_page_body()), Some(first.clone()));
        }
        assert_eq!(page(json!({"id_gt": ""})).await.first_page_body(), None);

        let sql = |condition: &str| json!({"sql": format!("SELECT x FROM y WHERE z = 1{condition} ORDER BY x")});
        let later = request("/sql", sql(" AND (timestamp, log_index) > ('2023-01-01T00:00:11Z', 7)")).await;
        assert_eq!(parsed(later.first_page_body()), Some(sql("")));
        assert_eq!(request("/sql", sql("")).await.first_page_body(), None);
    }

    #[tokio::test]
    async fn requests_support_only_applicable_faults() {
        let head = request("/subgraphs/id/x", json!({"query": "{ _meta { deployment } }"})).await;
        let pinned = request("/subgraphs/id/x", json!({"variables": {"block": 7, "where": {"id_gt": ""}}})).await;
        let rows = request("/sql", json!({"sql": "SELECT 1"})).await;
        let supported = |fault| [&head, &pinned, &rows].map(|request| request.supports(fault));
        assert_eq!(supported(Fault::Closed), [true, true, true]);
        assert_eq!(supported(Fault::PermanentErrors), [true, true, false]);
        assert_eq!(supported(Fault::Pruned), [false, true, false]);
        assert_eq!(supported(Fault::OtherDeployment), [false, false, false]);
        assert_eq!(supported(Fault::Truncated), [false, false, true]);
    }
}

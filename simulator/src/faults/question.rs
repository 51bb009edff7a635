//! What is asked, as far as the faults must understand it.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::kinds::{At, Fault};

/// Questions are some hundred bytes long; the longest names a thousand accounts.
const LONGEST_QUESTION: usize = 1 << 20;

/// The condition with which a page of events goes on after a key.
const AFTER: &str = " AND (timestamp, log_index) > (";

/// A request with its body.
pub(super) struct Question {
    parts: Parts,
    body: Bytes,
    json: Value,
}

impl Question {
    /// Reads a request. A body that is too long or cut off is none.
    pub(super) async fn read(request: Request) -> Question {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, LONGEST_QUESTION).await.unwrap_or_default();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Question { parts, body, json }
    }

    /// What tells it from all others: equal questions have equal keys, whoever asks them and when.
    pub(super) fn key(&self) -> [u8; 32] {
        let path = self.parts.uri.path().as_bytes();
        Sha256::new().chain_update(path).chain_update([0]).chain_update(&self.body).finalize().into()
    }

    /// The request again, with its own body or another.
    pub(super) fn request(&self, body: Option<Bytes>) -> Request {
        Request::from_parts(self.parts.clone(), Body::from(body.unwrap_or_else(|| self.body.clone())))
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.parts.extensions.get().cloned()
    }

    /// Whether a fault can happen to it, as far as the question tells.
    pub(super) fn can_meet(&self, fault: Fault) -> bool {
        let is_graph = self.parts.uri.path().starts_with("/subgraphs/");
        match fault.at() {
            At::Graph if !is_graph => false,
            At::Transpose if is_graph => false,
            _ => match fault {
                Fault::HeadBehind | Fault::Pruned | Fault::OtherBlock => self.block().is_some(),
                Fault::RepeatedPage | Fault::OtherDeployment | Fault::ReorganisedBlock => self.first_page().is_some(),
                Fault::OtherRows => self.other_rows().is_some(),
                _ => true,
            },
        }
    }

    /// The block that a question to The Graph is pinned to.
    pub(super) fn block(&self) -> Option<u64> {
        self.json.pointer("/variables/block")?.as_u64()
    }

    /// The body of the question that is answered in place of this one.
    pub(super) fn mistaken(&self, fault: Fault) -> Option<Bytes> {
        match fault {
            Fault::RepeatedPage => self.first_page(),
            Fault::OtherRows => self.other_rows(),
            _ => None,
        }
    }

    /// The body that asks for events of another category.
    fn other_rows(&self) -> Option<Bytes> {
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

    /// The body that asks for the first page, if this one asks for a later page.
    fn first_page(&self) -> Option<Bytes> {
        let mut json = self.json.clone();
        if let Some(filter) = json.pointer_mut("/variables/where").and_then(Value::as_object_mut) {
            let begins = filter.get("id_gt").and_then(Value::as_str) == Some("");
            filter.remove("id_gte");
            filter.remove("id_lt");
            filter.insert("id_gt".to_owned(), Value::from(""));
            return (!begins).then(|| json.to_string().into());
        }
        let sql = json.get("sql")?.as_str()?;
        let (before, rest) = sql.split_once(AFTER)?;
        let (_, after) = rest.split_once(')')?;
        self.with_sql(format!("{before}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn question(path: &str, body: Value) -> Question {
        Question::read(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }

    fn parsed(body: Option<Bytes>) -> Option<Value> {
        body.map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_later_page_leads_back_to_the_first() {
        let page = async |filter: Value| question("/subgraphs/id/x", json!({"variables": {"where": filter}})).await;
        let first = json!({"variables": {"where": {"balance_not": "0", "id_gt": ""}}});
        for later in
            [json!({"balance_not": "0", "id_gt": "0x1", "id_lt": "0x2"}), json!({"balance_not": "0", "id_gte": "0x2"})]
        {
            assert_eq!(parsed(page(later).await.first_page()), Some(first.clone()));
        }
        assert_eq!(page(json!({"id_gt": ""})).await.first_page(), None);

        let sql = |condition: &str| json!({"sql": format!("SELECT x FROM y WHERE z = 1{condition} ORDER BY x")});
        let later = question("/sql", sql(" AND (timestamp, log_index) > ('2023-01-01T00:00:11Z', 7)")).await;
        assert_eq!(parsed(later.first_page()), Some(sql("")));
        assert_eq!(question("/sql", sql("")).await.first_page(), None);
    }

    #[tokio::test]
    async fn a_fault_meets_the_questions_that_it_can_happen_to() {
        let head = question("/subgraphs/id/x", json!({"query": "{ _meta { deployment } }"})).await;
        let pinned = question("/subgraphs/id/x", json!({"variables": {"block": 7, "where": {"id_gt": ""}}})).await;
        let rows = question("/sql", json!({"sql": "SELECT 1"})).await;
        let meets = |fault| [&head, &pinned, &rows].map(|question| question.can_meet(fault));
        assert_eq!(meets(Fault::Closed), [true, true, true]);
        assert_eq!(meets(Fault::LastingErrors), [true, true, false]);
        assert_eq!(meets(Fault::Pruned), [false, true, false]);
        assert_eq!(meets(Fault::OtherDeployment), [false, false, false]);
        assert_eq!(meets(Fault::Truncated), [false, false, true]);
    }
}

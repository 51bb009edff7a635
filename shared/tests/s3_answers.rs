//! What the store in S3 makes of answers that S3 gives only now and then, ordered from the local AWS.
#![allow(clippy::unwrap_used)] // in the test helpers

use bytes::Bytes;
use defi_shared::lake::{PutOutcome, S3Store, Store};
use defi_shared::{Kind, Result};
use serde_json::{Value, json};

use crate::local_aws::{ATTEMPTS, LocalAws};

/// A store in a bucket of the local AWS.
struct Bucket {
    aws: &'static LocalAws,
    name: &'static str,
    store: S3Store,
}

impl Bucket {
    async fn new(name: &'static str) -> Option<Self> {
        let aws = LocalAws::shared()?;
        aws.bucket(name).await;
        Some(Bucket { aws, name, store: S3Store::new(&aws.sdk_config(), name) })
    }

    /// Makes a call while S3 gives `times` answers of a kind.
    async fn during<T>(&self, times: u32, mut answer: Value, call: impl Future<Output = Result<T>>) -> Result<T> {
        let object = format!("{}/*", self.name);
        answer["object"] = json!(object);
        answer["times"] = json!(times);
        self.aws.order_answer(&answer);
        let result = call.await;
        assert_eq!(self.aws.cancel_answers(&object), [] as [Value; 0], "there were fewer requests");
        result
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn error_of_a_head_has_its_kind_by_its_status() {
    let Some(bucket) = Bucket::new("heads").await else { return };
    bucket.store.put("key", bytes("1")).await.unwrap();
    // S3 answers 400 to an expired token. The SDK repeats a call only if the status says that this may help.
    for (status, times, kind) in [
        (400, 1, Kind::BadCredentials),
        (403, 2, Kind::BadCredentials),
        (500, ATTEMPTS, Kind::SourceUnavailable),
        (503, ATTEMPTS, Kind::Throttled),
    ] {
        let head = json!({"method": "HEAD", "status": status});
        let error = bucket.during(times, head, bucket.store.digest("key")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
    }
    for status in [500, 503] {
        let head = json!({"method": "HEAD", "status": status});
        assert!(bucket.during(1, head, bucket.store.digest("key")).await.unwrap().is_some(), "{status} is retried");
    }
}

#[tokio::test]
async fn object_that_is_created_while_its_absence_is_checked_is_found() {
    let Some(bucket) = Bucket::new("created").await else { return };
    bucket.store.put("key", bytes("1")).await.unwrap();
    // A role that may not list the whole bucket is denied a missing object, and then finds it in a listing.
    for method in ["HEAD", "GET"] {
        let denied = json!({"method": method, "status": 403, "code": "AccessDenied"});
        let compare = async { Ok((bucket.store.digest("key").await?.is_some(), bucket.store.get("key").await?)) };
        assert_eq!(bucket.during(1, denied, compare).await.unwrap(), (true, Some(bytes("1"))), "{method}");
    }
}

#[tokio::test]
async fn write_during_another_one_is_tried_again() {
    let Some(bucket) = Bucket::new("writes").await else { return };
    for (status, code) in [
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
        (412, "PreconditionFailed"),
        // For If-Match: the object is gone.
        (404, "NoSuchKey"),
    ] {
        let answer = json!({"method": "PUT", "status": status, "code": code});
        bucket.store.delete("key").await.unwrap();
        for (content, outcome) in [("1", PutOutcome::Created), ("2", PutOutcome::Replaced)] {
            let put = bucket.during(1, answer.clone(), bucket.store.put("key", bytes(content))).await;
            assert_eq!(put.unwrap(), outcome, "{code}");
            assert_eq!(bucket.store.get("key").await.unwrap(), Some(bytes(content)));
        }
    }
}

/// An object that is uploaded in parts.
fn large(byte: u8) -> Bytes {
    vec![byte; (64 << 20) + 1].into()
}

#[tokio::test]
async fn upload_in_parts_during_another_write_is_tried_again() {
    let Some(bucket) = Bucket::new("parts").await else { return };
    for (status, code, byte) in [(409, "OperationAborted", 1), (404, "NoSuchKey", 2)] {
        let complete = json!({"method": "POST", "query": "uploadId", "status": status, "code": code});
        bucket.during(1, complete, bucket.store.put("large", large(byte))).await.unwrap();
        assert!(bucket.store.get("large").await.unwrap() == Some(large(byte)), "{code}");
    }
}

#[tokio::test]
async fn answer_with_status_200_to_the_end_of_an_upload_can_be_an_error() {
    let Some(bucket) = Bucket::new("status-200").await else { return };
    let complete = json!({"method": "POST", "query": "uploadId", "status": 200, "code": "InternalError"});
    let put = bucket.during(ATTEMPTS, complete.clone(), bucket.store.put("large", large(1))).await;
    assert_eq!(put.unwrap_err().kind(), Kind::SourceUnavailable);
    assert_eq!(bucket.store.get("large").await.unwrap(), None);
    let put = bucket.during(1, complete, bucket.store.put("large", large(1))).await;
    assert_eq!(put.unwrap(), PutOutcome::Created, "the SDK repeats the call");
}

#[tokio::test]
async fn write_whose_answer_is_lost_is_done_once() {
    let Some(bucket) = Bucket::new("lost-answers").await else { return };
    for content in ["1", "2"] {
        let lost = json!({"method": "PUT", "status": 500, "code": "InternalError", "is_done": true});
        // The SDK repeats the call, whose condition the first one has broken.
        bucket.during(1, lost, bucket.store.put("key", bytes(content))).await.unwrap();
        assert_eq!(bucket.store.get("key").await.unwrap(), Some(bytes(content)));
    }
}

#[tokio::test]
async fn slow_down_of_any_call_is_a_throttle() {
    let Some(bucket) = Bucket::new("throttled").await else { return };
    bucket.store.put("key", bytes("1")).await.unwrap();
    let slow = |method: &str| json!({"method": method, "status": 503, "code": "SlowDown"});
    let error = bucket.during(ATTEMPTS, slow("GET"), bucket.store.get("key")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled, "{error}");
    let error = bucket.during(ATTEMPTS, slow("PUT"), bucket.store.put("key", bytes("2"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled, "{error}");
    let error = bucket.during(ATTEMPTS, slow("DELETE"), bucket.store.delete("key")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled, "{error}");
}

//! Requests to the function URL. Lambda passes them on as an event with the parts of the HTTP request, and makes the HTTP
//! response of the parts that the function returns. Whoever may not call the URL does not get here: IAM refuses them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use defi_shared::error::{Error, Kind, Result};
use serde_json::{Value, json};

/// Returns whether an event is a request to the function URL.
pub(crate) fn is_request(event: &Value) -> bool {
    event.get("requestContext").is_some_and(|context| context.get("http").is_some())
}

/// Returns the input in the body of a request. No body is no input.
///
/// # Errors
/// `BadInput` if the method is not POST, or the body is not JSON.
pub(crate) fn body(event: &Value) -> Result<Value> {
    let method = event["requestContext"]["http"]["method"].as_str().unwrap_or_default();
    if method != "POST" {
        return Err(
            Error::bad_input("the method of the request is not POST").with_hint("send the input as the body of a POST")
        );
    }
    let text = event["body"].as_str().unwrap_or_default();
    let is_base64 = event["isBase64Encoded"].as_bool().unwrap_or_default();
    let not_json =
        || Error::bad_input("the body of the request is not JSON").with_hint("send {\"wallets\": [\"0x…\"]}");
    let bytes = match is_base64 {
        true => STANDARD.decode(text).map_err(|cause| not_json().with_source(cause))?,
        false => text.as_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|cause| not_json().with_source(cause))
}

/// Returns the response with an output, or with an error and the status of its kind.
pub(crate) fn response(output: Result<Value>) -> Value {
    let (status, body) = match output {
        Ok(output) => (200, output),
        Err(error) => {
            if error.kind() != Kind::BadInput {
                tracing::error!(kind = error.kind().name(), error = %error, "the request failed");
            }
            let body = json!({"error": error.kind().name(), "message": error.details(), "hint": error.hint()});
            (status(error.kind()), body)
        }
    };
    json!({"statusCode": status, "headers": {"content-type": "application/json"}, "body": body.to_string()})
}

/// Returns the HTTP status of an error: whose fault it is, and whether the same request may succeed later.
fn status(kind: Kind) -> u16 {
    match kind {
        Kind::BadInput => 400,
        Kind::Throttled => 429,
        Kind::NotReady | Kind::SourceUnavailable => 503,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, body: &Value, is_base64: bool) -> Value {
        json!({"version": "2.0", "requestContext": {"http": {"method": method}}, "body": body, "isBase64Encoded": is_base64})
    }

    #[test]
    fn requests_are_told_from_inputs() {
        assert!(is_request(&request("POST", &"{}".into(), false)));
        for event in [json!({}), json!(null), json!({"wallets": []}), json!({"requestContext": {}})] {
            assert!(!is_request(&event), "{event}");
        }
    }

    #[test]
    fn body_is_the_input() {
        let input = json!({"wallets": ["0x1"]});
        let encoded = STANDARD.encode(input.to_string());
        for (text, is_base64, expected) in [
            (json!(input.to_string()), false, input.clone()),
            (json!(encoded), true, input),
            (json!(""), false, Value::Null),
            (Value::Null, false, Value::Null),
        ] {
            assert_eq!(body(&request("POST", &text, is_base64)).unwrap(), expected, "{text}");
        }
        for (method, text, is_base64) in
            [("GET", "{}", false), ("POST", "{", false), ("POST", "?", true), ("POST", "a=b", false)]
        {
            let error = body(&request(method, &text.into(), is_base64)).unwrap_err();
            assert_eq!(error.kind(), Kind::BadInput, "{method} {text}");
        }
    }

    #[test]
    fn errors_have_the_status_of_their_kind() {
        let of = |kind| {
            let response = response(Err(Error::new(kind, "no").with_hint("do")));
            let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
            assert_eq!(body, json!({"error": kind.name(), "message": "no", "hint": "do"}));
            response["statusCode"].as_u64().unwrap()
        };
        let client: Vec<_> = Kind::ALL.into_iter().filter(|kind| of(*kind) < 500).collect();
        assert_eq!(client, [Kind::Throttled, Kind::BadInput]);
        let retried: Vec<_> = Kind::ALL.into_iter().filter(|kind| [429, 503].contains(&of(*kind))).collect();
        assert_eq!(retried, Kind::ALL.into_iter().filter(|kind| kind.is_transient()).collect::<Vec<_>>());
        assert_eq!(response(Ok(json!({"rows": []})))["body"], "{\"rows\":[]}");
    }
}

//! Shared by all AWS clients: their configuration, and the conversion of SDK errors.

mod credentials;
mod secrets;

pub use aws_config::SdkConfig;

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

pub use secrets::{has_secret, secret};

use crate::error::{Error, Kind};

/// The time after which an idle connection is closed. It is shorter than the idle timeout of AWS, so that a function
/// that was frozen between two invocations opens a new connection instead of using one that AWS has closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// The timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout until the first byte of a response. The SDK detects stalled bodies itself.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout for credentials. A `credential_process` may wait for a person: the SDK's default is 5 seconds.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of attempts of a call, with the SDK's backoff. S3 responds with `SlowDown` while it partitions a prefix.
const ATTEMPTS: u32 = 6;

/// Loads the configuration of all clients from the environment: region, credentials, endpoint. Called once per process.
/// Sends no requests.
pub async fn configuration() -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).pool_idle_timeout(IDLE_CONNECTION);
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http.build_https())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build())
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .load()
        .await
}

/// Returns the error code of a service's response, or `None` if there was no response.
pub(crate) fn error_code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    match error {
        SdkError::ServiceError(error) => error.err().code(),
        _ => None,
    }
}

/// Returns the HTTP status of a response, or `None` if there was no response.
pub(crate) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Converts the error of a call that failed after all attempts of the SDK.
pub(crate) fn sdk_error<E>(call: &'static str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(response) = &error else {
        if let Some(found) = credentials::error(&error) {
            return found.with("call", call);
        }
        let kind =
            if matches!(error, SdkError::ConstructionFailure(_)) { Kind::BadInput } else { Kind::SourceUnavailable };
        return Error::new(kind, "no response from AWS")
            .with("call", call)
            .with_source(error)
            .with_hint("check the network and the region, and run again");
    };
    // The response to a HEAD has no body, and therefore neither a code nor a message.
    let by_status;
    let (code, message) = match response.err().code() {
        Some(code) => (code, response.err().message().unwrap_or("no message")),
        None => {
            let status = response.raw().status().as_u16();
            by_status = format!("HTTP {status}");
            (code_of(status).unwrap_or("unknown"), by_status.as_str())
        }
    };
    let status = response.raw().status().as_u16();
    let (kind, hint) = kind_of(code)
        .or_else(|| code_of(status).filter(|_| ![400, 409].contains(&status)).and_then(kind_of))
        .unwrap_or((Kind::Internal, Kind::Internal.default_hint()));
    let hint = if kind == Kind::BadCredentials && is_of_lake_formation(message) { LAKE_FORMATION_HINT } else { hint };
    Error::new(kind, format!("{code}: {message}")).with("call", call).with_hint(hint)
}

/// What to do where IAM allows a call and Lake Formation does not.
const LAKE_FORMATION_HINT: &str =
    "deploy with Terraform's variable lake_formation, which grants it to the functions and to its `readers`";

/// Returns whether the message of a denied call says that Lake Formation denied it. The code is that of IAM, too.
fn is_of_lake_formation(message: &str) -> bool {
    message.to_ascii_lowercase().contains("lake formation")
}

/// Returns the kind of an error with a code, and what to do about it. `None` for a code that this program should not
/// cause.
fn kind_of(code: &str) -> Option<(Kind, &'static str)> {
    Some(match code {
        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "Forbidden"
        | "NotAuthorized"
        | "UnauthorizedOperation" => (Kind::BadCredentials, "grant the role the permission for this call"),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "UnrecognizedClientException" => (Kind::BadCredentials, "renew the AWS credentials"),
        "RequestTimeTooSkewed" => (Kind::BadCredentials, "set the clock of this machine, and run again"),
        "NoSuchBucket" => (Kind::BadInput, "choose an existing bucket"),
        "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "PermanentRedirect" => {
            (Kind::BadInput, "set AWS_REGION to the region of the environment")
        }
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "ConcurrentModificationException"
        | "ResourceNotReadyException" => (Kind::Throttled, "run again later"),
        "InternalError"
        | "OperationAborted"
        | "InternalServiceException"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationTimeoutException" => (Kind::SourceUnavailable, "run again later"),
        _ => return None,
    })
}

/// Returns the code that S3 sends with a status, for a response without one.
fn code_of(status: u16) -> Option<&'static str> {
    Some(match status {
        // S3 answers 400 to a token that expired.
        400 => "ExpiredToken",
        401 | 403 => "AccessDenied",
        404 => "NoSuchKey",
        409 => "OperationAborted",
        429 | 503 => "SlowDown",
        500..=599 => "InternalError",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::head_object::HeadObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    #[test]
    fn error_with_a_code_has_its_kind_or_else_that_of_its_status() {
        for (code, status, kind, next) in [
            ("AccessDeniedException", 400, Kind::BadCredentials, "grant the role"),
            ("ExpiredTokenException", 400, Kind::BadCredentials, "renew the AWS credentials"),
            ("InvalidToken", 400, Kind::BadCredentials, "renew the AWS credentials"),
            ("InvalidSignatureException", 400, Kind::BadCredentials, "renew the AWS credentials"),
            ("MissingAuthenticationToken", 403, Kind::BadCredentials, "renew the AWS credentials"),
            ("RequestTimeTooSkewed", 403, Kind::BadCredentials, "set the clock"),
            ("NoSuchBucket", 404, Kind::BadInput, "choose an existing bucket"),
            ("PermanentRedirect", 301, Kind::BadInput, "set AWS_REGION"),
            ("ConcurrentModificationException", 400, Kind::Throttled, "run again later"),
            ("SomethingForbidden", 403, Kind::BadCredentials, "grant the role"),
            ("SomethingBroken", 500, Kind::SourceUnavailable, "run again later"),
            ("SomethingSlow", 429, Kind::Throttled, "run again later"),
            ("SomethingWrong", 400, Kind::Internal, "report this as a defect"),
        ] {
            let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
            let metadata = ErrorMetadata::builder().code(code).message("no").build();
            let error = sdk_error("HeadObject", SdkError::service_error(HeadObjectError::generic(metadata), response));
            assert_eq!(error.kind(), kind, "{code}");
            let text = error.to_string();
            assert!(text.contains(&format!("{code}: no (call=HeadObject); next: ")) && text.contains(next), "{text}");
        }
    }

    #[test]
    fn call_that_lake_formation_denies_names_the_variable_of_terraform() {
        for (code, message, next) in [
            ("AccessDeniedException", "Insufficient Lake Formation permission(s): Required Create Table on x", true),
            ("AccessDenied", "Principal has no lake formation permissions", true),
            ("AccessDeniedException", "User: x is not authorized to perform: glue:CreateTable", false),
            ("ThrottlingException", "Lake Formation is throttled", false),
        ] {
            let response = HttpResponse::new(400.try_into().unwrap(), SdkBody::empty());
            let metadata = ErrorMetadata::builder().code(code).message(message).build();
            let error = sdk_error("CreateTable", SdkError::service_error(HeadObjectError::generic(metadata), response));
            assert_eq!(error.to_string().contains("Terraform's variable lake_formation"), next, "{error}");
        }
    }

    #[test]
    fn error_without_a_code_has_the_kind_of_its_status() {
        for (status, kind) in [
            (400, Kind::BadCredentials),
            (403, Kind::BadCredentials),
            (409, Kind::SourceUnavailable),
            (500, Kind::SourceUnavailable),
            (502, Kind::SourceUnavailable),
            (503, Kind::Throttled),
            (418, Kind::Internal),
        ] {
            let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
            let error = HeadObjectError::unhandled("no body");
            let error = sdk_error("HeadObject", SdkError::service_error(error, response));
            assert_eq!(error.kind(), kind, "{status}");
            assert!(error.to_string().contains(&format!("HTTP {status}")), "{error}");
        }
    }
}

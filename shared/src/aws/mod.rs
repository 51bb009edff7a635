//! Shared by all AWS clients: their configuration, and the conversion of SDK errors.

mod credentials;
mod secrets;

pub use aws_config::SdkConfig;

use std::fmt::Debug;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

pub use secrets::secret;

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

/// Converts the error of a call that failed after all attempts of the SDK.
pub(crate) fn sdk_error<E, R>(call: &'static str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
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
    let (code, message) =
        (response.err().code().unwrap_or("unknown"), response.err().message().unwrap_or("no message"));
    let (kind, hint) = match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            (Kind::BadCredentials, "grant the role the permission for this call")
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch" => (Kind::BadCredentials, "renew the AWS credentials"),
        "NoSuchBucket" => (Kind::BadInput, "choose an existing bucket"),
        "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            (Kind::Throttled, "run again later")
        }
        "InternalError"
        | "InternalServiceException"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationTimeoutException" => (Kind::SourceUnavailable, "run again later"),
        _ => (Kind::Internal, Kind::Internal.default_hint()),
    };
    Error::new(kind, format!("{code}: {message}")).with("call", call).with_hint(hint)
}

//! What everything that asks AWS shares: the clients' configuration, and what a failed call means.

mod secrets;

pub use aws_config::SdkConfig;

use std::fmt::Debug;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

pub use secrets::secret;

use crate::error::{Error, Kind};

/// Below the idle time after which AWS drops a connection, and short enough that a function that was frozen between two calls
/// opens a new one instead of writing into a dead one.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// A connection that isn't there by now won't come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// AWS answers small calls at once; bodies are watched by the SDK, which ends a stalled one.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Tries of a call, with the SDK's backoff: S3 asks to slow down while it spreads a prefix.
const ATTEMPTS: u32 = 6;

/// The configuration of all clients, from the environment: region, credentials, endpoint. Built once a process; it asks nobody.
pub async fn configuration() -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).pool_idle_timeout(IDLE_CONNECTION);
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http.build_https())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .load()
        .await
}

/// The code of the error that a service answered with; none where there was no answer.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    match error {
        SdkError::ServiceError(error) => error.err().code(),
        _ => None,
    }
}

/// The error of a call that failed once the SDK had tried enough. A refusal is never read as an absence.
pub(crate) fn failed<E, R>(call: &'static str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = &error else {
        let kind =
            if matches!(error, SdkError::ConstructionFailure(_)) { Kind::BadInput } else { Kind::SourceUnavailable };
        return Error::new(kind, "AWS did not answer")
            .with("call", call)
            .because(error)
            .next("check the network, the region and the credentials, and run again");
    };
    let (code, message) =
        (answer.err().code().unwrap_or("unknown"), answer.err().message().unwrap_or("no reason given"));
    let (kind, next) = match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            (Kind::BadCredentials, "let the role do what the call asks for")
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch" => (Kind::BadCredentials, "renew the AWS credentials"),
        "NoSuchBucket" => (Kind::BadInput, "name a bucket that there is"),
        "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            (Kind::Throttled, "run again a little later")
        }
        "InternalError"
        | "InternalServiceException"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationTimeoutException" => (Kind::SourceUnavailable, "run again a little later"),
        _ => (Kind::Internal, Kind::Internal.next_step()),
    };
    Error::new(kind, format!("{code}: {message}")).with("call", call).next(next)
}

//! Keys in Secrets Manager.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;

use super::{code, failed};
use crate::error::{Error, Kind, Result};
use crate::sources::Secret;

/// The keys in a secret, several with commas between. Read once a cold start; they stay in memory.
///
/// # Errors
/// `BadCredentials` for a secret that there is not or that has no value yet, and the errors of AWS.
pub async fn secret(aws: &SdkConfig, id: &str) -> Result<Vec<Secret>> {
    let empty = || {
        Error::new(Kind::BadCredentials, "the secret of an API key has no value")
            .with("secret", id)
            .next("put the key into it: aws secretsmanager put-secret-value --secret-id … --secret-string …")
    };
    let answer = match Client::new(aws).get_secret_value().secret_id(id).send().await {
        Ok(answer) => answer,
        Err(error) if code(&error) == Some("ResourceNotFoundException") => return Err(empty()),
        Err(error) => return Err(failed("GetSecretValue", error).with("secret", id)),
    };
    let keys = answer.secret_string().map(Secret::list).unwrap_or_default();
    if keys.is_empty() { Err(empty()) } else { Ok(keys) }
}

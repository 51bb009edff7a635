//! API keys in Secrets Manager.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;

use super::{error_code, sdk_error};
use crate::error::{Error, Kind, Result};
use crate::sources::Secret;

/// Returns whether there is a secret with this name, with or without a value.
///
/// # Errors
/// The errors of AWS.
pub async fn has_secret(aws: &SdkConfig, id: &str) -> Result<bool> {
    match Client::new(aws).describe_secret().secret_id(id).send().await {
        Ok(_) => Ok(true),
        Err(error) if error_code(&error) == Some("ResourceNotFoundException") => Ok(false),
        Err(error) => Err(sdk_error("DescribeSecret", error).with("secret", id)),
    }
}

/// Reads the API keys of a secret, which are separated by commas. A function reads them once per cold start and keeps
/// them in memory.
///
/// # Errors
/// `BadCredentials` if the secret is missing or has no value, and the errors of AWS.
pub async fn secret(aws: &SdkConfig, id: &str) -> Result<Vec<Secret>> {
    let empty = || {
        Error::new(Kind::BadCredentials, "the secret of an API key has no value").with("secret", id).with_hint(format!(
            "pipe the key to: aws secretsmanager put-secret-value --secret-id {id} --secret-string file:///dev/stdin"
        ))
    };
    let response = match Client::new(aws).get_secret_value().secret_id(id).send().await {
        Ok(response) => response,
        Err(error) if error_code(&error) == Some("ResourceNotFoundException") => return Err(empty()),
        Err(error) => return Err(sdk_error("GetSecretValue", error).with("secret", id)),
    };
    let keys = response.secret_string().map(Secret::parse_list).unwrap_or_default();
    if keys.is_empty() { Err(empty()) } else { Ok(keys) }
}

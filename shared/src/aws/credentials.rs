//! Errors of a call for which there were no credentials or no region. Their sources are the profiles and commands of
//! people, so each says what to do about it.

use std::error::Error as StdError;
use std::iter;

use aws_credential_types::provider::error::CredentialsError;

use crate::error::{Error, Kind};

/// Returns the error of a call that was not sent because it had no credentials (`BadCredentials`) or no region
/// (`BadInput`). Returns `None` for any other error.
pub(super) fn error(call: &(dyn StdError + 'static)) -> Option<Error> {
    let mut chain = sources(call);
    if let Some(error) = chain.find_map(|error| error.downcast_ref::<CredentialsError>()) {
        return Some(no_credentials(error, profile().as_deref()));
    }
    let mut texts = sources(call).map(|error| error.to_string().to_lowercase());
    texts.any(|text| text.contains("missing region") || text.contains("missing signing region")).then(|| {
        Error::bad_input("no AWS region is set")
            .with_hint("set AWS_REGION, or the region of the profile in ~/.aws/config")
    })
}

/// Converts an error of the credentials of a profile. `None`: the default profile.
fn no_credentials(error: &CredentialsError, profile: Option<&str>) -> Error {
    let causes: Vec<_> = sources(error).skip(1).map(ToString::to_string).collect();
    let cause = causes.join(": ");
    let option = profile.map(|profile| format!(" --profile {profile}")).unwrap_or_default();
    let (message, hint) = match error {
        CredentialsError::CredentialsNotLoaded(_) => (
            "there are no AWS credentials".to_owned(),
            "sign in with aws sso login or aws configure, and name the profile in AWS_PROFILE".to_owned(),
        ),
        CredentialsError::InvalidConfiguration(_) => (
            format!("the AWS profile can't be used: {cause}"),
            format!(
                "correct the profile in ~/.aws/config; if only the AWS CLI can use it, add a profile with \
                 credential_process = aws configure export-credentials{option} --format process"
            ),
        ),
        // The portal of IAM Identity Center rejects a token with UnauthorizedException, STS never does.
        _ if cause.contains("SSO") || cause.contains("sso") || cause.contains("UnauthorizedException") => (
            format!("the session of IAM Identity Center is not valid: {cause}"),
            format!("sign in again: aws sso login{option}"),
        ),
        _ if cause.contains("external process") => {
            (cause, "run the credential_process of the profile by itself, and correct it".to_owned())
        }
        _ => (
            format!("the AWS credentials could not be loaded: {error}: {cause}"),
            format!("check the role and the credentials of the profile: aws sts get-caller-identity{option}"),
        ),
    };
    let error = Error::new(Kind::BadCredentials, message).with_hint(hint);
    profile.iter().fold(error, |error, profile| error.with("profile", profile))
}

/// Returns the profile that the environment names.
fn profile() -> Option<String> {
    std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty())
}

/// Iterates over an error and its sources.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_credentials_says_what_to_do() {
        let loading = CredentialsError::provider_error;
        let cases = [
            (CredentialsError::not_loaded("no providers in chain"), "aws configure"),
            (CredentialsError::invalid_configuration("profile `dev` was not defined"), "correct the profile"),
            (
                loading("the SSO token has expired and cannot be refreshed"),
                "sign in again: aws sso login --profile dev",
            ),
            (loading("UnauthorizedException: Session token not found"), "sign in again: aws sso login --profile dev"),
            (loading("external process exited with code 1. Stderr: no\nkey"), "run the credential_process"),
            (loading("AccessDenied: not authorized"), "aws sts get-caller-identity --profile dev"),
        ];
        for (cause, next) in cases {
            let error = no_credentials(&cause, Some("dev"));
            let line = error.to_string();
            assert!(error.kind() == Kind::BadCredentials && error.hint().contains(next), "{line}");
            assert!(line.contains("(profile=dev)") && !line.contains('\n'), "{line}");
        }
        let expired = no_credentials(&loading("the SSO token has expired"), None);
        assert_eq!(expired.hint(), "sign in again: aws sso login");
    }
}

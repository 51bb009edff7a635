//! The one error type of the pipeline: a kind that the state machine goes by, a message, context, a cause and a next step.

use std::fmt;
use std::time::Duration;

/// What went wrong, as far as a caller needs to tell apart. The names are stable: the state machine's `Retry` and
/// `Catch` match on them, and so do people's runbooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A source asked to slow down (HTTP 429).
    Throttled,
    /// A source did not answer, or answered with a passing fault.
    SourceUnavailable,
    /// The day or the block is not final or not indexed yet.
    NotReady,
    /// The block can't be had any more: the unit is lost, and the run goes on.
    HistoryPruned,
    /// The plan or the credits of an API key are used up.
    QuotaExceeded,
    /// A source does not accept the key.
    BadCredentials,
    /// An option, a field, a path or a file that the user gave is wrong.
    BadInput,
    /// A source refused the request for good (a malformed query, an unknown deployment).
    SourceRejected,
    /// An answer or an object does not have the shape it must have.
    CorruptData,
    /// A set of features failed a constraint and was not published.
    QualityFailed,
    /// Another run of the same environment is under way.
    AlreadyRunning,
    /// A defect of this software or of the machine it runs on.
    Internal,
}

impl Kind {
    /// Every kind, for tests and for the documentation.
    pub const ALL: [Kind; 12] = [
        Kind::Throttled,
        Kind::SourceUnavailable,
        Kind::NotReady,
        Kind::HistoryPruned,
        Kind::QuotaExceeded,
        Kind::BadCredentials,
        Kind::BadInput,
        Kind::SourceRejected,
        Kind::CorruptData,
        Kind::QualityFailed,
        Kind::AlreadyRunning,
        Kind::Internal,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Throttled => "Throttled",
            Kind::SourceUnavailable => "SourceUnavailable",
            Kind::NotReady => "NotReady",
            Kind::HistoryPruned => "HistoryPruned",
            Kind::QuotaExceeded => "QuotaExceeded",
            Kind::BadCredentials => "BadCredentials",
            Kind::BadInput => "BadInput",
            Kind::SourceRejected => "SourceRejected",
            Kind::CorruptData => "CorruptData",
            Kind::QualityFailed => "QualityFailed",
            Kind::AlreadyRunning => "AlreadyRunning",
            Kind::Internal => "Internal",
        }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Throttled | Kind::SourceUnavailable | Kind::NotReady)
    }

    /// What a person does about it, where the error itself knows nothing better.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Kind::Throttled => "wait a little, or lower the request rate in the configuration, and run again",
            Kind::SourceUnavailable => "check that the source is up and its URL is right, and run again",
            Kind::NotReady => "run again later: the day or block is not final yet",
            Kind::HistoryPruned => "the day is lost at this source; point it at one that keeps history to get it",
            Kind::QuotaExceeded => "raise the plan or the credits of the API key, and run again",
            Kind::BadCredentials => "check the API key",
            Kind::BadInput => "correct the input and run again",
            Kind::SourceRejected => "check the deployment id and the schema that the source serves",
            Kind::CorruptData => "remove or repair what is named above, and run again",
            Kind::QualityFailed => {
                "look at the figures of the failed checks; the features published before stay in place"
            }
            Kind::AlreadyRunning => "wait for the other run to end",
            Kind::Internal => "please report this as a defect",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The cause of an error, of any type.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What every fallible function of the pipeline returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a kind, a message, context, a cause and a next step. `Display` gives all of it in one line.
///
/// ```
/// use defi_shared::error::{Error, Kind};
/// let error = Error::new(Kind::NotReady, "block 17 is not indexed yet").with("protocol", "aave-v2-eth");
/// assert_eq!(
///     error.to_string(),
///     "NotReady: block 17 is not indexed yet (protocol=aave-v2-eth); next: run again later: the day or block is not final yet",
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    context: Vec<(&'static str, String)>,
    cause: Option<Cause>,
    next_step: Option<String>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of a kind, with what happened in a few words.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            cause: None,
            next_step: None,
            retry_after: None,
        }))
    }

    /// Shorthand for [`Kind::BadInput`].
    #[must_use]
    pub fn bad_input(message: impl Into<String>) -> Self {
        Error::new(Kind::BadInput, message)
    }

    /// Shorthand for [`Kind::CorruptData`].
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(Kind::CorruptData, message)
    }

    /// Shorthand for [`Kind::Internal`].
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// Adds what it was about: a table, a unit, a path. Never a key or another secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the error below this one.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Replaces the kind's usual next step.
    #[must_use]
    pub fn next(mut self, next_step: impl Into<String>) -> Self {
        self.0.next_step = Some(next_step.into());
        self
    }

    /// Adds how long the source asked to wait (`Retry-After`).
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// What went wrong, as a kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// How long the source asked to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What a person does about it.
    #[must_use]
    pub fn next_step(&self) -> &str {
        self.0.next_step.as_deref().unwrap_or_else(|| self.0.kind.next_step())
    }

    /// What happened, with context and causes, on one line; without kind and next step.
    #[must_use]
    pub fn what(&self) -> String {
        let mut text = self.0.message.clone();
        if !self.0.context.is_empty() {
            let pairs: Vec<String> = self.0.context.iter().map(|(key, value)| format!("{key}={value}")).collect();
            text.push_str(&format!(" ({})", pairs.join(", ")));
        }
        let mut cause = self.0.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        one_line(&text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; next: {}", self.kind(), self.what(), self.next_step())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Folds a text with line breaks into one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_cause_and_a_next_step() {
        let cause = std::io::Error::other("first\nsecond");
        let error = Error::corrupt("unreadable object").with("key", "a/b").because(cause).next("delete it");
        assert_eq!(error.to_string(), "CorruptData: unreadable object (key=a/b): first second; next: delete it");
    }

    #[test]
    fn only_passing_faults_are_transient() {
        let transient: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_transient()).collect();
        assert_eq!(transient, [Kind::Throttled, Kind::SourceUnavailable, Kind::NotReady]);
    }
}

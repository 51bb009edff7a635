//! The error type of the pipeline: a kind that the state machine matches on, a message, context, a source error and a
//! hint.

use std::fmt;
use std::time::Duration;

/// The kind of an error. The names are stable: the `Retry` and `Catch` of the state machine match on them, and runbooks
/// refer to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A source's rate limit is exceeded (HTTP 429).
    Throttled,
    /// A source did not respond, or responded with a transient error.
    SourceUnavailable,
    /// The day or block is not final or not indexed yet.
    NotReady,
    /// The block is no longer available: the unit is lost, and the run continues.
    HistoryPruned,
    /// The quota or the credits of an API key are used up.
    QuotaExceeded,
    /// A source rejected the API key.
    BadCredentials,
    /// An option, a field, a path or a file from the user is invalid.
    BadInput,
    /// A source permanently rejected the request (a malformed query, an unknown deployment).
    SourceRejected,
    /// A response or an object is malformed.
    CorruptData,
    /// A set of features failed a constraint and was not published.
    QualityFailed,
    /// Another run of the same environment is in progress.
    AlreadyRunning,
    /// A defect of the software or of the machine it runs on.
    Internal,
}

impl Kind {
    /// All kinds, for tests and documentation.
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

    /// Returns the stable name.
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

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Throttled | Kind::SourceUnavailable | Kind::NotReady)
    }

    /// Returns the default hint: what the user can do about an error of this kind.
    #[must_use]
    pub fn default_hint(self) -> &'static str {
        match self {
            Kind::Throttled => "wait, or lower the request rate in the configuration, and run again",
            Kind::SourceUnavailable => "check that the source is available and that its URL is correct, and run again",
            Kind::NotReady => "run again later: the day or block is not final yet",
            Kind::HistoryPruned => {
                "this source no longer has the day; configure a source that keeps history to extract it"
            }
            Kind::QuotaExceeded => "raise the quota or the credits of the API key, and run again",
            Kind::BadCredentials => "check the API key",
            Kind::BadInput => "correct the input and run again",
            Kind::SourceRejected => "check the deployment id and the schema that the source serves",
            Kind::CorruptData => "remove or repair the corrupt data, and run again",
            Kind::QualityFailed => {
                "inspect the values of the failed checks; the previously published features stay in place"
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

/// The maximum number of characters of an error's own message. Text of a source or a file may be part of it.
pub const MAX_MESSAGE_CHARS: usize = 2_000;

/// The maximum number of characters of a value of an error's context.
pub const MAX_VALUE_CHARS: usize = 500;

/// A boxed source error of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result type of the pipeline's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a kind, a message, context, a source error and a hint. `Display` writes all of it on one line.
///
/// ```
/// use defi_shared::error::{Error, Kind};
/// let error = Error::new(Kind::NotReady, "block 17 is not indexed yet").with("protocol", "aave-v2-eth");
/// assert_eq!(
///     error.to_string(),
///     "NotReady: block 17 is not indexed yet (protocol=aave-v2-eth); \
///      next: run again later: the day or block is not final yet",
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<BoxError>,
    hint: Option<String>,
    retry_after: Option<Duration>,
    final_kind: Option<Kind>,
}

impl Error {
    /// Creates an error of a kind with a short message. A message of more than [`MAX_MESSAGE_CHARS`] is shortened.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: shorten(message.into(), MAX_MESSAGE_CHARS),
            context: Vec::new(),
            source: None,
            hint: None,
            retry_after: None,
            final_kind: None,
        }))
    }

    /// Creates an error of kind [`Kind::BadInput`].
    #[must_use]
    pub fn bad_input(message: impl Into<String>) -> Self {
        Error::new(Kind::BadInput, message)
    }

    /// Creates an error of kind [`Kind::CorruptData`].
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(Kind::CorruptData, message)
    }

    /// Creates an error of kind [`Kind::Internal`].
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// Adds context, such as the table, unit or path. A pair that the error has already is not repeated, and a value of
    /// more than [`MAX_VALUE_CHARS`] is shortened. Must not contain an API key or another secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let pair = (key, shorten(value.to_string(), MAX_VALUE_CHARS));
        if !self.0.context.contains(&pair) {
            self.0.context.push(pair);
        }
        self
    }

    /// Sets the source error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets the hint, which replaces the default hint of the kind.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the time that the source asks clients to wait (`Retry-After`).
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// Sets the kind that the error has if the last retry gives it, too.
    #[must_use]
    pub fn with_final_kind(mut self, kind: Option<Kind>) -> Self {
        self.0.final_kind = kind;
        self
    }

    /// Returns the error as it is after the last retry.
    #[must_use]
    pub fn finally(mut self) -> Self {
        self.0.kind = self.0.final_kind.take().unwrap_or(self.0.kind);
        self
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the time that the source asks clients to wait before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the hint: what the user can do about the error.
    #[must_use]
    pub fn hint(&self) -> &str {
        self.0.hint.as_deref().unwrap_or_else(|| self.0.kind.default_hint())
    }

    /// Returns the message with the context and the chain of source errors, on one line. Excludes the kind and the
    /// hint. Nothing is repeated: neither a pair of context that an outer error has, nor a source whose text is part of
    /// the text so far. The text of many errors includes that of their source.
    #[must_use]
    pub fn details(&self) -> String {
        let mut text = self.own_details(&[]);
        let mut context: Vec<_> = self.0.context.iter().collect();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let details = match error.downcast_ref::<Error>() {
                Some(error) => {
                    let details = error.own_details(&context);
                    context.extend(&error.0.context);
                    details
                }
                None => collapse_whitespace(&error.to_string()),
            };
            if !text.contains(&details) {
                text = format!("{text}: {details}");
            }
            source = error.source();
        }
        text
    }

    /// Returns the error as the reason of an error of another library, which is a text: the details and the hint, without
    /// the kind. That of serde is one, for a value within a larger input.
    #[must_use]
    pub fn reason(&self) -> String {
        let hint = self.0.hint.iter().map(|hint| format!("; {}", collapse_whitespace(hint)));
        self.details() + &hint.collect::<String>()
    }

    /// Returns the message and the context without the pairs in `known`, on one line.
    fn own_details(&self, known: &[&(&'static str, String)]) -> String {
        let new = self.0.context.iter().filter(|pair| !known.contains(pair));
        let pairs: Vec<String> = new.map(|(key, value)| format!("{key}={value}")).collect();
        let context = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) };
        collapse_whitespace(&format!("{}{context}", self.0.message))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; next: {}", self.kind(), self.details(), collapse_whitespace(self.hint()))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Cuts a text off after a number of characters, and marks that with an ellipsis.
pub(crate) fn shorten(text: impl Into<String>, max_chars: usize) -> String {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(max_chars) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Replaces each run of whitespace, including line breaks, with one space.
fn collapse_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_displays_source_and_hint_on_one_line() {
        let source = std::io::Error::other("first\nsecond");
        let error = Error::corrupt("unreadable object").with("key", "a/b").with_source(source).with_hint("delete it");
        assert_eq!(error.to_string(), "CorruptData: unreadable object (key=a/b): first second; next: delete it");
    }

    /// An error whose text includes that of its source.
    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "outer:\n{}", self.0)
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn source_within_the_text_of_its_parent_is_displayed_once() {
        let error = Error::corrupt("unreadable").with_source(Outer(std::io::Error::other("inner\ncause")));
        assert_eq!(error.details(), "unreadable: outer: inner cause");
    }

    #[test]
    fn own_error_as_source_adds_its_message_and_new_context_only() {
        let inner = Error::bad_input("not a day")
            .with("step", "plan-run")
            .with("text", "x")
            .with_source(Outer(std::io::Error::other("cause")));
        let outer = Error::corrupt("the pointer is invalid").with("step", "plan-run").with_source(inner);
        assert_eq!(
            outer.to_string(),
            "CorruptData: the pointer is invalid (step=plan-run): not a day (text=x): outer: cause; \
             next: remove or repair the corrupt data, and run again"
        );
    }

    #[test]
    fn reason_has_no_kind_and_one_next_step_at_most() {
        let error = Error::bad_input("not a day").with("text", "x");
        assert_eq!(error.reason(), "not a day (text=x)");
        assert_eq!(error.with_hint("write it\nso").reason(), "not a day (text=x); write it so");
    }

    #[test]
    fn equal_context_is_added_once() {
        let error = Error::internal("odd").with("step", "plan-run").with("unit", "a").with("step", "plan-run");
        assert_eq!(error.details(), "odd (step=plan-run, unit=a)");
        assert_eq!(error.with("step", "link-wallets").details(), "odd (step=plan-run, unit=a, step=link-wallets)");
    }

    #[test]
    fn hint_is_on_the_same_line() {
        assert_eq!(Error::internal("odd").with_hint("a\n  b").to_string(), "Internal: odd; next: a b");
    }

    #[test]
    fn context_is_not_repeated() {
        let error = Error::internal("no").with("step", "a").with("unit", 1).with("step", "a").with("step", "b");
        assert_eq!(error.details(), "no (step=a, unit=1, step=b)");
    }

    #[test]
    fn long_texts_are_shortened() {
        let long = "ä".repeat(100_000);
        let error = Error::corrupt(long.as_str()).with("block_number", &long);
        let details = error.details();
        assert_eq!(details.chars().count(), MAX_MESSAGE_CHARS + MAX_VALUE_CHARS + 2 + " (block_number=)".len());
        let exact = "x".repeat(MAX_VALUE_CHARS);
        assert!(Error::corrupt("no").with("value", &exact).details().ends_with(&format!("{exact})")));
    }

    #[test]
    fn three_kinds_are_transient() {
        let transient: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_transient()).collect();
        assert_eq!(transient, [Kind::Throttled, Kind::SourceUnavailable, Kind::NotReady]);
    }
}

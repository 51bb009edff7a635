//! The lease of a lake: of all executions of the state machine, only the one that holds it writes to the lake. It is an
//! object that is only replaced if it is unchanged. A list of the running executions would not do: it shows an execution
//! only some time after its start.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Context;
use crate::error::{Error, Kind, Result};
use crate::executions::Executions;
use crate::lake::Lake;

/// The lease. Missing before the first run.
const LEASE: &str = "runs/lease.json";

/// How long a lease is valid: longer than the longest call of a function and the longest wait before it is tried again.
const DURATION: SignedDuration = SignedDuration::from_mins(45);

/// A lease that is valid for less is renewed. Most calls of an execution therefore only read it.
const RENEWED_BELOW: SignedDuration = SignedDuration::from_mins(30);

/// How often a change of the lease is tried when others change it at the same time.
const ATTEMPTS: usize = 5;

/// Who may write to the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The ARN of the execution.
    pub execution: String,
    /// When the lease ends if it is not renewed. It ends earlier with the execution.
    pub expires: Timestamp,
}

impl Lease {
    /// Returns the lease of a lake, or `None` before the first run of the state machine.
    ///
    /// # Errors
    /// `CorruptData` if it is not a lease, and the errors of the lake.
    pub async fn read(lake: &Lake) -> Result<Option<Self>> {
        lake.read_json(LEASE).await
    }

    /// Returns whether its execution may still write at a time. While AWS does not say, or does not know of the execution,
    /// the lease holds until it expires: an execution that has just started may not be known yet.
    ///
    /// # Errors
    /// The errors of AWS, unless the lease has expired.
    pub async fn is_held(&self, executions: &dyn Executions, now: Timestamp) -> Result<bool> {
        let is_valid = now < self.expires;
        match executions.may_write(&self.execution, now).await {
            Err(error) if is_valid => Err(error),
            Err(_) => Ok(false),
            Ok(may_write) => Ok(may_write.unwrap_or(is_valid)),
        }
    }

    /// Returns the name of the execution.
    #[must_use]
    pub fn execution_name(&self) -> &str {
        self.execution.rsplit(':').next().unwrap_or(&self.execution)
    }
}

impl Context {
    /// Takes the lease for an execution, or renews it. Takes it over from an execution that has ended.
    ///
    /// # Errors
    /// `AlreadyRunning` if an execution holds it that has not ended, and the errors of the lake and of AWS.
    pub async fn take_lease(&self, execution: &str) -> Result<()> {
        self.change_lease(execution, Timestamp::now(), true).await
    }

    /// Renews the lease of an execution.
    ///
    /// # Errors
    /// `AlreadyRunning` if the execution does not hold it, and the errors of the lake.
    pub async fn renew_lease(&self, execution: &str) -> Result<()> {
        self.change_lease(execution, Timestamp::now(), false).await
    }

    /// Checks that no execution holds the lease.
    ///
    /// # Errors
    /// `AlreadyRunning` if one does, and the errors of the lake and of AWS.
    pub async fn require_free_lease(&self) -> Result<()> {
        match Lease::read(&self.lake).await? {
            Some(lease) if self.is_held(&lease, Timestamp::now()).await? => Err(held_by(&lease)),
            _ => Ok(()),
        }
    }

    async fn change_lease(&self, execution: &str, now: Timestamp, may_take: bool) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let current = self.lake.store().get(LEASE).await?;
            let lease = current.as_deref().map(parse).transpose()?;
            let is_own = lease.as_ref().is_some_and(|lease| lease.execution == execution);
            match &lease {
                Some(lease) if is_own && lease.expires.duration_since(now) >= RENEWED_BELOW => return Ok(()),
                Some(_) if is_own => {}
                Some(lease) if !may_take || self.is_held(lease, now).await? => return Err(held_by(lease)),
                None if !may_take => return Err(not_held()),
                _ => {}
            }
            let renewed = Lease { execution: execution.to_owned(), expires: now + DURATION };
            let json = serde_json::to_vec(&renewed);
            let json = json.map_err(|cause| Error::internal("cannot serialize a lease").with_source(cause))?;
            if self.lake.store().swap(LEASE, current.as_ref(), json.into()).await? {
                return Ok(());
            }
        }
        Err(Error::new(Kind::AlreadyRunning, "other executions change the lease at the same time"))
    }

    async fn is_held(&self, lease: &Lease, now: Timestamp) -> Result<bool> {
        match &self.executions {
            Some(executions) => lease.is_held(executions.as_ref(), now).await,
            None => Ok(now < lease.expires),
        }
    }
}

fn parse(json: &[u8]) -> Result<Lease> {
    serde_json::from_slice(json).map_err(|cause| {
        Error::corrupt("the lease is invalid")
            .with("object", LEASE)
            .with_source(cause)
            .with_hint("delete the object if no run is in progress")
    })
}

fn held_by(lease: &Lease) -> Error {
    Error::new(Kind::AlreadyRunning, "another execution of this environment is running")
        .with("execution", lease.execution_name())
        .with_hint(
            "wait for it to end; the functions of one that was stopped may go on for 15 minutes. Or start with {\"allow_concurrent\": true}",
        )
}

fn not_held() -> Error {
    Error::new(Kind::AlreadyRunning, "the execution lost its lease of the lake")
        .with("object", LEASE)
        .with_hint("start the run again")
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::testing::{AAVE, TestLake, january, kind};

    /// Executions of which the named one runs. AWS does not answer for `silent`, and does not know of `unknown`.
    #[derive(Debug)]
    struct Running(&'static str);

    #[async_trait]
    impl Executions for Running {
        async fn may_write(&self, arn: &str, _: Timestamp) -> Result<Option<bool>> {
            match arn {
                "silent" => Err(Error::new(Kind::SourceUnavailable, "no response")),
                "unknown" => Ok(None),
                _ => Ok(Some(arn == self.0)),
            }
        }
    }

    fn context(running: &'static str) -> (TestLake, Context) {
        let test_lake = TestLake::new(&[AAVE], january(1)).unwrap();
        let executions: Option<Arc<dyn Executions>> = Some(Arc::new(Running(running)));
        let context = Context { executions, ..test_lake.context() };
        (test_lake, context)
    }

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    async fn take(context: &Context, execution: &str, at: i64) -> Option<Kind> {
        kind(context.change_lease(execution, minute(at), true).await)
    }

    async fn renew(context: &Context, execution: &str, at: i64) -> Option<Kind> {
        kind(context.change_lease(execution, minute(at), false).await)
    }

    async fn expiry(context: &Context) -> Timestamp {
        Lease::read(&context.lake).await.unwrap().unwrap().expires
    }

    #[tokio::test]
    async fn one_execution_holds_the_lease_until_it_ends() {
        let (_lake, context) = context("a");
        assert_eq!(take(&context, "a", 0).await, None);
        for at in [1, 44, 46, 600] {
            assert_eq!(take(&context, "b", at).await, Some(Kind::AlreadyRunning), "a runs, after {at} minutes");
        }
        let ended = Context { executions: Some(Arc::new(Running("b"))), ..context.clone() };
        assert_eq!(take(&ended, "b", 2).await, None);
        for outcome in [renew(&context, "a", 3).await, take(&ended, "a", 3).await] {
            assert_eq!(outcome, Some(Kind::AlreadyRunning), "it was taken over");
        }
    }

    #[tokio::test]
    async fn lease_is_renewed_before_it_expires() {
        let (_lake, context) = context("a");
        assert_eq!(take(&context, "a", 0).await, None);
        assert_eq!(renew(&context, "a", 14).await, None);
        assert_eq!(expiry(&context).await, minute(45), "still valid for long");
        assert_eq!(renew(&context, "a", 16).await, None);
        assert_eq!(expiry(&context).await, minute(61));
        assert_eq!(renew(&context, "a", 100).await, None, "nobody took it");
    }

    #[tokio::test]
    async fn lease_of_an_execution_that_aws_does_not_tell_of_holds_until_it_expires() {
        for (name, outcome) in [("silent", Kind::SourceUnavailable), ("unknown", Kind::AlreadyRunning)] {
            let (_lake, context) = context("a");
            assert_eq!(take(&context, name, 0).await, None);
            assert_eq!(take(&context, "a", 44).await, Some(outcome), "{name}");
            assert_eq!(take(&context, "a", 45).await, None, "{name}");
        }
    }

    #[tokio::test]
    async fn execution_without_a_lease_does_not_renew_one() {
        let (_lake, context) = context("a");
        assert_eq!(renew(&context, "a", 0).await, Some(Kind::AlreadyRunning));
    }

    #[tokio::test]
    async fn one_of_many_that_take_the_lease_at_once_gets_it() {
        let (_lake, context) = context("0");
        let names: Vec<_> = (0..8).map(|number| number.to_string()).collect();
        // Of those that ended meanwhile, any may be taken over: the one that runs keeps the lease.
        let taken = futures::future::join_all(names.iter().map(|name| take(&context, name, 0))).await;
        let again = take(&context, "0", 1).await;
        let holder = Lease::read(&context.lake).await.unwrap().unwrap().execution;
        assert!(taken.iter().any(Option::is_none), "{taken:?}");
        assert_eq!((again, holder.as_str()), (None, "0"));
        assert_eq!(take(&context, "1", 2).await, Some(Kind::AlreadyRunning));
    }

    #[tokio::test]
    async fn object_that_is_no_lease_is_corrupt() {
        let (_lake, context) = context("a");
        context.lake.store().put(LEASE, "{}".into()).await.unwrap();
        assert_eq!(take(&context, "a", 0).await, Some(Kind::CorruptData));
    }
}

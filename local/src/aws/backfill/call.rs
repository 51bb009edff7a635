//! The names of a backfill's executions. A name says which call of the command started the execution, and for which day,
//! so that the same call finds what it has done before, on whatever machine.

use std::fmt;

use defi_shared::domain::Day;

use crate::aws::ExecutionInput;

/// The prefix of the names.
const PREFIX: &str = "backfill_";

/// A call of the command: what all its executions have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::aws) struct BackfillCall {
    pub first: Day,
    pub last: Day,
    pub every: u32,
    from: Option<Day>,
    force: bool,
    retry_lost: bool,
    rebuild_lost: bool,
}

impl BackfillCall {
    pub(super) fn new((first, last): (Day, Day), every: u32, input: &ExecutionInput) -> Self {
        let ExecutionInput { from, force, retry_lost, rebuild_lost, .. } = *input;
        BackfillCall { first, last, every: every.max(1), from, force, retry_lost, rebuild_lost }
    }

    /// Returns the days to publish features for.
    pub(super) fn days(&self) -> Vec<Day> {
        self.first.through(self.last).step_by(self.every as usize).collect()
    }

    /// Returns the start of the names of its executions.
    fn prefix(&self) -> String {
        let BackfillCall { first, last, every, .. } = self;
        let from = self.from.map_or_else(|| "0".to_owned(), |day| day.to_string());
        let flags = [(self.force, 'f'), (self.retry_lost, 'r'), (self.rebuild_lost, 'b')];
        let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect();
        format!("{PREFIX}{first}_{last}_{every}_{from}_{flags}_")
    }

    /// Returns the name of an execution: no two executions have the same, so the attempts are numbered.
    pub(super) fn execution(&self, day: Day, attempt: usize) -> String {
        format!("{}{day}_{attempt}", self.prefix())
    }

    /// Returns the call and the day of an execution, or `None` if no backfill started it.
    pub(super) fn parse(execution: &str) -> Option<(Self, Day)> {
        let mut parts = execution.strip_prefix(PREFIX)?.split('_');
        let mut next = || parts.next();
        let (first, last, every) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        let (from, flags, day) = (next()?.parse().ok(), next()?, next()?.parse().ok()?);
        let [force, retry_lost, rebuild_lost] = ['f', 'r', 'b'].map(|letter| flags.contains(letter));
        let call = BackfillCall { first, last, every, from, force, retry_lost, rebuild_lost };
        (every > 0 && first <= last).then_some((call, day))
    }
}

impl fmt::Display for BackfillCall {
    /// Writes the command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "defi backfill {} {}", self.first, self.last)?;
        if self.every > 1 {
            write!(f, " --every {}", self.every)?;
        }
        if let Some(from) = self.from {
            write!(f, " --from {from}")?;
        }
        let flags = [(self.force, "force"), (self.retry_lost, "retry-lost"), (self.rebuild_lost, "rebuild-lost")];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, name)| write!(f, " --{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_call_and_the_day() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let plain = ExecutionInput::default();
        let full = ExecutionInput {
            from: Some(day("2020-01-01")),
            force: true,
            retry_lost: true,
            rebuild_lost: true,
            ..ExecutionInput::default()
        };
        for (input, command) in [
            (plain, "defi backfill 2022-01-01 2023-12-31 --every 365"),
            (
                full,
                "defi backfill 2022-01-01 2023-12-31 --every 365 --from 2020-01-01 --force --retry-lost --rebuild-lost",
            ),
        ] {
            let call = BackfillCall::new((day("2022-01-01"), day("2023-12-31")), 365, &input);
            assert_eq!(call.to_string(), command);
            assert_eq!(call.days(), [day("2022-01-01"), day("2023-01-01")]);
            let name = call.execution(day("2023-01-01"), 12);
            // What Step Functions accepts.
            assert!(name.len() <= 80 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{name}");
            assert_eq!(BackfillCall::parse(&name), Some((call, day("2023-01-01"))));
        }
        for other in ["", "a1b2", "backfill_", "backfill_2022-01-01_2021-01-01_1_0__2022-01-01_1"] {
            assert_eq!(BackfillCall::parse(other), None, "{other}");
        }
    }
}

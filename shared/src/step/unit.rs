//! What a step works on, one at a time: a day, a category of events and a day, a protocol and a day, a protocol.

use crate::domain::{Category, Day};

/// A unit of a step's work.
pub trait StepUnit: Clone + Send + 'static {
    /// What reports and errors call it.
    fn name(&self) -> String;

    /// Its day, where it has one.
    fn day(&self) -> Option<Day>;
}

impl StepUnit for Day {
    fn name(&self) -> String {
        self.to_string()
    }

    fn day(&self) -> Option<Day> {
        Some(*self)
    }
}

impl StepUnit for (Category, Day) {
    fn name(&self) -> String {
        format!("{} {}", self.0, self.1)
    }

    fn day(&self) -> Option<Day> {
        Some(self.1)
    }
}

impl StepUnit for (String, Day) {
    fn name(&self) -> String {
        format!("{} {}", self.1, self.0)
    }

    fn day(&self) -> Option<Day> {
        Some(self.1)
    }
}

impl StepUnit for String {
    fn name(&self) -> String {
        self.clone()
    }

    fn day(&self) -> Option<Day> {
        None
    }
}

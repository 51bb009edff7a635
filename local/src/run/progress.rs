//! The progress of a run: one bar per step on a terminal, one line per step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use defi_shared::pipeline::Step;
use defi_shared::step::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::message;

/// What the numbers of a progress count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Units of work, such as a day of a table.
    Units,
    /// Calls of functions, which process several units each. All that a run in AWS tells before it ends.
    #[cfg(feature = "aws")]
    Calls,
}

impl Counts {
    fn name(self) -> &'static str {
        match self {
            Counts::Units => "units",
            #[cfg(feature = "aws")]
            Counts::Calls => "calls",
        }
    }
}

/// Shows the progress of all steps on standard error.
#[derive(Debug)]
pub struct RunProgress {
    bars: Option<MultiProgress>,
    silent: bool,
    counts: Counts,
    steps: Mutex<BTreeMap<Step, ProgressBar>>,
}

impl RunProgress {
    /// Shows bars if standard error is a terminal, else lines.
    #[must_use]
    pub fn new(counts: Counts) -> Arc<Self> {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Arc::new(RunProgress { bars, silent: false, counts, steps: Mutex::default() })
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Arc<Self> {
        Arc::new(RunProgress { bars: None, silent: true, counts: Counts::Units, steps: Mutex::default() })
    }

    /// Adds a step with the number of all its units or calls. Does nothing if the step was added before.
    pub fn announce(&self, step: Step, all: usize) {
        let Some(bars) = &self.bars else { return };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(step).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(all as u64).with_style(style()).with_prefix(step.name()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
    }

    /// Sets the number of completed calls and of all calls of a step that runs elsewhere.
    #[cfg(feature = "aws")]
    pub fn show(&self, step: Step, done: u64, all: u64) {
        self.announce(step, usize::try_from(all).unwrap_or(usize::MAX));
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = steps.get(&step) {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    /// Marks a step as completed, after a number of units or calls.
    pub fn done(&self, step: Step, count: u64, seconds: f64) {
        match &self.bars {
            Some(_) => {
                let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = steps.get(&step) {
                    bar.finish();
                }
            }
            None if self.silent => {}
            None => message(self.line(step, count, seconds)),
        }
    }

    /// Returns the line of a completed step.
    fn line(&self, step: Step, count: u64, seconds: f64) -> String {
        format!("{step}: {count} {} in {seconds:.1} s", self.counts.name())
    }

    /// Ends the display. Bars of steps that did not complete stay as they are.
    pub fn finish(&self) {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.values().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix:26} {bar:30} {pos:>5}/{len:<5} {elapsed:>4}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for RunProgress {
    fn begin(&self, step: Step, units: usize) {
        self.announce(step, units);
    }

    fn advance(&self, step: Step) {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = steps.get(&step) {
            bar.inc(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_is_counted() {
        let line = |counts| RunProgress::new(counts).line(Step::LinkWallets, 3, 1.25);
        assert_eq!(line(Counts::Units), "link-wallets: 3 units in 1.2 s");
        #[cfg(feature = "aws")]
        assert_eq!(line(Counts::Calls), "link-wallets: 3 calls in 1.2 s");
    }
}

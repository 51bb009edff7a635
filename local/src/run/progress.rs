//! The progress of a run: one bar per step on a terminal. Elsewhere one line per step when it ends, and for a long step a line
//! now and then that says how far it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use defi_pages::number::with_thousands;
use defi_shared::pipeline::Step;
use defi_shared::step::Progress;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

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

/// The time between two lines about a step.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// The progress of a step. Without a terminal the bar is hidden, and only counts.
#[derive(Debug)]
struct StepBar {
    bar: ProgressBar,
    /// When the newest line about the step was written, or when it began.
    last_line: Instant,
}

/// Shows the progress of all steps on standard error.
#[derive(Debug)]
pub struct RunProgress {
    bars: Option<MultiProgress>,
    silent: bool,
    counts: Counts,
    steps: Mutex<BTreeMap<Step, StepBar>>,
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
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(step).or_insert_with(|| {
            let bar = match &self.bars {
                Some(bars) => bars.add(ProgressBar::new(all as u64).with_style(style()).with_prefix(step.name())),
                None => ProgressBar::with_draw_target(Some(all as u64), ProgressDrawTarget::hidden()),
            };
            if self.bars.is_some() {
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            StepBar { bar, last_line: Instant::now() }
        });
    }

    /// Sets the number of completed calls and of all calls of a step that runs elsewhere.
    #[cfg(feature = "aws")]
    pub fn show(&self, step: Step, done: u64, all: u64) {
        self.announce(step, usize::try_from(all).unwrap_or(usize::MAX));
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(StepBar { bar, .. }) = steps.get(&step) {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    /// Marks a step as completed, after a number of units or calls.
    pub fn done(&self, step: Step, count: u64, seconds: f64) {
        match &self.bars {
            Some(_) => {
                let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(StepBar { bar, .. }) = steps.get(&step) {
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
        steps.values().map(|step| &step.bar).filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
    }

    /// Returns the line that says how far a step is, if there was none for an interval.
    fn line_meanwhile(&self, step: Step, progress: &mut StepBar, interval: Duration) -> Option<String> {
        let has_lines = self.bars.is_none() && !self.silent;
        if !has_lines || progress.last_line.elapsed() < interval {
            return None;
        }
        progress.last_line = Instant::now();
        let bar = &progress.bar;
        let (done, all) = (with_thousands(bar.position()), with_thousands(bar.length().unwrap_or_default()));
        let (rate, left) = (bar.per_sec(), HumanDuration(bar.eta()));
        Some(format!("{step}: {done} of {all} {}, {rate:.1} a second, about {left} left", self.counts.name()))
    }
}

fn style() -> ProgressStyle {
    let style =
        ProgressStyle::with_template("{prefix:26} {bar:16} {pos:>6}/{len:<6} {elapsed:>4} {rate:>9}, {eta} left");
    // The library's own key has nine decimals.
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // A text in memory can always be written.
        let _written = write!(text, "{:.1}/s", state.per_sec());
    };
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate)
}

impl Progress for RunProgress {
    fn begin(&self, step: Step, units: usize) {
        self.announce(step, units);
    }

    fn advance(&self, step: Step) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(progress) = steps.get_mut(&step) else { return };
        progress.bar.inc(1);
        let line = self.line_meanwhile(step, progress, LINE_INTERVAL);
        drop(steps);
        line.into_iter().for_each(message);
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

    #[test]
    fn long_step_says_how_far_it_is() {
        let line_after_one = |silent, interval| {
            let progress = RunProgress { bars: None, silent, counts: Counts::Units, steps: Mutex::default() };
            progress.begin(Step::ExtractEvents, 13_500);
            let mut steps = progress.steps.lock().unwrap();
            let bar = steps.get_mut(&Step::ExtractEvents).unwrap();
            bar.bar.inc(1);
            progress.line_meanwhile(Step::ExtractEvents, bar, interval)
        };
        let line = line_after_one(false, Duration::ZERO).unwrap();
        assert!(line.starts_with("extract-events: 1 of 13,500 units, ") && line.ends_with(" left"), "{line}");
        assert_eq!(line_after_one(false, LINE_INTERVAL), None, "not for every unit");
        assert_eq!(line_after_one(true, Duration::ZERO), None);
    }
}

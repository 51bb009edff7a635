//! The progress of a run: one bar per step on a terminal, one line per step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use defi_shared::pipeline::Step;
use defi_shared::step::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::message;

/// Shows the progress of all steps on standard error.
#[derive(Debug)]
pub struct RunProgress {
    bars: Option<MultiProgress>,
    silent: bool,
    steps: Mutex<BTreeMap<Step, ProgressBar>>,
}

impl RunProgress {
    /// Shows bars if standard error is a terminal, else lines.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Arc::new(RunProgress { bars, silent: false, steps: Mutex::default() })
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Arc<Self> {
        Arc::new(RunProgress { bars: None, silent: true, steps: Mutex::default() })
    }

    /// Adds a step with the number of its units in all its calls. Does nothing if the step was added before.
    pub fn announce(&self, step: Step, units: usize) {
        let Some(bars) = &self.bars else { return };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(step).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(units as u64).with_style(style()).with_prefix(step.name()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
    }

    /// Sets the number of completed units and of all units of a step that runs elsewhere.
    #[cfg(feature = "aws")]
    pub fn show(&self, step: Step, done: u64, all: u64) {
        self.announce(step, usize::try_from(all).unwrap_or(usize::MAX));
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = steps.get(&step) {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    /// Marks a step as completed.
    pub fn done(&self, step: Step, units: u64, seconds: f64) {
        match &self.bars {
            Some(_) => {
                let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = steps.get(&step) {
                    bar.finish();
                }
            }
            None if self.silent => {}
            None => message(format_args!("{step}: {units} units in {seconds:.1} s")),
        }
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

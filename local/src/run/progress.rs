//! How far a run is: a bar a step on a terminal, a line a step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use defi_shared::step::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows the progress of all steps.
#[derive(Debug)]
pub struct Watched {
    bars: Option<MultiProgress>,
    silent: bool,
    steps: Mutex<BTreeMap<&'static str, ProgressBar>>,
}

impl Watched {
    /// Bars where standard error is a terminal.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Arc::new(Watched { bars, silent: false, steps: Mutex::default() })
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Arc<Self> {
        Arc::new(Watched { bars: None, silent: true, steps: Mutex::default() })
    }

    /// A step will do this many units, in however many calls of its handler.
    pub fn announce(&self, step: &'static str, units: usize) {
        let Some(bars) = &self.bars else { return };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(step).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(units as u64).with_style(style()).with_prefix(step));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
    }

    /// So many of a step's units are done, of so many in all: for a step that is watched from afar.
    #[cfg(feature = "aws")]
    pub fn show(&self, step: &'static str, done: u64, all: u64) {
        self.announce(step, usize::try_from(all).unwrap_or(usize::MAX));
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = steps.get(step) {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    /// A step is over.
    pub fn done(&self, step: &str, units: u64, seconds: f64) {
        match &self.bars {
            Some(_) => {
                let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = steps.get(step) {
                    bar.finish();
                }
            }
            None if self.silent => {}
            None => eprintln!("{step}: {units} units in {seconds:.1} s"),
        }
    }

    /// The run is over: bars that are still open stay as they are.
    pub fn finish(&self) {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.values().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix:26} {bar:30} {pos:>5}/{len:<5} {elapsed:>4}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Watched {
    fn begin(&self, step: &'static str, units: usize) {
        self.announce(step, units);
    }

    fn advance(&self, step: &'static str) {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = steps.get(step) {
            bar.inc(1);
        }
    }
}

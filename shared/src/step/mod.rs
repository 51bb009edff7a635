//! The code that all steps share: their context, inputs and reports, running and committing units, and serving under
//! Lambda.

pub mod aave;
mod calls;
mod checks;
mod commit;
mod context;
pub mod contracts;
mod deadline;
mod environment;
mod first_day;
pub mod history;
mod input;
mod lease;
mod logs;
mod metrics;
mod progress;
mod publication;
pub mod raw;
mod report;
mod resume;
mod run;
mod schemas;
mod serve;
pub mod snapshots;
pub mod staging;
mod unfinished;
mod units;

pub use calls::RunCalls;
pub use checks::{Check, CheckResults, Outcome};
pub use commit::commit;
pub use context::{Clients, Context};
pub use deadline::Deadline;
pub use environment::{context_from, now, today};
pub use input::{UnitInput, parse};
pub use lease::Lease;
pub use logs::Logs;
pub use metrics::StepOutput;
pub use progress::{NoProgress, Progress};
pub use report::{FoldStart, Remaining, Report, UnitSummary};
pub use resume::CallUnits;
pub use run::{Gaps, RUN_CHECKS, RUN_PAGE, RUN_PLAN, RUN_REPORT, RunId, RunReport, StepReport};
pub use serve::{serve, serve_events};
pub use unfinished::{OLDER_RULES, recorded_runs};
pub use units::{CONCURRENT_LARGE_UNITS, CONCURRENT_UNITS};

//! Checks the newest block of a source.

use jiff::Timestamp;

use super::Finding;
use defi_pages::number::{duration, with_thousands};

/// The maximum age of a head block. If it is older, the source has fallen behind the chain.
const MAX_HEAD_AGE_SECONDS: i64 = 3_600;

/// Checks the age of a source's head block. A recording has no new blocks, so that its age is ignored.
pub(super) fn check_head(item: &str, number: u64, timestamp: Option<i64>, is_recorded: bool) -> Finding {
    let Some(time) = timestamp else {
        return Finding::ok(item, format!("available, head block {}", with_thousands(number)));
    };
    let age = Timestamp::now().as_second() - time;
    let found = format!("available, head block {} is {} old", with_thousands(number), duration(age));
    if age > MAX_HEAD_AGE_SECONDS && !is_recorded {
        return Finding::warn(
            item,
            found,
            "wait until the source has caught up: days that are not final there are not extracted",
        );
    }
    Finding::ok(item, found)
}

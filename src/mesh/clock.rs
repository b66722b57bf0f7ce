//! The one place where a clock is read. Everybody else is told the time.

use crate::base::time::{Date, Instant};
use std::sync::OnceLock;

static BEGINNING: OnceLock<std::time::Instant> = OnceLock::new();

/// Time since the process first asked.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    let now = std::time::Instant::now();
    let beginning = BEGINNING.get_or_init(|| now);
    let nanos = now.saturating_duration_since(*beginning).as_nanos();
    // Never 0: a stamp of 0 would read as "never".
    Instant(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
}

/// The date.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn date() -> Date {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Date(since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)))
}

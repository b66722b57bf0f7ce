//! The one place where a clock is read. Everybody else is told the time.
//!
//! It is CLOCK_BOOTTIME, which goes on while the machine sleeps: rights that routers give each
//! other run out meanwhile.

use crate::base::time::{Date, Instant};
use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

static BEGINNING: OnceLock<u64> = OnceLock::new();

/// Time since the process first asked.
pub fn now() -> Instant {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    let beginning = BEGINNING.get_or_init(|| nanos);
    // Never 0: a stamp of 0 would read as "never".
    Instant(nanos.saturating_sub(*beginning).max(1))
}

/// The date.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn date() -> Date {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Date(since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)))
}

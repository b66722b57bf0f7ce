//! The one place where a clock is read. Everyone else is told what time it is.

use crate::base::time::{Date, Instant};
use std::sync::OnceLock;
use std::time;

/// The beginning of [`Instant`]: when the process first asked.
static EPOCH: OnceLock<time::Instant> = OnceLock::new();

/// Nanoseconds of CLOCK_MONOTONIC since this function was first called. Never goes back.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    let epoch = *EPOCH.get_or_init(time::Instant::now);
    let passed = time::Instant::now().saturating_duration_since(epoch);
    Instant(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
}

/// The date, in milliseconds; a date before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn date() -> Date {
    let passed = time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default();
    Date(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
        assert!(date() > Date(1_600_000_000_000));
    }
}

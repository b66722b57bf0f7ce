//! Time. Nothing in a play waits for a guessed time; it looks until what it waits for is there.

use std::thread;
use std::time::{Duration, Instant};

/// What should happen happens within this time, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(4);

/// The time.
#[expect(clippy::disallowed_methods, reason = "plays have a clock of their own; this is it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until there is something to see.
///
/// # Panics
/// Nothing was there in time.
pub(crate) fn until<T>(what: &str, patience: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(patience, look).unwrap_or_else(|| panic!("waited {patience:?} in vain: {what}"))
}

/// Looks until there is something to see, or time is over.
pub(crate) fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if now() - begun >= patience {
            return None;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Does nothing until then: what a client does between two requests.
pub(crate) fn pause_until(then: Instant) {
    thread::sleep(then.saturating_duration_since(now()));
}

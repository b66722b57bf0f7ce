//! The pause between restarts of instances that do not last.
//!
//! Instances that fail together are one failure: whoever was launched before the last failure that
//! counted belongs to a round that has been judged already. Otherwise ten instances with one bad
//! command would reach the longest pause at once.

use crate::base::time::{Duration, Instant};

/// The pause after the first failure.
const BASE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// An instance that lived so long has not failed at its start.
const LASTING: Duration = Duration::from_secs(60);

/// When the next instance of a service may be launched.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    factor: f64,
    failures: u32,
    failed_at: Option<Instant>,
    next_launch: Instant,
}

impl Backoff {
    /// No failures yet. `factor` is by how much the pause grows with each; at least 1.
    pub(super) fn new(factor: f64) -> Self {
        Self { factor, failures: 0, failed_at: None, next_launch: Instant(0) }
    }

    /// Whether an instance launched then has lasted: its end says nothing about its start.
    pub(super) fn has_lasted(launched_at: Instant, now: Instant) -> bool {
        now - launched_at >= LASTING
    }

    /// An instance has ended that should not have.
    pub(super) fn failed(&mut self, launched_at: Instant, now: Instant) {
        if Self::has_lasted(launched_at, now) {
            self.failures = 0;
        } else if self.failed_at.is_some_and(|it| launched_at <= it) {
            return;
        }
        self.failures += 1;
        self.failed_at = Some(now);
        self.next_launch = now + self.pause();
    }

    /// When the next launch may be.
    pub(super) fn next_launch(&self) -> Instant {
        self.next_launch
    }

    fn pause(&self) -> Duration {
        let growth = self.factor.max(1.0).powf(f64::from(self.failures.saturating_sub(1)));
        // Compared as numbers first: the power may be infinite, which no Duration is.
        let seconds = (BASE.as_secs_f64() * growth).min(LONGEST.as_secs_f64());
        Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses in ms after failures; each failure: (lived ms, of how many instances).
    fn check(factor: f64, failures: &[(u64, u32)], expected: &[u64]) {
        let (mut backoff, mut now, mut pauses) = (Backoff::new(factor), Instant(0), Vec::new());
        for (lived_ms, instances) in failures {
            let launched_at = now.max(backoff.next_launch()) + Duration::from_millis(1);
            now = launched_at + Duration::from_millis(*lived_ms);
            for _ in 0..*instances {
                backoff.failed(launched_at, now);
            }
            let pause = backoff.next_launch() - now;
            pauses.push(u64::try_from(pause.as_millis()).unwrap());
        }
        assert_eq!(pauses, expected);
    }

    #[test]
    fn pauses() {
        check(2.0, &[(0, 1); 4], &[200, 400, 800, 1600]);
        check(1.0, &[(0, 1); 3], &[200; 3]);
        check(10.0, &[(0, 1); 5], &[200, 2_000, 20_000, 60_000, 60_000]);
        check(2.0, &[(0, 1), (59_000, 1), (60_000, 1), (0, 1)], &[200, 400, 200, 400]);
        check(2.0, &[(0, 10), (5, 10)], &[200, 400]);
        check(f64::MAX, &[(0, 1); 5], &[200, 60_000, 60_000, 60_000, 60_000]);
    }
}

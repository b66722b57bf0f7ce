//! What the results of a task's health check mean. Told the time.
//!
//! ```text
//!  failure ── before the first success and within grace ──► nothing happened
//!     │
//!     └─ else counted; with `max` failures counted *before* this one, the task is killed
//!  success ── the count is zero again
//! ```

use super::spec::HealthCheck;
use crate::clock::Ms;

/// Of one check of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) first_success: Option<Ms>,
    pub(crate) last_success: Option<Ms>,
    pub(crate) last_failure: Option<Ms>,
    pub(crate) cause: Option<String>,
    pub(crate) failures: i64,
    /// When the next check begins; none while one is under way.
    pub(crate) next_at: Option<Ms>,
}

/// What follows from a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ignored,
    Noted,
    Kill,
}

impl Health {
    /// Nothing is known before the first result counts.
    pub(crate) fn has_result(&self) -> bool {
        self.last_success.is_some() || self.last_failure.is_some()
    }

    /// The last success is newer than the last failure.
    pub(crate) fn alive(&self) -> bool {
        match (self.last_success, self.last_failure) {
            (Some(success), Some(failure)) => success > failure,
            (success, None) => success.is_some(),
            (None, Some(_)) => false,
        }
    }

    /// A result came. `grace_ends` is a time.
    pub(crate) fn on_result(
        &mut self,
        check: &HealthCheck,
        result: Result<(), String>,
        grace_ends: Ms,
        now: Ms,
    ) -> Verdict {
        let Err(cause) = result else {
            self.first_success.get_or_insert(now);
            self.last_success = Some(now.max(self.last_failure.map_or(now, |it| it + 1)));
            self.failures = 0;
            return Verdict::Noted;
        };
        if self.first_success.is_none() && now < grace_ends {
            return Verdict::Ignored;
        }
        let counted = self.failures;
        self.last_failure = Some(now);
        self.cause = Some(cause);
        self.failures += 1;
        let fatal = check.max_failures > 0 && counted >= check.max_failures;
        if fatal { Verdict::Kill } else { Verdict::Noted }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{CheckKind, CheckPort};
    use super::*;

    fn check(max_failures: i64, results: &str) -> Vec<Verdict> {
        let check = HealthCheck {
            kind: CheckKind::Tcp { port: CheckPort::Index(0) },
            grace_s: 0,
            interval_s: 1,
            timeout_s: 1,
            delay_s: 0,
            max_failures,
        };
        let mut health = Health::default();
        let one = |(at, it): (usize, char)| {
            let result = if it == '+' { Ok(()) } else { Err("500".to_owned()) };
            health.on_result(&check, result, 2, at as Ms)
        };
        results.chars().enumerate().map(one).collect()
    }

    #[test]
    fn a_task_is_killed_by_the_failure_after_the_last_that_it_may_have() {
        use Verdict::{Ignored, Kill, Noted};
        assert_eq!(check(2, "-----"), [Ignored, Ignored, Noted, Noted, Kill]);
        assert_eq!(check(1, "+--"), [Noted, Noted, Kill]);
        assert_eq!(check(1, "+-+-+"), [Noted; 5]);
        assert_eq!(check(0, "+----"), [Noted; 5]);
    }
}

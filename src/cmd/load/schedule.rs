//! When requests are due.

use crate::base::time::{Duration, Instant};

/// The requests of one thread, in the order in which they are due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pace: Pace,
    began: Instant,
    end: Instant,
}

#[derive(Clone, Debug)]
enum Pace {
    /// Whenever a connection is free.
    Eager,
    /// Request `n` of all threads is due `n / rate` seconds after the beginning; this thread sends
    /// `next`, and then every `step`th.
    Constant { rate: u64, next: u64, step: u64, count: u64 },
}

/// Whose requests: thread `at` of `of`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) at: usize,
    pub(super) of: usize,
}

impl Schedule {
    /// `rate` requests a second for `duration`; a rate of 0: whenever a connection is free.
    pub(super) fn new(rate: u64, duration: Duration, share: Share, began: Instant) -> Self {
        let end = began + duration;
        if rate == 0 {
            return Self { pace: Pace::Eager, began, end };
        }
        let count = u128::from(rate) * duration.as_nanos() / 1_000_000_000;
        let pace = Pace::Constant {
            rate,
            next: share.at as u64,
            step: share.of as u64,
            count: u64::try_from(count).unwrap_or(u64::MAX),
        };
        Self { pace, began, end }
    }

    /// Takes the request that is due longest, if one is: when it was due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.wakeup()?;
        if due > now || self.is_over(now) {
            return None;
        }
        match &mut self.pace {
            Pace::Eager => Some(now),
            Pace::Constant { next, step, .. } => {
                *next += *step;
                Some(due)
            }
        }
    }

    /// When the next one is due, if there is one.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        match self.pace {
            Pace::Eager => Some(self.began),
            Pace::Constant { rate, next, count, .. } if next < count => {
                // Computed from the beginning each time: nothing adds up to a drift.
                let after = u128::from(next) * 1_000_000_000 / u128::from(rate);
                Some(self.began + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX)))
            }
            Pace::Constant { .. } => None,
        }
    }

    /// Whether no more requests will be taken.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match self.pace {
            Pace::Eager => now >= self.end,
            Pace::Constant { next, count, .. } => next >= count,
        }
    }

    /// When the last request is due, or the load ends.
    pub(super) fn end(&self) -> Instant {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Instant = Instant(1_000_000_000);

    fn at(millis: u64) -> Instant {
        BEGAN + Duration::from_millis(millis)
    }

    fn schedule(rate: u64, millis: u64, at: usize, of: usize) -> Schedule {
        Schedule::new(rate, Duration::from_millis(millis), Share { at, of }, BEGAN)
    }

    fn taken(it: &mut Schedule, now: Instant) -> Vec<u64> {
        let due = std::iter::from_fn(|| it.take(now));
        due.map(|it| (it - BEGAN).as_millis().try_into().expect("small")).collect()
    }

    #[test]
    fn requests_are_due_at_even_distances_and_none_before_its_time() {
        let mut it = schedule(100, 50, 0, 1);
        assert_eq!(taken(&mut it, at(0)), [0]);
        assert!(taken(&mut it, at(9)).is_empty());
        assert_eq!(it.wakeup(), Some(at(10)));
        assert_eq!(taken(&mut it, at(10)), [10]);
    }

    #[test]
    fn requests_that_could_not_be_sent_in_time_keep_their_due_time_even_after_the_end() {
        let mut it = schedule(100, 50, 0, 1);
        assert!(!it.is_over(at(9000)));
        assert_eq!(taken(&mut it, at(9000)), [0, 10, 20, 30, 40]);
        assert!(it.is_over(at(9000)));
        assert_eq!(it.wakeup(), None);
    }

    #[test]
    fn threads_share_the_schedule_without_gap_or_overlap() {
        let mut all: Vec<u64> =
            (0..3).flat_map(|n| taken(&mut schedule(1000, 10, n, 3), at(10))).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut it = schedule(7, 3_600_000, 0, 1);
        let mut last = BEGAN;
        let mut count = 0;
        while let Some(due) = it.take(at(3_600_000)) {
            (last, count) = (due, count + 1);
        }
        assert_eq!(count, 7 * 3600);
        assert_eq!((last - BEGAN).as_nanos(), 25_199 * 1_000_000_000 / 7);
    }

    #[test]
    fn without_a_rate_a_request_is_due_now_until_the_end() {
        let mut it = schedule(0, 50, 0, 1);
        assert_eq!(it.take(at(7)), Some(at(7)));
        assert_eq!(it.take(at(49)), Some(at(49)));
        assert!(!it.is_over(at(49)) && it.is_over(at(50)));
        assert_eq!(it.take(at(50)), None);
    }
}

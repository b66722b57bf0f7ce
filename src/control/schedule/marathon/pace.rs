//! When Marathon is asked next.

use crate::base::time::{Duration, Instant};

/// First pause after a poll without answer; doubles up to the interval.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// After a hint it is waited for others so long, and twice as long as a poll takes.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// So much oftener it is asked while something is doubted.
const EAGERNESS: u32 = 5;

/// What a poll came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Came {
    /// No answer that could be understood.
    Nothing,
    /// An answer, all of which is believed, or has been doubted for so long that it makes no
    /// difference when it is asked again.
    Known,
    /// An answer of which something has been doubted for less than the time of doubt.
    Doubted,
}

/// How often it is asked.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// Pause after a poll without answer.
    pause: Duration,
}

impl Pace {
    /// At this interval.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, pause: PAUSE_MIN }
    }

    /// How long the next poll can wait.
    pub(super) fn next_poll(&mut self, came: Came) -> Duration {
        let pause = std::mem::replace(&mut self.pause, PAUSE_MIN).min(self.interval);
        match came {
            Came::Nothing => {
                self.pause = 2 * pause;
                pause
            }
            Came::Known => self.interval,
            Came::Doubted => self.interval / EAGERNESS,
        }
    }

    /// For so long an answer is good enough to decide on, if the last one took so long: by then the
    /// next has begun and come. One that began within this time and takes twice as long is no
    /// reason for doubt; else a Marathon that is slow for its size would be believed by turns. No
    /// request takes longer than its deadline.
    pub(super) fn good_for(
        &self,
        (timeout, deadline): (Duration, Duration),
        took: Duration,
    ) -> Duration {
        self.interval + timeout.max((2 * took).min(deadline))
    }

    /// Something has changed: when the next poll is due that was due `until`, if the last one ended
    /// then and took so long.
    pub(super) fn hinted(until: Instant, ended: Instant, took: Duration, now: Instant) -> Instant {
        until.min((ended + DEBOUNCE.max(2 * took)).max(now + DEBOUNCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn silence_makes_it_ask_sooner_and_then_less_and_less_often() {
        use Came::{Doubted, Known, Nothing};
        for (interval, came, expected) in [
            (5000, vec![Known, Known], vec![5000, 5000]),
            (5000, vec![Doubted, Doubted, Known], vec![1000, 1000, 5000]),
            (5000, vec![Nothing; 6], vec![500, 1000, 2000, 4000, 5000, 5000]),
            (5000, vec![Nothing, Nothing, Known, Nothing], vec![500, 1000, 5000, 500]),
            (5000, vec![Nothing, Nothing, Doubted, Nothing], vec![500, 1000, 1000, 500]),
            (300, vec![Nothing, Nothing, Known], vec![300, 300, 300]),
        ] {
            let mut pace = Pace::new(ms(interval));
            let waits: Vec<Duration> = came.iter().map(|it| pace.next_poll(*it)).collect();
            let expected: Vec<Duration> = expected.into_iter().map(ms).collect();
            assert_eq!(waits, expected, "{interval} {came:?}");
        }
    }

    #[test]
    fn an_answer_is_good_until_the_next_has_come_however_long_that_takes() {
        for (interval, timeout, took, expected) in [
            (5000, 10_000, 0, 15_000),
            (5000, 10_000, 200, 15_000),
            (5000, 10_000, 4999, 15_000),
            (5000, 10_000, 12_000, 29_000), // it begins in time, and is long
            (5000, 10_000, 20_000, 35_000), // by its deadline it has come, or never will
            (5000, 10_000, 30_000, 35_000),
            (300, 1500, 2000, 4300),
        ] {
            let it = Pace::new(ms(interval)).good_for((ms(timeout), ms(3 * timeout)), ms(took));
            assert_eq!(it, ms(expected), "{interval} {timeout} {took}");
            assert!(it >= ms(interval + took), "the next is not late");
        }
    }

    #[test]
    fn many_hints_are_one_poll() {
        let at = |count: u64| Instant(0) + ms(count);
        for (until, ended, took, now, expected) in [
            (6000, 1000, 10, 1001, 1101), // the first hint waits for others
            (6000, 1000, 10, 3000, 3100),
            (6000, 1000, 400, 1001, 1800), // polls take at most a third of the time
            (6000, 1000, 400, 1750, 1850),
            (1101, 1000, 10, 1099, 1101), // more hints do not put it off
            (1050, 1000, 10, 1001, 1050), // it was due before
        ] {
            let due = Pace::hinted(at(until), at(ended), ms(took), at(now));
            assert_eq!(due, at(expected), "{until} {ended} {took} {now}");
        }
    }
}

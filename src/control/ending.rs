//! The end of a router: first the shards finish what they have, then the scheduler ends its
//! instances.

use crate::base::time::{Date, Duration, Instant};
use crate::control::plane::{Ended, Ending, Plane};
use crate::control::shelf::Said;
use crate::core::fact::Order;
use crate::core::letter::Command;

impl Plane {
    /// Somebody asked the router to end. Asked twice, it does not wait for requests any longer.
    pub(super) fn begin_end(&mut self, now: Instant) {
        if self.ending.is_some() {
            self.ending = Some(Ending::Draining(now));
            return;
        }
        tracing::info!("ending: no new requests; finishing those at hand");
        self.ending = Some(Ending::Draining(now + self.terms.drain));
        self.post.send_all(|| Command::Drain);
    }

    /// Whether the router has ended, and how.
    pub(super) fn ended(&mut self, now: Instant) -> Option<Ended> {
        let Some(Ending::Draining(until)) = self.ending else { return None };
        let all = self.drained.len() == self.post.shards();
        if !all && now < until {
            return None;
        }
        self.ending = Some(Ending::Stopping { cut_short: !all });
        self.order(Order::End);
        // The scheduler's thread returns when all instances are gone; who started it waits for it.
        self.orders = None;
        Some(if all { Ended::Drained } else { Ended::CutShort })
    }

    /// How long the wait for the next event may last while ending.
    pub(super) fn ending_nap(&self, now: Instant) -> Option<Duration> {
        match self.ending {
            Some(Ending::Draining(until)) => Some(until - now),
            _ => None,
        }
    }

    pub(super) fn catalogue(&mut self, now: Instant, date: Date) {
        let said = Said {
            books: &self.books,
            scalings: &self.scalings,
            failures: &self.failures,
            idle: &self.idle,
            broken: &self.broken,
            draining: self.ending.is_some(),
        };
        self.shelf.write(&said, now, date);
    }
}

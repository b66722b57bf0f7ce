//! The end of a router: first the shards finish what they have, then the scheduler ends its
//! instances.

use crate::base::time::{Date, Duration, Instant};
use crate::control::event::Event;
use crate::control::plane::{Ended, Ending, Plane};
use crate::control::shelf::Said;
use crate::core::fact::Order;
use crate::core::letter::Command;
use std::sync::mpsc::Receiver;

/// After the drain, whoever waited is answered within this time.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

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
        self.leave();
    }

    /// Whether the router has ended, and how.
    pub(super) fn ended(&mut self, now: Instant) -> Option<Ended> {
        let all = self.drained.len() == self.post.shards();
        match self.ending? {
            Ending::Draining(until) if !all && now < until => return None,
            Ending::Draining(_) if !all => {
                tracing::warn!("the time for draining is over; requests at hand are cut off");
                self.ending = Some(Ending::Cutting(now + LAST_ANSWERS));
                self.post.send_all(|| Command::Cut);
                return None;
            }
            Ending::Cutting(until) if now < until => return None,
            Ending::Draining(_) | Ending::Cutting(_) => {}
        }
        if !self.has_left(now) {
            return None;
        }
        self.part();
        // A scheduler's thread returns when all that ends with it is gone; who started it waits.
        self.runners.order_all(&Order::End);
        let cut_short = matches!(self.ending, Some(Ending::Cutting(_)));
        Some(if cut_short { Ended::CutShort } else { Ended::Drained })
    }

    /// While the scheduler ends its instances: another request to end does not wait for them.
    pub(super) fn end_at_once(&mut self, events: &Receiver<Event>) {
        let mut left = self.runners.count();
        while left > 0 {
            match events.recv() {
                Ok(Event::End) => self.runners.order_all(&Order::EndNow),
                Ok(Event::SchedulerEnded(_)) => left -= 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// How long the wait for the next event may last while ending.
    pub(super) fn ending_nap(&self, now: Instant) -> Option<Duration> {
        match self.ending {
            Some(Ending::Draining(until) | Ending::Cutting(until)) => Some(until - now),
            None => None,
        }
    }

    pub(super) fn catalogue(&mut self, now: Instant, date: Date) {
        if !self.shelf.is_due(now) {
            return;
        }
        let said = Said {
            books: &self.books,
            scalings: &self.scalings,
            failures: &self.failures,
            idle: &self.idle,
            broken: &self.broken,
            launches: self.launches,
            draining: self.ending.is_some(),
            cluster: self.cluster.as_ref().map(|it| it.page(now, date)),
        };
        self.shelf.write(&said, now, date);
    }
}

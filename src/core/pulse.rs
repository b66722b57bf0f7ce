//! What happened on a shard since the last pulse, per service that changed.

use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};

/// One shard's news for the control thread, sent once a tick.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Services with traffic since the last pulse, or with requests at hand.
    pub services: Vec<(ServiceId, Beat)>,
    /// Client connections open now.
    pub connections: u32,
    /// Exchanges at hand now.
    pub exchanges: u32,
}

/// One service's counters on one shard. Sums are since the last pulse, levels are now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beat {
    /// Requests that wait or are served now.
    pub outstanding: u32,
    /// Requests that wait for a slot now.
    pub waiting: u32,
    /// ∫ outstanding · dt, in request-nanoseconds.
    pub outstanding_time: u64,
    /// Requests that arrived.
    pub arrivals: u32,
    /// Requests that ended after they had been served.
    pub completions: u32,
    /// Requests that ended in any other way.
    pub failures: u32,
    /// Σ time from slot to end of the completed ones.
    pub service_time: Duration,
    /// Age of the request that waits longest; known at home only.
    pub oldest_waiting: Duration,
}

/// A shard's running counters of one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    beat: Beat,
    since: Instant,
    last_request: Instant,
}

impl Counters {
    /// A request arrived.
    pub fn arrived(&mut self, now: Instant) {
        self.integrate(now);
        self.beat.outstanding += 1;
        self.beat.arrivals += 1;
        self.last_request = now;
    }

    /// A request began to wait.
    pub fn began_to_wait(&mut self) {
        self.beat.waiting += 1;
    }

    /// A request waits no longer.
    pub fn stopped_waiting(&mut self) {
        self.beat.waiting -= 1;
    }

    /// A request ended; `served` is the time it held a slot, if it was served.
    pub fn ended(&mut self, served: Option<Duration>, now: Instant) {
        self.integrate(now);
        self.beat.outstanding -= 1;
        match served {
            Some(time) => {
                self.beat.completions += 1;
                self.beat.service_time += time;
            }
            None => self.beat.failures += 1,
        }
    }

    /// The news since the last call; none if nothing happened and nothing is at hand.
    pub fn take(&mut self, now: Instant) -> Option<Beat> {
        self.integrate(now);
        let beat = self.beat;
        self.beat =
            Beat { outstanding: beat.outstanding, waiting: beat.waiting, ..Beat::default() };
        (beat != Beat::default()).then_some(beat)
    }

    /// When the last request arrived.
    pub fn last_request(&self) -> Instant {
        self.last_request
    }

    /// Requests that wait or are served.
    pub fn outstanding(&self) -> u32 {
        self.beat.outstanding
    }

    fn integrate(&mut self, now: Instant) {
        let elapsed = now.0.saturating_sub(self.since.0);
        self.beat.outstanding_time += u64::from(self.beat.outstanding) * elapsed;
        self.since = now;
    }
}

impl Beat {
    /// Adds another shard's or a later beat: sums add, levels add, the oldest stays.
    pub fn add(&mut self, other: &Self) {
        self.outstanding += other.outstanding;
        self.waiting += other.waiting;
        self.outstanding_time += other.outstanding_time;
        self.arrivals += other.arrivals;
        self.completions += other.completions;
        self.failures += other.failures;
        self.service_time += other.service_time;
        self.oldest_waiting = self.oldest_waiting.max(other.oldest_waiting);
    }
}

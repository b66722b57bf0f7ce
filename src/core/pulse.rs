//! What happened on a shard since the last pulse, per service that changed.

use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::histogram::Latency;

/// One shard's news for the control thread, sent once a tick.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Services with traffic since the last pulse, or with requests at hand.
    pub services: Vec<(ServiceId, Beat)>,
    /// How long requests took that have been served since the last pulse, where any was.
    pub latencies: Vec<(ServiceId, Latency<u32>)>,
    /// The shard as a whole.
    pub load: Load,
}

/// A shard, or all of them. Levels are now, sums since it began: a pulse replaces the one before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Client connections open now.
    pub connections: u32,
    /// Exchanges at hand now.
    pub exchanges: u32,
    /// Requests that wait on the whole router now; one shard says it for all.
    pub queued: u64,
    /// Their memory, in bytes.
    pub queued_bytes: u64,
    /// Seats that were got while more slots of the instance were used than it has. Stays 0.
    pub over_limit: u64,
    /// Letters sent to other shards.
    pub letters: u64,
    /// Lines of the access log that were dropped because the writer lagged.
    pub lines_dropped: u64,
    /// Receive buffers that are filled and not free again now.
    pub buffers_taken: u32,
    /// Receives that found no buffer free.
    pub receives_starved: u64,
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

/// How long a request took that was served to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// From arrival to slot.
    pub queue: Duration,
    /// From slot to end.
    pub service: Duration,
}

/// A shard's running counters of one service.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    beat: Beat,
    latency: Latency<u32>,
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

    /// A request ended; `served` says how long it took, if it was served.
    pub fn ended(&mut self, served: Option<Spent>, now: Instant) {
        self.integrate(now);
        self.beat.outstanding -= 1;
        match served {
            Some(spent) => {
                self.beat.completions += 1;
                self.beat.service_time += spent.service;
                self.latency.queue.record(spent.queue);
                self.latency.total.record(spent.queue + spent.service);
            }
            None => self.beat.failures += 1,
        }
    }

    /// How long requests took that have been served since the last [`take`](Self::take), if any
    /// was. Asked before that.
    pub fn take_latency(&mut self) -> Option<Latency<u32>> {
        (self.beat.completions > 0).then(|| std::mem::take(&mut self.latency))
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

    /// Whether nothing waits or is served.
    pub fn is_at_rest(&self) -> bool {
        self.beat.outstanding == 0 && self.beat.waiting == 0
    }

    fn integrate(&mut self, now: Instant) {
        let elapsed = now.0.saturating_sub(self.since.0);
        self.beat.outstanding_time += u64::from(self.beat.outstanding) * elapsed;
        self.since = now;
    }
}

impl Load {
    /// Adds another shard.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.exchanges += other.exchanges;
        self.queued += other.queued;
        self.queued_bytes += other.queued_bytes;
        self.over_limit += other.over_limit;
        self.letters += other.letters;
        self.lines_dropped += other.lines_dropped;
        self.buffers_taken += other.buffers_taken;
        self.receives_starved += other.receives_starved;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_told_once() {
        let mut counters = Counters::default();
        let spent = Spent { queue: Duration::from_millis(1), service: Duration::from_millis(2) };
        for (served, expected) in [(Some(spent), Some(3)), (None, None)] {
            counters.arrived(Instant(1));
            counters.ended(served, Instant(2));
            let told = counters.take_latency().map(|it| {
                let mut sum = Latency::default();
                sum.add(&it);
                assert_eq!((sum.queue.count(), sum.total.count()), (1, 1));
                sum.total.sum().as_millis()
            });
            assert_eq!(told, expected);
            let beat = counters.take(Instant(3)).expect("something happened");
            assert_eq!(
                (beat.completions, beat.failures),
                match served {
                    Some(_) => (1, 0),
                    None => (0, 1),
                }
            );
        }
    }
}

//! The books: what the shards' pulses say, summed up per service.

use crate::base::ids::{ServiceId, ShardId};
use crate::base::time::{Date, Duration};
use crate::core::aggregator::Aggregator;
use crate::core::autoscaler::Demand;
use crate::core::catalogue::Traffic;
use crate::core::histogram::Latency;
use crate::core::pulse::{Beat, Load, Pulse};
use std::collections::HashMap;
use std::sync::Arc;

/// Counters of a service that is gone are kept this long.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// All services that were asked for lately.
#[derive(Debug)]
pub struct Books {
    shards: usize,
    services: HashMap<ServiceId, Book, foldhash::fast::FixedState>,
    /// The newest of each shard.
    loads: Vec<Load>,
}

/// One service.
#[derive(Debug)]
pub struct Book {
    /// The newest level of each shard.
    levels: Box<[Beat]>,
    traffic: Traffic,
    /// ∫ outstanding · dt, in request-nanoseconds.
    outstanding_time: u64,
    /// How long served requests took; none before the first. The catalogue shares it.
    latency: Option<Arc<Latency<u64>>>,
    /// When the last request came.
    pub last_request: Option<Date>,
}

impl Books {
    /// Empty books for so many shards.
    pub fn new(shards: usize) -> Self {
        Self { shards, services: HashMap::default(), loads: vec![Load::default(); shards] }
    }

    /// A shard's pulse came.
    pub fn enter(&mut self, shard: ShardId, pulse: &Pulse, now: Date) {
        self.loads[usize::from(shard.0)] = pulse.load;
        for (id, beat) in &pulse.services {
            let shards = self.shards;
            let book = self.services.entry(id.clone()).or_insert_with(|| Book {
                levels: vec![Beat::default(); shards].into(),
                traffic: Traffic::default(),
                outstanding_time: 0,
                latency: None,
                last_request: None,
            });
            book.enter(shard, beat, now);
        }
        for (id, latency) in &pulse.latencies {
            if let Some(book) = self.services.get_mut(id) {
                Arc::make_mut(book.latency.get_or_insert_default()).add(latency);
            }
        }
    }

    /// Forgets services that are gone and were not asked for in the last five minutes.
    pub fn trim(&mut self, aggregator: &Aggregator, now: Date) {
        self.services.retain(|id, book| {
            let recent = book.last_request.is_some_and(|it| now.since(it) < FORGET_AFTER);
            recent || book.traffic.outstanding > 0 || aggregator.state(id).is_some()
        });
    }

    /// All shards together.
    pub fn load(&self) -> Load {
        let mut sum = Load::default();
        self.loads.iter().for_each(|it| sum.add(it));
        sum
    }

    /// Clients of each shard.
    pub fn clients(&self) -> Vec<u32> {
        self.loads.iter().map(|it| it.connections).collect()
    }

    /// Services with a book.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.keys()
    }

    /// One service's book.
    pub fn get(&self, id: &ServiceId) -> Option<&Book> {
        self.services.get(id)
    }

    /// What is asked of a service, as the autoscaler wants it.
    pub fn demand(&self, id: &ServiceId) -> Demand {
        self.get(id).map(Book::demand).unwrap_or_default()
    }

    /// Requests of a service that run or wait.
    pub fn outstanding(&self, id: &ServiceId) -> u32 {
        self.get(id).map_or(0, |it| it.traffic.outstanding)
    }
}

impl Book {
    fn enter(&mut self, shard: ShardId, beat: &Beat, now: Date) {
        self.levels[usize::from(shard.0)] = *beat;
        self.traffic.count(beat);
        self.traffic.outstanding = self.levels.iter().map(|it| it.outstanding).sum();
        self.traffic.waiting = self.levels.iter().map(|it| it.waiting).sum();
        let oldest = self.levels.iter().map(|it| it.oldest_waiting);
        self.traffic.oldest_waiting = oldest.max().unwrap_or_default();
        self.outstanding_time = self.outstanding_time.saturating_add(beat.outstanding_time);
        if beat.arrivals > 0 {
            self.last_request = Some(now);
        }
    }

    /// What was asked of the service.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// How long served requests took.
    pub fn latency(&self) -> &Option<Arc<Latency<u64>>> {
        &self.latency
    }

    /// What was asked of the service, as the autoscaler wants it.
    pub fn demand(&self) -> Demand {
        Demand {
            arrivals: self.traffic.requests,
            completions: self.traffic.completions,
            service_time_sum: self.traffic.service_time,
            concurrency_integral: Duration::from_nanos(self.outstanding_time),
            waiting: self.traffic.waiting,
            oldest_waiting: self.traffic.oldest_waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_of_now_and_sums_of_always() {
        let id = ServiceId::new("s");
        let mut books = Books::new(2);
        let pulse = |outstanding, arrivals| Pulse {
            services: vec![(id.clone(), Beat { outstanding, arrivals, ..Beat::default() })],
            ..Pulse::default()
        };
        books.enter(ShardId(0), &pulse(3, 5), Date(1));
        books.enter(ShardId(1), &pulse(4, 0), Date(2));
        assert_eq!(books.outstanding(&id), 7);
        books.enter(ShardId(0), &pulse(0, 2), Date(3));
        assert_eq!((books.outstanding(&id), books.demand(&id).arrivals), (4, 7));
        assert_eq!(books.get(&id).expect("known").last_request, Some(Date(3)));
    }

    #[test]
    fn times_and_loads_of_all_shards_add_up() {
        let id = ServiceId::new("s");
        let mut books = Books::new(2);
        let mut pulse = |shard, millis, letters| {
            let mut latency = Latency::<u32>::default();
            latency.total.record(Duration::from_millis(millis));
            let pulse = Pulse {
                services: vec![(id.clone(), Beat { completions: 1, ..Beat::default() })],
                latencies: vec![(id.clone(), latency)],
                load: Load { letters, connections: 1, ..Load::default() },
            };
            books.enter(ShardId(shard), &pulse, Date(1));
        };
        pulse(0, 1, 5);
        pulse(1, 2, 7);
        pulse(0, 4, 6);
        assert_eq!(books.load().letters, 13, "the newest of each shard");
        assert_eq!((books.load().connections, books.clients()), (2, vec![1, 1]));
        let latency = books.get(&id).expect("known").latency();
        let total = &latency.as_ref().expect("there are some").total;
        assert_eq!((total.count(), total.sum()), (3, Duration::from_millis(7)));
    }
}

//! The books: what the shards' pulses say, summed up per service.

use crate::base::ids::{ServiceId, ShardId};
use crate::base::time::{Date, Duration};
use crate::core::autoscaler::Demand;
use crate::core::pulse::{Beat, Pulse};
use std::collections::HashMap;

/// All services that were ever asked for.
#[derive(Debug)]
pub struct Books {
    shards: usize,
    services: HashMap<ServiceId, Book, foldhash::fast::FixedState>,
}

/// One service.
#[derive(Debug)]
pub struct Book {
    /// The newest level of each shard.
    levels: Box<[Beat]>,
    /// Sums since the router began.
    sums: Beat,
    arrivals: u64,
    completions: u64,
    /// When the last request came.
    pub last_request: Option<Date>,
}

impl Books {
    /// Empty books for so many shards.
    pub fn new(shards: usize) -> Self {
        Self { shards, services: HashMap::default() }
    }

    /// A shard's pulse came.
    pub fn enter(&mut self, shard: ShardId, pulse: &Pulse, now: Date) {
        for (id, beat) in &pulse.services {
            let shards = self.shards;
            let book = self.services.entry(id.clone()).or_insert_with(|| Book::new(shards));
            book.levels[usize::from(shard.0)] = *beat;
            book.sums.outstanding_time += beat.outstanding_time;
            book.sums.service_time += beat.service_time;
            book.sums.failures = book.sums.failures.saturating_add(beat.failures);
            book.arrivals += u64::from(beat.arrivals);
            book.completions += u64::from(beat.completions);
            if beat.arrivals > 0 {
                book.last_request = Some(now);
            }
        }
    }

    /// One service's book.
    pub fn get(&self, id: &ServiceId) -> Option<&Book> {
        self.services.get(id)
    }

    /// Forgets a service.
    pub fn forget(&mut self, id: &ServiceId) {
        self.services.remove(id);
    }

    /// What is asked of a service, as the autoscaler wants it.
    pub fn demand(&self, id: &ServiceId) -> Demand {
        self.get(id).map(Book::demand).unwrap_or_default()
    }

    /// Requests of a service that run or wait.
    pub fn outstanding(&self, id: &ServiceId) -> u32 {
        self.get(id).map_or(0, |it| it.level().outstanding)
    }
}

impl Book {
    fn new(shards: usize) -> Self {
        Self {
            levels: vec![Beat::default(); shards].into(),
            sums: Beat::default(),
            arrivals: 0,
            completions: 0,
            last_request: None,
        }
    }

    /// Levels now, over all shards; sums since the router began.
    pub fn level(&self) -> Beat {
        let mut level = Beat::default();
        for it in &self.levels {
            level.outstanding += it.outstanding;
            level.waiting += it.waiting;
            level.oldest_waiting = level.oldest_waiting.max(it.oldest_waiting);
        }
        level.arrivals = u32::try_from(self.arrivals).unwrap_or(u32::MAX);
        level.completions = u32::try_from(self.completions).unwrap_or(u32::MAX);
        level.failures = self.sums.failures;
        level.service_time = self.sums.service_time;
        level.outstanding_time = self.sums.outstanding_time;
        level
    }

    fn demand(&self) -> Demand {
        let level = self.level();
        Demand {
            arrivals: self.arrivals,
            completions: self.completions,
            service_time_sum: self.sums.service_time,
            concurrency_integral: Duration::from_nanos(self.sums.outstanding_time),
            waiting: level.waiting,
            oldest_waiting: level.oldest_waiting,
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
}

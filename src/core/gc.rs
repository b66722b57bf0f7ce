//! Which services are collected: those nobody uses, and those that cannot run (control-plane §9).
//!
//! One [`Collector`] per rule, owned by the control loop. A round is fed what is seen of every
//! service and names the candidates; the loop deletes them and reports each success. A failed
//! deletion is no success (Q9): the service stays a candidate. What a collector remembers is plain
//! data, kept in the store so that a restart does not restart the clocks.

use crate::base::address::IpAddr;
use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration};
use crate::core::aggregator;
use crate::core::fact::Runner;
use crate::core::service::Parameters;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A rule of collection.
pub trait Rule {
    /// What is seen of a service in a round.
    type Seen;
    /// What is remembered of it. While it stays equal, its clock runs.
    type Memory: Clone + PartialEq;

    /// What to remember now; none: nothing is known of the service yet.
    fn remember(&self, old: Option<&Self::Memory>, seen: Self::Seen) -> Option<Self::Memory>;

    /// For how long the memory must have stayed equal for the service to be collected; none: never.
    fn patience(&self, memory: &Self::Memory, parameters: &Parameters) -> Option<Duration>;
}

/// What is remembered of one service, and since when it is so.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Entry<M> {
    memory: M,
    modified_ms: u64,
}

impl<M> Entry<M> {
    /// What is remembered.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// When that last changed.
    pub fn modified(&self) -> Date {
        Date(self.modified_ms)
    }
}

/// The state of one rule over all services.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Collector<M> {
    entries: BTreeMap<String, Entry<M>>,
}

impl<M> Default for Collector<M> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<M: Clone + PartialEq> Collector<M> {
    /// One round (control-plane §9.1): all services with their parameters and what is seen of them.
    /// Services that are not among them are forgotten. Returns the candidates.
    pub fn round<'a, R: Rule<Memory = M>>(
        &mut self,
        services: impl IntoIterator<Item = (&'a ServiceId, &'a Parameters, R::Seen)>,
        rule: &R,
        now: Date,
    ) -> Vec<ServiceId> {
        let mut old = std::mem::take(&mut self.entries);
        let mut candidates = Vec::new();
        for (id, parameters, seen) in services {
            let known = old.remove_entry(id.as_str());
            let memory = known.as_ref().map(|(_, entry)| &entry.memory);
            let Some(memory) = rule.remember(memory, seen) else { continue };
            let (key, entry) = match known {
                Some((key, entry)) if entry.memory == memory => (key, entry),
                Some((key, _)) => (key, Entry { memory, modified_ms: now.0 }),
                None => (id.as_str().to_owned(), Entry { memory, modified_ms: now.0 }),
            };
            let patience = rule.patience(&entry.memory, parameters);
            if patience.is_some_and(|it| now.since(entry.modified()) > it) {
                candidates.push(id.clone());
            }
            self.entries.insert(key, entry);
        }
        candidates
    }

    /// A candidate has been deleted. If it is still listed in the next round, its clock starts
    /// anew.
    pub fn collected(&mut self, id: &ServiceId) {
        self.entries.remove(id.as_str());
    }

    /// What is remembered of a service.
    pub fn entry(&self, id: &ServiceId) -> Option<&Entry<M>> {
        self.entries.get(id.as_str())
    }
}

/// Services without requests for their idle timeout (control-plane §9.2).
#[derive(Clone, Copy, Debug)]
pub struct Idle;

/// What is seen of the use of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// When the last request arrived, if that is known.
    pub last_request: Option<Date>,
    /// Requests that run or wait, if that is known.
    pub outstanding: Option<u32>,
}

/// What is remembered of the use of a service.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct LastUse {
    outstanding: u32,
    last_request_ms: Option<u64>,
}

impl Rule for Idle {
    type Seen = Use;
    type Memory = LastUse;

    /// A service of which nothing is seen keeps what was known. Time of use never moves back.
    fn remember(&self, old: Option<&LastUse>, seen: Use) -> Option<LastUse> {
        if seen.last_request.is_none() && seen.outstanding.is_none() {
            return old.copied();
        }
        let seen_ms = seen.last_request.map(|date| date.0);
        Some(LastUse {
            outstanding: seen.outstanding.unwrap_or(0),
            last_request_ms: old.and_then(|it| it.last_request_ms).max(seen_ms),
        })
    }

    fn patience(&self, memory: &LastUse, parameters: &Parameters) -> Option<Duration> {
        parameters.idle_timeout.filter(|timeout| memory.outstanding == 0 && !timeout.is_zero())
    }
}

/// Services whose instances fail on many hosts and are never healthy (control-plane §9.3).
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    /// Hosts on which instances must have failed.
    pub min_hosts: usize,
    /// Patience beyond the grace of an instance.
    pub timeout: Duration,
}

/// What is seen of, and remembered of, the failures of a service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Failures {
    /// Hosts with failed instances; left out once there were enough.
    pub hosts: BTreeSet<IpAddr>,
    /// Whether instances failed on enough hosts, now or before.
    pub limit_reached: bool,
    /// Whether an instance is healthy.
    pub has_healthy: bool,
    /// Whether an instance failed.
    pub has_failed: bool,
}

impl Failures {
    /// Of a service in this state. A scheduler that has one host only never fails on a second.
    pub fn of(state: &aggregator::State) -> Self {
        Self {
            hosts: state.failed.iter().map(|it| it.fact.host).collect(),
            limit_reached: state.runner != Some(Runner::Marathon) && !state.failed.is_empty(),
            has_healthy: !state.healthy.is_empty(),
            has_failed: !state.failed.is_empty(),
        }
    }
}

impl Rule for Broken {
    type Seen = Failures;
    type Memory = Failures;

    fn remember(&self, old: Option<&Failures>, seen: Failures) -> Option<Failures> {
        let reached = seen.limit_reached
            || old.is_some_and(|it| it.limit_reached)
            || seen.hosts.len() >= self.min_hosts;
        Some(if !seen.has_healthy && reached {
            Failures { hosts: BTreeSet::new(), limit_reached: true, ..seen }
        } else {
            Failures { limit_reached: false, ..seen }
        })
    }

    fn patience(&self, memory: &Failures, parameters: &Parameters) -> Option<Duration> {
        let broken = !memory.has_healthy && memory.has_failed && memory.limit_reached;
        broken.then(|| parameters.grace_period.saturating_add(self.timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture;

    const MINUTE: u64 = 60_000;

    fn used(last_request: Option<u64>, outstanding: Option<u32>) -> Use {
        Use { last_request: last_request.map(|minute| Date(minute * MINUTE)), outstanding }
    }

    /// Runs rounds at these minutes; returns the minutes at which the service was a candidate.
    fn rounds<R: Rule>(rule: &R, parameters: &Parameters, seen: Vec<(u64, R::Seen)>) -> Vec<u64> {
        let id = ServiceId::new("s");
        let mut collector = Collector::default();
        let mut named = Vec::new();
        for (minute, seen) in seen {
            let services = [(&id, parameters, seen)];
            if !collector.round(services, rule, Date(minute * MINUTE)).is_empty() {
                named.push(minute);
            }
        }
        named
    }

    #[test]
    fn idle_services() {
        let parameters = fixture::parameters();
        let check = |seen: Vec<(u64, Use)>, expected: &[u64]| {
            let text = format!("{seen:?}");
            assert_eq!(rounds(&Idle, &parameters, seen), expected, "{text}");
        };
        let quiet = used(Some(0), Some(0));
        check(vec![(0, quiet), (30, quiet), (31, quiet), (32, quiet)], &[31, 32]);
        check(vec![(0, quiet), (20, used(Some(20), Some(0))), (31, quiet), (51, quiet)], &[51]);
        check(vec![(0, used(None, Some(0))), (31, used(None, Some(0)))], &[31]);
        check(vec![(0, used(Some(0), Some(1))), (31, used(Some(0), Some(1)))], &[]);
        check(vec![(0, quiet), (31, used(Some(0), Some(1))), (62, quiet), (93, quiet)], &[93]);
        check(vec![(0, used(None, None)), (31, used(None, None))], &[]);
        check(vec![(0, quiet), (31, used(None, None))], &[31]);
        check(vec![(0, used(Some(5), None)), (31, used(Some(3), None))], &[31]);
    }

    #[test]
    fn without_an_idle_timeout_none_is_idle() {
        let quiet = used(Some(0), Some(0));
        for idle_timeout in [None, Some(Duration::ZERO)] {
            let parameters = Parameters { idle_timeout, ..fixture::parameters() };
            assert!(rounds(&Idle, &parameters, vec![(0, quiet), (9999, quiet)]).is_empty());
        }
    }

    #[test]
    fn a_failed_deletion_is_tried_again_and_a_success_forgotten() {
        let (id, parameters) = (ServiceId::new("s"), fixture::parameters());
        let mut collector = Collector::default();
        let round = |collector: &mut Collector<LastUse>, minute: u64| {
            let services = [(&id, &parameters, used(Some(0), Some(0)))];
            collector.round(services, &Idle, Date(minute * MINUTE)).len()
        };
        assert_eq!(round(&mut collector, 0), 0);
        assert_eq!(round(&mut collector, 31), 1);
        assert_eq!(round(&mut collector, 32), 1, "was not deleted");
        collector.collected(&id);
        assert_eq!(round(&mut collector, 33), 0, "still listed: a new clock");
        assert_eq!(round(&mut collector, 64), 1);
    }

    #[test]
    fn what_is_remembered_survives_the_store() {
        let (id, gone, parameters) =
            (ServiceId::new("s"), ServiceId::new("gone"), fixture::parameters());
        let mut collector = Collector::default();
        let quiet = used(Some(0), Some(0));
        let both = [(&id, &parameters, quiet), (&gone, &parameters, quiet)];
        collector.round(both, &Idle, Date(0));
        let text = serde_json::to_string(&collector).expect("plain data");
        let mut read: Collector<LastUse> = serde_json::from_str(&text).expect("as written");
        assert_eq!(read, collector);
        let named = read.round([(&id, &parameters, quiet)], &Idle, Date(31 * MINUTE));
        assert_eq!(named, [id]);
        assert!(read.entry(&gone).is_none(), "what is not seen is forgotten");
    }

    /// Failed instances on so many hosts.
    fn failures(hosts: u8, has_healthy: bool) -> Failures {
        let hosts = (1..=hosts).map(|host| IpAddr::from([127, 0, 0, host]));
        let hosts: BTreeSet<_> = hosts.collect();
        Failures { limit_reached: false, has_healthy, has_failed: !hosts.is_empty(), hosts }
    }

    #[test]
    fn broken_services() {
        let parameters = fixture::parameters();
        let rule = Broken { min_hosts: 2, timeout: Duration::from_secs(30 * 60) };
        let check = |seen: Vec<(u64, Failures)>, expected: &[u64]| {
            let text = format!("{seen:?}");
            assert_eq!(rounds(&rule, &parameters, seen), expected, "{text}");
        };
        check(
            vec![(0, failures(2, false)), (30, failures(2, false)), (31, failures(3, false))],
            &[31],
        );
        check(vec![(0, failures(1, false)), (60, failures(1, false))], &[]);
        check(vec![(0, failures(2, true)), (60, failures(2, true))], &[]);
        check(vec![(0, failures(0, false)), (60, failures(0, false))], &[]);
        // Once on enough hosts, fewer are enough; health starts all anew.
        check(vec![(0, failures(2, false)), (31, failures(1, false))], &[31]);
        check(
            vec![
                (0, failures(2, false)),
                (20, failures(2, true)),
                (31, failures(1, false)),
                (70, failures(1, false)),
                (80, failures(2, false)),
                (111, failures(2, false)),
            ],
            &[111],
        );
    }

    #[test]
    fn patience_without_end_never_ends() {
        let rule = Broken { min_hosts: 1, timeout: Duration::MAX };
        let seen = vec![(0, failures(1, false)), (u64::MAX / MINUTE, failures(1, false))];
        assert!(rounds(&rule, &fixture::parameters(), seen).is_empty());
    }
}

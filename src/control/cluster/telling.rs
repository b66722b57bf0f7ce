//! What routers tell each other once a second: load, and the health of what they own.
//!
//! Each router checks the instances it owns, and states what it found. Of the others' it believes
//! their owner, while that is a member and heard of; else it checks itself.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Date, Duration, Instant, millis};
use crate::control::books::Book;
use crate::control::cluster::Tell;
use crate::control::cluster::member::Cluster;
use crate::control::plane::Plane;
use crate::core::aggregator::State;
use crate::core::autoscaler::Demand;
use crate::core::catalogue::{Distribution, Done};
use crate::core::peers::counters::{Counters, Fact, STALE_AFTER, Tally};
use crate::mesh::clock;
use std::sync::Arc;

/// Time between two tellings.
const EVERY: Duration = Duration::from_secs(1);
/// And between two words on requests that wait too long, which do not wait for a telling.
const WORD_EVERY: Duration = Duration::from_millis(100);
/// From then on whoever leads scales for a request that waits.
const PRESSING_MS: u32 = 200;

/// What was asked of a service, here or on all routers.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::control) struct Asked {
    /// Requests that run or wait.
    pub(in crate::control) outstanding: u32,
    /// As the autoscaler wants it.
    pub(in crate::control) demand: Demand,
    /// When the last request came.
    pub(in crate::control) last_request: Option<Date>,
}

impl Plane {
    /// What was asked of a service, on all routers if they share it.
    pub(in crate::control) fn asked(&self, state: &State) -> Asked {
        let id = &state.description.id;
        match &self.cluster {
            Some(cluster) if self.shares(&state.description) => cluster.counters.sum(id).into(),
            _ => Asked {
                outstanding: self.books.outstanding(id),
                demand: self.books.demand(id),
                last_request: self.books.get(id).and_then(|it| it.last_request),
            },
        }
    }

    /// The sums of a service hold what is known here now.
    pub(in crate::control) fn tally(&mut self, service: &ServiceId) {
        if !self.shares_service(service) {
            return;
        }
        if let Some((cluster, book)) = self.cluster.as_mut().zip(self.books.get(service)) {
            let tally = tally(book);
            cluster.counters.state(Fact::Tally(service.clone(), Some(tally)));
            let presses = tally.waiting > 0 && tally.oldest_ms > PRESSING_MS;
            let pressed = cluster.tallied.insert(service.clone(), presses);
            if presses && pressed != Some(true) {
                cluster.next_word = cluster.next_word.min(cluster.last_word + WORD_EVERY);
            }
        }
    }

    /// A request has begun to press: whoever leads hears of it now.
    pub(super) fn tell_at_once(&mut self, now: Instant) {
        if let Some(cluster) = &mut self.cluster {
            cluster.send_counters(now);
        }
    }

    /// Another router tells what changed there. Where requests wait this router scales now, if it
    /// leads.
    pub(super) fn heard_counters(&mut self, from: &RouterId, counters: Counters, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut waiting = Vec::new();
        if cluster.leads(now) {
            let of = |it: &Fact| match it {
                Fact::Tally(service, Some(tally)) if tally.waiting > 0 => Some(service.clone()),
                _ => None,
            };
            waiting.extend(counters.facts.iter().filter_map(of));
        }
        cluster.counters.heard(from, counters, now);
        for service in waiting {
            self.urgent(&service, now, clock::date());
        }
    }

    /// Once a second.
    pub(super) fn tell_others(&mut self, now: Instant, date: Date) {
        let known: Vec<ServiceId> = self.books.services().cloned().collect();
        for service in &known {
            self.tally(service);
        }
        self.share_health(now, date);
        self.ask_again(now);
        let Some(cluster) = &mut self.cluster else { return };
        cluster.next_telling = now + EVERY;
        let books = &self.books;
        let gone = cluster.tallied.extract_if(|it, _| books.get(it).is_none());
        for (service, _) in gone {
            cluster.counters.state(Fact::Tally(service, None));
        }
        cluster.send_counters(now);
        cluster.say_stale(now);
        self.say_listed(now);
    }

    /// States the health of what is owned, and takes over what the owners of the others say.
    fn share_health(&mut self, now: Instant, date: Date) {
        let states: Vec<Arc<State>> = {
            let all = self.aggregator.states().map(|(_, it)| it);
            all.filter(|it| self.shares(&it.description)).cloned().collect()
        };
        let mut told = Vec::new();
        let Some(cluster) = &mut self.cluster else { return };
        for state in &states {
            let healthy = state.healthy.iter().map(|it| (it, true));
            for (it, healthy) in healthy.chain(state.unhealthy.iter().map(|it| (it, false))) {
                let id = &it.fact.id;
                if cluster.peers.checks(id) {
                    cluster.counters.state(Fact::Health(id.clone(), Some(healthy)));
                    cluster.stated.insert(id.clone());
                } else if let Some(word) = cluster.believed(id, now).filter(|it| *it != healthy) {
                    told.push((id.clone(), word));
                }
            }
        }
        let peers = &cluster.peers;
        for id in cluster.stated.extract_if(|it| !peers.checks(it)) {
            cluster.counters.state(Fact::Health(id, None));
        }
        for (id, healthy) in told {
            self.aggregator.told(&id, healthy, date);
        }
        for state in &states {
            if !self.watches_its_own(state, now) {
                self.watch(state, now);
            }
        }
    }

    /// Whether the counters of all routers are new enough to shrink by.
    pub(in crate::control) fn is_current(&self, now: Instant) -> bool {
        self.cluster.as_ref().is_none_or(|it| it.is_current(now))
    }

    /// Who gives the slots of a service out.
    pub(in crate::control) fn distribution(&self, service: &ServiceId) -> Done {
        let shared = self.cluster.as_ref().filter(|_| self.shares_service(service));
        shared.map_or(Done::NoSuchService, |it| {
            let (instances, shares) = (it.peers.ownership(service), it.peers.shares(service));
            Done::Distribution(Box::new(Distribution { instances, shares }))
        })
    }

    /// Whether those are checked here that this router checks, and no others.
    fn watches_its_own(&self, state: &State, now: Instant) -> bool {
        let watched = self.watched.get(&state.description.id);
        let all = watched.into_iter().flatten();
        all.into_iter().all(|(id, health)| health.is_some() == self.checks(state, id, now))
    }

    /// Whether this router checks an instance itself.
    pub(in crate::control) fn checks(&self, state: &State, id: &InstanceId, now: Instant) -> bool {
        match &self.cluster {
            Some(it) if self.shares(&state.description) => {
                it.peers.checks(id) || it.believed(id, now).is_none()
            }
            _ => true,
        }
    }
}

impl Cluster {
    /// What changed goes to all members.
    fn send_counters(&mut self, now: Instant) {
        (self.last_word, self.next_word) = (now, Instant(u64::MAX));
        let members: Vec<_> = self.peers.members().1.map(|it| it.id.clone()).collect();
        for id in members {
            if let Some(counters) = self.counters.document(&id) {
                (self.ways.tell)(Tell::Counters(id, Box::new(counters)));
            }
        }
    }

    /// What the owner of an instance says of its health, if that is another router which is heard.
    fn believed(&self, instance: &InstanceId, now: Instant) -> Option<bool> {
        let owner = self.peers.owner(instance)?;
        let lag = self.counters.lag(owner, now)?;
        if lag > STALE_AFTER {
            return None;
        }
        self.counters.health(owner, instance)
    }

    /// Says in the log whose counters have become stale, or come in again.
    fn say_stale(&mut self, now: Instant) {
        let stale: Vec<_> = self.counters.stale(now).cloned().collect();
        if stale == self.stale {
            return;
        }
        let names: Vec<_> = stale.iter().map(|it| it.as_str()).collect();
        if names.is_empty() {
            tracing::info!("the counters of all routers come in again");
        } else {
            let routers = names.join(", ");
            tracing::warn!(routers, "counters of routers are stale; nothing is shrunk");
        }
        self.stale = stale;
    }
}

impl From<Tally> for Asked {
    fn from(it: Tally) -> Self {
        let lasting = Duration::from_millis;
        Self {
            outstanding: it.outstanding,
            demand: Demand {
                arrivals: it.arrivals,
                completions: it.completions,
                service_time_sum: lasting(it.service_ms),
                concurrency_integral: lasting(it.outstanding_ms),
                waiting: it.waiting,
                oldest_waiting: lasting(it.oldest_ms.into()),
            },
            last_request: (it.last_request > 0).then_some(Date(it.last_request)),
        }
    }
}

fn tally(book: &Book) -> Tally {
    let (traffic, demand) = (book.traffic(), book.demand());
    Tally {
        outstanding: traffic.outstanding,
        waiting: traffic.waiting,
        oldest_ms: u32::try_from(millis(traffic.oldest_waiting)).unwrap_or(u32::MAX),
        outstanding_ms: millis(demand.concurrency_integral),
        arrivals: traffic.requests,
        completions: traffic.completions,
        failures: traffic.failures,
        service_ms: millis(traffic.service_time),
        last_request: book.last_request.map_or(0, |it| it.0),
    }
}

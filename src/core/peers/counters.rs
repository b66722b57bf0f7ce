//! What routers tell each other about load and health: what changed, once a second.
//!
//! Every change of a fact has a number. A document holds the changes after the last one that its
//! reader has acknowledged, in their order, as far as they fit; so loss, repetition and reordering
//! are harmless, and what does not fit comes with the next. A reader that has acknowledged nothing
//! is told everything. A fact that changes again before anybody was told keeps its number: where
//! more changes than fits, each has its turn.
//!
//! Sums over all routers are what an autoscaler takes for the traffic of a service, so they only
//! grow, and only by what was seen to happen: where a router leaves, what it counted stays in them;
//! what one has counted that comes, returns, or was not heard for long is taken as where it stands,
//! else its whole life would look like the traffic of one second. From then on what happened is
//! known of each service that was told since, though others have not been.
//!
//! Must hold: a reader's copy is what the writer's facts were at the number it has acknowledged. A
//! fact that was taken out is kept as "none" until every reader has acknowledged that. Whatever
//! another says, no sum overflows.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::Unreadable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Facts in one document, at most.
pub const FACTS_MAX: usize = 16_384;

/// Counters older than this are stale: nothing is shrunk by them.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// One service's counters on one router: levels are now, sums since the router began. The newest
/// wins.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Requests that wait or are served.
    pub outstanding: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Age of the one that has waited longest, in milliseconds.
    pub oldest_ms: u32,
    /// ∫ outstanding · dt, in request-milliseconds.
    pub outstanding_ms: u64,
    /// Requests that arrived.
    pub arrivals: u64,
    /// Requests that were served to their end.
    pub completions: u64,
    /// Requests that ended otherwise.
    pub failures: u64,
    /// Σ time from slot to end of those completed, in milliseconds.
    pub service_ms: u64,
    /// When the last one arrived, in milliseconds since 1970.
    pub last_request: u64,
}

/// Something that one router knows and the others want to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// A service's counters; none: it is forgotten.
    Tally(ServiceId, Option<Tally>),
    /// An instance's health, by its owner; none: it does not say any more.
    Health(InstanceId, Option<bool>),
}

/// What changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Grows each time the reader becomes a member in the writer's eyes; then all is told anew.
    pub session: u64,
    /// Number of the last change in here, or of the newest there is.
    pub number: u64,
    /// Changes up to this one are left out.
    pub after: u64,
    /// The newest change of the reader's facts that the writer has, and in which session of theirs.
    pub ack: (u64, u64),
    /// In the order of their numbers.
    pub facts: Vec<Fact>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Key {
    Service(ServiceId),
    Instance(InstanceId),
}

/// One other router.
#[derive(Debug, Default)]
struct Side {
    /// When it became a member, as a number.
    session: u64,
    /// Of this router's changes, the newest it has.
    acked: u64,
    /// Of its changes, the newest this router has, and in which session of its own.
    number: u64,
    their_session: u64,
    heard: Option<Instant>,
    /// How often it came, or was not heard for long.
    gaps: u64,
    /// All that it had to tell since then has been told.
    is_acquainted: bool,
    /// And in which of those times it was last told.
    tallies: Map<ServiceId, (Tally, u64)>,
    health: Map<InstanceId, bool>,
}

/// This router's facts and its copies of the others'.
#[derive(Debug, Default)]
pub struct Exchange {
    number: u64,
    /// Changes up to this one may have been told to somebody.
    told: u64,
    sessions: u64,
    facts: Map<Key, (u64, Fact)>,
    order: BTreeMap<u64, Key>,
    sides: BTreeMap<RouterId, Side>,
    /// Over all routers, this one too: levels as they are, of what only grows what was seen.
    sums: Map<ServiceId, Tally>,
}

impl Exchange {
    /// A fact of this router is now this. What is the same as before is no change.
    pub fn state(&mut self, fact: Fact) {
        let key = key(&fact);
        let before = self.facts.get(&key);
        if before.map_or_else(|| is_none(&fact), |(_, it)| *it == fact) {
            return;
        }
        let number = before.map(|(number, _)| *number);
        let number = number.filter(|it| *it > self.told).unwrap_or_else(|| {
            number.map(|it| self.order.remove(&it));
            self.number += 1;
            self.order.insert(self.number, key.clone());
            self.number
        });
        let new = tally(&fact);
        let before = self.facts.insert(key.clone(), (number, fact));
        let old = before.and_then(|(_, it)| tally(&it));
        if let Key::Service(service) = key {
            self.adjust(&service, grown(old, new));
        }
    }

    /// These are the other members: what another said is dropped.
    pub fn members(&mut self, others: &[RouterId]) {
        let gone: Vec<RouterId> =
            self.sides.keys().filter(|it| !others.contains(it)).cloned().collect();
        for id in gone {
            let side = self.sides.remove(&id).expect("it was just listed");
            for service in side.tallies.into_keys() {
                self.adjust(&service, Tally::default());
            }
        }
        self.forget();
        for id in others {
            self.sides.entry(id.clone()).or_insert_with(|| {
                self.sessions += 1;
                Side { session: self.sessions, ..Side::default() }
            });
        }
    }

    /// What a member is told this second.
    pub fn document(&mut self, to: &RouterId) -> Option<Counters> {
        let side = self.sides.get(to)?;
        let mut facts = Vec::new();
        let mut number = self.number;
        for (at, key) in self.order.range(side.acked + 1..) {
            if facts.len() == FACTS_MAX {
                break;
            }
            facts.push(self.facts[key].1.clone());
            number = *at;
        }
        // All of them: then up to the newest, though that may have replaced what was last here.
        if facts.len() < FACTS_MAX {
            number = self.number;
        }
        self.told = self.told.max(number);
        let ack = (side.their_session, side.number);
        Some(Counters { session: side.session, number, after: side.acked, ack, facts })
    }

    /// A member tells what changed there.
    pub fn heard(&mut self, from: &RouterId, document: Counters, now: Instant) {
        let Some(side) = self.sides.get_mut(from) else { return };
        if document.session < side.their_session {
            return;
        }
        let (session, ack) = document.ack;
        if session == side.session {
            side.acked = side.acked.max(ack.min(self.number));
        }
        let mut changes = Vec::new();
        let is_anew = document.session > side.their_session;
        if is_anew && document.after == 0 {
            (side.their_session, side.number) = (document.session, 0);
            side.has_gap();
            side.health.clear();
            let old = std::mem::take(&mut side.tallies).into_keys();
            changes.extend(old.map(|service| (service, Tally::default())));
        }
        let fits = document.session == side.their_session
            && (document.after..=document.number).contains(&side.number);
        if fits && side.heard.is_some_and(|at| now - at > STALE_AFTER) {
            side.has_gap();
        }
        let (was_acquainted, gaps) = (side.is_acquainted, side.gaps);
        if fits {
            side.heard = Some(now);
            side.number = document.number;
            side.is_acquainted |= document.facts.len() < FACTS_MAX;
        }
        // What does not fit leaves something out, or is an old one.
        for fact in document.facts.into_iter().filter(|_| fits) {
            match fact {
                Fact::Tally(service, new) => {
                    let old = match new {
                        Some(it) => side.tallies.insert(service.clone(), (it, gaps)),
                        None => side.tallies.remove(&service),
                    };
                    let is_seen = was_acquainted || old.is_some_and(|it| it.1 == gaps);
                    let old = old.map(|it| it.0);
                    let growth = if is_seen { grown(old, new) } else { Tally::default() };
                    changes.push((service, growth));
                }
                Fact::Health(instance, Some(healthy)) => {
                    side.health.insert(instance, healthy);
                }
                Fact::Health(instance, None) => {
                    side.health.remove(&instance);
                }
            }
        }
        for (service, growth) in changes {
            self.adjust(&service, growth);
        }
        self.forget();
    }

    /// A service's counters over all routers: levels of now, and of what only grows as much as was
    /// seen here.
    pub fn sum(&self, service: &ServiceId) -> Tally {
        self.sums.get(service).copied().unwrap_or_default()
    }

    /// One router's counters of a service.
    pub fn of(&self, router: &RouterId, service: &ServiceId) -> Option<Tally> {
        self.sides.get(router)?.tallies.get(service).map(|it| it.0)
    }

    /// Whether an instance is healthy, in the words of its owner; none if it does not say.
    pub fn health(&self, owner: &RouterId, instance: &InstanceId) -> Option<bool> {
        self.sides.get(owner)?.health.get(instance).copied()
    }

    /// How long ago a member was heard; none: never.
    pub fn lag(&self, router: &RouterId, now: Instant) -> Option<Duration> {
        Some(now - self.sides.get(router)?.heard?)
    }

    /// Members whose counters are stale: nothing may be shrunk by these sums, growth may go on.
    pub fn stale(&self, now: Instant) -> impl Iterator<Item = &RouterId> {
        let is_stale = move |it: &Side| it.heard.is_none_or(|at| now - at > STALE_AFTER);
        self.sides.iter().filter(move |(_, it)| is_stale(it)).map(|(id, _)| id)
    }

    /// Facts that are none, once everybody has heard so.
    fn forget(&mut self) {
        let heard = self.sides.values().map(|it| it.acked).min().unwrap_or(self.number);
        let gone: Vec<(u64, Key)> = {
            let early = self.order.range(..=heard);
            early
                .filter(|(_, key)| is_none(&self.facts[*key].1))
                .map(|(number, key)| (*number, key.clone()))
                .collect()
        };
        for (number, key) in gone {
            self.order.remove(&number);
            self.facts.remove(&key);
        }
    }

    /// One router's tally of a service has changed, and grew by so much.
    fn adjust(&mut self, service: &ServiceId, growth: Tally) {
        let own = self.facts.get(&Key::Service(service.clone())).and_then(|(_, it)| tally(it));
        let others = self.sides.values().filter_map(|it| it.tallies.get(service).map(|it| it.0));
        let Some(levels) = own.into_iter().chain(others).reduce(both) else {
            self.sums.remove(service);
            return;
        };
        let sum = self.sums.entry(service.clone()).or_default();
        *sum = Tally {
            outstanding_ms: sum.outstanding_ms.saturating_add(growth.outstanding_ms),
            arrivals: sum.arrivals.saturating_add(growth.arrivals),
            completions: sum.completions.saturating_add(growth.completions),
            failures: sum.failures.saturating_add(growth.failures),
            service_ms: sum.service_ms.saturating_add(growth.service_ms),
            ..levels
        };
    }
}

impl Side {
    /// It comes, or was not heard for long: what it has counted until now was not seen here.
    fn has_gap(&mut self) {
        self.gaps += 1;
        self.is_acquainted = false;
    }
}

/// The levels of two routers as one; what only grows is not looked at.
fn both(a: Tally, b: Tally) -> Tally {
    Tally {
        outstanding: a.outstanding.saturating_add(b.outstanding),
        waiting: a.waiting.saturating_add(b.waiting),
        oldest_ms: a.oldest_ms.max(b.oldest_ms),
        last_request: a.last_request.max(b.last_request),
        ..Tally::default()
    }
}

/// What happened between two tallies; all of the new one, if the router forgot the service between
/// them.
fn grown(old: Option<Tally>, new: Option<Tally>) -> Tally {
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let began_anew = new.arrivals < old.arrivals || new.outstanding_ms < old.outstanding_ms;
    let old = if began_anew { Tally::default() } else { old };
    Tally {
        outstanding_ms: new.outstanding_ms.saturating_sub(old.outstanding_ms),
        arrivals: new.arrivals.saturating_sub(old.arrivals),
        completions: new.completions.saturating_sub(old.completions),
        failures: new.failures.saturating_sub(old.failures),
        service_ms: new.service_ms.saturating_sub(old.service_ms),
        ..Tally::default()
    }
}

impl Counters {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("memory takes every document")
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are not one, or exceed a bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (it, rest): (Self, _) =
            postcard::take_from_bytes(bytes).map_err(|_| Unreadable::Malformed)?;
        match it.facts.len() {
            _ if !rest.is_empty() => Err(Unreadable::Malformed),
            len if len > FACTS_MAX => Err(Unreadable::TooLong("facts")),
            _ => Ok(it),
        }
    }
}

fn key(fact: &Fact) -> Key {
    match fact {
        Fact::Tally(service, _) => Key::Service(service.clone()),
        Fact::Health(instance, _) => Key::Instance(instance.clone()),
    }
}

fn is_none(fact: &Fact) -> bool {
    matches!(fact, Fact::Tally(_, None) | Fact::Health(_, None))
}

fn tally(fact: &Fact) -> Option<Tally> {
    match fact {
        Fact::Tally(_, it) => *it,
        Fact::Health(..) => None,
    }
}

#[cfg(test)]
mod tests;

//! What routers tell each other about load and health: what changed, once a second.
//!
//! Every change of a fact has a number. A document holds the changes after the last one that its
//! reader has acknowledged, in their order, as far as they fit; so loss, repetition and reordering
//! are harmless, and what does not fit comes with the next. A reader that has acknowledged nothing
//! is told everything.
//!
//! Sums over all routers are what an autoscaler takes for the traffic of a service, so they only
//! grow, and only by what was seen to happen: where a router leaves, what it counted stays in them;
//! what one has counted that comes, returns, or was not heard for long is taken as where it stands,
//! else its whole life would look like the traffic of one second.
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
    /// All that it had to tell when it became a member has been told.
    is_acquainted: bool,
    tallies: Map<ServiceId, Tally>,
    health: Map<InstanceId, bool>,
}

/// This router's facts and its copies of the others'.
#[derive(Debug, Default)]
pub struct Exchange {
    number: u64,
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
        self.number += 1;
        self.order.insert(self.number, key.clone());
        let new = tally(&fact);
        let before = self.facts.insert(key.clone(), (self.number, fact));
        let old = before.and_then(|(number, it)| {
            self.order.remove(&number);
            tally(&it)
        });
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
    pub fn document(&self, to: &RouterId) -> Option<Counters> {
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
            side.is_acquainted = false;
            side.health.clear();
            let old = std::mem::take(&mut side.tallies).into_keys();
            changes.extend(old.map(|service| (service, Tally::default())));
        }
        let fits = document.session == side.their_session
            && (document.after..=document.number).contains(&side.number);
        let is_late = side.heard.is_some_and(|at| now - at > STALE_AFTER);
        let is_seen = side.is_acquainted && !is_late;
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
                        Some(it) => side.tallies.insert(service.clone(), it),
                        None => side.tallies.remove(&service),
                    };
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
        self.sides.get(router)?.tallies.get(service).copied()
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
        let others = self.sides.values().filter_map(|it| it.tallies.get(service).copied());
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
mod tests {
    use super::*;

    fn router(name: &str) -> RouterId {
        RouterId::new(name)
    }

    fn service(number: u64) -> ServiceId {
        ServiceId::new(&format!("s{number}"))
    }

    fn counts(arrivals: u64, outstanding: u32) -> Tally {
        Tally { arrivals, outstanding, last_request: arrivals, ..Tally::default() }
    }

    fn pair() -> (Exchange, Exchange) {
        let (mut a, mut b) = (Exchange::default(), Exchange::default());
        a.members(&[router("b")]);
        b.members(&[router("a")]);
        (a, b)
    }

    /// Two that have told each other what there was when they met.
    fn acquainted() -> (Exchange, Exchange) {
        let (mut a, mut b) = pair();
        tell(&a, ("a", "b"), &mut b, Instant(0));
        tell(&b, ("b", "a"), &mut a, Instant(0));
        (a, b)
    }

    fn tell(from: &Exchange, (name, to): (&str, &str), reader: &mut Exchange, now: Instant) {
        let document = from.document(&router(to)).expect("a member");
        let document = Counters::decode(&document.encode()).expect("it was just written");
        reader.heard(&router(name), document, now);
    }

    #[test]
    fn what_changed_is_told_until_it_is_acknowledged_and_sums_are_of_all() {
        let (mut a, mut b) = acquainted();
        a.state(Fact::Tally(service(1), Some(counts(3, 2))));
        b.state(Fact::Tally(service(1), Some(counts(10, 1))));
        tell(&a, ("a", "b"), &mut b, Instant(1));
        assert_eq!(b.sum(&service(1)), Tally { last_request: 10, ..counts(13, 3) });
        let again = a.document(&router("b")).expect("a member");
        assert_eq!(again.facts.len(), 1, "b has not said that it knows");
        tell(&b, ("b", "a"), &mut a, Instant(2));
        assert!(a.document(&router("b")).expect("a member").facts.is_empty());
        a.state(Fact::Tally(service(1), Some(counts(3, 2))));
        assert!(a.document(&router("b")).expect("a member").facts.is_empty(), "the same");
        a.state(Fact::Tally(service(1), Some(counts(4, 0))));
        tell(&a, ("a", "b"), &mut b, Instant(3));
        b.heard(&router("a"), again, Instant(4)); // it comes late
        assert_eq!(b.sum(&service(1)), Tally { last_request: 10, ..counts(14, 1) });
        b.members(&[]);
        assert_eq!(b.sum(&service(1)), Tally { arrivals: 14, ..counts(10, 1) }, "they did arrive");
    }

    /// A million requests have arrived at each of two routers, and a hundred a second go on to. By
    /// how many a third sees the sum grow, second by second, while `happens` happens in the sixth.
    fn growth_seen(happens: impl Fn(&mut Exchange, &mut Exchange)) -> Vec<u64> {
        let (mut a, mut b) = (Exchange::default(), Exchange::default());
        let mut arrivals = 1_000_000;
        a.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
        b.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
        a.members(&[router("b")]);
        b.members(&[router("a")]);
        let mut before = b.sum(&service(1)).arrivals;
        let growth = (0..20).map(|second| {
            let now = Instant(second * 1_000_000_000);
            arrivals += 50;
            a.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
            b.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
            if second == 6 {
                happens(&mut a, &mut b);
            }
            if second == 12 {
                a.members(&[router("b")]);
                b.members(&[router("a")]);
            }
            if a.document(&router("b")).is_some() {
                tell(&a, ("a", "b"), &mut b, now);
                tell(&b, ("b", "a"), &mut a, now);
            }
            let sum = b.sum(&service(1)).arrivals;
            sum - std::mem::replace(&mut before, sum)
        });
        growth.collect()
    }

    #[test]
    fn the_sums_of_a_service_do_not_leap_when_routers_come_go_and_return() {
        let both_leave = |a: &mut Exchange, b: &mut Exchange| {
            a.members(&[]);
            b.members(&[]);
        };
        let all = growth_seen(both_leave);
        let wanted = |second| if (1..6).contains(&second) || second > 12 { 100 } else { 50 };
        assert_eq!(all, (0..20).map(wanted).collect::<Vec<u64>>());
        // One of them began anew: what it says was not seen is not taken for a second's.
        let is_replaced = |a: &mut Exchange, b: &mut Exchange| {
            both_leave(a, b);
            *a = Exchange::default();
        };
        assert!(growth_seen(is_replaced).iter().all(|it| *it <= 100));
    }

    #[test]
    fn what_happened_while_a_router_was_not_heard_is_not_taken_for_a_seconds_traffic() {
        let (mut a, mut b) = acquainted();
        let second = |it: u64| Instant(it * 1_000_000_000);
        for (at, arrivals, seen) in [(1, 10, 10), (3, 40, 40), (60, 90_000, 40), (61, 90_020, 60)] {
            a.state(Fact::Tally(service(1), Some(counts(arrivals, 0))));
            tell(&a, ("a", "b"), &mut b, second(at));
            assert_eq!(b.sum(&service(1)).arrivals, seen, "{at} s");
        }
    }

    #[test]
    fn no_sum_overflows_whatever_is_said() {
        let (mut a, mut b) = acquainted();
        let most = Tally {
            outstanding: u32::MAX,
            waiting: u32::MAX,
            oldest_ms: u32::MAX,
            outstanding_ms: u64::MAX,
            arrivals: u64::MAX,
            completions: u64::MAX,
            failures: u64::MAX,
            service_ms: u64::MAX,
            last_request: u64::MAX,
        };
        b.state(Fact::Tally(service(1), Some(counts(7, 7))));
        for it in [most, counts(1, 1), Tally { arrivals: u64::MAX, ..counts(1, 1) }, most] {
            a.state(Fact::Tally(service(1), Some(it)));
            tell(&a, ("a", "b"), &mut b, Instant(1));
        }
        assert_eq!(b.sum(&service(1)), most);
        a.state(Fact::Tally(service(1), None));
        tell(&a, ("a", "b"), &mut b, Instant(2));
        assert_eq!((b.sum(&service(1)).outstanding, b.sum(&service(1)).last_request), (7, 7));
    }

    #[test]
    fn what_is_taken_out_is_forgotten_once_all_have_heard() {
        let (mut a, mut b) = pair();
        let id = InstanceId::new(&service(1), "i");
        a.state(Fact::Health(id.clone(), Some(false)));
        tell(&a, ("a", "b"), &mut b, Instant(1));
        assert_eq!(b.health(&router("a"), &id), Some(false));
        a.state(Fact::Health(id.clone(), None));
        tell(&a, ("a", "b"), &mut b, Instant(2));
        assert_eq!((b.health(&router("a"), &id), a.facts.len()), (None, 1));
        tell(&b, ("b", "a"), &mut a, Instant(3));
        assert_eq!((a.facts.len(), a.order.len()), (0, 0));
    }

    #[test]
    fn more_than_fits_comes_one_after_the_other() {
        let (mut a, mut b) = pair();
        let count = FACTS_MAX as u64 * 2 + 5;
        for it in 0..count {
            a.state(Fact::Tally(service(it), Some(counts(1, 1))));
        }
        for round in 1..=3 {
            tell(&a, ("a", "b"), &mut b, Instant(round));
            tell(&b, ("b", "a"), &mut a, Instant(round));
        }
        assert_eq!(b.sums.len() as u64, count);
        assert_eq!(b.lag(&router("a"), Instant(5)), Some(Duration::from_nanos(2)));
    }

    #[test]
    fn who_returns_is_told_everything_anew() {
        let (mut a, mut b) = pair();
        a.state(Fact::Tally(service(1), Some(counts(1, 1))));
        a.state(Fact::Tally(service(2), Some(counts(1, 1))));
        tell(&a, ("a", "b"), &mut b, Instant(1));
        a.members(&[]);
        a.state(Fact::Tally(service(1), None));
        a.members(&[router("b")]);
        assert!(!a.facts.contains_key(&Key::Service(service(1))), "nobody was there to hear");
        tell(&b, ("b", "a"), &mut a, Instant(2)); // an acknowledgement of the former session
        tell(&a, ("a", "b"), &mut b, Instant(3));
        assert_eq!((b.sum(&service(1)).outstanding, b.sum(&service(2)).outstanding), (0, 1));
    }

    #[test]
    fn counters_that_are_not_heard_become_stale() {
        let (a, mut b) = pair();
        assert_eq!(b.stale(Instant(1)).count(), 1, "never heard");
        tell(&a, ("a", "b"), &mut b, Instant(0));
        assert_eq!(b.stale(Instant(0) + STALE_AFTER).count(), 0);
        assert_eq!(b.stale(Instant(1) + STALE_AFTER).count(), 1);
    }

    /// Whatever is lost, doubled or overtaken: in the end the copy is the original.
    #[test]
    fn copies_become_what_is_copied() {
        let (mut a, mut b) = pair();
        let mut seed = 7_u64;
        let mut chance = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut under_way = Vec::new();
        for round in 0..2000 {
            let it = chance(9).checked_sub(1).map(|it| counts(round, it as u32));
            a.state(Fact::Tally(service(chance(20)), it));
            under_way.push(a.document(&router("b")).expect("a member"));
            if chance(2) == 0 {
                let at = chance(under_way.len() as u64) as usize;
                let it = under_way[at].clone();
                b.heard(&router("a"), it, Instant(round));
            }
            if chance(3) == 0 {
                tell(&b, ("b", "a"), &mut a, Instant(round));
            }
            if under_way.len() > 6 {
                under_way.remove(0);
            }
        }
        tell(&b, ("b", "a"), &mut a, Instant(0));
        tell(&a, ("a", "b"), &mut b, Instant(0));
        for it in 0..20 {
            let original = a.facts.get(&Key::Service(service(it))).and_then(|(_, it)| tally(it));
            assert_eq!(b.of(&router("a"), &service(it)), original, "{it}");
            let levels = |of: &Exchange| both(of.sum(&service(it)), Tally::default());
            assert_eq!(levels(&a), levels(&b), "{it}");
        }
    }
}

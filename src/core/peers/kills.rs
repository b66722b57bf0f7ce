//! No instance is killed without its owner's consent.
//!
//! The leader asks the owner; the owner consents where nothing is in use, on loan or owed, after
//! its home has locked the instance; then the leader tells all members that the instance is about
//! to be killed, and when they know it orders the kill, and says when it is over and proved. Until
//! then the owner keeps the lock, and all count the whole instance as owed: should it get another
//! owner, that one starts nothing on it, also when the leader has vanished ([`doom`](super::doom)).
//! Loans that are idle must not keep the owner from its consent for ever: it calls them back, lends
//! nothing of the instance meanwhile, and refuses if they do not come in half of the order's time.
//!
//! Must hold: a lock ends because its asker says that the kill is over, or, if the asker is never
//! heard of again, a hold after the order's deadline; never by a time shorter than the order.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::{Consent, Kill, ORDERS_MAX};
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rules::Rule;
use crate::core::peers::table::Shared;
use std::collections::{BTreeMap, BTreeSet};

/// A kill that is asked for here.
#[derive(Debug)]
pub(super) struct Asked {
    instance: InstanceId,
    until: Instant,
    /// The owner consents.
    given: bool,
    /// All members know that it is about to be killed; it may be ordered.
    ordered: bool,
    /// Who was asked: each hears of it until it is over, so that none ends its lock before.
    told: BTreeSet<RouterId>,
    /// The documents that first said to each router that it is about to be killed.
    said: BTreeMap<RouterId, u64>,
}

/// A kill that is asked of this router.
#[derive(Debug)]
pub(super) struct Answer {
    service: ServiceId,
    instance: InstanceId,
    state: State,
    until: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Loans are called back, until then.
    Recalling(Instant),
    /// Home has been asked for the lock.
    Locking,
    /// Nobody wants it any more, and home has not answered.
    Dropped,
    /// It is locked.
    Given,
    /// It is not.
    Refused,
}

/// A lock whose asker has vanished.
#[derive(Debug)]
pub(super) struct Orphan {
    service: ServiceId,
    instance: InstanceId,
    until: Instant,
}

impl Peers {
    /// The leader wants to kill an instance by an order that takes so long at most. Returns its
    /// number; the answer is [`Effect::Consent`].
    pub fn ask_kill(&mut self, instance: &InstanceId, time: Duration, now: Instant) -> u64 {
        let order = self.number();
        // More than a document can tell are not asked for: the answer is no, at the next tick.
        let time = if self.asked.len() < ORDERS_MAX { time } else { Duration::ZERO };
        let asked = Asked {
            instance: instance.clone(),
            until: now + time,
            given: false,
            ordered: false,
            told: BTreeSet::new(),
            said: BTreeMap::new(),
        };
        self.asked.insert(order, asked);
        self.dirty_owner(instance);
        order
    }

    /// The kill is over, or was not ordered: the instance is gone, or a list that was begun after
    /// the order's deadline still shows it.
    pub fn kill_over(&mut self, order: u64) {
        let Some(asked) = self.asked.remove(&order) else { return };
        if let Some(it) = self.table.instances.get_mut(&asked.instance) {
            it.dying = false;
        }
        self.dirty_all();
    }

    /// Home has locked an instance, or could not.
    pub fn locked(&mut self, instance: &InstanceId, locked: bool, effects: &mut Vec<Effect>) {
        let is_clear = self.is_clear(instance);
        let waits = |it: &&mut Answer| {
            it.instance == *instance && matches!(it.state, State::Locking | State::Dropped)
        };
        let Some(answer) = self.answers.values_mut().find(waits) else { return };
        let keeps = locked && is_clear && answer.state == State::Locking;
        let dropped = answer.state == State::Dropped;
        answer.state = if keeps { State::Given } else { State::Refused };
        let service = answer.service.clone();
        if keeps {
            self.set_locked(instance, true);
        } else if locked {
            effects.push(Effect::Unlock(service, instance.clone(), self.is_gone(instance)));
        }
        if dropped {
            self.answers.retain(|_, it| it.instance != *instance || it.state != State::Refused);
        }
        self.dirty_all();
    }

    /// The other asks for kills, and answers ours.
    pub(super) fn hear_kills(&mut self, from: &RouterId, now: Instant, effects: &mut Vec<Effect>) {
        let document = &self.links[from].heard.as_ref().expect("it was just heard").document;
        let (kills, consents) = (document.kills.clone(), document.consents.clone());
        for it in &consents {
            let asked = self.asked.get(&it.order);
            if asked.is_none_or(|asked| !asked.told.contains(from)) {
                continue; // it is none of the router's business
            }
            if it.given {
                self.consented(it.order);
            } else {
                self.refused_kill(it.order, effects);
            }
        }
        self.let_order(effects);
        self.asked_by(from, &kills, now, effects);
    }

    /// Kills whose time has passed, those of own instances, and locks that nobody ends.
    pub(super) fn tick_kills(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let late: Vec<u64> = {
            let waits = self.asked.iter().filter(|(_, it)| !it.ordered && it.until <= now);
            waits.map(|(order, _)| *order).collect()
        };
        for order in late {
            self.refused_kill(order, effects);
        }
        let me = self.me.clone();
        self.lock_recalled(now, effects);
        let own = self.kills_of(&me, now);
        if !own.is_empty() || !self.answers.is_empty() {
            self.asked_by(&me, &own, now, effects);
        }
        let given: Vec<(u64, bool)> = {
            let mine = self.answers.iter().filter(|((from, _), _)| *from == me);
            mine.filter_map(|((_, order), it)| Some((*order, it.verdict()?))).collect()
        };
        for (order, given) in given {
            if given {
                self.consented(order);
            } else {
                self.refused_kill(order, effects);
            }
        }
        self.let_order(effects);
        let table = &self.table.instances;
        let ends = |it: &mut Orphan| {
            it.until <= now || table.get(&it.instance).is_none_or(|it| !it.present)
        };
        let over: Vec<Orphan> = self.orphans.extract_if(.., ends).collect();
        for it in over {
            self.unlock(&it.service, &it.instance, effects);
        }
        self.end_doom(now);
    }

    /// The kills that this owner is to hear of.
    pub(super) fn kills_of(&mut self, owner: &RouterId, now: Instant) -> Vec<Kill> {
        let mut kills = Vec::new();
        for (order, it) in &mut self.asked {
            let shared = self.table.instances.get(&it.instance);
            if shared.is_some_and(|it| it.owner.as_ref() == Some(owner)) {
                it.told.insert(owner.clone());
            }
            if it.told.contains(owner) {
                let left_ms = u32::try_from((it.until - now).as_millis()).unwrap_or(u32::MAX);
                kills.push(Kill { order: *order, instance: it.instance.clone(), left_ms });
            }
        }
        kills
    }

    pub(super) fn consents_to(&self, to: &RouterId) -> Vec<Consent> {
        let theirs = self.answers.iter().filter(|((from, _), _)| from == to);
        theirs
            .filter_map(|((_, order), it)| Some(Consent { order: *order, given: it.verdict()? }))
            .take(ORDERS_MAX)
            .collect()
    }

    /// Locks for a router that was written off last for the hold.
    pub(super) fn orphan_locks(&mut self, from: &RouterId) {
        let theirs: Vec<Answer> = {
            let all = self.answers.extract_if(.., |(it, _), _| it == from);
            all.map(|(_, it)| it).collect()
        };
        for Answer { service, instance, state, until } in theirs {
            match state {
                State::Given => self.orphans.push(Orphan { service, instance, until }),
                State::Recalling(_) => self.recall(&instance, false),
                State::Locking | State::Dropped | State::Refused => {}
            }
        }
    }

    /// The owner consents: before the order all members must know of it, lest one that comes late,
    /// from a router that has vanished, meets requests.
    fn consented(&mut self, order: u64) {
        let Some(asked) = self.asked.get_mut(&order).filter(|it| !it.given) else { return };
        asked.given = true;
        if let Some(it) = self.table.instances.get_mut(&asked.instance) {
            it.dying = true;
            self.table.watched.insert(asked.instance.clone());
        }
        self.dirty_all();
    }

    /// The owner does not, or not all know in time.
    fn refused_kill(&mut self, order: u64, effects: &mut Vec<Effect>) {
        if self.asked.get(&order).is_none_or(|it| it.ordered) {
            return;
        }
        let instance = self.asked[&order].instance.clone();
        self.kill_over(order);
        effects.push(Effect::Consent(order, instance, false));
    }

    /// Kills of which all members know may be ordered.
    fn let_order(&mut self, effects: &mut Vec<Effect>) {
        let members: Vec<&RouterId> = {
            let all = self.membership.members.keys();
            all.filter(|it| **it != self.me).collect()
        };
        let (links, rules) = (&self.links, self.rules);
        for (order, it) in self.asked.iter_mut().filter(|(_, it)| it.given && !it.ordered) {
            let knows = |id: &RouterId| {
                let ack = links.get(id).and_then(|it| it.heard.as_ref()).map(|it| it.document.ack);
                it.said.get(id).zip(ack).is_some_and(|(said, ack)| *said <= ack)
            };
            if !rules.has(Rule::LateOrders) || members.iter().all(|it| knows(it)) {
                it.ordered = true;
                effects.push(Effect::Consent(*order, it.instance.clone(), true));
            }
        }
    }

    /// A document that says what is about to be killed goes to this router.
    pub(super) fn say_dying(&mut self, to: &RouterId, seq: u64) {
        for it in self.asked.values_mut().filter(|it| it.given).take(ORDERS_MAX) {
            it.said.entry(to.clone()).or_insert(seq);
        }
    }

    /// What orders of this router are about to kill.
    pub(super) fn dying(&self) -> impl Iterator<Item = &InstanceId> {
        self.asked.values().filter(|it| it.given).map(|it| &it.instance)
    }

    fn asked_by(
        &mut self,
        from: &RouterId,
        kills: &[Kill],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let mut over = Vec::new();
        for ((asker, order), it) in &mut self.answers {
            if asker != from || kills.iter().any(|kill| kill.order == *order) {
                continue;
            }
            if it.state == State::Locking {
                it.state = State::Dropped;
            } else if it.state != State::Dropped {
                over.push(*order);
            }
        }
        for order in over {
            let it = self.answers.remove(&(from.clone(), order)).expect("it was just seen");
            match it.state {
                State::Given => self.linger(it, now),
                State::Recalling(_) => self.recall(&it.instance, false),
                State::Locking | State::Dropped | State::Refused => {}
            }
        }
        for kill in kills {
            if !self.answers.contains_key(&(from.clone(), kill.order)) {
                self.consider(from, kill, now, effects);
            }
        }
    }

    fn consider(&mut self, from: &RouterId, kill: &Kill, now: Instant, effects: &mut Vec<Effect>) {
        let left = Duration::from_millis(u64::from(kill.left_ms));
        let busy = self.answers.values().any(|it| it.instance == kill.instance);
        let may = !busy && self.answers.len() < ORDERS_MAX;
        let shared = self.table.instances.get(&kill.instance);
        let Some(service) = shared.map(|it| it.service.clone()) else { return };
        let lent_alone = shared.is_some_and(Shared::is_lent_alone);
        let state = if may && self.is_clear(&kill.instance) {
            effects.push(Effect::Lock(service.clone(), kill.instance.clone()));
            State::Locking
        } else if may && lent_alone {
            self.recall(&kill.instance, true);
            State::Recalling(now + left / 2)
        } else {
            State::Refused
        };
        let until = now + left + self.settings.lock_hold;
        let answer = Answer { service, instance: kill.instance.clone(), state, until };
        self.answers.insert((from.clone(), kill.order), answer);
        self.dirty_all();
    }

    /// A kill is over. What it has ended may be listed here a little longer.
    fn linger(&mut self, it: Answer, now: Instant) {
        let until = now + self.settings.lock_linger;
        self.orphans.push(Orphan { service: it.service, instance: it.instance, until });
    }

    /// Loans are to come back, or are as they were.
    fn recall(&mut self, instance: &InstanceId, recalled: bool) {
        if let Some(it) = self.table.instances.get_mut(instance) {
            it.recalled = recalled;
        }
        self.refresh(instance);
        self.dirty_all();
    }

    /// Has what came back locked, and refuses where loans did not come back in time.
    fn lock_recalled(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let recalling: Vec<((RouterId, u64), InstanceId, Instant)> = {
            let all = self.answers.iter();
            all.filter_map(|(key, it)| match it.state {
                State::Recalling(until) => Some((key.clone(), it.instance.clone(), until)),
                _ => None,
            })
            .collect()
        };
        for (key, instance, until) in recalling {
            let clear = self.is_clear(&instance);
            let waits = self.table.instances.get(&instance).is_some_and(Shared::is_lent_alone);
            if !clear && waits && now < until {
                continue;
            }
            self.recall(&instance, false);
            let it = self.answers.get_mut(&key).expect("it was just listed");
            it.state = if clear { State::Locking } else { State::Refused };
            if clear {
                effects.push(Effect::Lock(it.service.clone(), instance));
            }
        }
    }

    /// Whether nobody else can have anything in use on an instance that is owned.
    fn is_clear(&self, instance: &InstanceId) -> bool {
        let shared = self.table.instances.get(instance);
        shared.is_some_and(|it| it.own && it.owed == 0 && it.lent == 0 && !it.locked)
    }

    fn is_gone(&self, instance: &InstanceId) -> bool {
        self.table.instances.get(instance).is_none_or(|it| !it.present)
    }

    fn unlock(&mut self, service: &ServiceId, instance: &InstanceId, effects: &mut Vec<Effect>) {
        self.set_locked(instance, false);
        let gone = self.is_gone(instance);
        effects.push(Effect::Unlock(service.clone(), instance.clone(), gone));
    }

    fn set_locked(&mut self, instance: &InstanceId, locked: bool) {
        if let Some(it) = self.table.instances.get_mut(instance) {
            it.locked = locked;
            self.table.watched.insert(instance.clone());
        }
        self.dirty_all();
    }

    fn dirty_owner(&mut self, instance: &InstanceId) {
        let owner = self.table.instances.get(instance).and_then(|it| it.owner.clone());
        if let Some(link) = owner.and_then(|it| self.links.get_mut(&it)) {
            link.dirty = true;
        }
    }
}

impl Answer {
    fn verdict(&self) -> Option<bool> {
        match self.state {
            State::Recalling(_) | State::Locking | State::Dropped => None,
            State::Given => Some(true),
            State::Refused => Some(false),
        }
    }
}

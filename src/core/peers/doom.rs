//! What routers that vanished were about to end: their orders may still be carried out.
//!
//! Everybody tells all others what he knows that others are about to kill. So a newcomer, who never
//! heard the router that gave an order, learns of it before he gives anything out, though that
//! router end, and then the one who told him. What a router was about to kill, or knew of, when it
//! is missed is counted as wholly in use until a hold after it is written off, or until it is a
//! member again and speaks for itself. Only if all who knew end before a newcomer has heard one of
//! them, nobody knows.
//!
//! With services it is the same: what a router wanted to delete when it is missed stays closed as
//! long. That it is closed each says anyway, so nothing is told on: a newcomer waits for what
//! anybody states to be closed, and when that one ends holds it himself.
//!
//! Must hold: a mark is kept by the id, listed or not; nothing that is listed anew, or for the
//! first time, is without it.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::Instant;
use crate::core::peers::document::Document;
use crate::core::peers::machine::Peers;
use crate::core::peers::rules::Rule;
use std::collections::{BTreeMap, BTreeSet};

/// Instances, or services, that routers which vanished were about to end, by whose orders, and
/// until when; no end, as long as that router is missed and not written off.
#[derive(Debug)]
pub(super) struct Doomed<T>(BTreeMap<T, BTreeMap<RouterId, Option<Instant>>>);

/// What routers say that they are about to end.
type Said<T> = BTreeMap<T, BTreeSet<RouterId>>;

impl<T> Default for Doomed<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone + Ord> Doomed<T> {
    pub(super) fn has(&self, what: &T) -> bool {
        self.0.contains_key(what)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }

    /// Those who are missed say this now. Returns what is marked that was not, and what is not any
    /// more.
    fn follow(&mut self, said: Said<T>) -> (Vec<T>, Vec<T>) {
        let is_said = |what: &T, by: &RouterId| said.get(what).is_some_and(|it| it.contains(by));
        let over = self.retain(|what, by, until| until.is_some() || is_said(what, by));
        let mut new = Vec::new();
        for (what, by) in said {
            let marks = self.0.entry(what.clone()).or_default();
            if marks.is_empty() {
                new.push(what);
            }
            marks.extend(by.into_iter().map(|router| (router, None)));
        }
        (new, over)
    }

    /// A router is written off: until then its orders may come, and what it knew of.
    fn hold(&mut self, router: &RouterId, knew: impl Iterator<Item = T>, until: Instant) {
        for by in self.0.values_mut() {
            if let Some(it) = by.get_mut(router) {
                *it = Some(until);
            }
        }
        for what in knew {
            self.0.entry(what).or_default().insert(router.clone(), Some(until));
        }
    }

    /// Takes out what has come to its end; returns that of which nothing is left.
    fn end(&mut self, now: Instant) -> Vec<T> {
        self.retain(|_, _, until| until.is_none_or(|it| it > now))
    }

    /// Takes out what this does not want to keep; returns that of which nothing is left.
    fn retain(&mut self, keeps: impl Fn(&T, &RouterId, Option<Instant>) -> bool) -> Vec<T> {
        for (what, by) in &mut self.0 {
            by.retain(|router, until| keeps(what, router, *until));
        }
        self.0.extract_if(.., |_, by| by.is_empty()).map(|(what, _)| what).collect()
    }
}

impl Peers {
    /// What orders of others, but not of this reader, are about to kill.
    pub(super) fn known_doom(&self, to: &RouterId) -> BTreeSet<&InstanceId> {
        let has = self.rules.has(Rule::LateOrders);
        let others = self.links.iter().filter(|(id, _)| *id != to && has);
        let said = others.filter_map(|(_, it)| it.heard.as_ref()).flat_map(|it| &it.document.dying);
        said.chain(self.doomed.all()).collect()
    }

    /// Somebody has vanished, has returned, or speaks though he has vanished.
    pub(super) fn follow_doom(&mut self) {
        if self.rules.has(Rule::LateOrders) {
            // What it only tells on is counted by its link, and is no mark: two who tell each other
            // would keep it for ever.
            let (new, over) = self.doomed.follow(self.said_by_vanished(|it| &it.dying));
            new.iter().chain(&over).for_each(|it| self.mark_doom(it));
        }
        if self.rules.has(Rule::LateDeletions) {
            let mut said = self.said_by_vanished(|it| &it.deleting);
            // Where something is in use, this router never said that it had closed it: so it was
            // not deleted.
            said.retain(|it, _| self.closing.late.has(it) || !self.uses(it));
            self.closing.late.follow(said);
        }
    }

    /// What routers that are missed, each for itself, said last.
    fn said_by_vanished<T: Clone + Ord>(&self, which: impl Fn(&Document) -> &Vec<T>) -> Said<T> {
        let mut said: Said<T> = BTreeMap::new();
        for router in self.membership.vanished.keys() {
            let heard = self.links.get(router).and_then(|it| it.heard.as_ref());
            for it in heard.iter().flat_map(|it| which(&it.document)) {
                said.entry(it.clone()).or_default().insert(router.clone());
            }
        }
        said
    }

    /// A router is taken to have ended: its orders are late from now on, and those it knew of.
    pub(super) fn begin_hold(&mut self, router: &RouterId, now: Instant) {
        let until = now + self.settings.lock_hold;
        if self.rules.has(Rule::LateOrders) {
            let heard = self.links.get_mut(router).and_then(|it| it.heard.as_mut());
            let known = heard.map_or_else(BTreeSet::new, |it| std::mem::take(&mut it.dying));
            self.doomed.hold(router, known.iter().cloned(), until);
            known.iter().for_each(|it| self.mark_doom(it));
        }
        if self.rules.has(Rule::LateDeletions) {
            let orphaned = self.orphaned(router, now);
            self.closing.late.hold(router, orphaned.into_iter(), until);
        }
    }

    /// What a router had closed that another one wanted to delete of whom nothing is known here. A
    /// member that wants it speaks for itself.
    fn orphaned(&self, router: &RouterId, now: Instant) -> Vec<ServiceId> {
        let heard = self.links.get(router).and_then(|it| it.heard.as_ref());
        let Some(document) = heard.map(|it| &it.document) else { return Vec::new() };
        let wanted = self.wanted_gone(now);
        let closed = document.closing.iter().filter(|it| !document.deleting.contains(it));
        closed.filter(|it| !wanted.contains(it) && !self.uses(it)).cloned().collect()
    }

    /// Holds that are over.
    pub(super) fn end_doom(&mut self, now: Instant) {
        let over = self.doomed.end(now);
        over.iter().for_each(|it| self.mark_doom(it));
        self.closing.late.end(now); // the next tick opens what nobody wants closed any more
    }

    /// Counts an instance as it is marked now.
    fn mark_doom(&mut self, instance: &InstanceId) {
        if let Some(it) = self.table.instances.get_mut(instance) {
            it.doomed = self.doomed.has(instance);
            self.table.watched.insert(instance.clone());
        }
        self.count_debts(instance);
        self.refresh(instance);
        self.dirty_all();
    }
}

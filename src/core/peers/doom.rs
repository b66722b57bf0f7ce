//! What routers that vanished were about to kill: their orders may still be carried out.
//!
//! Everybody tells all others what he knows that others are about to kill. So a newcomer, who never
//! heard the router that gave an order, learns of it before he gives anything out, though that
//! router end, and then the one who told him. What a router was about to kill, or knew of, when it
//! is missed is counted as wholly in use until a hold after it is written off, or until it is a
//! member again and speaks for itself. Only if all who knew end before a newcomer has heard one of
//! them, nobody knows.
//!
//! Must hold: a mark is kept by the id of the instance, listed or not; nothing that is listed anew,
//! or for the first time, is without it.

use crate::base::ids::{InstanceId, RouterId};
use crate::base::time::Instant;
use crate::core::peers::machine::Peers;
use crate::core::peers::rules::Rule;
use std::collections::{BTreeMap, BTreeSet};

/// Instances that routers which vanished were about to kill, by whose orders, and until when; no
/// end, as long as that router is missed and not written off.
#[derive(Debug, Default)]
pub(super) struct Doomed(BTreeMap<InstanceId, BTreeMap<RouterId, Option<Instant>>>);

impl Doomed {
    pub(super) fn has(&self, instance: &InstanceId) -> bool {
        self.0.contains_key(instance)
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.0.keys()
    }

    /// Takes out what this does not want to keep; returns the instances of which nothing is left.
    fn retain(
        &mut self,
        keeps: impl Fn(&InstanceId, &RouterId, Option<Instant>) -> bool,
    ) -> Vec<InstanceId> {
        for (instance, by) in &mut self.0 {
            by.retain(|router, until| keeps(instance, router, *until));
        }
        self.0.extract_if(.., |_, by| by.is_empty()).map(|(instance, _)| instance).collect()
    }
}

impl Peers {
    /// What orders of others, but not of this reader, are about to kill.
    pub(super) fn known_doom(&self, to: &RouterId) -> BTreeSet<&InstanceId> {
        let others = self.links.iter().filter(|(id, _)| *id != to && self.has_late_orders());
        let said = others.filter_map(|(_, it)| it.heard.as_ref()).flat_map(|it| &it.document.dying);
        said.chain(self.doomed.instances()).collect()
    }

    fn has_late_orders(&self) -> bool {
        self.rules.has(Rule::LateOrders)
    }

    /// Somebody has vanished, has returned, or speaks though he has vanished.
    pub(super) fn follow_doom(&mut self) {
        if !self.has_late_orders() {
            return;
        }
        let mut said: BTreeMap<InstanceId, BTreeSet<RouterId>> = BTreeMap::new();
        for router in self.membership.vanished.keys() {
            // What it only tells on is counted by its link, and is no mark: two who tell each other
            // would keep it for ever.
            let heard = self.links.get(router).and_then(|it| it.heard.as_ref());
            for instance in heard.iter().flat_map(|it| &it.document.dying) {
                said.entry(instance.clone()).or_default().insert(router.clone());
            }
        }
        let is_said = |instance: &InstanceId, router: &RouterId| {
            said.get(instance).is_some_and(|by| by.contains(router))
        };
        let over =
            self.doomed.retain(|instance, by, until| until.is_some() || is_said(instance, by));
        for (instance, by) in said {
            let marks = self.doomed.0.entry(instance.clone()).or_default();
            let is_new = marks.is_empty();
            marks.extend(by.into_iter().map(|router| (router, None)));
            if is_new {
                self.mark_doom(&instance);
            }
        }
        over.iter().for_each(|it| self.mark_doom(it));
    }

    /// A router is taken to have ended: its orders are late from now on, and those it knew of.
    pub(super) fn begin_hold(&mut self, router: &RouterId, now: Instant) {
        if !self.has_late_orders() {
            return;
        }
        let until = Some(now + self.settings.lock_hold);
        for by in self.doomed.0.values_mut() {
            if let Some(it) = by.get_mut(router) {
                *it = until;
            }
        }
        let heard = self.links.get_mut(router).and_then(|it| it.heard.as_mut());
        let known = heard.map_or_else(BTreeSet::new, |it| std::mem::take(&mut it.dying));
        for instance in known {
            self.doomed.0.entry(instance.clone()).or_default().insert(router.clone(), until);
            self.mark_doom(&instance);
        }
    }

    /// Holds that are over.
    pub(super) fn end_doom(&mut self, now: Instant) {
        let over = self.doomed.retain(|_, _, until| until.is_none_or(|it| it > now));
        over.iter().for_each(|it| self.mark_doom(it));
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

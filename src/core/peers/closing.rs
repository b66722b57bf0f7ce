//! A service is deleted only after every member has closed it.
//!
//! Who wants to delete it says so to all; each member closes it, and states that when nothing of it
//! is in use there. When all have, it may be deleted. If nobody wants it any more, all open again.
//!
//! Must hold: as long as a router states that it has closed a service, nothing of it starts there,
//! whatever is listed, won or lent meanwhile; and what is stated answers the deletion that is asked
//! for now, not one that was given up. While somebody wants to delete a service, or states that it
//! is closed, who wins instances of it gives none of them out: it may be one whom nobody has asked.
//! What somebody wanted who has vanished stays closed until his order cannot come any more
//! ([`doom`](super::doom)).

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::Instant;
use crate::core::peers::document::{Document, ORDERS_MAX};
use crate::core::peers::doom::Doomed;
use crate::core::peers::link::Link;
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rules::Rule;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// How far a service is closed here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Something of it is in use, or may be.
    InUse,
    /// Nothing is, and nothing starts.
    Closed,
}

/// Services that somebody wants to delete.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// By this router; and the documents that first said so to each of the others.
    deleting: BTreeMap<ServiceId, BTreeMap<RouterId, u64>>,
    closing: BTreeMap<ServiceId, State>,
    /// By routers that vanished: their orders may be carried out yet.
    pub(super) late: Doomed<ServiceId>,
}

impl Closing {
    /// Those that this router wants to delete.
    pub(super) fn deleting(&self) -> impl Iterator<Item = &ServiceId> {
        self.deleting.keys()
    }

    /// Whether somebody wants to delete it.
    pub(super) fn is_closing(&self, service: &ServiceId) -> bool {
        self.closing.contains_key(service)
    }

    /// Whether it is closed here, with nothing in use.
    pub(super) fn is_closed(&self, service: &ServiceId) -> bool {
        self.closing.get(service) == Some(&State::Closed)
    }

    /// A document that says what is to be deleted goes to this router.
    pub(super) fn say(&mut self, to: &RouterId, seq: u64) {
        for said in self.deleting.values_mut().take(ORDERS_MAX) {
            said.entry(to.clone()).or_insert(seq);
        }
    }

    /// Those that are closed here, with nothing in use.
    pub(super) fn closed(&self) -> impl Iterator<Item = &ServiceId> {
        self.closing.iter().filter(|(_, it)| **it == State::Closed).map(|(id, _)| id)
    }
}

impl Peers {
    /// The leader wants to delete a service. Ask [`may_delete`](Self::may_delete) until it may, or
    /// give up by [`delete_over`](Self::delete_over), which also ends a deletion.
    pub fn delete(&mut self, service: &ServiceId) {
        self.closing.deleting.entry(service.clone()).or_default();
        self.dirty_all();
    }

    /// The service is deleted, or will not be.
    pub fn delete_over(&mut self, service: &ServiceId) {
        self.closing.deleting.remove(service);
        self.dirty_all();
    }

    /// Home has closed a service, and found nothing of it in use, nor anybody who waits. That it
    /// finds otherwise later changes nothing: who begins to wait waits until it is opened again.
    pub fn closed(&mut self, service: &ServiceId) {
        if !self.closing.is_closing(service) || self.closing.is_closed(service) {
            return;
        }
        self.state(service, State::Closed);
        // What home did not know of may have begun until now; from here on nothing does.
        if self.uses(service) && self.rules.has(Rule::ClosedIsShut) {
            self.state(service, State::InUse);
        }
    }

    fn state(&mut self, service: &ServiceId, state: State) {
        self.closing.closing.insert(service.clone(), state);
        self.refresh_all(service);
        self.dirty_all();
    }

    /// Whether anything of a service runs here, or is lent, on what is listed or was.
    pub(super) fn uses(&self, service: &ServiceId) -> bool {
        let entry = self.table.services.get(service);
        let listed = entry.into_iter().flat_map(|it| &it.instances);
        let mut all =
            listed.chain(&self.table.watched).filter_map(|it| self.table.instances.get(it));
        all.any(|it| it.service == *service && it.instance.word.used() > 0)
    }

    /// Writes the limits of a service's instances anew.
    fn refresh_all(&mut self, service: &ServiceId) {
        let entry = self.table.services.get(service);
        let ids: Vec<InstanceId> = entry.map_or_else(Vec::new, |it| it.instances.clone());
        ids.iter().for_each(|it| self.refresh(it));
    }

    /// Whether every member has stated, in a young document of this epoch that answers this
    /// deletion, that it has closed a service, and nobody has vanished who could still use it. Who
    /// has not heard of this router for long opens again.
    pub fn may_delete(&self, service: &ServiceId, now: Instant) -> bool {
        let Some(said) = self.closing.deleting.get(service) else { return false };
        let stated = |id: &RouterId| {
            let heard = self.links.get(id).and_then(|it| it.heard.as_ref());
            heard.zip(said.get(id)).is_some_and(|(it, said)| {
                let document = &it.document;
                now - it.proved < self.settings.session / 3
                    && document.epoch >= self.membership.epoch
                    && document.ack >= *said
                    && document.closing.contains(service)
            })
        };
        self.is_unused(service)
            && self.membership.vanished.is_empty()
            && self.membership.members.keys().all(|id| *id == self.me || stated(id))
    }

    /// Whether it is closed here, with nothing on loan either way.
    fn is_unused(&self, service: &ServiceId) -> bool {
        let lent = self.links.values().any(|it| it.lent_of.contains_key(service));
        let held = self.held.values().any(|it| it.service == *service);
        self.closing.is_closed(service) && !lent && !held
    }

    /// What this router and other members want to delete.
    pub(super) fn wanted_gone(&self, now: Instant) -> BTreeSet<ServiceId> {
        let members = self.links.iter().filter(|(id, _)| self.membership.is_member(id));
        let theirs = members.filter_map(|(_, it)| self.heeded(it, now));
        let all = theirs.flat_map(|it| &it.deleting).chain(self.closing.deleting.keys());
        all.cloned().collect()
    }

    /// What others state to be closed.
    pub(super) fn stated_closed(&self, now: Instant) -> BTreeSet<&ServiceId> {
        let all = self.links.values().filter(|_| self.rules.has(Rule::LateDeletions));
        all.filter_map(|it| self.heeded(it, now)).flat_map(|it| &it.closing).collect()
    }

    /// What a router says. Who was not heard for so long has given up, or will hear that this
    /// router has opened: it does not count on what it was told before, and its order, if it gave
    /// one, is over.
    fn heeded<'a>(&self, link: &'a Link, now: Instant) -> Option<&'a Document> {
        let long = self.settings.session + self.settings.lock_hold;
        link.heard.as_ref().filter(|it| now - it.at < long).map(|it| &it.document)
    }

    /// Closes what somebody wants to delete, and opens what nobody does any more.
    pub(super) fn tick_closing(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut wanted = self.wanted_gone(now);
        wanted.extend(self.closing.late.all().cloned());
        let unwanted = self.closing.closing.extract_if(.., |id, _| !wanted.contains(id));
        let reopened: Vec<ServiceId> = unwanted.map(|(id, _)| id).collect();
        let mut changed = !reopened.is_empty();
        for id in reopened {
            self.refresh_all(&id);
            effects.push(Effect::Reopen(id));
        }
        for id in wanted {
            if let Entry::Vacant(place) = self.closing.closing.entry(id) {
                changed = true;
                effects.push(Effect::Close(place.key().clone()));
                place.insert(State::InUse);
            }
        }
        if changed {
            self.dirty_all();
        }
    }
}

//! A service is deleted only after every member has closed it.
//!
//! Who wants to delete it says so to all; each member closes it, and states that when nothing of it
//! is in use there. When all have, it may be deleted. If nobody wants it any more, all open again.

use crate::base::ids::ServiceId;
use crate::core::peers::machine::{Effect, Peers};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Services that somebody wants to delete.
#[derive(Debug, Default)]
pub(super) struct Closing {
    deleting: BTreeSet<ServiceId>,
    /// Whether nothing of it is in use here.
    closing: BTreeMap<ServiceId, bool>,
}

impl Closing {
    /// Those that this router wants to delete.
    pub(super) fn deleting(&self) -> impl Iterator<Item = &ServiceId> {
        self.deleting.iter()
    }

    /// Whether somebody wants to delete it.
    pub(super) fn is_closing(&self, service: &ServiceId) -> bool {
        self.closing.contains_key(service)
    }

    /// Those that are closed here, with nothing in use.
    pub(super) fn closed(&self) -> impl Iterator<Item = &ServiceId> {
        self.closing.iter().filter(|(_, closed)| **closed).map(|(id, _)| id)
    }
}

impl Peers {
    /// The leader wants to delete a service. Ask [`may_delete`](Self::may_delete) until it may, or
    /// give up by [`delete_over`](Self::delete_over), which also ends a deletion.
    pub fn delete(&mut self, service: &ServiceId) {
        self.closing.deleting.insert(service.clone());
        self.dirty_all();
    }

    /// The service is deleted, or will not be.
    pub fn delete_over(&mut self, service: &ServiceId) {
        self.closing.deleting.remove(service);
        self.dirty_all();
    }

    /// Home has closed a service, and nothing of it is in use or waits there.
    pub fn closed(&mut self, service: &ServiceId) {
        if let Some(closed) = self.closing.closing.get_mut(service) {
            *closed = true;
            self.dirty_all();
        }
    }

    /// Whether every member has stated, in a document of this epoch, that it has closed a service,
    /// and nobody has vanished who could still use it.
    pub fn may_delete(&self, service: &ServiceId) -> bool {
        let stated = |id| {
            let heard = self.links.get(id).and_then(|it| it.heard.as_ref());
            heard.is_some_and(|it| {
                it.document.epoch >= self.membership.epoch && it.document.closing.contains(service)
            })
        };
        self.closing.deleting.contains(service)
            && self.is_unused(service)
            && self.membership.vanished.is_empty()
            && self.membership.members.keys().all(|id| *id == self.me || stated(id))
    }

    /// Whether it is closed here, with nothing on loan either way.
    fn is_unused(&self, service: &ServiceId) -> bool {
        let lent = self.links.values().any(|it| it.lent_of.contains_key(service));
        let held = self.held.values().any(|it| it.service == *service);
        self.closing.closing.get(service) == Some(&true) && !lent && !held
    }

    /// Closes what somebody wants to delete, and opens what nobody does any more.
    pub(super) fn tick_closing(&mut self, effects: &mut Vec<Effect>) {
        let members = self.links.iter().filter(|(id, _)| self.membership.is_member(id));
        let theirs = members.filter_map(|(_, it)| it.heard.as_ref());
        let wanted: BTreeSet<ServiceId> = theirs
            .flat_map(|it| &it.document.deleting)
            .chain(&self.closing.deleting)
            .cloned()
            .collect();
        let mut changed = false;
        self.closing.closing.retain(|id, _| {
            let stays = wanted.contains(id);
            if !stays {
                changed = true;
                effects.push(Effect::Reopen(id.clone()));
            }
            stays
        });
        for id in wanted {
            if let Entry::Vacant(place) = self.closing.closing.entry(id) {
                changed = true;
                effects.push(Effect::Close(place.key().clone()));
                place.insert(false);
            }
        }
        if changed {
            self.dirty_all();
        }
    }
}

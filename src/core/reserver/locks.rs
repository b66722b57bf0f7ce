//! Locks: an instance that is to be killed, or all of a service that is to end, takes nothing more.
//!
//! Must hold: only what has nothing in use is locked; what was locked is opened again, or gone.

use super::Reply;
use super::Reserver;
use crate::base::ids::InstanceId;
use crate::core::service::LoadBalancing;
use crate::core::slots::selection::{Candidate, Circumstances, choose_for_kill};
use crate::core::slots::{Gate, Instance};
use std::sync::Arc;

impl Reserver {
    /// Locks an instance for a kill: the one that is missed least and has nothing in use.
    pub fn lock_for_kill(&mut self) -> Option<Arc<Instance>> {
        // It may have been taken since we looked; then the next best is tried.
        let found = self.kill_first(|it| it.word.lock_idle())?;
        self.locked.push(found.clone());
        Some(found)
    }

    /// The instance that is missed least, but none of these; whether anything is in use on it, its
    /// owner knows.
    pub fn choose_for_kill(&self, not: &[InstanceId]) -> Option<Arc<Instance>> {
        let free = |it: &Instance| it.word.used() == 0 && !it.word.is(Gate::Locked);
        self.kill_first(|it| free(it) && !not.contains(&it.id(&self.id)))
    }

    /// The first in the order of kills that may be killed.
    fn kill_first(&self, may: impl Fn(&Instance) -> bool) -> Option<Arc<Instance>> {
        let service = self.service.clone()?;
        let mut left: Vec<_> = service.members.iter().collect();
        let names: Vec<_> = left.iter().map(|it| it.instance.suffix()).collect();
        let seen = Circumstances {
            any_expired: left.iter().any(|it| it.expired),
            any_starting: left.iter().any(|it| it.starting),
            youngest_serve: service.description.parameters.load_balancing
                == LoadBalancing::Youngest,
        };
        let mut candidates: Vec<_> =
            left.iter().zip(&names).map(|(it, name)| candidate(it, name)).collect();
        while let Some(chosen) = choose_for_kill(&candidates, seen) {
            let at = candidates.iter().position(|it| it.id == chosen.id).expect("it is of these");
            candidates.remove(at);
            let member = left.remove(at);
            if may(&member.instance) {
                return Some(member.instance.clone());
            }
        }
        None
    }

    /// Locks this instance for a kill, if nothing is in use on it.
    pub fn lock(&mut self, suffix: &str) -> bool {
        let Some(service) = &self.service else { return false };
        let mut members = service.members.iter();
        let found = members.find(|it| it.instance.suffix() == suffix);
        match found.filter(|it| it.instance.word.lock_idle()) {
            Some(member) => {
                self.locked.push(member.instance.clone());
                true
            }
            None => false,
        }
    }

    /// Locks every instance for the end of the service, if nothing is in use and nobody waits.
    pub fn lock_all(&mut self) -> bool {
        if !self.queue.is_empty() {
            return false;
        }
        let Some(service) = self.service.clone() else { return true };
        for member in &service.members {
            let instance = &member.instance;
            let mut known = self.locked.iter().chain(&self.closed);
            if known.any(|it| Arc::ptr_eq(it, instance)) {
                continue; // it is closed already, or a kill of it is under way
            }
            if !instance.word.lock_idle() {
                self.reopen();
                return false;
            }
            self.closed.push(instance.clone());
        }
        true
    }

    /// The service does not end after all: what was locked for its end serves again.
    pub fn unlock_all(&mut self, replies: &mut Vec<Reply>) {
        self.reopen();
        self.serve(replies);
    }

    fn reopen(&mut self) {
        for it in self.closed.drain(..) {
            it.word.open(Gate::Locked);
            self.slots.hint(&it);
        }
    }

    /// A kill is over. If the instance lives on, it serves again.
    pub fn unlock(&mut self, suffix: &str, gone: bool, replies: &mut Vec<Reply>) {
        let Some(at) = self.locked.iter().position(|it| it.suffix() == suffix) else { return };
        let instance = self.locked.swap_remove(at);
        if gone {
            // Should it ever return under its id, a version says so and opens this gate.
            instance.word.close(Gate::Retired);
        }
        instance.word.open(Gate::Locked);
        self.slots.hint(&instance);
        self.serve(replies);
    }
}

fn candidate<'a>(member: &crate::core::world::Member, id: &'a str) -> Candidate<'a> {
    Candidate {
        id,
        started_at: member.instance.started_at,
        used: u32::from(member.instance.word.used()),
        lingering: false,
        healthy: member.healthy,
        unhealthy: !member.healthy,
        expired: member.expired,
        starting: member.starting,
        ejected: member.instance.word.is(Gate::Ejected),
        locked: member.instance.word.is(Gate::Locked),
    }
}

//! The reserver of one service, on its home shard: the queue, and who serves it.
//!
//! The only writer of the queue, of the service's `waiting` count, of limits, of the opening of
//! gates and of the ejection timers. It is told claims, withdrawals and settlements, and replies with
//! grants and refusals.
//!
//! Invariants: a ticket gets exactly one reply unless withdrawn; first come, first served from the
//! moment a claim arrives; after every event `waiting` equals the length of the queue, and nobody
//! waits beside a free slot it may have.

use crate::base::ids::{ServiceId, ShardId, Ticket};
use crate::base::limits::Limits;
use crate::base::time::{Duration, Instant};
use crate::core::letter::{Avoided, Claim, Settle, Why};
use crate::core::outcome::{Outcome, eject_millis};
use crate::core::service::LoadBalancing;
use crate::core::slots::selection::{Candidate, Circumstances, choose_for_kill};
use crate::core::slots::{Gate, Instance, Seat, ServiceSlots};
use crate::core::world::Service;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the reserver wants done.
#[derive(Debug)]
pub enum Reply {
    /// The ticket has a seat.
    Grant(Ticket, Seat),
    /// The ticket gets none.
    Refuse(Ticket, Why),
    /// The service does not exist: create it.
    Create,
    /// A first request waits and no slot is free.
    Urgent,
    /// An instance now has this many failures in a row.
    Failures(Arc<Instance>, u32),
}

/// One service's queue and its ejections.
#[derive(Debug)]
pub struct Reserver {
    id: ServiceId,
    service: Option<Arc<Service>>,
    slots: Arc<ServiceSlots>,
    queue: BTreeMap<u64, Waiter>,
    arrivals: HashMap<Ticket, u64, foldhash::fast::FixedState>,
    next: u64,
    failing: Vec<Failing>,
    asked: bool,
    shard: ShardId,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    not: Avoided,
}

#[derive(Debug)]
struct Failing {
    instance: Arc<Instance>,
    failures: u32,
    until: Option<Instant>,
}

impl Reserver {
    /// A reserver at home on `shard`, for a service that need not be known yet.
    pub fn new(id: ServiceId, service: Option<Arc<Service>>, shard: ShardId) -> Self {
        let slots = service.as_ref().map_or_else(Arc::default, |it| it.slots.clone());
        Self {
            id,
            service,
            slots,
            queue: BTreeMap::new(),
            arrivals: HashMap::default(),
            next: 0,
            failing: Vec::new(),
            asked: false,
            shard,
        }
    }

    /// A request waits.
    pub fn claim(&mut self, claim: Claim, replies: &mut Vec<Reply>) {
        assert!(claim.service == self.id);
        if let Some(why) = self.obstacle() {
            replies.push(Reply::Refuse(claim.ticket, why));
            return;
        }
        let at = self.next;
        self.next += 1;
        self.arrivals.insert(claim.ticket, at);
        self.queue.insert(at, Waiter { ticket: claim.ticket, not: claim.not });
        let first = self.queue.len() == 1;
        self.announce();
        self.serve(replies);
        if self.queue.is_empty() {
            return;
        }
        match self.service {
            None if !self.asked => {
                self.asked = true;
                replies.push(Reply::Create);
            }
            Some(_) if first => replies.push(Reply::Urgent),
            _ => {}
        }
    }

    /// A request waits no longer.
    pub fn withdraw(&mut self, ticket: Ticket) {
        if let Some(at) = self.arrivals.remove(&ticket) {
            self.queue.remove(&at);
            self.announce();
        }
    }

    /// A request ended, with its slot still counted.
    pub fn settle(
        &mut self,
        settle: Settle,
        limits: &Limits,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let Settle { seat, outcome } = settle;
        self.judge(&seat, outcome, limits, now, replies);
        match self.next_for(seat.instance()) {
            Some(waiter) => {
                replies.push(Reply::Grant(waiter.ticket, seat));
                self.announce();
            }
            None => seat.release(),
        }
        self.serve(replies);
    }

    /// A slot became free somewhere.
    pub fn look_again(&mut self, replies: &mut Vec<Reply>) {
        self.serve(replies);
    }

    /// There is a new version of the service, or none any more.
    pub fn adopt(&mut self, service: Option<&Arc<Service>>, replies: &mut Vec<Reply>) {
        if let Some(old) = self.service.take() {
            retire(&old, service);
        }
        self.service = service.cloned();
        let Some(service) = service else {
            self.failing.clear();
            self.asked = false;
            self.refuse_all(&Why::Gone, replies);
            return;
        };
        self.asked = false;
        if !Arc::ptr_eq(&self.slots, &service.slots) {
            self.slots.waiting.announce(0);
            self.slots = service.slots.clone();
            self.announce();
        }
        self.failing.retain(|it| is_member(service, &it.instance));
        if let Some(why) = self.deployment_error() {
            self.refuse_all(&why, replies);
        }
        self.serve(replies);
    }

    /// Locks an instance for a kill: the one that is missed least and has nothing in use.
    pub fn lock_for_kill(&mut self) -> Option<Arc<Instance>> {
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
            // It may have been taken since we looked; then the next best is tried.
            if member.instance.word.lock_idle() {
                return Some(member.instance.clone());
            }
        }
        None
    }

    /// A kill is over. If the instance lives on, it serves again.
    pub fn unlock(&mut self, suffix: &str, gone: bool, replies: &mut Vec<Reply>) {
        let Some(service) = &self.service else { return };
        if gone {
            return; // it stays locked until the next version retires it
        }
        if let Some(member) = service.members.iter().find(|it| it.instance.suffix() == suffix) {
            member.instance.word.open(Gate::Locked);
            self.slots.hint(&member.instance);
        }
        self.serve(replies);
    }

    /// Time passed: rests end.
    pub fn tick(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        let mut woken = false;
        for it in &mut self.failing {
            if it.until.is_some_and(|until| until <= now) {
                it.until = None;
                it.instance.word.open(Gate::Ejected);
                self.slots.hint(&it.instance);
                woken = true;
            }
        }
        if woken {
            self.serve(replies);
        }
    }

    /// When `tick` has something to do.
    pub fn wakeup(&self) -> Option<Instant> {
        self.failing.iter().filter_map(|it| it.until).min()
    }

    /// Everybody in the queue gets this answer.
    pub fn refuse_all(&mut self, why: &Why, replies: &mut Vec<Reply>) {
        while let Some((_, waiter)) = self.queue.pop_first() {
            replies.push(Reply::Refuse(waiter.ticket, why.clone()));
        }
        self.arrivals.clear();
        self.announce();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Instances that rest now, with the failures they had in a row and how long they still rest.
    pub fn ejected(&self, now: Instant) -> impl Iterator<Item = (&Arc<Instance>, u32, Duration)> {
        self.failing
            .iter()
            .filter_map(move |it| it.until.map(|until| (&it.instance, it.failures, until - now)))
    }

    /// What the versions of the service share; made here if the service is not known yet.
    pub fn slots(&self) -> &Arc<ServiceSlots> {
        &self.slots
    }

    /// Whether nothing is kept here that could not be made again.
    pub fn is_idle(&self) -> bool {
        self.service.is_none() && self.queue.is_empty()
    }

    fn obstacle(&self) -> Option<Why> {
        if let Some(why) = self.deployment_error() {
            return Some(why);
        }
        let max = self.service.as_ref().map(|it| it.description.parameters.max_queue_length)?;
        (self.queue.len() >= max as usize).then_some(Why::QueueFull(max))
    }

    fn deployment_error(&self) -> Option<Why> {
        let error = self.service.as_ref()?.deployment_error?;
        Some(Why::Deployment(error.key(), error.message()))
    }

    /// Grants while somebody waits for whom there is a slot.
    fn serve(&mut self, replies: &mut Vec<Reply>) {
        let mut at = 0;
        while let Some((&found, waiter)) = self.queue.range(at..).next() {
            let Some(instance) = self.slots.take(self.shard, &waiter.not, found) else {
                if waiter.not.is_empty() {
                    break; // no slot at all
                }
                at = found + 1; // none for this one, but perhaps for the next
                continue;
            };
            let waiter = self.queue.remove(&found).expect("just seen");
            self.arrivals.remove(&waiter.ticket);
            let seat = Seat::new(self.id.clone(), instance, self.slots.clone());
            replies.push(Reply::Grant(waiter.ticket, seat));
            self.announce();
        }
    }

    /// The one who gets a slot that is being passed on, if it may be.
    fn next_for(&mut self, instance: &Arc<Instance>) -> Option<Waiter> {
        if !instance.word.may_pass() {
            return None;
        }
        let at = *self
            .queue
            .iter()
            .find(|(_, it)| !it.not.iter().any(|not| Arc::ptr_eq(not, instance)))?
            .0;
        let waiter = self.queue.remove(&at).expect("just found");
        self.arrivals.remove(&waiter.ticket);
        Some(waiter)
    }

    /// What the outcome means for the instance.
    fn judge(
        &mut self,
        seat: &Seat,
        outcome: Outcome,
        limits: &Limits,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let instance = seat.instance();
        let found = self.failing.iter().position(|it| Arc::ptr_eq(&it.instance, instance));
        if outcome.clears_failures() {
            if let Some(at) = found {
                self.failing.swap_remove(at);
                instance.word.open(Gate::Failing);
                instance.word.open(Gate::Ejected);
                self.slots.hint(instance);
                replies.push(Reply::Failures(instance.clone(), 0));
            }
            return;
        }
        if !outcome.is_failure() || !self.may_eject(instance, outcome) {
            if outcome.is_failure() {
                instance.word.open(Gate::Ejected); // the shard set it before it told us
                self.slots.hint(instance);
            }
            return;
        }
        let at = found.unwrap_or_else(|| {
            self.failing.push(Failing { instance: instance.clone(), failures: 0, until: None });
            self.failing.len() - 1
        });
        let it = &mut self.failing[at];
        it.failures += 1;
        let rest = eject_millis(
            it.failures,
            limits.eject_base.as_millis() as u64,
            limits.eject_max.as_millis() as u64,
        );
        it.until = Some(now + Duration::from_millis(rest));
        instance.word.close(Gate::Ejected);
        instance.word.close(Gate::Failing);
        replies.push(Reply::Failures(instance.clone(), it.failures));
    }

    /// The last serveable instance is never ejected: a slow answer is better than none. A busy
    /// static server is not ejected either; its 503 is its own way to say so.
    fn may_eject(&self, instance: &Arc<Instance>, outcome: Outcome) -> bool {
        let Some(service) = &self.service else { return false };
        if service.description.is_static() && outcome == Outcome::InstanceBusy {
            return false;
        }
        self.slots.roster().instances().iter().any(|it| {
            !Arc::ptr_eq(it, instance) && !it.word.is(Gate::Ejected) && !it.word.is(Gate::Locked)
        })
    }

    fn announce(&self) {
        self.slots.waiting.announce(u32::try_from(self.queue.len()).expect("bounded"));
    }
}

fn is_member(service: &Service, instance: &Arc<Instance>) -> bool {
    service.members.iter().any(|it| Arc::ptr_eq(&it.instance, instance))
}

/// Closes for good what the new version no longer has.
pub(crate) fn retire(old: &Service, new: Option<&Arc<Service>>) {
    for member in &old.members {
        if !new.is_some_and(|it| is_member(it, &member.instance)) {
            member.instance.word.close(Gate::Retired);
        }
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

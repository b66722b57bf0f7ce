//! The reserver of one service, on its home shard: the queue, and who serves it.
//!
//! The only writer of the queue, of the service's `waiting` count, of limits, of the opening of
//! gates and of the ejection timers. It is told claims, withdrawals and settlements, and replies
//! with grants and refusals.
//!
//! Another router may claim too: it waits like a request, at the place that its age gives it.
//!
//! Invariants: a ticket gets exactly one reply unless withdrawn; first come, first served from the
//! moment a request's claim arrives; after every event `waiting` equals the length of the queue,
//! and nobody waits beside a free slot it may have. A closing gate is set for a reason that home
//! will hear of or has a record of, so that none stays closed for ever.

mod locks;

use crate::base::ids::{ServiceId, ShardId, Ticket};
use crate::base::limits::Limits;
use crate::base::time::{Duration, Instant};
use crate::core::letter::{Asker, Avoided, Claim, Settle, Why};
use crate::core::outcome::{Outcome, eject_millis};
use crate::core::slots::{Gate, Instance, Seat, ServiceSlots};
use crate::core::world::Service;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
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
    queue: BTreeMap<Place, Waiter>,
    places: HashMap<Ticket, Place, foldhash::fast::FixedState>,
    next: Place,
    /// How many in the queue are other routers.
    routers: usize,
    failing: Vec<Failing>,
    /// Locked for a kill, and locked for the end of the service.
    locked: Vec<Arc<Instance>>,
    closed: Vec<Arc<Instance>>,
    asked: bool,
    /// Nothing is granted, though slots be free.
    paused: bool,
    shard: ShardId,
}

/// A place in the queue: since when, and the number of the claim. A request's never lies before
/// that of a request which arrived earlier.
type Place = (Instant, u64);

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    not: Avoided,
    since: Instant,
    asker: Asker,
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
            places: HashMap::default(),
            next: (Instant(0), 0),
            routers: 0,
            failing: Vec::new(),
            locked: Vec::new(),
            closed: Vec::new(),
            asked: false,
            paused: false,
            shard,
        }
    }

    /// From now on nothing is granted, or it is again: then somebody says so by
    /// [`look_again`](Self::look_again).
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// A request waits.
    pub fn claim(&mut self, claim: Claim, replies: &mut Vec<Reply>) {
        assert!(claim.service == self.id);
        if let Some(why) = self.obstacle(claim.asker) {
            replies.push(Reply::Refuse(claim.ticket, why));
            return;
        }
        let Claim { ticket, not, since, asker, .. } = claim;
        let at = self.place(asker, since);
        self.places.insert(ticket, at);
        self.routers += usize::from(asker == Asker::Router);
        self.queue.insert(at, Waiter { ticket, not, since, asker });
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
        if let Some(at) = self.places.remove(&ticket) {
            self.leave_queue(at);
            self.announce();
        }
        if self.queue.is_empty() {
            self.asked = false; // whoever comes next asks again, should the first order be lost
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
        self.judge(seat.instance(), outcome, (limits, now), replies);
        // A seat of a former life of the service puts its slot where nobody looks; only a new one
        // is passed on.
        let current = Arc::ptr_eq(seat.slots(), &self.slots);
        match self.next_for(seat.instance()).filter(|_| current) {
            Some(at) => self.grant(at, seat, replies),
            None => {
                let instance = seat.instance().clone();
                seat.release();
                self.slots.hint(&instance);
            }
        }
        self.serve(replies);
    }

    /// A slot became free somewhere.
    pub fn look_again(&mut self, replies: &mut Vec<Reply>) {
        self.serve(replies);
    }

    /// There is a new version of the service, or none any more. Its roster has been published.
    pub fn adopt(&mut self, service: Option<&Arc<Service>>, replies: &mut Vec<Reply>) {
        if let Some(old) = self.service.take() {
            retire(&old, service);
        }
        self.service = service.cloned();
        self.asked = false;
        self.forget_leavers();
        let Some(service) = service else {
            self.refuse_all(&Why::Gone, replies);
            return;
        };
        if !Arc::ptr_eq(&self.slots, &service.slots) {
            self.slots.waiting.announce(0);
            self.slots = service.slots.clone();
            self.announce();
        }
        readmit(service);
        if let Some(why) = self.deployment_error() {
            self.refuse_all(&why, replies);
        }
        self.serve(replies);
    }

    /// Whether an instance exists, or is starting, that may serve those who wait.
    pub fn has_members(&self) -> bool {
        self.service.as_ref().is_some_and(|it| !it.members.is_empty())
    }

    /// Time passed: rests end.
    pub fn tick(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        let mut woken = Vec::new();
        for it in &mut self.failing {
            if it.until.is_some_and(|until| until <= now) {
                it.until = None;
                woken.push(it.instance.clone());
            }
        }
        for instance in &woken {
            self.wake(instance);
        }
        if !woken.is_empty() {
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
        self.places.clear();
        self.routers = 0;
        self.announce();
    }

    /// Since when the longest waiting request waits.
    pub fn oldest(&self) -> Option<Instant> {
        self.queue.values().find(|it| it.asker == Asker::Request).map(|it| it.since)
    }

    /// How many requests wait here, without other routers, and since when the first of them does.
    pub fn demand(&self) -> (u32, Option<Instant>) {
        let requests = self.queue.len() - self.routers;
        (u32::try_from(requests).expect("bounded"), self.oldest())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Instances that rest now, with the failures they had in a row and how long they still rest.
    #[cfg(test)]
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

    fn obstacle(&self, asker: Asker) -> Option<Why> {
        if let Some(why) = self.deployment_error() {
            return Some(why);
        }
        let max = self.service.as_ref().map(|it| it.description.parameters.max_queue_length)?;
        let full = self.queue.len() - self.routers >= max as usize && asker == Asker::Request;
        full.then_some(Why::QueueFull(max))
    }

    fn place(&mut self, asker: Asker, since: Instant) -> Place {
        self.next.1 += 1;
        match asker {
            Asker::Request => {
                self.next.0 = self.next.0.max(since);
                self.next
            }
            Asker::Router => (since, self.next.1),
        }
    }

    fn leave_queue(&mut self, at: Place) -> Waiter {
        let waiter = self.queue.remove(&at).expect("who has a place is in the queue");
        self.routers -= usize::from(waiter.asker == Asker::Router);
        waiter
    }

    fn deployment_error(&self) -> Option<Why> {
        let error = self.service.as_ref()?.deployment_error.as_ref()?;
        Some(Why::Deployment(error.key(), error.message().into()))
    }

    /// Grants while somebody waits for whom there is a slot.
    fn serve(&mut self, replies: &mut Vec<Reply>) {
        if self.paused {
            return;
        }
        let mut from = Bound::Unbounded;
        while let Some((&at, waiter)) = self.queue.range((from, Bound::Unbounded)).next() {
            let found = match waiter.asker {
                Asker::Request => self.slots.take(self.shard, &waiter.not, at.1),
                Asker::Router => self.slots.take_own(),
            };
            if let Some(instance) = found {
                let seat = Seat::new(self.id.clone(), instance, self.slots.clone());
                self.grant(at, seat, replies);
            } else if waiter.not.is_empty() && waiter.asker == Asker::Request {
                break; // no slot at all
            }
            from = Bound::Excluded(at); // none for this one, but perhaps for the next
        }
    }

    fn grant(&mut self, at: Place, seat: Seat, replies: &mut Vec<Reply>) {
        let waiter = self.leave_queue(at);
        self.places.remove(&waiter.ticket);
        replies.push(Reply::Grant(waiter.ticket, seat));
        self.announce();
    }

    /// Who gets a slot that is being passed on, if it may be: an instance that no longer serves
    /// would else be kept in use by those who wait.
    fn next_for(&self, instance: &Arc<Instance>) -> Option<Place> {
        if self.paused || !instance.word.may_pass() {
            return None;
        }
        let mut queue = self.queue.iter();
        let borrowed = instance.word.is(Gate::Foreign);
        let fits = |it: &Waiter| {
            self.slots.accepts(instance, &it.not) && !(borrowed && it.asker == Asker::Router)
        };
        queue.find(|(_, it)| fits(it)).map(|(at, _)| *at)
    }

    /// What the outcome means for the instance.
    fn judge(
        &mut self,
        instance: &Arc<Instance>,
        outcome: Outcome,
        (limits, now): (&Limits, Instant),
        replies: &mut Vec<Reply>,
    ) {
        if outcome.clears_failures() {
            if let Some(at) = self.failing.iter().position(|it| Arc::ptr_eq(&it.instance, instance))
            {
                self.failing.swap_remove(at);
                instance.word.open(Gate::Failing);
                self.wake(instance);
                replies.push(Reply::Failures(instance.clone(), 0));
            }
        } else if outcome.is_failure() {
            let counts = self.counts(instance, outcome);
            let rests = self.is_gone(outcome) || self.has_other(instance);
            let rest = (counts && rests).then_some((limits, now));
            if counts {
                self.failed(instance, rest, replies);
            }
            match rest {
                Some(_) => instance.word.close(Gate::Ejected),
                // The shard may have closed it before it told us; a rest it has goes on.
                None if self.rests(instance, now) => {}
                None => self.wake(instance),
            }
        }
    }

    fn rests(&self, instance: &Arc<Instance>, now: Instant) -> bool {
        let found = self.failing.iter().find(|it| Arc::ptr_eq(&it.instance, instance));
        found.and_then(|it| it.until).is_some_and(|until| until > now)
    }

    /// Counts a failure of an instance, which is to rest as long as that says.
    fn failed(
        &mut self,
        instance: &Arc<Instance>,
        rest: Option<(&Limits, Instant)>,
        replies: &mut Vec<Reply>,
    ) {
        let found = self.failing.iter().position(|it| Arc::ptr_eq(&it.instance, instance));
        let at = found.unwrap_or_else(|| {
            self.failing.push(Failing { instance: instance.clone(), failures: 0, until: None });
            self.failing.len() - 1
        });
        let it = &mut self.failing[at];
        it.failures += 1;
        it.until = rest.map(|(limits, now)| now + rest_after(it.failures, limits));
        instance.word.close(Gate::Failing);
        replies.push(Reply::Failures(instance.clone(), it.failures));
    }

    /// Whether a failure says something of the instance. A busy static server says 503 in its own
    /// right; an instance that has left is not ours to judge.
    fn counts(&self, instance: &Arc<Instance>, outcome: Outcome) -> bool {
        let busy = outcome == Outcome::InstanceBusy;
        self.service
            .as_ref()
            .is_some_and(|it| is_member(it, instance) && !(busy && it.description.is_static()))
    }

    /// Whether a launched instance cannot be reached: requests then wait for another, though it was
    /// the last.
    fn is_gone(&self, outcome: Outcome) -> bool {
        outcome == Outcome::Unreachable
            && self.service.as_ref().is_some_and(|it| !it.description.is_static())
    }

    /// Whether anything else serves. The last one is never ejected: a slow answer is better than
    /// none. (It is counted as failing, so that it will be replaced.)
    fn has_other(&self, instance: &Arc<Instance>) -> bool {
        let roster = self.slots.roster();
        roster.instances().iter().any(|it| !Arc::ptr_eq(it, instance) && it.word.is_open())
    }

    /// An instance rests no longer.
    fn wake(&self, instance: &Arc<Instance>) {
        instance.word.open(Gate::Ejected);
        self.slots.hint(instance);
    }

    /// Instances that left take no failures along: should one return, nothing would end its rest.
    fn forget_leavers(&mut self) {
        let service = self.service.clone();
        self.failing.retain(|it| {
            let stays = service.as_ref().is_some_and(|now| is_member(now, &it.instance));
            if !stays {
                it.instance.word.open(Gate::Failing);
                it.instance.word.open(Gate::Ejected);
            }
            stays
        });
        if self.service.is_none() {
            for instance in self.locked.drain(..).chain(self.closed.drain(..)) {
                instance.word.open(Gate::Locked); // it is retired, which closes it as well
            }
        }
    }

    fn announce(&self) {
        self.slots.waiting.announce(u32::try_from(self.queue.len()).expect("bounded"));
    }
}

fn is_member(service: &Service, instance: &Arc<Instance>) -> bool {
    service.members.iter().any(|it| Arc::ptr_eq(&it.instance, instance))
}

/// How long an instance rests after this many failures in a row.
fn rest_after(failures: u32, limits: &Limits) -> Duration {
    let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    let rest = eject_millis(failures, millis(limits.eject_base), millis(limits.eject_max));
    Duration::from_millis(rest)
}

/// Closes what the new version no longer has.
pub(crate) fn retire(old: &Service, new: Option<&Arc<Service>>) {
    let kept: HashSet<_, foldhash::fast::FixedState> =
        new.iter().flat_map(|it| &it.members).map(|it| Arc::as_ptr(&it.instance)).collect();
    for member in &old.members {
        if !kept.contains(&Arc::as_ptr(&member.instance)) {
            member.instance.word.close(Gate::Retired);
        }
    }
}

/// Opens what had left and has returned: an instance keeps its word while anything holds it.
pub(crate) fn readmit(service: &Service) {
    for member in &service.members {
        if member.instance.word.is(Gate::Retired) {
            member.instance.word.open(Gate::Retired);
            service.slots.hint(&member.instance);
        }
    }
}

#[cfg(test)]
mod tests;

//! The reservers of the services whose home is this shard.
//!
//! The desk finds the reserver a letter is for, makes it if there is none, and posts its replies;
//! all but grants, which wait here until the shard has looked what it can send along.

use crate::base::ids::{InstanceId, ServiceId, ShardId, Ticket};
use crate::base::limits::Limits;
use crate::base::time::Instant;
use crate::core::letter::{Claim, Letter, Notice, Settle, Why};
use crate::core::reserver::{Reply, Reserver};
use crate::core::service::Description;
use crate::core::slots::Seat;
use crate::core::world::{Service, World};
use crate::mesh::ShardPost;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// All services at home here for which somebody waited or failed lately.
#[derive(Debug)]
pub struct Desk {
    me: ShardId,
    shards: usize,
    reservers: HashMap<ServiceId, Reserver, foldhash::fast::FixedState>,
    /// Descriptions of services that are waited for and not known yet.
    awaited: HashMap<ServiceId, Arc<Description>, foldhash::fast::FixedState>,
    replies: Vec<Reply>,
    /// Not posted yet.
    grants: VecDeque<(Ticket, Seat)>,
    /// When the first rest ends, or earlier.
    wakeup: Option<Instant>,
    /// Shared services of which those who wait may have changed since that was told.
    changed: HashSet<ServiceId, foldhash::fast::FixedState>,
    /// Nothing is granted: the right to may be over.
    paused: bool,
    /// It was, and whoever waits has not been looked at since.
    resumed: bool,
    draining: bool,
}

impl Desk {
    /// An empty desk.
    pub fn new(me: ShardId, shards: usize) -> Self {
        Self {
            me,
            shards,
            reservers: HashMap::default(),
            awaited: HashMap::default(),
            replies: Vec::new(),
            grants: VecDeque::new(),
            wakeup: None,
            changed: HashSet::default(),
            paused: false,
            resumed: false,
            draining: false,
        }
    }

    /// From now on nothing is granted, or it is again.
    pub fn pause(&mut self, paused: bool) {
        self.resumed |= self.paused && !paused;
        self.paused = paused;
    }

    /// Whether nothing may be granted or taken now.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Serves those who waited while nothing was granted.
    pub fn resume(&mut self, world: &World, post: &mut ShardPost) {
        if !self.resumed || self.paused {
            return;
        }
        self.resumed = false;
        let waited = self.reservers.iter().filter(|(_, it)| it.waiting() > 0);
        let ids: Vec<ServiceId> = waited.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.look_again(&id, world, post);
        }
    }

    /// Tells the control thread who waits for shared services, where that has changed.
    pub fn tell_demand(&mut self, post: &mut ShardPost) {
        for id in self.changed.drain() {
            let (count, oldest) = self.reservers.get(&id).map(Reserver::demand).unwrap_or_default();
            post.tell(Notice::Demand(id, count, oldest));
        }
    }

    /// A request waits.
    pub fn claim(&mut self, mut claim: Claim, world: &World, post: &mut ShardPost) {
        if self.draining {
            refuse(claim.ticket, Why::Draining, post);
            return;
        }
        let id = claim.service.clone();
        if world.get(&id).is_none() {
            match claim.description.take() {
                Some(description) => {
                    self.awaited.entry(id.clone()).or_insert(description);
                }
                None if self.awaited.contains_key(&id) => {}
                None => {
                    refuse(claim.ticket, Why::Gone, post);
                    return;
                }
            }
        }
        self.with(&id, world, post, |reserver, replies| reserver.claim(claim, replies));
    }

    /// A request waits no longer.
    pub fn withdraw(&mut self, id: &ServiceId, ticket: Ticket) {
        if let Some(reserver) = self.reservers.get_mut(id) {
            reserver.withdraw(ticket);
            if reserver.slots().is_shared() {
                self.changed.insert(id.clone());
            }
            if reserver.is_idle() {
                self.reservers.remove(id);
                self.awaited.remove(id);
            }
        }
    }

    /// A request ended, its slot still counted.
    pub fn settle(
        &mut self,
        settle: Settle,
        (world, limits): (&World, &Limits),
        now: Instant,
        post: &mut ShardPost,
    ) {
        let id = settle.seat.service().clone();
        self.with(&id, world, post, |reserver, replies| {
            reserver.settle(settle, limits, now, replies);
        });
    }

    /// The next grant that is to be posted.
    pub fn granted(&mut self) -> Option<(Ticket, Seat)> {
        self.grants.pop_front()
    }

    /// A slot became free.
    pub fn look_again(&mut self, id: &ServiceId, world: &World, post: &mut ShardPost) {
        self.with(id, world, post, Reserver::look_again);
    }

    /// A service at home here has changed.
    pub fn adopt(
        &mut self,
        id: &ServiceId,
        old: Option<&Arc<Service>>,
        new: Option<&Arc<Service>>,
        post: &mut ShardPost,
    ) {
        if new.is_some() {
            self.awaited.remove(id);
        }
        if !self.reservers.contains_key(id) {
            if let Some(old) = old {
                crate::core::reserver::retire(old, new);
            }
            if let Some(new) = new {
                crate::core::reserver::readmit(new);
            }
            return;
        }
        self.reply(id, post, |reserver, replies| reserver.adopt(new, replies));
    }

    /// The control thread wants to kill an instance: locks one and says which.
    pub fn lock(&mut self, id: &ServiceId, world: &World, post: &mut ShardPost) {
        let mut locked = None;
        self.with(id, world, post, |reserver, _| {
            locked = reserver.lock_for_kill().map(|it| it.id(id));
        });
        post.tell(Notice::Locked(id.clone(), locked));
    }

    /// A service is to be collected: locks all its instances, if it can.
    pub fn lock_all(&mut self, id: &ServiceId, world: &World, post: &mut ShardPost) {
        let mut locked = false;
        self.with(id, world, post, |reserver, _| locked = reserver.lock_all());
        post.tell(Notice::LockedAll(id.clone(), locked));
    }

    /// The control thread wants to kill an instance, and asks its owner first: names one.
    pub fn choose(
        &mut self,
        (id, not): (&ServiceId, &[InstanceId]),
        world: &World,
        post: &mut ShardPost,
    ) {
        let mut chosen = None;
        self.with(id, world, post, |reserver, _| {
            chosen = reserver.choose_for_kill(not).map(|it| it.id(id));
        });
        post.tell(Notice::Chosen(id.clone(), chosen));
    }

    /// Locks this instance, if nothing is in use on it.
    pub fn lock_this(
        &mut self,
        id: &ServiceId,
        instance: InstanceId,
        (world, post): (&World, &mut ShardPost),
    ) {
        let mut locked = false;
        self.with(id, world, post, |reserver, _| locked = reserver.lock(instance.suffix()));
        post.tell(Notice::LockedThis(instance, locked));
    }

    /// A service is not collected after all.
    pub fn unlock_all(&mut self, id: &ServiceId, world: &World, post: &mut ShardPost) {
        self.with(id, world, post, Reserver::unlock_all);
    }

    /// A kill is over.
    pub fn unlock(
        &mut self,
        id: &ServiceId,
        suffix: &str,
        gone: bool,
        (world, post): (&World, &mut ShardPost),
    ) {
        self.with(id, world, post, |reserver, replies| reserver.unlock(suffix, gone, replies));
    }

    /// Nobody new may wait, and nobody stays who waits for a service without any instance.
    pub fn drain(&mut self, post: &mut ShardPost) {
        self.draining = true;
        self.refuse_where(post, |it| !it.has_members());
    }

    /// Nobody waits any longer.
    pub fn cut(&mut self, post: &mut ShardPost) {
        self.draining = true;
        self.refuse_where(post, |_| true);
    }

    fn refuse_where(&mut self, post: &mut ShardPost, which: impl Fn(&Reserver) -> bool) {
        let waited = self.reservers.iter().filter(|(_, it)| it.waiting() > 0 && which(it));
        let ids: Vec<ServiceId> = waited.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.reply(&id, post, |it, replies| it.refuse_all(&Why::Draining, replies));
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant, post: &mut ShardPost) {
        if self.wakeup.is_none_or(|it| now < it) {
            return;
        }
        let is_due = |it: &Reserver| it.wakeup().is_some_and(|at| at <= now);
        let due = self.reservers.iter().filter(|(_, it)| is_due(it));
        let due: Vec<ServiceId> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.reply(&id, post, |reserver, replies| reserver.tick(now, replies));
        }
        self.wakeup = self.reservers.values().filter_map(Reserver::wakeup).min();
    }

    /// Since when the longest waiting request of each service here waits.
    pub fn oldest(&self) -> impl Iterator<Item = (&ServiceId, Instant)> {
        self.reservers.iter().filter_map(|(id, it)| it.oldest().map(|since| (id, since)))
    }

    fn with(
        &mut self,
        id: &ServiceId,
        world: &World,
        post: &mut ShardPost,
        act: impl FnOnce(&mut Reserver, &mut Vec<Reply>),
    ) {
        assert!(id.home(self.shards) == self.me, "a letter came to the wrong home");
        if !self.reservers.contains_key(id) {
            let reserver = Reserver::new(id.clone(), world.get(id).cloned(), self.me);
            self.reservers.insert(id.clone(), reserver);
        }
        self.reply(id, post, act);
    }

    fn reply(
        &mut self,
        id: &ServiceId,
        post: &mut ShardPost,
        act: impl FnOnce(&mut Reserver, &mut Vec<Reply>),
    ) {
        let reserver = self.reservers.get_mut(id).expect("the caller made sure");
        let mut replies = std::mem::take(&mut self.replies);
        reserver.pause(self.paused);
        act(reserver, &mut replies);
        if reserver.slots().is_shared() {
            self.changed.insert(id.clone());
        }
        self.wakeup = self.wakeup.into_iter().chain(reserver.wakeup()).min();
        for reply in replies.drain(..) {
            match reply {
                Reply::Grant(ticket, seat) => self.grants.push_back((ticket, seat)),
                Reply::Refuse(ticket, why) => refuse(ticket, why, post),
                Reply::Create => {
                    if let Some(description) = self.awaited.get(id) {
                        let slots = reserver.slots().clone();
                        post.tell(Notice::Create(description.clone(), slots));
                    }
                }
                Reply::Urgent => post.tell(Notice::Waiting(id.clone())),
                Reply::Failures(instance, count) => {
                    post.tell(Notice::Failures(id.clone(), instance.id(id), count));
                }
            }
        }
        self.replies = replies;
        if reserver.is_idle() {
            self.reservers.remove(id);
            self.awaited.remove(id);
        }
    }
}

fn refuse(ticket: Ticket, why: Why, post: &mut ShardPost) {
    if ticket.shard == ShardId::CONTROL {
        post.tell(Notice::Denied(ticket.number));
    } else {
        post.send(ticket.shard, Letter::Refuse(ticket, why));
    }
}

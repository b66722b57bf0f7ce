//! The scheduler, and what the leader orders: kills, each with its owner's consent, and deletions,
//! when all have closed the service.

use super::MS;
use super::options::{LATE, Options};
use super::router::Router;
use super::world::World;
use crate::options::Chance;
use std::collections::{BTreeMap, BTreeSet};
use waiter::base::ids::{InstanceId, RouterId, ServiceId};
use waiter::base::time::{Duration, Instant};

/// How long an order may take, in milliseconds.
const ORDER: u64 = 300;
/// A newcomer has heard of every order after this, in milliseconds.
const HEARD: u64 = 2000;
/// A service that is not closed everywhere by then is not deleted, in milliseconds.
const CLOSE: u64 = 3000;

/// What runs, in truth.
#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) services: Vec<(ServiceId, BTreeMap<InstanceId, u64>)>,
    dead: BTreeSet<InstanceId>,
    next: u64,
}

/// An order of the leader.
#[derive(Debug)]
struct Order {
    leader: RouterId,
    number: u64,
    instance: InstanceId,
    /// When it is carried out, or not; none: not consented to yet.
    at: Option<(u64, bool)>,
    over: u64,
    /// It comes late, and only if its leader has crashed: one that lives has proved it over.
    late: bool,
    /// Who knows of it: members when it was given, and newcomers who have had time to hear of it.
    known: BTreeSet<RouterId>,
}

/// Orders under way.
#[derive(Debug, Default)]
pub(super) struct Orders {
    list: Vec<Order>,
    next: u64,
    deletion: Option<Deletion>,
    next_deletion: u64,
    /// Deletions whose routers have ended, or are stopped: they come yet.
    late: Vec<Deletion>,
}

/// The leader wants to delete a service.
#[derive(Debug)]
struct Deletion {
    leader: RouterId,
    service: usize,
    until: u64,
    /// When the order is carried out; none: not all have closed the service yet.
    at: Option<u64>,
    /// When its router knows that it was not, and never will be.
    over: u64,
    /// Who knows of it, as of an order to kill.
    known: BTreeSet<RouterId>,
}

impl Orders {
    pub(super) fn concern(&self, id: &InstanceId) -> bool {
        self.list.iter().any(|it| it.instance == *id)
    }

    /// Whose order is under way and would be late.
    pub(super) fn late_leader(&self) -> Option<&RouterId> {
        let kill = self.list.iter().find(|it| it.late && it.at.is_some()).map(|it| &it.leader);
        let late = self.deletion.iter().find(|it| it.at.is_some_and(|at| at > it.over));
        kill.or_else(|| late.map(|it| &it.leader))
    }

    /// Who wants to kill something.
    pub(super) fn kills(&self) -> impl Iterator<Item = &RouterId> {
        self.list.iter().map(|it| &it.leader)
    }

    /// Who wants to delete something.
    pub(super) fn deletes(&self) -> Option<&RouterId> {
        self.deletion.as_ref().map(|it| &it.leader)
    }
}

impl Scheduler {
    pub(super) fn new(options: &Options, chance: &mut Chance) -> Self {
        let mut it = Self { services: Vec::new(), dead: BTreeSet::new(), next: 0 };
        for _ in 0..options.services {
            let id = ServiceId::new(&format!("s{}", chance.below(10_000)));
            it.services.push((id, BTreeMap::new()));
            for _ in 0..options.instances {
                it.launch(it.services.len() - 1, 0);
            }
        }
        it
    }

    fn launch(&mut self, service: usize, now: u64) {
        self.next += 1;
        let id = InstanceId::new(&self.services[service].0, &format!("i{}", self.next));
        self.services[service].1.insert(id, now);
    }

    pub(super) fn listing(&self, service: usize) -> (ServiceId, Vec<InstanceId>) {
        let (id, instances) = &self.services[service];
        (id.clone(), instances.keys().cloned().collect())
    }

    pub(super) fn is_dead(&self, id: &InstanceId) -> bool {
        self.dead.contains(id)
    }

    /// Whether every router has heard of it by now.
    pub(super) fn is_settled(&self, id: &InstanceId, now: u64) -> bool {
        let of = self.services.iter().find_map(|(_, it)| it.get(id));
        of.is_some_and(|since| now >= since + 1500 * MS)
    }

    fn service_of(&self, id: &InstanceId) -> Option<usize> {
        self.services.iter().position(|(_, it)| it.contains_key(id))
    }
}

impl World {
    /// The leader asks for a kill now and then; orders are carried out.
    pub(super) fn orders_turn(&mut self, asks: bool) {
        if asks && self.now >= self.orders.next {
            self.orders.next = self.now + (200 + self.chance.below(900) as u64) * MS;
            self.ask_for_a_kill();
        }
        self.tell_of_orders();
        let due: Vec<Order> = {
            let now = self.now;
            let is_due = |it: &mut Order| it.over <= now || it.at.is_some_and(|(at, _)| at <= now);
            self.orders.list.extract_if(.., is_due).collect()
        };
        for mut order in due {
            if let Some((at, true)) = order.at
                && at <= self.now
                && !(order.late && self.is_void(&order))
            {
                self.kill(&order.instance);
            }
            if order.over > self.now {
                order.at = None; // carried out; what is left is to prove it
                self.orders.list.push(order);
            } else if let Some(router) = self.routers.get_mut(&order.leader) {
                router.peers.kill_over(order.number);
            }
        }
    }

    /// Newcomers learn of orders from who knows of them.
    fn tell_of_orders(&mut self) {
        let lives = |it: &&RouterId| self.routers.contains_key(*it);
        let routers = self.routers.values();
        let ripe = routers.filter(|it| it.is_registered && self.now >= it.since + HEARD * MS);
        let ripe: BTreeSet<RouterId> = ripe.map(|it| it.id.clone()).collect();
        let kills = self.orders.list.iter_mut().map(|it| &mut it.known);
        let deletions = self.orders.late.iter_mut().chain(&mut self.orders.deletion);
        for known in kills.chain(deletions.map(|it| &mut it.known)) {
            if known.iter().any(|it| lives(&it)) {
                known.extend(ripe.iter().cloned());
            }
        }
    }

    /// Whether a late order is not carried out: its leader lives, or nobody who lives can know of
    /// it, which no protocol helps.
    fn is_void(&self, order: &Order) -> bool {
        self.routers.contains_key(&order.leader) || !self.is_known(&order.known)
    }

    fn is_known(&self, known: &BTreeSet<RouterId>) -> bool {
        known.iter().any(|it| self.routers.contains_key(it))
    }

    /// Who may give an order now.
    fn leader(&self) -> Option<RouterId> {
        let (time, now) = (Duration::from_millis(ORDER), Instant(self.now));
        let leads = |it: &&Router| self.now >= it.stopped && it.lease.order(time, 1, now).is_some();
        self.routers.values().find(leads).map(|it| it.id.clone())
    }

    /// The leader wants to delete a service now and then; one that is deleted is created again.
    pub(super) fn deletions_turn(&mut self, asks: bool) {
        self.late_deletions();
        if let Some(it) = self.orders.deletion.take() {
            self.orders.deletion = self.go_on_deleting(it);
        } else if asks && self.now >= self.orders.next_deletion {
            self.orders.next_deletion = self.now + (1000 + self.chance.below(4000) as u64) * MS;
            let Some(leader) = self.leader() else { return };
            let service = self.chance.below(self.options.services);
            let id = &self.scheduler.services[service].0;
            self.routers.get_mut(&leader).expect("it was just found").peers.delete(id);
            let until = self.now + CLOSE * MS;
            let known = BTreeSet::new();
            let deletion = Deletion { leader, service, until, at: None, over: u64::MAX, known };
            self.orders.deletion = Some(deletion);
        }
    }

    /// Orders that come when their routers have ended, or are stopped.
    fn late_deletions(&mut self) {
        for mut it in std::mem::take(&mut self.orders.late) {
            // One that goes on has read what became of it; if nothing did, nothing will.
            if self.is_awake(&it.leader) {
                let id = self.scheduler.services[it.service].0.clone();
                self.routers.get_mut(&it.leader).expect("it is awake").peers.delete_over(&id);
                continue;
            }
            if it.at.is_some_and(|at| at <= self.now) {
                it.at = None;
                if self.is_known(&it.known) {
                    self.delete(it.service);
                }
            }
            if it.at.is_some() || self.routers.contains_key(&it.leader) {
                self.orders.late.push(it);
            }
        }
    }

    fn is_awake(&self, id: &RouterId) -> bool {
        self.routers.get(id).is_some_and(|it| self.now >= it.stopped)
    }

    fn go_on_deleting(&mut self, mut it: Deletion) -> Option<Deletion> {
        let id = self.scheduler.services[it.service].0.clone();
        if let Some(at) = it.at {
            if at > it.over && !self.is_awake(&it.leader) {
                self.orders.late.push(it);
                return None;
            }
            if at.min(it.over) > self.now {
                return Some(it);
            }
            if at <= it.over {
                self.delete(it.service);
            }
        } else if self.leader().as_ref() == Some(&it.leader) {
            let router = &self.routers[&it.leader];
            let (time, now) = (Duration::from_millis(ORDER), Instant(self.now));
            let deadline = router.lease.order(time, 1, now);
            if let Some(deadline) = deadline.filter(|_| router.peers.may_delete(&id, now)) {
                it.known = router.peers.members().1.map(|it| it.id.clone()).collect();
                let late = if self.options.is_fuller && self.chance.is(0.5) { LATE } else { 0 };
                let span = (deadline.0 - self.now) / MS + late;
                it.at = Some(self.now + self.chance.below(span as usize) as u64 * MS);
                // Proved by a read that was begun after the deadline.
                it.over = deadline.0 + 100 * MS;
                if late > 0 && self.now < self.options.troubled * MS {
                    self.next_trouble = self.now + self.chance.below(1000) as u64 * MS;
                }
                return Some(it);
            }
        }
        let router = self.routers.get_mut(&it.leader)?;
        if it.at.is_none() && self.now < it.until {
            return Some(it);
        }
        router.peers.delete_over(&id);
        None
    }

    fn delete(&mut self, service: usize) {
        let ids = self.scheduler.listing(service).1;
        for id in &ids {
            let running = self.watch.running(id);
            if !running.is_empty() {
                self.broken(&format!("a deletion takes {id} with {}", running.join(" ")));
            }
        }
        self.figures.deletions += 1;
        for id in ids {
            self.replace(service, &id);
        }
        self.relist(service);
    }

    fn ask_for_a_kill(&mut self) {
        let now = Instant(self.now);
        let Some(leader) = self.leader() else { return };
        let service = self.chance.below(self.options.services);
        let ids = self.scheduler.listing(service).1;
        let instance = ids[self.chance.below(ids.len())].clone();
        if self.orders.concern(&instance) {
            return;
        }
        let router = self.routers.get_mut(&leader).expect("it was just found");
        let number = router.peers.ask_kill(&instance, Duration::from_millis(ORDER), now);
        let over = self.now + 4 * ORDER * MS;
        let known = BTreeSet::new();
        self.orders.list.push(Order {
            leader,
            number,
            instance,
            at: None,
            over,
            late: false,
            known,
        });
    }

    /// The owner has answered: the lease is read again, then the order is sent.
    pub(super) fn consented(
        &mut self,
        who: &RouterId,
        number: u64,
        instance: &InstanceId,
        given: bool,
    ) {
        let Some(router) = self.routers.get(who) else { return };
        let time = Duration::from_millis(ORDER);
        let deadline = router.lease.order(time, 1, Instant(self.now)).filter(|_| given);
        let members = router.peers.members().1.map(|it| it.id.clone()).collect();
        let is_it = |it: &&mut Order| it.leader == *who && it.number == number;
        let Some(order) = self.orders.list.iter_mut().find(is_it) else {
            if given {
                let router = self.routers.get_mut(who).expect("it was just there");
                router.peers.kill_over(number);
            }
            return;
        };
        assert!(order.instance == *instance);
        match deadline {
            Some(deadline) => {
                order.known = members;
                order.late = self.chance.is(0.2);
                let late = if order.late { LATE } else { 0 };
                let span = (deadline.0 - self.now) / MS + late;
                let at = self.now + self.chance.below(span as usize) as u64 * MS;
                order.at = Some((at, self.chance.is(0.8)));
                // Proved by a list that was begun after the deadline.
                order.over = deadline.0 + 700 * MS;
                if order.late && at > order.over {
                    order.over = at;
                }
            }
            None => {
                self.figures.refusals += 1;
                order.over = self.now;
            }
        }
    }

    fn kill(&mut self, id: &InstanceId) {
        let Some(service) = self.scheduler.service_of(id) else { return };
        let running = self.watch.running(id);
        if !running.is_empty() {
            self.broken(&format!("a kill of {id} takes {}", running.join(" ")));
        }
        self.figures.kills += 1;
        self.replace(service, id);
        self.relist(service);
    }

    /// An instance ends, and another takes its place.
    fn replace(&mut self, service: usize, id: &InstanceId) {
        self.scheduler.services[service].1.remove(id);
        self.scheduler.dead.insert(id.clone());
        self.scheduler.launch(service, self.now);
    }
}

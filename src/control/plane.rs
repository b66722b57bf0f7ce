//! The control loop: one thread, one closed list of events, everything that decides.
//!
//! It owns the aggregator, the autoscaler, the collectors and the publisher; facts come in as
//! events, worlds and orders go out. Nothing here blocks but the wait for the next event. Must
//! hold: at most one mutation of a service is under way at the scheduler; what is deleted leaves
//! the world before the scheduler is told; a request that waits finds its service in the world at
//! once.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::control::believing::Misplaced;
use crate::control::books::Books;
use crate::control::cluster::Cluster;
use crate::control::complaints::Complaints;
use crate::control::creating::{Creating, Refusal};
use crate::control::event::Event;
use crate::control::mutations::Mutation;
use crate::control::prober::Prober;
use crate::control::publisher::Publisher;
use crate::control::runners::Runners;
use crate::control::shelf::Shelf;
use crate::control::watch::Watched;
use crate::core::aggregator::{Aggregator, DeploymentRules, State};
use crate::core::autoscaler::{Autoscaler, Rules};
use crate::core::catalogue::{self, Demand};
use crate::core::fact::{Order, Report, Runner};
use crate::core::gc::{Collector, Failures, LastUse};
use crate::core::letter::{Command, Notice};
use crate::core::service::Description;
use crate::mesh::{ControlPost, clock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// Time between two cycles of the autoscaler.
const CYCLE: Duration = Duration::from_secs(1);
/// The loop looks up at least this often.
const NAP_MAX: Duration = Duration::from_millis(200);
/// Events taken before anything is published.
const BATCH: usize = 4096;

/// What the control loop is told at its start.
#[derive(Debug)]
pub struct Terms {
    /// This router's id.
    pub router_id: Arc<str>,
    /// When the collectors go round.
    pub gc_interval: Duration,
    /// When a service that cannot run is given up.
    pub broken_timeout: Duration,
    /// When deployment errors are concluded.
    pub deployment: DeploymentRules,
    /// How long requests at hand may take at the end.
    pub drain: Duration,
}

/// The control plane.
#[derive(Debug)]
pub struct Plane {
    pub(super) terms: Terms,
    pub(super) post: ControlPost,
    pub(super) runners: Runners,
    pub(super) prober: Prober,
    pub(super) publisher: Publisher,
    pub(super) aggregator: Aggregator,
    pub(super) autoscaler: Autoscaler,
    pub(super) books: Books,
    pub(super) idle: Collector<LastUse>,
    pub(super) broken: Collector<Failures>,
    /// What is under way at the scheduler, one per service.
    pub(super) mutations: HashMap<ServiceId, Mutation>,
    /// Services that the scheduler has been told to create and has not listed yet.
    pub(super) creating: HashMap<ServiceId, Creating>,
    /// Services that a scheduler did not take.
    pub(super) refusals: HashMap<ServiceId, Refusal>,
    /// Services that are listed where they do not belong.
    pub(super) misplaced: HashMap<ServiceId, Misplaced>,
    pub(super) complaints: Complaints,
    pub(super) watched: Watched,
    pub(super) scalings: HashMap<ServiceId, catalogue::Scaling>,
    pub(super) failures: HashMap<InstanceId, u32>,
    pub(super) launches: catalogue::Launches,
    pub(super) shelf: Shelf,
    pub(super) next_cycle: Instant,
    pub(super) next_gc: Instant,
    /// The cluster, if this is one of several routers.
    pub(super) cluster: Option<Box<Cluster>>,
    pub(super) drained: HashSet<u8>,
    pub(super) ending: Option<Ending>,
}

/// How far the end of the router has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Requests at hand are finished, until then at most.
    Draining(Instant),
    /// Whoever waited is told, until then.
    Cutting(Instant),
}

/// How the router ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Everything at hand was finished.
    Drained,
    /// Requests were cut off at the end of the drain time.
    CutShort,
}

impl Plane {
    /// A control plane of an empty router.
    pub fn new(
        terms: Terms,
        post: ControlPost,
        runners: Runners,
        prober: Prober,
        publisher: Publisher,
        (shelf, idle, broken): (Shelf, Collector<LastUse>, Collector<Failures>),
    ) -> Self {
        let now = clock::now();
        let mut aggregator = Aggregator::new(terms.deployment);
        if runners.have(Runner::Marathon) {
            // What an earlier run of the router described may still run there.
            shelf.descriptions().for_each(|it| aggregator.described(it.clone()));
        }
        Self {
            aggregator,
            autoscaler: Autoscaler::new(Rules::DEFAULT),
            books: Books::new(post.shards()),
            idle,
            broken,
            mutations: HashMap::new(),
            creating: HashMap::new(),
            refusals: HashMap::new(),
            misplaced: HashMap::new(),
            complaints: Complaints::default(),
            watched: Watched::new(),
            scalings: HashMap::new(),
            failures: HashMap::new(),
            launches: catalogue::Launches::default(),
            next_cycle: now + CYCLE,
            next_gc: now + terms.gc_interval,
            cluster: None,
            drained: HashSet::new(),
            ending: None,
            terms,
            post,
            runners,
            prober,
            publisher,
            shelf,
        }
    }

    /// This router is one of several; the others are handed over to the server of `peers`.
    pub fn join(&mut self, cluster: Cluster, peers: &Arc<Description>) {
        self.cluster = Some(Box::new(cluster));
        self.publisher.keep(peers);
    }

    /// A server of the operator's is to be routed to.
    pub fn front(&mut self, description: &Arc<Description>) {
        self.aggregator.described(description.clone());
    }

    /// Publishes what is known before the first event: the operator's servers.
    pub fn begin(&mut self) {
        self.settle(clock::now(), clock::date());
    }

    /// Runs until the router has ended.
    pub fn run(mut self, events: &Receiver<Event>) -> Ended {
        loop {
            let first = match events.recv_timeout(self.nap(clock::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ended::CutShort,
            };
            let rest = std::iter::from_fn(|| events.try_recv().ok()).take(BATCH);
            let (now, date) = (clock::now(), clock::date());
            self.begin_turn(now);
            self.grow_old(now, date);
            for event in first.into_iter().chain(rest) {
                self.on(event, now, date);
            }
            self.tick(now, date);
            self.settle(now, date);
            self.spare_doubted();
            self.end_turn(now, date);
            if let Some(ended) = self.ended(now) {
                if self.runners.count() > 0 {
                    self.end_at_once(events);
                }
                return ended;
            }
        }
    }

    fn nap(&self, now: Instant) -> Duration {
        let nap = (self.next_cycle.min(self.next_gc) - now).min(self.shelf.nap());
        let nap = self.ending_nap(now).map_or(nap, |it| it.min(nap)).min(self.cluster_nap(now));
        nap.clamp(Duration::from_millis(1), NAP_MAX)
    }

    fn on(&mut self, event: Event, now: Instant, date: Date) {
        match event {
            Event::Shard(notice) => self.noticed(notice, now, date),
            Event::Scheduler(report) => self.reported(report, now, date),
            Event::Checked(instance, outcome) => self.aggregator.checked(&instance, outcome, date),
            Event::Unchecked(instance) => self.unchecked(&instance),
            Event::LookAgain(service) => self.home(&service, Command::LookAgain(service.clone())),
            Event::Crowded(instance) => {
                for shard in instance.shards() {
                    self.post.send(shard, Command::CloseIdle(instance.clone()));
                }
            }
            Event::ZooKeeper(said) => self.said(said, now, date),
            Event::Peer(heard) => self.heard(heard, now),
            Event::Described(service, found) => self.found(&service, found, date),
            Event::Demand(Demand::Delete(service), reply) => {
                self.delete_for(&service, reply, now);
            }
            Event::Demand(Demand::Distribution(service), reply) => {
                let _ = reply.send(self.distribution(&service)); // who asked may have gone
            }
            Event::End => self.begin_end(now),
            Event::SchedulerEnded(runner) => {
                tracing::error!(runner = runner.name(), "the scheduler has ended on its own");
            }
        }
    }

    fn noticed(&mut self, notice: Notice, now: Instant, date: Date) {
        match notice {
            Notice::Create(description, slots) => self.create(&description, &slots, now),
            Notice::Waiting(service) => self.urgent(&service, now, date),
            Notice::Locked(service, locked) => self.locked(&service, locked),
            Notice::LockedAll(service, locked) => self.emptied(&service, locked),
            Notice::Failures(service, instance, count) => {
                self.failed(&service, instance, count);
            }
            Notice::Pulse(shard, pulse) => {
                self.books.enter(shard, &pulse, date);
                for (service, beat) in &pulse.services {
                    if beat.waiting > 0 {
                        self.urgent(service, now, date);
                    }
                }
            }
            Notice::Chosen(service, chosen) => self.chosen(&service, chosen),
            Notice::Granted(..)
            | Notice::Denied(_)
            | Notice::LockedThis(..)
            | Notice::Demand(..) => self.answered(notice, now),
            Notice::Drained(shard) => {
                self.drained.insert(shard.0);
            }
        }
    }

    fn reported(&mut self, report: Report, now: Instant, date: Date) {
        match report {
            Report::Listing(runner, mut facts) => {
                self.left(runner, |id| facts.iter().any(|it| it.id == *id));
                self.listed(runner, &mut facts);
                self.meet(runner, (&facts, &[]), now);
                self.shelf.heard(date);
                self.aggregator.listed(runner, facts, date);
            }
            Report::Changes(runner, mut facts, gone) => {
                self.left(runner, |id| !gone.contains(id));
                self.listed(runner, &mut facts);
                self.meet(runner, (&facts, &gone), now);
                self.aggregator.changed(runner, facts, &gone, date);
            }
            Report::View(runner, view) => self.seen(runner, view, now),
            Report::Done(order, result) => self.done(&order, result, now),
        }
    }

    /// Five failures in a row: a launched instance is replaced like an aged one (control-plane
    /// §5.8). The operator's servers are not ours to replace.
    fn failed(&mut self, service: &ServiceId, instance: InstanceId, count: u32) {
        const EXPIRY_THRESHOLD: u32 = 5;
        let launched = self.aggregator.state(service).is_some_and(|it| !it.description.is_static());
        match (count, launched) {
            (EXPIRY_THRESHOLD, true) => {
                tracing::warn!(%service, %instance, "an instance keeps failing; it is replaced");
            }
            (EXPIRY_THRESHOLD, false) => {
                tracing::warn!(%service, %instance, "a server keeps failing");
            }
            _ => {}
        }
        if count >= EXPIRY_THRESHOLD && launched {
            self.aggregator.expire(&instance);
        }
        if count == 0 || !self.publisher.has(&instance) {
            self.failures.remove(&instance);
        } else {
            self.failures.insert(instance, count);
        }
    }

    fn tick(&mut self, now: Instant, date: Date) {
        if now >= self.next_cycle {
            self.next_cycle = now + CYCLE;
            let mut orders = Vec::new();
            self.aggregator.tick(&mut orders, date);
            for order in orders {
                if let Order::Fail(instance, ..) = &order {
                    self.order(&ServiceId::new(instance.service()), order.clone());
                }
            }
            self.publisher.free(self.post.oldest_world());
            self.books.trim(&self.aggregator, date);
            self.trim_shelf();
            self.forgive(now);
            if self.ending.is_none() {
                self.end_misplaced(now);
                self.cycle(now, date);
            }
        }
        if now >= self.next_gc {
            self.next_gc = now + self.terms.gc_interval;
            if self.ending.is_none() {
                self.collect(now, date);
            }
        }
    }

    /// Publishes what has changed, and sends what did not fit before.
    fn settle(&mut self, now: Instant, date: Date) {
        for (id, state) in self.aggregator.changes() {
            match state {
                Some(state) => self.changed(&state, now, date),
                None if self.creating.contains_key(&id) => {}
                None => self.gone(&id),
            }
        }
        // Whoever is answered by the new world finds it in the catalogue too.
        self.catalogue(now, date);
        if self.publisher.publish() {
            self.post.send_all(|| Command::Published);
        }
        self.post.flush();
        self.prober.flush();
    }

    pub(super) fn changed(&mut self, state: &Arc<State>, now: Instant, date: Date) {
        if matches!(self.mutations.get(&state.description.id), Some(Mutation::Deleting(_))) {
            return;
        }
        self.shelf.tell_news(state, date);
        self.launches.failed += self.shelf.failed_since(state);
        if self.shares(&state.description) {
            self.publisher.share(&state.description.id);
        }
        for moved in self.publisher.update(state) {
            self.watch_anew(&moved);
        }
        self.divide(&state.description.id, now);
        let slots = self.publisher.slots(&state.description.id).expect("just published");
        self.shelf.changed(state, slots);
        self.watch(state, now);
    }

    pub(super) fn gone(&mut self, id: &ServiceId) {
        self.shelf.gone(id);
        self.undivide(id);
        self.publisher.remove(id);
        self.scalings.remove(id);
        self.forget(id);
    }

    /// Orders something of the scheduler that runs this service.
    pub(super) fn order(&mut self, service: &ServiceId, order: Order) {
        if let Some(runner) = self.runner(service)
            && !self.runners.order(runner, order)
        {
            tracing::error!(runner = runner.name(), "the scheduler has ended; orders are lost");
        }
    }

    /// The scheduler that runs this service: where it is, else where it belongs.
    pub(super) fn runner(&self, service: &ServiceId) -> Option<Runner> {
        let listed = self.aggregator.state(service).and_then(|it| it.runner);
        listed.or_else(|| {
            let known = self.aggregator.description(service).or_else(|| self.shelf.get(service));
            known.and_then(|it| self.runners.of(&it.parameters))
        })
    }

    pub(super) fn home(&mut self, service: &ServiceId, command: Command) {
        let home = service.home(self.post.shards());
        self.post.send(home, command);
    }
}

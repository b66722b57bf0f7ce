//! The control loop: one thread, one closed list of events, everything that decides.
//!
//! It owns the aggregator, the autoscaler, the collectors and the publisher; facts come in as
//! events, worlds and orders go out. Nothing here blocks but the wait for the next event. Must
//! hold: at most one mutation of a service is under way at the scheduler; what is deleted leaves
//! the world before the scheduler is told; a request that waits finds its service in the world at
//! once.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::control::books::Books;
use crate::control::event::Event;
use crate::control::prober::{Health, Probe, Prober, Target};
use crate::control::publisher::Publisher;
use crate::control::shelf::Shelf;
use crate::core::aggregator::{Aggregator, DeploymentRules, State};
use crate::core::autoscaler::{Action, Autoscaler, Input, Rules, Scaling, Standing};
use crate::core::catalogue::{self, Demand, Done};
use crate::core::fact::{Order, Report};
use crate::core::gc::{Broken, Collector, Failures, Idle, LastUse, Use};
use crate::core::letter::{Command, Notice};
use crate::core::service::{Description, Origin};
use crate::core::slots::ServiceSlots;
use crate::mesh::{ControlPost, clock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

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
    pub(super) orders: Option<Sender<Order>>,
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
    pub(super) creating: HashSet<ServiceId>,
    pub(super) watched: HashMap<InstanceId, Health>,
    pub(super) scalings: HashMap<ServiceId, catalogue::Scaling>,
    pub(super) failures: HashMap<InstanceId, u32>,
    pub(super) shelf: Shelf,
    pub(super) next_cycle: Instant,
    pub(super) next_gc: Instant,
    pub(super) drained: HashSet<u8>,
    pub(super) ending: Option<Ending>,
}

/// What is under way for a service.
#[derive(Debug)]
pub(super) enum Mutation {
    /// An order has been given.
    Ordered,
    /// Home is asked which instance to kill.
    Choosing,
    /// A deletion; who wants to know.
    Deleting(Vec<Sender<Done>>),
}

/// How far the end of the router has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Requests at hand are finished, until then at most.
    Draining(Instant),
    /// The scheduler ends its instances.
    Stopping { cut_short: bool },
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
        orders: Option<Sender<Order>>,
        prober: Prober,
        publisher: Publisher,
        (shelf, idle, broken): (Shelf, Collector<LastUse>, Collector<Failures>),
    ) -> Self {
        let now = clock::now();
        Self {
            aggregator: Aggregator::new(terms.deployment),
            autoscaler: Autoscaler::new(Rules::DEFAULT),
            books: Books::new(post.shards()),
            idle,
            broken,
            mutations: HashMap::new(),
            creating: HashSet::new(),
            watched: HashMap::new(),
            scalings: HashMap::new(),
            failures: HashMap::new(),
            next_cycle: now + CYCLE,
            next_gc: now + terms.gc_interval,
            drained: HashSet::new(),
            ending: None,
            terms,
            post,
            orders,
            prober,
            publisher,
            shelf,
        }
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
            for event in first.into_iter().chain(rest) {
                self.on(event, now, date);
            }
            self.tick(now, date);
            self.settle(now, date);
            if let Some(ended) = self.ended(now) {
                return ended;
            }
        }
    }

    fn nap(&self, now: Instant) -> Duration {
        let nap = self.next_cycle.min(self.next_gc) - now;
        let nap = self.ending_nap(now).map_or(nap, |it| it.min(nap));
        nap.clamp(Duration::from_millis(1), NAP_MAX)
    }

    fn on(&mut self, event: Event, now: Instant, date: Date) {
        match event {
            Event::Shard(notice) => self.noticed(notice, now, date),
            Event::Scheduler(report) => self.reported(report, date),
            Event::Checked(instance, outcome) => self.aggregator.checked(&instance, outcome, date),
            Event::LookAgain(service) => self.home(&service, Command::LookAgain(service.clone())),
            Event::Crowded(instance) => {
                for shard in instance.shards() {
                    self.post.send(shard, Command::CloseIdle(instance.clone()));
                }
            }
            Event::Demand(Demand::Delete(service), reply) => self.delete_for(&service, reply),
            Event::End => self.begin_end(now),
        }
    }

    fn noticed(&mut self, notice: Notice, now: Instant, date: Date) {
        match notice {
            Notice::Create(description, slots) => self.create(&description, &slots),
            Notice::Waiting(service) => self.urgent(&service, now, date),
            Notice::Locked(service, locked) => self.locked(&service, locked),
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
            Notice::Drained(shard) => {
                self.drained.insert(shard.0);
            }
        }
    }

    /// A request waits for a service that is not known.
    fn create(&mut self, description: &Arc<Description>, slots: &Arc<ServiceSlots>) {
        let id = &description.id;
        if self.ending.is_some() {
            return; // the shards refuse whoever still waits when they drain
        }
        self.publisher.await_service(description, slots);
        self.aggregator.described(description.clone());
        self.shelf.described(description, slots);
        if self.creating.insert(id.clone()) {
            tracing::info!(service = %id, "starting a service");
            let count = description.parameters.min_instances.max(1);
            self.order(Order::Create(description.clone(), count));
        }
    }

    fn reported(&mut self, report: Report, date: Date) {
        match report {
            Report::Listing(facts) => {
                for fact in &facts {
                    self.creating.remove(&fact.id);
                }
                self.shelf.heard(date);
                self.aggregator.listed(facts, date);
            }
            Report::Done(order, result) => self.done(&order, result),
        }
    }

    fn done(&mut self, order: &Order, result: Result<(), String>) {
        if let Err(error) = &result {
            tracing::warn!(?order, error, "the scheduler did not carry an order out");
        }
        match order {
            Order::Create(description, _) => {
                if result.is_err() {
                    self.creating.remove(&description.id);
                    self.publisher.remove(&description.id);
                }
            }
            Order::Scale(service, _) => {
                self.mutations.remove(service);
            }
            Order::Kill(instance) => self.killed(instance, result.is_ok()),
            Order::Delete(service) => self.deleted(service, result),
            Order::Fail(..) | Order::End => {}
        }
    }

    fn killed(&mut self, instance: &InstanceId, gone: bool) {
        let service = ServiceId::new(instance.service());
        self.mutations.remove(&service);
        if gone {
            self.aggregator.killed(instance);
            self.autoscaler.killed(&service);
        }
        self.home(&service, Command::Unlock(service.clone(), instance.clone(), gone));
    }

    /// Home has locked an instance for a kill, or found none.
    fn locked(&mut self, service: &ServiceId, locked: Option<InstanceId>) {
        if !matches!(self.mutations.get(service), Some(Mutation::Choosing)) {
            if let Some(instance) = locked {
                self.home(service, Command::Unlock(service.clone(), instance, false));
            }
            return;
        }
        match locked {
            Some(instance) => {
                self.mutations.insert(service.clone(), Mutation::Ordered);
                self.order(Order::Kill(instance));
            }
            None => {
                self.mutations.remove(service);
            }
        }
    }

    /// Five failures in a row: the instance is replaced like an aged one (control-plane §5.8).
    fn failed(&mut self, service: &ServiceId, instance: InstanceId, count: u32) {
        const EXPIRY_THRESHOLD: u32 = 5;
        if count >= EXPIRY_THRESHOLD {
            tracing::warn!(%service, %instance, count, "an instance keeps failing; it is replaced");
            self.aggregator.expire(&instance);
        }
        if count == 0 {
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
                self.order(order);
            }
            self.publisher.free(self.post.oldest_world());
            if self.ending.is_none() {
                self.cycle(now, date);
            }
        }
        if now >= self.next_gc {
            self.next_gc = now + self.terms.gc_interval;
            if self.ending.is_none() {
                self.collect(date);
            }
        }
    }

    /// Publishes what has changed, and sends what did not fit before.
    fn settle(&mut self, now: Instant, date: Date) {
        for (id, state) in self.aggregator.changes() {
            match state {
                Some(state) => self.changed(&state),
                None if self.creating.contains(&id) => {}
                None => self.gone(&id),
            }
        }
        if self.publisher.publish() {
            self.post.send_all(|| Command::Published);
        }
        self.catalogue(now, date);
        self.post.flush();
        self.prober.flush();
    }

    fn changed(&mut self, state: &Arc<State>) {
        if matches!(self.mutations.get(&state.description.id), Some(Mutation::Deleting(_))) {
            return;
        }
        self.publisher.update(state);
        let slots = self.publisher.slots(&state.description.id).expect("just published");
        self.shelf.changed(state, slots);
        self.watch(state);
    }

    fn gone(&mut self, id: &ServiceId) {
        self.shelf.gone(id);
        self.publisher.remove(id);
        self.scalings.remove(id);
        let gone: Vec<InstanceId> =
            self.watched.keys().filter(|it| it.service() == id.as_str()).cloned().collect();
        for instance in gone {
            self.forget(&instance);
        }
    }

    fn forget(&mut self, instance: &InstanceId) {
        self.watched.remove(instance);
        self.failures.remove(instance);
        self.prober.tell(Probe::Forget(instance.clone()));
    }

    /// Tells the prober whom to check.
    fn watch(&mut self, state: &State) {
        let id = &state.description.id;
        if matches!(state.description.origin, Origin::Static { checked: false, .. }) {
            return;
        }
        let mut present = HashSet::new();
        let healthy = state.healthy.iter().map(|it| (it, Health::Serving));
        for (it, health) in healthy.chain(state.unhealthy.iter().map(|it| (it, Health::Down))) {
            let instance = &it.fact.id;
            present.insert(instance);
            match self.watched.insert(instance.clone(), health) {
                Some(before) if before == health => {}
                Some(_) => self.prober.tell(Probe::Known(instance.clone(), health)),
                None => {
                    if let Some(target) = self.target(state, it, health) {
                        self.prober.tell(Probe::Watch(Box::new(target)));
                    }
                }
            }
        }
        let gone: Vec<InstanceId> = self
            .watched
            .keys()
            .filter(|it| it.service() == id.as_str() && !present.contains(it))
            .cloned()
            .collect();
        for instance in gone {
            self.forget(&instance);
        }
    }

    fn target(
        &self,
        state: &State,
        it: &crate::core::aggregator::Instance,
        health: Health,
    ) -> Option<Target> {
        let parameters = &state.description.parameters;
        let port = *it.fact.ports.get(usize::from(parameters.health_check_port_index))?;
        let service = &state.description.id;
        Some(Target {
            id: it.fact.id.clone(),
            service: service.clone(),
            instance: self.publisher.instance(service, &it.fact.id)?.clone(),
            slots: self.publisher.slots(service)?.clone(),
            address: crate::base::address::SocketAddr::new(it.fact.host, port),
            path: parameters.health_check_url.clone(),
            interval: parameters.health_check_interval,
            health,
        })
    }

    pub(super) fn order(&mut self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::error!("the scheduler has ended; orders are lost");
        }
    }

    pub(super) fn home(&mut self, service: &ServiceId, command: Command) {
        let home = service.home(self.post.shards());
        self.post.send(home, command);
    }

    /// All services, once a second.
    fn cycle(&mut self, now: Instant, date: Date) {
        let mut out = Vec::new();
        let (books, aggregator) = (&self.books, &self.aggregator);
        let inputs = aggregator
            .states()
            .filter(|(_, state)| !state.description.is_static())
            .map(|(id, state)| input(id, state, books));
        self.autoscaler.cycle(inputs, &mut out, now);
        for scaling in out {
            self.scale(&scaling, date);
        }
    }

    /// One service at once, because a request of it waits.
    fn urgent(&mut self, service: &ServiceId, now: Instant, date: Date) {
        let Some(state) = self.aggregator.state(service) else { return };
        if state.description.is_static() || self.ending.is_some() {
            return;
        }
        let scaling = self.autoscaler.urgent(&input(service, state, &self.books), now);
        if let Some(scaling) = scaling {
            self.scale(&scaling, date);
        }
    }

    /// Carries a decision out, unless something is under way for the service.
    fn scale(&mut self, scaling: &Scaling, date: Date) {
        let id = &scaling.service;
        let said = self.scalings.entry(id.clone()).or_default();
        said.target = scaling.target;
        said.scale_to = u32::try_from(scaling.scale_to.max(0)).unwrap_or(u32::MAX);
        said.amount = scaling.amount;
        if self.mutations.contains_key(id) || self.creating.contains(id) {
            return;
        }
        match scaling.action {
            Action::Nothing | Action::Ignore => return,
            Action::ScaleTo { n, .. } => {
                self.mutations.insert(id.clone(), Mutation::Ordered);
                self.order(Order::Scale(id.clone(), n));
            }
            Action::KillOne => {
                self.mutations.insert(id.clone(), Mutation::Choosing);
                self.home(id, Command::Lock(id.clone()));
            }
        }
        let reason = scaling.reason.to_string();
        let (to, amount) = (scaling.scale_to, scaling.amount);
        tracing::info!(service = %id, to, amount, reason, "scaling");
        let said = self.scalings.entry(id.clone()).or_default();
        said.reason = reason.into();
        said.decided = Some(date);
    }

    /// Ends services that nobody uses, and those that cannot run.
    fn collect(&mut self, date: Date) {
        let states: Vec<(ServiceId, Arc<State>)> = self
            .aggregator
            .states()
            .filter(|(_, state)| !state.description.is_static())
            .map(|(id, state)| (id.clone(), state.clone()))
            .collect();
        let books = &self.books;
        let used = states.iter().map(|(id, state)| {
            let book = books.get(id);
            let seen = Use {
                last_request: book.and_then(|it| it.last_request),
                outstanding: Some(book.map_or(0, |it| it.traffic().outstanding)),
            };
            (id, &state.description.parameters, seen)
        });
        let mut due = self.idle.round(used, &Idle, date);
        let rule = Broken { min_hosts: 1, timeout: self.terms.broken_timeout };
        let broken = states
            .iter()
            .map(|(id, state)| (id, &state.description.parameters, Failures::of(state)));
        due.extend(self.broken.round(broken, &rule, date));
        for id in due {
            tracing::info!(service = %id, "collecting a service that is idle or broken");
            self.delete(&id, Vec::new());
        }
        self.shelf.keep_collectors(&self.idle, &self.broken);
    }

    fn delete_for(&mut self, service: &ServiceId, reply: Sender<Done>) {
        let known = self.aggregator.state(service);
        if known.is_some_and(|it| it.description.is_static()) {
            let why = "The operator's servers are not launched here, and cannot be deleted";
            let _ = reply.send(Done::Failed(why.to_owned()));
        } else if known.is_none() && !self.creating.contains(service) {
            let _ = reply.send(Done::NoSuchService);
        } else {
            self.delete(service, vec![reply]);
        }
    }

    /// First no request finds it any more, then the scheduler ends it.
    fn delete(&mut self, service: &ServiceId, mut replies: Vec<Sender<Done>>) {
        if let Some(Mutation::Deleting(waiting)) = self.mutations.get_mut(service) {
            waiting.append(&mut replies);
            return;
        }
        self.mutations.insert(service.clone(), Mutation::Deleting(replies));
        self.creating.remove(service);
        self.gone(service);
        self.aggregator.undescribed(service);
        self.order(Order::Delete(service.clone()));
    }

    fn deleted(&mut self, service: &ServiceId, result: Result<(), String>) {
        if result.is_ok() {
            self.idle.collected(service);
            self.broken.collected(service);
        }
        if let Some(Mutation::Deleting(replies)) = self.mutations.remove(service) {
            let done = match result {
                Ok(()) => Done::Deleted,
                Err(error) => Done::Failed(error),
            };
            for reply in replies {
                let _ = reply.send(done.clone());
            }
        }
    }
}

fn input<'a>(id: &'a ServiceId, state: &'a State, books: &Books) -> Input<'a> {
    Input {
        id,
        parameters: &state.description.parameters,
        standing: Standing::of(state, books.outstanding(id)),
        demand: books.demand(id),
        boot_time: state.boot_time,
    }
}

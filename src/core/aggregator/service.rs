//! One service while it is known: what each instance went through, and what follows from it.

use super::deployment::{DeploymentRules, deployment_error};
use super::health::Outcome;
use super::state::{Counts, Instability, Instance, State};
use crate::base::address::{IpAddr, SocketAddr};
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration};
use crate::core::fact::{FAILED_MAX, Flags, InstanceFact, Order, Runner, ServiceFact};
use crate::core::service::{Description, Origin, static_instance_id};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Killed instances remembered.
const KILLED_MAX: usize = 12;
/// Ended instances remembered, so that a later word about them finds what they went through.
const ENDED_MAX: usize = 2 * FAILED_MAX;
/// An instance that ends unhealthy after fewer failed checks than this was not given a chance.
const CHECKS_MIN: u32 = 5;
/// An order to end an instance is repeated after this, in milliseconds.
const REPEAT: u64 = 10_000;
/// An instance first seen later than this after its start was not watched while it started.
const WATCHED: Duration = Duration::from_secs(10);
/// Weight of the newest launch in the boot time.
const BOOT_WEIGHT: f64 = 0.25;

/// An active instance and what it went through.
#[derive(Debug)]
struct Tracked {
    instance: Arc<Instance>,
    seen_at: Date,
    ever_healthy: bool,
    failed_checks: u32,
    failed_in_row: u32,
    /// Past its grace without ever having been healthy.
    late: bool,
    /// When it was last ordered to be ended for that.
    given_up_at: Option<Date>,
    killed: bool,
    /// Where it was last known to listen.
    place: Option<(IpAddr, u16)>,
}

impl Tracked {
    fn new(fact: InstanceFact, now: Date) -> Self {
        let place = place_of(&fact);
        let instance =
            Instance { fact, healthy: false, health_check_status: None, health_check_error: None };
        Self {
            instance: Arc::new(instance),
            seen_at: now,
            ever_healthy: false,
            failed_checks: 0,
            failed_in_row: 0,
            late: false,
            given_up_at: None,
            killed: false,
            place,
        }
    }

    /// A server that is taken as healthy.
    fn trusted(fact: InstanceFact) -> Self {
        let mut it = Self::new(fact, Date(0));
        Arc::make_mut(&mut it.instance).healthy = true;
        it.ever_healthy = true;
        it
    }

    /// Whether it is told to listen elsewhere than it did: then it is another one, of whose health
    /// nothing is known. What is no longer known of an address says nothing.
    fn has_moved(&self, fact: &InstanceFact) -> bool {
        let both = self.place.zip(place_of(fact));
        !self.killed && both.is_some_and(|(known, told)| known != told)
    }

    /// Its scheduler says this now. Flags only add up. Returns whether anything is new.
    fn update(&mut self, mut fact: InstanceFact) -> bool {
        fact.flags = fact.flags.with(self.instance.fact.flags);
        self.place = place_of(&fact).or(self.place);
        let new = fact != self.instance.fact;
        if new {
            let before = self.instance.fact.healthy;
            Arc::make_mut(&mut self.instance).fact = fact;
            self.vouched(before);
        }
        new
    }

    /// Its scheduler's own health checks say something else than `before`. Their word brings an
    /// instance into service that was never healthy here, and takes one out at once whose checks
    /// begin to fail; from there on the router's own checks decide, which are made at once
    /// (control-plane §11.2: whoever the scheduler does not call healthy is checked).
    fn vouched(&mut self, before: Option<bool>) {
        match self.instance.fact.healthy {
            Some(true) if !self.ever_healthy => self.checked(Outcome::Healthy, 1),
            Some(false) if before != Some(false) => {
                Arc::make_mut(&mut self.instance).healthy = false;
            }
            _ => {}
        }
    }

    fn checked(&mut self, outcome: Outcome, failures_max: u32) {
        match outcome {
            Outcome::Healthy => {
                self.failed_in_row = 0;
                self.ever_healthy = true;
                self.late = false;
                if !self.instance.healthy {
                    let instance = Arc::make_mut(&mut self.instance);
                    instance.healthy = true;
                    instance.health_check_status = None;
                    instance.health_check_error = None;
                }
            }
            Outcome::Unhealthy { status, flags, error } => {
                self.failed_checks += 1;
                self.failed_in_row += 1;
                let fails = !self.instance.healthy || self.failed_in_row >= failures_max.max(1);
                let instance = Arc::make_mut(&mut self.instance);
                instance.fact.flags = instance.fact.flags.with(flags);
                if fails {
                    instance.healthy = false;
                    instance.health_check_status = status;
                    instance.health_check_error = error;
                }
            }
        }
    }

    /// When it must have been healthy. The time before it was first seen is not counted: a router
    /// that has just begun knows of nobody's health.
    fn grace_end(&self, grace: Duration) -> Date {
        match self.instance.fact.started_at {
            Date(0) => Date(u64::MAX),
            start => after(start.max(self.seen_at), grace),
        }
    }

    /// How long it took to become healthy, if it was watched from its start.
    fn booted(&self, now: Date) -> Option<Duration> {
        let start = self.instance.fact.started_at;
        let watched = start != Date(0) && self.seen_at.since(start) <= WATCHED;
        watched.then(|| now.since(start))
    }

    /// What remains of it when it has ended.
    fn ended(self) -> (Arc<Instance>, bool) {
        let mut instance = self.instance;
        let mut flags = instance.fact.flags;
        // An instance that was healthy did answer: what ended it was no failure to connect.
        if self.ever_healthy {
            flags = flags.with(Flags::HAS_CONNECTED).with(Flags::HAS_RESPONDED);
        }
        let never_passed = !self.ever_healthy && self.failed_checks >= CHECKS_MIN && !self.killed;
        if never_passed {
            flags = flags.with(Flags::NEVER_PASSED_HEALTH_CHECKS);
        }
        if instance.healthy || flags != instance.fact.flags {
            let instance = Arc::make_mut(&mut instance);
            instance.healthy = false;
            instance.fact.flags = flags;
        }
        (instance, never_passed)
    }
}

/// One service while it is known.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) description: Arc<Description>,
    /// The state as last given out.
    pub(super) state: Option<Arc<State>>,
    /// When [`Service::tick`] has something to do.
    pub(super) due: Date,
    /// Who runs it; none: the operator.
    pub(super) runner: Option<Runner>,
    doubt: String,
    doubted_since: Option<Date>,
    requested: u32,
    active: BTreeMap<InstanceId, Tracked>,
    /// Failed instances as the scheduler reports them.
    reported: Vec<InstanceFact>,
    /// Failed instances that the scheduler did not report.
    lost: VecDeque<Arc<Instance>>,
    ended: VecDeque<Arc<Instance>>,
    killed: VecDeque<Arc<Instance>>,
    boot_time: Option<Duration>,
}

impl Service {
    pub(super) fn new(description: Arc<Description>) -> Self {
        let mut it = Self {
            description,
            state: None,
            due: Date(0),
            runner: None,
            doubt: String::new(),
            doubted_since: None,
            requested: 0,
            active: BTreeMap::new(),
            reported: Vec::new(),
            lost: VecDeque::new(),
            ended: VecDeque::new(),
            killed: VecDeque::new(),
            boot_time: None,
        };
        it.place();
        it
    }

    /// It is described anew.
    pub(super) fn described(&mut self, description: Arc<Description>) {
        self.description = description;
        self.due = Date(0);
        self.place();
    }

    /// Its scheduler says this now. Returns whether anything is new.
    pub(super) fn listed(&mut self, fact: ServiceFact, now: Date) -> bool {
        let mut new = self.requested != fact.requested || self.reported != fact.failed;
        new |= self.doubt != fact.doubt;
        self.doubted_since = (!fact.doubt.is_empty()).then(|| self.doubted_since.unwrap_or(now));
        self.doubt = fact.doubt;
        self.requested = fact.requested;
        self.reported = fact.failed;
        let mut before = std::mem::take(&mut self.active);
        for fact in fact.active {
            let id = fact.id.clone();
            let tracked = match before.remove(&id) {
                Some(mut tracked) if !tracked.has_moved(&fact) => {
                    new |= tracked.update(fact);
                    tracked
                }
                Some(_) | None => {
                    new = true;
                    self.due = Date(0);
                    let mut tracked = Tracked::new(fact, now);
                    tracked.vouched(None);
                    tracked
                }
            };
            self.active.insert(id, tracked);
        }
        for (_, tracked) in before {
            new = true;
            self.end(tracked);
        }
        new
    }

    /// A health check came to this. Returns whether the instance is known.
    pub(super) fn checked(&mut self, id: &InstanceId, outcome: Outcome, now: Date) -> bool {
        if matches!(self.description.origin, Origin::Static { checked: false, .. }) {
            return false;
        }
        let failures_max = self.description.parameters.health_check_max_consecutive_failures;
        self.judged(id, outcome, (failures_max, now))
    }

    /// Who checks an instance has come to this; returns whether anything changed.
    pub(super) fn told(&mut self, id: &InstanceId, healthy: bool, now: Date) -> bool {
        let outcome = match healthy {
            true => Outcome::Healthy,
            false => Outcome::Unhealthy { status: None, flags: Flags::default(), error: None },
        };
        self.judged(id, outcome, (1, now))
    }

    fn judged(
        &mut self,
        id: &InstanceId,
        outcome: Outcome,
        (failures_max, now): (u32, Date),
    ) -> bool {
        let Some(tracked) = self.active.get_mut(id) else { return false };
        let first = !tracked.ever_healthy;
        tracked.checked(outcome, failures_max);
        if let Some(took) = tracked.booted(now).filter(|_| first && tracked.ever_healthy) {
            self.boot_time = Some(self.boot_time.map_or(took, |known| {
                known.mul_f64(1.0 - BOOT_WEIGHT) + took.mul_f64(BOOT_WEIGHT)
            }));
        }
        true
    }

    /// An instance is to be replaced. Returns whether that is new.
    pub(super) fn expire(&mut self, id: &InstanceId) -> bool {
        let Some(tracked) = self.active.get_mut(id) else { return false };
        if tracked.instance.is_expired() {
            return false;
        }
        let flags = &mut Arc::make_mut(&mut tracked.instance).fact.flags;
        *flags = flags.with(Flags::EXPIRED);
        true
    }

    /// An instance was ended on purpose. Returns whether that is new.
    pub(super) fn kill(&mut self, id: &InstanceId) -> bool {
        if self.killed.iter().any(|it| it.fact.id == *id) {
            return false;
        }
        let instance = match self.active.get_mut(id) {
            Some(tracked) => {
                tracked.killed = true;
                let mut instance = Arc::clone(&tracked.instance);
                Arc::make_mut(&mut instance).healthy = false;
                Some(instance)
            }
            None => self.ended.iter().find(|it| it.fact.id == *id).cloned(),
        };
        let Some(instance) = instance else { return false };
        self.lost.retain(|it| it.fact.id != *id);
        push(&mut self.killed, instance, KILLED_MAX);
        true
    }

    /// Time has passed: ages instances, and gives up those that were not healthy within their
    /// grace. Returns whether anything is new.
    pub(super) fn tick(&mut self, orders: &mut Vec<Order>, now: Date) -> bool {
        self.due = Date(u64::MAX);
        if self.description.is_static() {
            return false;
        }
        let grace = Some(self.description.parameters.grace_period).filter(|it| !it.is_zero());
        let expiry = self.description.parameters.instance_expiry;
        let mut new = false;
        for tracked in self.active.values_mut().filter(|it| !it.killed) {
            if let Some(expiry) = expiry.filter(|_| !tracked.instance.is_expired()) {
                let at = after(tracked.instance.fact.started_at, expiry);
                if now > at {
                    let flags = &mut Arc::make_mut(&mut tracked.instance).fact.flags;
                    *flags = flags.with(Flags::EXPIRED);
                    new = true;
                } else {
                    self.due = self.due.min(Date(at.0.saturating_add(1)));
                }
            }
            if let Some(grace) = grace.filter(|_| !tracked.ever_healthy) {
                new |= give_up(tracked, grace, orders, now);
                let at = tracked.given_up_at.map_or_else(
                    || Date(tracked.grace_end(grace).0.saturating_add(1)),
                    |asked| Date(asked.0.saturating_add(REPEAT)),
                );
                self.due = self.due.min(at);
            }
        }
        new
    }

    /// The state that follows from all that is known.
    pub(super) fn gather(&self, rules: &DeploymentRules) -> State {
        let mut active: Vec<_> = self.active.values().filter(|it| !it.killed).collect();
        active.sort_by(|a, b| order(&a.instance).cmp(&order(&b.instance)));
        let list = |wanted: &dyn Fn(&Tracked) -> bool| -> Vec<Arc<Instance>> {
            let kept = active.iter().filter(|it| wanted(it));
            kept.map(|it| Arc::clone(&it.instance)).collect()
        };
        let healthy = list(&|it| it.instance.healthy);
        let unhealthy = list(&|it| !it.instance.healthy);
        let mut failed = self.failed();
        let without_healthy = || deployment_error(&failed, &unhealthy, rules);
        let deployment_error = healthy.is_empty().then(without_healthy).flatten();
        let hungry = |it: &Arc<Instance>| it.fact.flags.has(Flags::MEMORY_LIMIT_EXCEEDED);
        let instability = failed.iter().any(hungry).then_some(Instability::NotEnoughMemory);
        failed.drain(..failed.len().saturating_sub(FAILED_MAX));
        let expired = healthy.iter().chain(&unhealthy).filter(|it| it.is_expired());
        State {
            description: Arc::clone(&self.description),
            expired: expired.cloned().collect(),
            starting: list(&|it| !it.ever_healthy && !it.late),
            counts: Counts {
                healthy: healthy.len() as u32,
                requested: self.requested,
                scheduled: active.len() as u32,
            },
            healthy,
            unhealthy,
            failed,
            killed: self.killed.iter().cloned().collect(),
            deployment_error,
            instability,
            boot_time: self.boot_time,
            runner: self.runner,
            doubt: self.doubt.clone(),
            doubted_since: self.doubted_since,
        }
    }

    /// All failed instances: those reported, with what their checks said, and those lost.
    fn failed(&self) -> Vec<Arc<Instance>> {
        let reported = self.reported.iter().map(|fact| {
            let known = self.ended.iter().find(|it| it.fact.id == fact.id);
            let flags = known.map_or(fact.flags, |it| it.fact.flags.with(fact.flags));
            Arc::new(Instance {
                fact: InstanceFact { flags, ..fact.clone() },
                healthy: false,
                health_check_status: known.and_then(|it| it.health_check_status),
                health_check_error: known.and_then(|it| it.health_check_error),
            })
        });
        let is_reported = |id: &InstanceId| self.reported.iter().any(|it| it.id == *id);
        let lost = self.lost.iter().filter(|it| !is_reported(&it.fact.id)).cloned();
        let is_killed = |id: &InstanceId| self.killed.iter().any(|it| it.fact.id == *id);
        let mut all: Vec<_> = reported.chain(lost).filter(|it| !is_killed(&it.fact.id)).collect();
        all.sort_by(|a, b| order(a).cmp(&order(b)));
        all
    }

    /// An instance is no longer there.
    fn end(&mut self, tracked: Tracked) {
        let (instance, never_passed) = tracked.ended();
        if never_passed {
            push(&mut self.lost, Arc::clone(&instance), FAILED_MAX);
        }
        push(&mut self.ended, instance, ENDED_MAX);
    }

    /// Puts the servers of a static service in place.
    fn place(&mut self) {
        let description = Arc::clone(&self.description);
        let Origin::Static { addresses, checked, .. } = &description.origin else { return };
        self.requested = addresses.len() as u32;
        let mut before = std::mem::take(&mut self.active);
        for address in addresses {
            let fact = server(&description.id, *address);
            let id = fact.id.clone();
            let tracked = before.remove(&id).unwrap_or_else(|| {
                if *checked { Tracked::new(fact, Date(0)) } else { Tracked::trusted(fact) }
            });
            self.active.insert(id, tracked);
        }
    }
}

/// Orders the end of an instance that was not healthy within its grace, and repeats it. One that
/// was never checked is not ended: that would be the prober's fault, not its own. Returns whether
/// it has just become late.
fn give_up(tracked: &mut Tracked, grace: Duration, orders: &mut Vec<Order>, now: Date) -> bool {
    if now <= tracked.grace_end(grace) {
        return false;
    }
    let newly_late = !std::mem::replace(&mut tracked.late, true);
    let asked = tracked.given_up_at.is_some_and(|at| now.0 < at.0.saturating_add(REPEAT));
    if asked || tracked.failed_checks == 0 {
        return newly_late;
    }
    let instance = &tracked.instance;
    let flags = instance.fact.flags.with(Flags::NEVER_PASSED_HEALTH_CHECKS);
    let mut message = format!("not healthy within its grace of {} s", grace.as_secs());
    match (instance.health_check_status, instance.health_check_error) {
        (Some(status), _) => message.push_str(&format!("; last check: status {status}")),
        (None, Some(error)) => message.push_str(&format!("; last check: {}", error.name())),
        (None, None) => {}
    }
    orders.push(Order::Fail(instance.fact.id.clone(), flags, message));
    tracked.given_up_at = Some(now);
    newly_late
}

/// An existing server. When it was started is not known.
fn server(service: &ServiceId, address: SocketAddr) -> InstanceFact {
    InstanceFact::new(
        static_instance_id(service, &address),
        address.ip(),
        vec![address.port()],
        Date(0),
    )
}

/// Where an instance listens, if that is told.
fn place_of(fact: &InstanceFact) -> Option<(IpAddr, u16)> {
    fact.ports.first().map(|port| (fact.host, *port))
}

/// The time `delta` after `start`; never, if the start is not known.
fn after(start: Date, delta: Duration) -> Date {
    match start {
        Date(0) => Date(u64::MAX),
        Date(start) => {
            Date(start.saturating_add(u64::try_from(delta.as_millis()).unwrap_or(u64::MAX)))
        }
    }
}

fn order(instance: &Instance) -> (Date, &InstanceId) {
    (instance.fact.started_at, &instance.fact.id)
}

fn push(ring: &mut VecDeque<Arc<Instance>>, instance: Arc<Instance>, max: usize) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(instance);
}

//! What is known of the cluster, and how far an answer changes it.
//!
//! ```text
//!                    in the answer                          nothing explains its absence
//!   known ◄──────────────────────────────── doubted ◄──────────────────────────────── known
//!                                              │
//!                                              └─ missing again and again, for long enough ─► gone
//! ```
//! An answer is compared with what was believed before. What is new is believed. What is missing
//! is believed to be gone at once only where something explains it: we ended it, Marathon says
//! that it failed, or the app has all the tasks it wants without it. Else it stays, and its
//! service is *doubted*, until it has been missing from [`FEW`] answers in a row, or, where a
//! whole service or all of its tasks are missing, from [`MANY`] and for the time of doubt. An app
//! whose version is older than one that was seen is as good as missing: somebody tells old news. An
//! answer that lacks much of everything is doubted as a whole. Must hold: an instance leaves for no
//! other reason.

use super::mapping::{self, Means};
use crate::base::address::IpAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::core::fact::{FAILED_MAX, InstanceFact, ServiceFact};
use crate::wire::marathon::{App, Apps};
use std::collections::{HashMap, HashSet, VecDeque};

/// Answers in a row from which one of several tasks must be missing.
const FEW: u32 = 2;
/// Answers in a row from which a service, or all tasks of one, must be missing.
const MANY: u32 = 3;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Who is at an address, and since when.
type Addresses = Map<(IpAddr, u16), (Date, InstanceId)>;

/// What is known of the cluster.
#[derive(Debug)]
pub struct Picture {
    /// For how long a service must be missing.
    patience: Duration,
    services: Map<ServiceId, Known>,
    /// Services that we deleted: older answers, and those that tell old news, may still hold them.
    deleted: Map<ServiceId, Deleted>,
    /// Instances that we ended.
    ended: HashSet<InstanceId>,
    /// Services that are told again with the next answer, whether or not they changed.
    told_again: HashSet<ServiceId>,
}

/// A service that we deleted.
#[derive(Debug)]
struct Deleted {
    /// When that was done.
    at: Instant,
    /// Its version by then, as far as it was seen.
    version: Option<Date>,
}

/// One service.
#[derive(Debug)]
struct Known {
    fact: ServiceFact,
    /// The newest version seen.
    version: Option<Date>,
    failed: VecDeque<InstanceFact>,
    /// It is missing itself, or what is told of it is old.
    absence: Option<Absence>,
    /// Instances that are missing.
    missing: Map<InstanceId, Absence>,
    /// Since when it is doubted.
    doubted: Option<Instant>,
}

/// How long something has been missing.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since: Instant,
    answers: u32,
}

/// An answer that could be read.
#[derive(Debug)]
pub struct Answer {
    /// When it was asked for.
    pub begun: Instant,
    /// What it says.
    pub apps: Apps,
}

/// What an answer changed.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// Services that are new, or not as they were.
    pub changed: Vec<ServiceFact>,
    /// Services that are gone.
    pub gone: Vec<ServiceId>,
    /// Why the answer as a whole is doubted; empty: it is not.
    pub doubt: String,
    /// Services that are doubted.
    pub doubted: usize,
    /// Those among them that have been for less than the time of doubt.
    pub lately: usize,
}

impl Picture {
    /// Nothing is known; whole services are believed to be gone after so long.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            services: Map::default(),
            deleted: Map::default(),
            ended: HashSet::new(),
            told_again: HashSet::new(),
        }
    }

    /// We deleted a service; that was done by now.
    pub fn deleted(&mut self, service: &ServiceId, now: Instant) {
        let version = self.services.get(service).and_then(|it| it.version);
        self.deleted.insert(service.clone(), Deleted { at: now, version });
    }

    /// We ended an instance.
    pub fn ended(&mut self, instance: &InstanceId) {
        self.ended.insert(instance.clone());
    }

    /// Something was done to a service: it is told again.
    pub fn touched(&mut self, service: &ServiceId) {
        self.told_again.insert(service.clone());
    }

    /// Whether a service is doubted.
    pub(super) fn doubts(&self, service: &ServiceId) -> bool {
        self.services.get(service).is_some_and(|it| !it.fact.doubt.is_empty())
    }

    /// An answer has come.
    pub fn answered(&mut self, answer: Answer, means: &Means<'_>, now: Instant) -> Seen {
        let mut seen = Seen::default();
        let (before, patience) = (self.tally(), self.patience);
        let mut present: HashSet<ServiceId, foldhash::fast::FixedState> = HashSet::default();
        let mut addresses = Addresses::default();
        let mut odd = answer.apps.unreadable.iter().filter(|it| it.is_empty()).count();
        for app in &answer.apps.apps {
            let Some(service) = mapping::service_of(&app.id, means.prefix) else { continue };
            if self.deleted.get(&service).is_some_and(|it| it.is_still_told(answer.begun, app)) {
                continue;
            }
            self.deleted.remove(&service); // it was created again
            if !present.insert(service.clone()) {
                odd += 1;
                continue;
            }
            if self.services.get_mut(&service).is_some_and(|it| it.hears_old(app, patience, now)) {
                self.told_again.insert(service);
                continue;
            }
            for instance in self.look(&service, app, means, now) {
                note_address(&mut addresses, instance);
            }
        }
        for id in &answer.apps.unreadable {
            let Some(service) = mapping::service_of(id, means.prefix) else { continue };
            if let Some(known) = self.services.get_mut(&service) {
                known.absence = None;
                known.fact.doubt = "what the last answer says of it cannot be understood".into();
                self.told_again.insert(service.clone());
            }
            present.insert(service);
        }
        self.settle(&present, (&addresses, answer.begun), &mut seen, now);
        seen.doubt = self.verdict(&before, odd);
        seen
    }

    /// Services and instances that are known.
    fn tally(&self) -> (usize, usize) {
        (self.services.len(), self.services.values().map(|it| it.fact.active.len()).sum())
    }

    /// Looks at one app; returns the addresses of its instances.
    fn look(
        &mut self,
        service: &ServiceId,
        app: &App,
        means: &Means<'_>,
        now: Instant,
    ) -> Vec<(IpAddr, u16, Date, InstanceId)> {
        let is_new = !self.services.contains_key(service);
        let known = self.services.entry(service.clone()).or_insert_with(|| Known::new(service));
        if is_new {
            self.told_again.insert(service.clone());
        }
        known.version = app.version.or(known.version);
        let before = known.fact.clone();
        known.look(service, app, (means, &self.ended, self.patience), now);
        if known.fact != before {
            self.told_again.insert(service.clone());
        }
        let places = known
            .fact
            .active
            .iter()
            .filter_map(|it| Some((it.host, *it.ports.first()?, it.started_at, it.id.clone())));
        places.collect()
    }

    /// What follows for those that are not in the answer, and what is to be told.
    fn settle(
        &mut self,
        present: &HashSet<ServiceId, foldhash::fast::FixedState>,
        (addresses, begun): (&Addresses, Instant),
        seen: &mut Seen,
        now: Instant,
    ) {
        let patience = self.patience;
        let mut gone = Vec::new();
        for (id, known) in &mut self.services {
            if present.contains(id) {
                if known.give_way(addresses) {
                    self.told_again.insert(id.clone());
                }
                continue;
            }
            let asked = self.deleted.contains_key(id);
            if asked || Absence::again(&mut known.absence, now).is_believed(MANY, patience, now) {
                gone.push(id.clone());
            } else {
                let doubt = "it is missing from the last answer";
                if known.fact.doubt != doubt {
                    known.fact.doubt = doubt.into();
                    self.told_again.insert(id.clone());
                }
            }
        }
        for id in &gone {
            self.services.remove(id);
        }
        // From then on, what is told is believed.
        self.deleted
            .retain(|_, it| begun < it.at || it.version.is_some() && now - it.at < patience);
        let services = &self.services;
        self.ended.retain(|id| services.values().any(|it| it.has(id)));
        for id in std::mem::take(&mut self.told_again) {
            seen.changed.extend(self.services.get(&id).map(|it| it.fact.clone()));
        }
        seen.gone = gone;
        for it in self.services.values_mut() {
            let is_doubted = !it.fact.doubt.is_empty();
            it.doubted = is_doubted.then(|| it.doubted.unwrap_or(now));
            seen.doubted += usize::from(is_doubted);
            seen.lately += usize::from(it.doubted.is_some_and(|since| now - since < patience));
        }
    }

    /// Whether the answer as a whole is doubted.
    fn verdict(&self, (services, instances): &(usize, usize), odd: usize) -> String {
        let absent = self.services.values().filter(|it| it.absence.is_some()).count();
        let missing: usize = self.services.values().map(|it| it.missing.len()).sum();
        if odd > 0 {
            format!("{odd} apps of the last answer cannot be understood")
        } else if absent > 0 && absent == *services {
            format!("the last answer has none of the {services} services there were")
        } else if absent * 10 > *services {
            format!("{absent} of {services} services are missing from the last answer")
        } else if missing > 1 && missing * 2 > *instances {
            format!("{missing} of {instances} instances are missing from the last answer")
        } else {
            String::new()
        }
    }
}

impl Absence {
    /// One more answer lacks it.
    fn again(absence: &mut Option<Self>, now: Instant) -> Self {
        let it = absence.get_or_insert(Self { since: now, answers: 0 });
        it.answers += 1;
        *it
    }

    fn is_believed(self, answers: u32, patience: Duration, now: Instant) -> bool {
        self.answers >= answers && now - self.since >= patience
    }
}

impl Deleted {
    /// Whether this app is the one that was deleted, in an answer that was asked for before that,
    /// or tells old news. One that was created since has a newer version.
    fn is_still_told(&self, begun: Instant, app: &App) -> bool {
        begun < self.at || app.version.is_some() && app.version <= self.version
    }
}

impl Known {
    fn new(service: &ServiceId) -> Self {
        let fact = ServiceFact {
            id: service.clone(),
            requested: 0,
            active: Vec::new(),
            failed: Vec::new(),
            doubt: String::new(),
        };
        Self {
            fact,
            version: None,
            failed: VecDeque::new(),
            absence: None,
            missing: Map::default(),
            doubted: None,
        }
    }

    fn has(&self, id: &InstanceId) -> bool {
        self.fact.active.binary_search_by(|it| it.id.cmp(id)).is_ok()
    }

    /// Whether what is told of it is old, and not believed: it is as good as missing.
    fn hears_old(&mut self, app: &App, patience: Duration, now: Instant) -> bool {
        let is_old = app.version.is_some() && app.version < self.version;
        if is_old && !Absence::again(&mut self.absence, now).is_believed(MANY, patience, now) {
            self.fact.doubt = "what the last answer says of it is old".into();
            return true;
        }
        self.absence = None;
        false
    }

    fn look(
        &mut self,
        service: &ServiceId,
        app: &App,
        (means, ended, patience): (&Means<'_>, &HashSet<InstanceId>, Duration),
        now: Instant,
    ) {
        self.fact.requested = app.instances;
        if app.tasks.is_none() {
            self.fact.doubt = "the last answer does not tell its tasks".into();
            return;
        }
        let before = std::mem::take(&mut self.fact.active);
        let known = |id: &InstanceId| {
            before.binary_search_by(|it| it.id.cmp(id)).ok().map(|at| &before[at])
        };
        let mut active: Vec<InstanceFact> = mapping::live(app)
            .map(|task| {
                let id = mapping::instance_of(service, &task.id);
                mapping::instance(service, task, known(&id), means)
            })
            .collect();
        active.sort_by(|a, b| a.id.cmp(&b.id));
        active.dedup_by(|a, b| a.id == b.id);
        self.remember_failure(service, app, &active, means);
        let agree = mapping::counts_agree(app);
        let full = agree && active.len() as u64 >= u64::from(app.instances);
        let present = |id: &InstanceId| active.binary_search_by(|it| it.id.cmp(id)).is_ok();
        let tasks = app.tasks.iter().flatten();
        let listed: HashSet<InstanceId> =
            tasks.map(|it| mapping::instance_of(service, &it.id)).collect();
        let explained = |id: &InstanceId| {
            full || ended.contains(id)
                || listed.contains(id)
                || self.failed.iter().any(|it| it.id == *id)
        };
        let lost: Vec<InstanceFact> =
            before.into_iter().filter(|it| !present(&it.id) && !explained(&it.id)).collect();
        let all = !lost.is_empty() && active.is_empty() || !agree;
        let (answers, patience) = if all { (MANY, patience) } else { (FEW, Duration::ZERO) };
        let mut missing = std::mem::take(&mut self.missing);
        for fact in lost {
            let mut absence = missing.remove(&fact.id);
            if Absence::again(&mut absence, now).is_believed(answers, patience, now) {
                continue;
            }
            self.missing.extend(absence.map(|it| (fact.id.clone(), it)));
            active.push(InstanceFact { healthy: None, ..fact });
        }
        active.sort_by(|a, b| a.id.cmp(&b.id));
        self.fact.active = active;
        self.fact.doubt = match (self.missing.len(), agree) {
            (0, true) => String::new(),
            (0, false) => "the last answer counts more of its tasks than it lists".into(),
            (count, _) => format!("{count} of its tasks are missing from the last answer"),
        };
    }

    /// Keeps the failure that is told, once; one whose task is seen again was none.
    fn remember_failure(
        &mut self,
        service: &ServiceId,
        app: &App,
        active: &[InstanceFact],
        means: &Means<'_>,
    ) {
        if let Some(failure) = app.last_task_failure.as_ref().filter(|it| !it.task_id.is_empty()) {
            let fact = mapping::failed(service, failure, means);
            if !self.failed.iter().any(|it| it.id == fact.id) {
                if self.failed.len() == FAILED_MAX {
                    self.failed.pop_front();
                }
                self.failed.push_back(fact);
            }
        }
        self.failed.retain(|it| active.binary_search_by(|other| other.id.cmp(&it.id)).is_err());
        if !self.failed.iter().eq(&self.fact.failed) {
            self.fact.failed = self.failed.iter().cloned().collect();
        }
    }

    /// Of two instances at one address only the younger can be there; returns whether one of these
    /// is the other.
    fn give_way(&mut self, addresses: &Addresses) -> bool {
        let mut gave = false;
        for it in &mut self.fact.active {
            let Some(port) = it.ports.first() else { continue };
            if addresses.get(&(it.host, *port)).is_some_and(|(_, holder)| *holder != it.id) {
                it.ports.clear();
                gave = true;
            }
        }
        gave
    }
}

fn note_address(
    addresses: &mut Addresses,
    (host, port, started_at, id): (IpAddr, u16, Date, InstanceId),
) {
    let holder = addresses.entry((host, port)).or_insert_with(|| (started_at, id.clone()));
    if (started_at, &id) > (holder.0, &holder.1) {
        *holder = (started_at, id);
    }
}

#[cfg(test)]
mod tests;

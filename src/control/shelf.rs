//! The shelf: what people may ask about, and what is stored.
//!
//! It writes the catalogue that the API reads, and keeps descriptions and the collectors' clocks in
//! the store, so that a router that starts again knows its services.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::control::books::{Book, Books};
use crate::control::store::{Embedded, Keep, Keeper, Store, StoreError};
use crate::core::aggregator::{DeploymentError, State};
use crate::core::catalogue::{Catalogue, Cluster, Entry, Launches, Scaling};
use crate::core::fact::{Runner, View};
use crate::core::gc::{Collector, Failures, LastUse};
use crate::core::service::{Defaults, Description, from_core};
use crate::core::slots::ServiceSlots;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;

/// The catalogue is written at most this often, unless an instance changed.
const REWRITE: Duration = Duration::from_millis(200);
/// And at most this often when one did, unless there are few services to write.
const FEW: usize = 2000;
const REWRITE_MIN: Duration = Duration::from_millis(10);
/// Services that are described and do not run, of which more are not remembered.
const DESCRIPTIONS_MAX: usize = 10_000;

/// Keys of the store: descriptions by service-id, and the collectors' clocks.
const DESCRIPTIONS: &str = "^SERVICE-ID#";
const IDLE: &str = "^GC#scheduler-services-gc";
const BROKEN: &str = "^GC#scheduler-broken-services-gc";

/// The key under which a service's description is stored.
pub fn key_of(service: &ServiceId) -> String {
    format!("{DESCRIPTIONS}{service}")
}

/// The description that was stored as this value.
///
/// # Errors
/// It is none, in words.
pub fn described(value: &[u8], user: &str, defaults: &Defaults) -> Result<Description, String> {
    let core = serde_json::from_slice(value).map_err(|it| it.to_string())?;
    from_core(core, user, defaults).map_err(|it| it.to_string())
}

/// What an earlier run of a router left in its store.
#[derive(Debug, Default)]
pub struct Kept {
    /// Services that were described.
    pub descriptions: Vec<Description>,
    /// Clocks of the collector of idle services.
    pub idle: Collector<LastUse>,
    /// Clocks of the collector of broken services.
    pub broken: Collector<Failures>,
}

impl Kept {
    /// Reads it. What cannot be understood is left out, and said.
    ///
    /// # Errors
    /// The store failed.
    pub fn read(store: &Embedded, user: &str, defaults: &Defaults) -> Result<Self, StoreError> {
        let mut kept = Self::default();
        for (key, stored) in store.list(DESCRIPTIONS)? {
            match described(&stored.value, user, defaults) {
                Ok(description) => kept.descriptions.push(description),
                Err(error) => tracing::warn!(key, error, "a stored description is left out"),
            }
        }
        kept.idle = clocks(store, IDLE)?;
        kept.broken = clocks(store, BROKEN)?;
        Ok(kept)
    }
}

fn clocks<T: Default + serde::de::DeserializeOwned>(
    store: &Embedded,
    key: &str,
) -> Result<T, StoreError> {
    let Some(stored) = store.get(key)? else { return Ok(T::default()) };
    Ok(serde_json::from_slice(&stored.value).unwrap_or_else(|error| {
        tracing::warn!(key, %error, "stored clocks of a collector are left out");
        T::default()
    }))
}

/// The catalogue and the store.
#[derive(Debug)]
pub struct Shelf {
    cell: Arc<ArcSwap<Catalogue>>,
    catalogue: Catalogue,
    changed: bool,
    written: Instant,
    keeper: Keeper,
    /// The clocks as they were last handed to the keeper.
    kept: HashMap<&'static str, Vec<u8>>,
}

/// What a catalogue is made of beside the states.
#[derive(Debug)]
pub struct Said<'a> {
    /// Requests.
    pub books: &'a Books,
    /// Decisions.
    pub scalings: &'a HashMap<ServiceId, Scaling>,
    /// Failures in a row, of instances that had some lately.
    pub failures: &'a HashMap<InstanceId, u32>,
    /// Clocks of the collector of idle services.
    pub idle: &'a Collector<LastUse>,
    /// Clocks of the collector of broken services.
    pub broken: &'a Collector<Failures>,
    /// What became of instances.
    pub launches: Launches,
    /// Whether the router takes no new requests.
    pub draining: bool,
    /// The cluster, if there is one.
    pub cluster: Option<Cluster>,
}

impl Shelf {
    /// A shelf with what an earlier run knew.
    pub fn new(
        cell: Arc<ArcSwap<Catalogue>>,
        router_id: Arc<str>,
        keeper: Keeper,
        known: Vec<Description>,
    ) -> Self {
        let catalogue = Catalogue { router_id, ..Catalogue::default() };
        let mut shelf = Self {
            cell,
            catalogue,
            changed: true,
            written: Instant::default(),
            keeper,
            kept: HashMap::new(),
        };
        for description in known {
            shelf.put(&Arc::new(description), None, Arc::default());
        }
        shelf
    }

    /// A service is described.
    pub fn described(&mut self, description: &Arc<Description>, slots: &Arc<ServiceSlots>) {
        if !self.catalogue.services.contains_key(&description.id) {
            self.keeper.keep(Keep {
                key: key_of(&description.id),
                value: Some(description.to_json().to_string().into_bytes()),
            });
        }
        self.put(description, None, slots.clone());
    }

    /// A service is now in this state.
    pub fn changed(&mut self, state: &Arc<State>, slots: &Arc<ServiceSlots>) {
        self.put(&state.description, Some(state), slots.clone());
    }

    /// A service that was wanted will not come, for this reason.
    pub fn refused(&mut self, description: &Arc<Description>, error: &DeploymentError) {
        let id = &description.id;
        tracing::warn!(service = %id, error = error.message(), "a service cannot be started");
        let mut state = State::absent(description.clone());
        state.deployment_error = Some(error.clone());
        self.show(Entry::new(Arc::new(state), false, Arc::default()));
    }

    /// Says in the log what is new about a service.
    pub fn tell_news(&self, state: &State, now: Date) {
        let id = &state.description.id;
        let Some(old) = self.catalogue.services.get(id).map(|it| &it.state) else { return };
        for it in &state.healthy {
            if !old.healthy.iter().any(|before| before.fact.id == it.fact.id) {
                let age_ms = now.since(it.fact.started_at).as_millis() as u64;
                tracing::info!(instance = %it.fact.id, age_ms, "an instance is healthy");
            }
        }
        for it in &state.unhealthy {
            if old.healthy.iter().any(|before| before.fact.id == it.fact.id) {
                tracing::warn!(instance = %it.fact.id, "an instance is no longer healthy");
            }
        }
        match (&old.deployment_error, &state.deployment_error) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                tracing::warn!(service = %id, error = error.key(), "a service cannot be started");
            }
            (Some(_), None) => tracing::info!(service = %id, "a service can be started again"),
            _ => {}
        }
        match (old.doubted_since, state.doubted_since) {
            (None, Some(_)) => {
                let why = &state.doubt;
                tracing::warn!(service = %id, why, "what is told of a service is not believed");
            }
            (Some(since), None) => {
                let lasted = now.since(since);
                tracing::info!(service = %id, ?lasted, "a service is believed again");
            }
            _ => {}
        }
    }

    /// How many instances in this state had not failed in the one before.
    pub fn failed_since(&self, state: &State) -> u64 {
        let old = self.catalogue.services.get(&state.description.id);
        let before = old.map_or(&[][..], |it| &it.state.failed);
        let is_new = |id: &InstanceId| !before.iter().any(|it| it.fact.id == *id);
        state.failed.iter().filter(|it| is_new(&it.fact.id)).count() as u64
    }

    /// Forgets the descriptions that have not been used for longest, when there are too many; not
    /// those of what may run, by its id and its last request.
    pub fn trim(&mut self, may_run: impl Fn(&ServiceId, Option<Date>) -> bool) {
        let absent = |it: &&Arc<Entry>| !it.exists && it.traffic.outstanding == 0;
        let count = self.catalogue.services.values().filter(absent).count();
        if count <= DESCRIPTIONS_MAX {
            return;
        }
        let mut old: Vec<(Option<Date>, ServiceId)> = self
            .catalogue
            .services
            .iter()
            .filter(|(id, it)| absent(it) && !may_run(id, it.last_request))
            .map(|(id, it)| (it.last_request, id.clone()))
            .collect();
        old.sort();
        for (_, id) in old.into_iter().take(count - DESCRIPTIONS_MAX * 9 / 10) {
            self.catalogue.services.remove(&id);
            self.keeper.keep(Keep { key: key_of(&id), value: None });
        }
        self.changed = true;
    }

    /// Something that the catalogue shows has changed.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    /// How long the next [`write`](Self::write) can wait.
    pub fn nap(&self) -> Duration {
        match self.changed {
            true if self.catalogue.services.len() < FEW => Duration::ZERO,
            true => REWRITE_MIN,
            false => REWRITE,
        }
    }

    /// A service has ended; its description stays.
    pub fn gone(&mut self, id: &ServiceId) {
        if let Some(entry) = self.catalogue.services.get(id) {
            if entry.state.doubted_since.is_some() {
                tracing::info!(service = %id, "a service is believed to be gone");
            }
            let description = entry.state.description.clone();
            self.put(&description, None, Arc::default());
        }
    }

    /// All descriptions.
    pub fn descriptions(&self) -> impl Iterator<Item = &Arc<Description>> {
        self.catalogue.services.values().map(|it| &it.state.description)
    }

    /// The description of a service that is known, whether or not it runs.
    pub fn get(&self, id: &ServiceId) -> Option<&Arc<Description>> {
        self.catalogue.services.get(id).map(|it| &it.state.description)
    }

    /// What is known from a scheduler is now in this state.
    pub fn seen(&mut self, runner: Runner, view: View) {
        self.catalogue.scheduler_heard = self.catalogue.scheduler_heard.max(view.heard);
        self.catalogue.views.insert(runner, view);
    }

    /// The scheduler was heard.
    pub fn heard(&mut self, now: Date) {
        self.catalogue.scheduler_heard = Some(now);
    }

    /// The collectors' clocks have moved.
    pub fn keep_collectors(&mut self, idle: &Collector<LastUse>, broken: &Collector<Failures>) {
        for (key, value) in [(IDLE, serde_json::to_vec(idle)), (BROKEN, serde_json::to_vec(broken))]
        {
            match value {
                Ok(value) if self.kept.get(key) == Some(&value) => {}
                Ok(value) => {
                    self.kept.insert(key, value.clone());
                    self.keeper.keep(Keep { key: key.to_owned(), value: Some(value) });
                }
                Err(error) => tracing::error!(%error, key, "cannot be written as JSON"),
            }
        }
    }

    /// Whether it is time to write the catalogue.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.written + self.nap()
    }

    /// Writes the catalogue.
    pub fn write(&mut self, said: &Said<'_>, now: Instant, date: Date) {
        self.changed = false;
        self.written = now;
        self.catalogue.iteration += 1;
        self.catalogue.time = date;
        self.catalogue.draining = said.draining;
        self.catalogue.cluster = said.cluster.clone().map(Arc::new);
        self.catalogue.launches = said.launches;
        self.catalogue.load = said.books.load();
        self.catalogue.clients = said.books.clients();
        for (id, entry) in &mut self.catalogue.services {
            let fresh = refreshed(id, entry, said);
            if let Some(fresh) = fresh {
                *entry = Arc::new(fresh);
            }
        }
        self.cell.store(Arc::new(self.catalogue.clone()));
    }

    fn put(
        &mut self,
        description: &Arc<Description>,
        state: Option<&Arc<State>>,
        slots: Arc<ServiceSlots>,
    ) {
        let shown = state.cloned().unwrap_or_else(|| Arc::new(State::absent(description.clone())));
        self.show(Entry::new(shown, state.is_some(), slots));
    }

    fn show(&mut self, mut entry: Entry) {
        self.changed = true;
        let id = entry.state.description.id.clone();
        if let Some(old) = self.catalogue.services.get(&id) {
            entry.traffic = old.traffic;
            entry.latency = old.latency.clone();
            entry.last_request = old.last_request;
            entry.scaling = old.scaling.clone();
        }
        self.catalogue.services.insert(id, Arc::new(entry));
    }
}

/// The entry with the newest counters, if they differ.
fn refreshed(id: &ServiceId, entry: &Entry, said: &Said<'_>) -> Option<Entry> {
    let book = said.books.get(id);
    let traffic = book.map_or(entry.traffic, |it| it.traffic());
    // It changes only when requests have been completed, so the comparison leaves it out.
    let latency = book.map_or(&entry.latency, Book::latency).clone();
    let last_request = book.and_then(|it| it.last_request).or(entry.last_request);
    let scaling = said.scalings.get(id).cloned().unwrap_or_default();
    let instances = || entry.state.healthy.iter().chain(&entry.state.unhealthy);
    let ejected: Vec<(InstanceId, u32)> = if said.failures.is_empty() {
        Vec::new()
    } else {
        instances()
            .filter_map(|it| said.failures.get(&it.fact.id).map(|n| (it.fact.id.clone(), *n)))
            .collect()
    };
    let at_rest = traffic.outstanding == 0;
    let idle_since = said.idle.entry(id).filter(|_| at_rest).map(|it| it.modified());
    let broken_since = said
        .broken
        .entry(id)
        .filter(|it| it.memory().limit_reached && !it.memory().has_healthy)
        .map(|it| it.modified());
    let same = traffic == entry.traffic
        && last_request == entry.last_request
        && scaling == entry.scaling
        && ejected == entry.ejected
        && idle_since == entry.idle_since
        && broken_since == entry.broken_since;
    (!same).then(|| Entry {
        traffic,
        latency,
        last_request,
        scaling,
        ejected,
        idle_since,
        broken_since,
        ..entry.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::service::testing::description;

    #[test]
    fn of_too_many_descriptions_those_stay_that_may_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("store")).expect("a store");
        let keeper = Keeper::start(store).expect("a thread");
        let count = DESCRIPTIONS_MAX + 1;
        let known = (0..count).map(|at| description(&format!("s{at:05}"))).collect();
        let mut shelf = Shelf::new(Arc::default(), "r".into(), keeper, known);
        let may_run = |id: &ServiceId| id.as_str().ends_with('0');
        let (all, kept) = (count, DESCRIPTIONS_MAX * 9 / 10);
        let ending = |shelf: &Shelf| shelf.descriptions().filter(|it| may_run(&it.id)).count();
        let before = ending(&shelf);
        shelf.trim(|_, _| true);
        assert_eq!(shelf.descriptions().count(), all, "all may run");
        shelf.trim(|id, last| may_run(id) || last.is_some());
        assert_eq!(shelf.descriptions().count(), kept);
        assert_eq!((before, ending(&shelf)), (1001, 1001));
        shelf.trim(|_, _| false);
        assert_eq!(shelf.descriptions().count(), kept, "not too many");
    }
}

//! The shelf: what people may ask about, and what is stored.
//!
//! It writes the catalogue that the API reads, and keeps descriptions and the collectors' clocks in
//! the store, so that a router that starts again knows its services.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::control::books::Books;
use crate::core::aggregator::{Counts, State};
use crate::core::catalogue::{Catalogue, Entry, Scaling};
use crate::core::gc::{Collector, Failures, LastUse};
use crate::core::service::Description;
use crate::core::slots::ServiceSlots;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;

/// The catalogue is written at most this often, unless an instance changed.
const REWRITE: Duration = Duration::from_millis(200);

/// The catalogue and the store.
#[derive(Debug)]
pub struct Shelf {
    cell: Arc<ArcSwap<Catalogue>>,
    catalogue: Catalogue,
    changed: bool,
    written: Instant,
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
}

impl Shelf {
    /// An empty shelf.
    pub fn new(cell: Arc<ArcSwap<Catalogue>>, router_id: Arc<str>) -> Self {
        let catalogue = Catalogue { router_id, ..Catalogue::default() };
        Self { cell, catalogue, changed: true, written: Instant::default() }
    }

    /// A service is described.
    pub fn described(&mut self, description: &Arc<Description>, slots: &Arc<ServiceSlots>) {
        self.put(description, None, slots.clone());
    }

    /// A service is now in this state.
    pub fn changed(&mut self, state: &Arc<State>, slots: &Arc<ServiceSlots>) {
        self.put(&state.description, Some(state), slots.clone());
    }

    /// A service has ended; its description stays.
    pub fn gone(&mut self, id: &ServiceId) {
        if let Some(entry) = self.catalogue.services.get(id) {
            let description = entry.state.description.clone();
            self.put(&description, None, Arc::default());
        }
    }

    /// The scheduler was heard.
    pub fn heard(&mut self, now: Date) {
        self.catalogue.scheduler_heard = Some(now);
    }

    /// The collectors' clocks have moved.
    pub fn keep_collectors(&mut self, idle: &Collector<LastUse>, broken: &Collector<Failures>) {
        let _ = (idle, broken);
    }

    /// Writes the catalogue if it is time to.
    pub fn write(&mut self, said: &Said<'_>, now: Instant, date: Date) {
        if !self.changed && now < self.written + REWRITE {
            return;
        }
        self.changed = false;
        self.written = now;
        self.catalogue.iteration += 1;
        self.catalogue.time = date;
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
        self.changed = true;
        let id = description.id.clone();
        let shown = state.cloned().unwrap_or_else(|| Arc::new(absent(description)));
        let mut entry = Entry::new(shown, state.is_some(), slots);
        if let Some(old) = self.catalogue.services.get(&id) {
            entry.traffic = old.traffic;
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
    let idle_since = said.idle.entry(id).map(|it| it.modified());
    let same = traffic == entry.traffic
        && last_request == entry.last_request
        && scaling == entry.scaling
        && ejected == entry.ejected
        && idle_since == entry.idle_since;
    (!same).then(|| Entry { traffic, last_request, scaling, ejected, idle_since, ..entry.clone() })
}

/// The state of a service that is only described.
fn absent(description: &Arc<Description>) -> State {
    State {
        description: description.clone(),
        healthy: Vec::new(),
        unhealthy: Vec::new(),
        starting: Vec::new(),
        expired: Vec::new(),
        failed: Vec::new(),
        killed: Vec::new(),
        counts: Counts::default(),
        deployment_error: None,
        instability: None,
        boot_time: None,
    }
}

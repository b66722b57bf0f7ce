//! Services that another router has described: what runs them lists them here too, and their owner
//! may be this router, though nobody has asked it for one.

use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration, Instant};
use crate::control::plane::Plane;
use crate::control::shelf;
use crate::control::store::Keep;
use crate::core::fact::{Runner, ServiceFact};
use crate::core::service::Description;
use std::sync::Arc;

/// A description that was not found is looked for again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// Services without a description that are remembered.
const STRANGERS_MAX: usize = 100_000;

/// A service that is listed and not described.
#[derive(Debug)]
pub(super) struct Stranger {
    fact: ServiceFact,
    asked: Instant,
}

impl Plane {
    /// A service is described here, and shared: others are to find it.
    pub(in crate::control) fn share_description(&self, description: &Description) {
        let Some(cluster) = self.cluster.as_ref().filter(|_| self.shares(description)) else {
            return;
        };
        if !description.is_static() {
            let value = Some(description.to_json().to_string().into_bytes());
            cluster.ways.library.keep(Keep { key: shelf::key_of(&description.id), value });
        }
    }

    /// A scheduler lists these; those that are not described are looked for. `whole`: it lists no
    /// others.
    pub(in crate::control) fn meet(
        &mut self,
        runner: Runner,
        (facts, gone): (&[ServiceFact], &[ServiceId]),
        whole: bool,
        now: Instant,
    ) {
        let Some(cluster) = self.cluster.as_mut().filter(|_| runner == Runner::Marathon) else {
            return;
        };
        if whole {
            cluster.strangers.retain(|id, _| facts.iter().any(|it| it.id == *id));
        }
        gone.iter().for_each(|id| {
            cluster.strangers.remove(id);
        });
        for fact in facts {
            let known = self.aggregator.description(&fact.id).is_some();
            if known || cluster.strangers.len() >= STRANGERS_MAX {
                cluster.strangers.remove(&fact.id);
                continue;
            }
            let asked = cluster.strangers.get(&fact.id).map(|it| it.asked);
            let stranger = Stranger { fact: fact.clone(), asked: asked.unwrap_or(now) };
            cluster.strangers.insert(fact.id.clone(), stranger);
            if asked.is_none() {
                cluster.ways.library.fetch(fact.id.clone(), shelf::key_of(&fact.id));
            }
        }
    }

    /// Asks again for what was not found.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        for (id, stranger) in &mut cluster.strangers {
            if now - stranger.asked >= AGAIN {
                stranger.asked = now;
                cluster.ways.library.fetch(id.clone(), shelf::key_of(id));
            }
        }
    }

    /// The description of a service was found, or was not.
    pub(in crate::control) fn found(
        &mut self,
        id: &ServiceId,
        description: Option<Arc<Description>>,
        date: Date,
    ) {
        let Some(description) = description else { return };
        let Some(cluster) = &mut self.cluster else { return };
        let stranger = cluster.strangers.remove(id);
        if self.aggregator.description(id).is_some() {
            return;
        }
        tracing::info!(service = %id, "a service that another router has described");
        self.aggregator.described(description.clone());
        self.shelf.described(&description, &Arc::default());
        if let Some(stranger) = stranger {
            self.aggregator.changed(Runner::Marathon, vec![stranger.fact], &[], date);
        }
    }
}

//! Services that another router has described: what runs them lists them here too, and their owner
//! may be this router, though nobody has asked it for one.
//!
//! Must hold: of each stranger at most one question is under way, and each that was in vain doubles
//! the pause before the next; a list that is too long leaves out new strangers, never known ones.

use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration, Instant};
use crate::control::plane::Plane;
use crate::control::shelf;
use crate::control::store::{Keep, Listing};
use crate::core::fact::{Runner, ServiceFact};
use crate::core::service::Description;
use crate::mesh::clock;
use std::sync::Arc;

/// A description that was not found is looked for again after this, which doubles, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often the library is told what is listed.
const LISTING_EVERY: Duration = Duration::from_secs(5);
/// One complaint in this time that there are too many.
const SAY_CROWD_EVERY: Duration = Duration::from_secs(60);
/// Services without a description that are remembered.
const STRANGERS_MAX: usize = 100_000;

/// A service that is listed and not described.
#[derive(Debug)]
pub(super) struct Stranger {
    fact: ServiceFact,
    asking: Asking,
}

/// A question that is asked again and again.
#[derive(Debug)]
struct Asking {
    /// When it is next asked; none: it is under way.
    next: Option<Instant>,
    pause: Duration,
}

impl Asking {
    /// It is asked now.
    fn begun() -> Self {
        Self { next: None, pause: AGAIN.0 }
    }

    /// Whether it is to be asked now; then it is under way.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|it| it <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// It was in vain.
    fn missed(&mut self, now: Instant) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(AGAIN.1);
    }
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

    /// What a scheduler lists has changed; what is not described is looked for.
    pub(in crate::control) fn meet(
        &mut self,
        runner: Runner,
        (facts, gone): (&[ServiceFact], &[ServiceId]),
        now: Instant,
    ) {
        let Some(cluster) = self.cluster.as_mut().filter(|_| runner == Runner::Marathon) else {
            return;
        };
        gone.iter().for_each(|id| {
            cluster.strangers.remove(id);
        });
        for fact in facts {
            if self.aggregator.description(&fact.id).is_some() {
                cluster.strangers.remove(&fact.id);
            } else if let Some(known) = cluster.strangers.get_mut(&fact.id) {
                known.fact = fact.clone();
            } else if cluster.strangers.len() < STRANGERS_MAX {
                let stranger = Stranger { fact: fact.clone(), asking: Asking::begun() };
                cluster.strangers.insert(fact.id.clone(), stranger);
                cluster.ways.library.fetch(fact.id.clone(), shelf::key_of(&fact.id));
            } else if cluster.said_crowd.is_none_or(|at| now - at >= SAY_CROWD_EVERY) {
                cluster.said_crowd = Some(now);
                let first = fact.id.as_str();
                tracing::warn!(
                    first,
                    "too many services without a description; some are left out, and no stored \
                     description is removed until this router is started again"
                );
            }
        }
    }

    /// Asks again for what was not found.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        for (id, stranger) in &mut cluster.strangers {
            if stranger.asking.is_due(now) {
                cluster.ways.library.fetch(id.clone(), shelf::key_of(id));
            }
        }
    }

    /// The library forgets what is listed nowhere for long, if this router leads: it is told what
    /// is listed, or known here to begin.
    pub(super) fn say_listed(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        if now < cluster.next_listing {
            return;
        }
        cluster.next_listing = now + LISTING_EVERY;
        if !cluster.leads(now) {
            return cluster.ways.library.listed(None);
        }
        // What was left out once is listed and not known here: only what differs is told, so it is
        // not told again.
        if !self.runners.is_sure(Runner::Marathon) || cluster.said_crowd.is_some() {
            return cluster.ways.library.unsure();
        }
        let known = self.aggregator.states().map(|(id, _)| id);
        let astray = self.misplaced.keys();
        let all = known.chain(cluster.strangers.keys()).chain(self.creating.keys()).chain(astray);
        let keys = all.map(shelf::key_of).collect();
        let kind = shelf::key_of(&ServiceId::new(""));
        cluster.ways.library.listed(Some(Listing { kind, keys }));
    }

    /// The description of a service was found, or was not.
    pub(in crate::control) fn found(
        &mut self,
        id: &ServiceId,
        description: Option<Arc<Description>>,
        date: Date,
    ) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(description) = description else {
            if let Some(stranger) = cluster.strangers.get_mut(id) {
                stranger.asking.missed(clock::now());
            }
            return;
        };
        let stranger = cluster.strangers.remove(id);
        if self.aggregator.description(id).is_some() {
            return;
        }
        tracing::info!(service = %id, "a service that another router has described");
        self.aggregator.described(description.clone());
        self.shelf.described(&description, &Arc::default());
        if let Some(stranger) = stranger {
            // Now that it is described it may turn out to belong elsewhere.
            let mut facts = vec![stranger.fact];
            self.listed(Runner::Marathon, &mut facts);
            self.aggregator.changed(Runner::Marathon, facts, &[], date);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_asked_for_once_at_a_time_and_less_and_less_often() {
        let mut it = Asking::begun();
        let at = |secs: u64| Instant(secs * 1_000_000_000);
        assert!(!it.is_due(at(1000)), "the first question is under way");
        let mut pauses = Vec::new();
        let mut now = 0;
        for _ in 0..8 {
            it.missed(at(now));
            let due = (now..).find(|secs| it.is_due(at(*secs))).expect("some time");
            pauses.push(due - now);
            now = due;
            assert!(!it.is_due(at(now + 1000)), "one at a time");
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
    }
}

//! What schedulers say, as far as it is believed.
//!
//! Must hold: nothing is scaled, ended or collected on what is not believed
//! ([`Plane::is_sure`]); it is looked again right before each order. A change in how far a
//! scheduler is believed is said in the log, once.

use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration, Instant};
use crate::control::mutations::Mutation;
use crate::control::plane::Plane;
use crate::core::aggregator::State;
use crate::core::fact::{Order, Runner, ServiceFact, Sight, View};

/// A misplaced service that is still listed after so long is ended once more.
const AGAIN: Duration = Duration::from_secs(10);

/// A service that is listed where it does not belong.
#[derive(Debug)]
pub(super) struct Misplaced {
    runner: Runner,
    is_doubted: bool,
    /// When its end was last asked for.
    asked: Option<Instant>,
}

impl Plane {
    /// A scheduler lists these services. One that belongs to another scheduler is not routed to,
    /// and is to be ended where it is (control-plane §11.7).
    pub(super) fn listed(&mut self, runner: Runner, facts: &mut Vec<ServiceFact>) {
        if self.runners.count() > 1 {
            self.part_misplaced(runner, facts);
        }
        for fact in facts.iter() {
            self.creating.remove(&fact.id);
            self.refusals.remove(&fact.id);
        }
    }

    fn part_misplaced(&mut self, runner: Runner, facts: &mut Vec<ServiceFact>) {
        let (runners, aggregator, misplaced) =
            (&self.runners, &self.aggregator, &mut self.misplaced);
        facts.retain(|fact| {
            let description = aggregator.description(&fact.id);
            let belongs = description.and_then(|it| runners.of(&it.parameters));
            if belongs.is_none_or(|it| it == runner) {
                return true;
            }
            let asked = misplaced.get(&fact.id).and_then(|it| it.asked);
            let is_doubted = !fact.doubt.is_empty();
            misplaced.insert(fact.id.clone(), Misplaced { runner, is_doubted, asked });
            false
        });
    }

    /// This scheduler no longer lists what does not hold here.
    pub(super) fn left(&mut self, runner: Runner, is_listed: impl Fn(&ServiceId) -> bool) {
        self.misplaced.retain(|id, it| it.runner != runner || is_listed(id));
    }

    /// Ends what is where it does not belong. Routers that are told otherwise may route to it, so
    /// where there are several the leader closes it first, like any other service.
    pub(super) fn end_misplaced(&mut self, now: Instant) {
        let leads = self.cluster.as_ref().is_none_or(|it| it.leads(now));
        let mut misplaced = std::mem::take(&mut self.misplaced);
        for (service, it) in &mut misplaced {
            let rests = it.asked.is_some_and(|at| now - at < AGAIN);
            let shared = self.cluster.is_some() && it.runner == Runner::Marathon;
            if rests || it.is_doubted || !self.runners.is_sure(it.runner) || shared && !leads {
                continue;
            }
            let runner = it.runner.name();
            if !shared {
                tracing::warn!(%service, runner, "a misplaced service is ended");
                self.runners.order(it.runner, Order::Delete(service.clone()));
            } else if self.aggregator.state(service).is_none()
                && !self.mutations.contains_key(service)
                && !self.creating.contains_key(service)
            {
                tracing::warn!(%service, runner, "a misplaced service is closed");
                self.close(service, Vec::new(), now);
            } else {
                continue; // its queue is in use, where it belongs
            }
            it.asked = Some(now);
        }
        self.misplaced = misplaced;
    }

    /// Whether a service that was misplaced when it began to close may be ended there still: then
    /// nobody asked for it, and what that was decided on must hold.
    pub(super) fn may_end_astray(&self, service: &ServiceId, now: Instant) -> bool {
        let Some(it) = self.misplaced.get(service) else { return true };
        let leads = self.cluster.as_ref().is_none_or(|it| it.leads(now));
        let is_sure = !it.is_doubted && self.runners.is_sure(it.runner);
        leads && is_sure && self.astray(service).is_some()
    }

    /// Where a misplaced service is that runs nowhere else.
    pub(super) fn astray(&self, service: &ServiceId) -> Option<Runner> {
        let it = self.misplaced.get(service)?;
        let is_here = self.aggregator.state(service).is_some();
        (!is_here && !self.creating.contains_key(service)).then_some(it.runner)
    }

    /// What is known from a scheduler is now in this state.
    pub(super) fn seen(&mut self, runner: Runner, view: View, now: Instant) {
        self.shelf.seen(runner, view.clone());
        if view.sight == Sight::Fresh {
            self.answered_again(runner);
        }
        let name = runner.name();
        let Some(before) = self.runners.seen(runner, view.clone(), now) else { return };
        let lasted = view.since.since(before.since);
        match view.sight {
            Sight::Fresh if before.sight == Sight::Unseen => {
                tracing::info!(runner = name, place = view.place, "the scheduler was heard");
            }
            Sight::Fresh => {
                let was = before.sight.name();
                tracing::info!(runner = name, was, ?lasted, "the scheduler is believed again");
            }
            Sight::Unseen | Sight::Stale | Sight::Doubted => {
                let (sight, why) = (view.sight.name(), view.why);
                tracing::warn!(
                    runner = name,
                    sight,
                    why,
                    "what the scheduler says is not believed; instances serve on, nothing is \
                     scaled or collected"
                );
            }
        }
    }

    /// Before anything is decided: an answer grows old while the next one is waited for.
    pub(super) fn grow_old(&mut self, now: Instant, date: Date) {
        for (runner, view) in self.runners.outdated(now, date) {
            self.seen(runner, view, now);
        }
    }

    /// Ends of shared services and instances that nobody asked for are given up when what they were
    /// decided on is doubted meanwhile: consent takes a while.
    pub(super) fn spare_doubted(&mut self) {
        let is_spared = |(id, it): &(&ServiceId, &Mutation)| match it {
            Mutation::Closing(_, replies) if replies.is_empty() => !self.is_sure_of(id),
            Mutation::Asking(_) => !self.is_sure_of(id),
            _ => false,
        };
        let spared = self.mutations.iter().filter(is_spared).map(|(id, _)| id.clone());
        let spared: Vec<ServiceId> = spared.collect();
        for service in spared {
            match self.mutations.remove(&service) {
                Some(Mutation::Closing(..)) => self.delete_over(&service),
                Some(Mutation::Asking(asked)) => {
                    for instance in asked {
                        self.shared_kill_over(&instance);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether what is known of a service is good enough to decide on.
    pub(super) fn is_sure(&self, state: &State) -> bool {
        self.runners.is_sure_of(state)
    }

    /// As [`is_sure`](Self::is_sure), of a service by its id.
    pub(super) fn is_sure_of(&self, service: &ServiceId) -> bool {
        self.aggregator.state(service).is_none_or(|it| self.is_sure(it))
    }
}

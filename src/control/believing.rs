//! What schedulers say, as far as it is believed.
//!
//! Must hold: nothing is scaled or collected on what is not believed ([`Plane::is_sure`]); a change
//! in how far a scheduler is believed is said in the log, once.

use crate::base::ids::ServiceId;
use crate::control::plane::Plane;
use crate::core::aggregator::State;
use crate::core::fact::{Order, Runner, ServiceFact, Sight, View};

impl Plane {
    /// A scheduler lists these services. One that belongs to another scheduler is ended where it
    /// is (control-plane §11.7), and not routed to.
    pub(super) fn listed(&mut self, runner: Runner, facts: &mut Vec<ServiceFact>) {
        for fact in facts.iter() {
            self.creating.remove(&fact.id);
        }
        if self.runners.count() < 2 {
            return;
        }
        let (runners, aggregator) = (&self.runners, &self.aggregator);
        facts.retain(|fact| {
            let description = aggregator.description(&fact.id);
            let belongs = description.and_then(|it| runners.of(&it.parameters));
            if belongs.is_none_or(|it| it == runner) {
                return true;
            }
            let (service, runner_name) = (&fact.id, runner.name());
            tracing::warn!(%service, runner = runner_name, "a misplaced service is ended");
            runners.order(runner, Order::Delete(fact.id.clone()));
            false
        });
    }

    /// What is known from a scheduler is now in this state.
    pub(super) fn seen(&mut self, runner: Runner, view: View) {
        self.shelf.seen(runner, view.clone());
        let name = runner.name();
        let Some(before) = self.runners.seen(runner, view.clone()) else { return };
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

    /// Whether what is known of a service is good enough to decide on.
    pub(super) fn is_sure(&self, state: &State) -> bool {
        state.doubt.is_empty() && state.runner.is_none_or(|it| self.runners.is_sure(it))
    }

    /// As [`is_sure`](Self::is_sure), of a service by its id.
    pub(super) fn is_sure_of(&self, service: &ServiceId) -> bool {
        self.aggregator.state(service).is_none_or(|it| self.is_sure(it))
    }
}

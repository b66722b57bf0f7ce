//! All services: who said what about them, and which have changed.

use super::deployment::DeploymentRules;
use super::health::Outcome;
use super::service::Service;
use super::state::State;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::Date;
use crate::core::fact::{Order, Runner, ServiceFact};
use crate::core::service::Description;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

type Map<V> = HashMap<ServiceId, V, foldhash::fast::FixedState>;

/// What is known of all services. A service is known while its scheduler lists it, or while it is
/// described as static.
#[derive(Debug)]
pub struct Aggregator {
    rules: DeploymentRules,
    descriptions: Map<Arc<Description>>,
    services: Map<Service>,
    /// Services whose state may have changed since it was last given out.
    touched: BTreeSet<ServiceId>,
}

impl Aggregator {
    /// An aggregator that knows nothing.
    pub fn new(rules: DeploymentRules) -> Self {
        Self {
            rules,
            descriptions: Map::default(),
            services: Map::default(),
            touched: BTreeSet::new(),
        }
    }

    /// A service is described; wanted before its scheduler lists it. The servers of a static
    /// service are known from here on.
    pub fn described(&mut self, description: Arc<Description>) {
        let id = description.id.clone();
        let known = self.services.get_mut(&id);
        if known.is_some() || description.is_static() {
            self.touched.insert(id.clone());
        }
        match known {
            Some(service) => service.described(Arc::clone(&description)),
            None if description.is_static() => {
                self.services.insert(id.clone(), Service::new(Arc::clone(&description)));
            }
            None => {}
        }
        self.descriptions.insert(id, description);
    }

    /// A description has been withdrawn; the service is no longer known.
    pub fn undescribed(&mut self, id: &ServiceId) {
        self.descriptions.remove(id);
        if self.services.remove(id).is_some() {
            self.touched.insert(id.clone());
        }
    }

    /// A scheduler lists its services: a whole. Those of it that are missing are gone; what has no
    /// description is left out.
    pub fn listed(&mut self, runner: Runner, facts: Vec<ServiceFact>, now: Date) {
        let mut present: HashSet<ServiceId, foldhash::fast::FixedState> = HashSet::default();
        for fact in facts {
            present.insert(fact.id.clone());
            self.heard(runner, fact, now);
        }
        let touched = &mut self.touched;
        self.services.retain(|id, service| {
            let kept = service.runner != Some(runner) || present.contains(id);
            if !kept {
                touched.insert(id.clone());
            }
            kept
        });
    }

    /// A scheduler says what is new: these services are so, those are gone. All others are as they
    /// were; what has no description is left out.
    pub fn changed(
        &mut self,
        runner: Runner,
        facts: Vec<ServiceFact>,
        gone: &[ServiceId],
        now: Date,
    ) {
        for fact in facts {
            self.heard(runner, fact, now);
        }
        for id in gone {
            if self.services.get(id).is_some_and(|it| it.runner == Some(runner)) {
                self.services.remove(id);
                self.touched.insert(id.clone());
            }
        }
    }

    fn heard(&mut self, runner: Runner, fact: ServiceFact, now: Date) {
        let id = fact.id.clone();
        let Some(description) = self.descriptions.get(&id).filter(|it| !it.is_static()) else {
            return;
        };
        let known = self.services.contains_key(&id);
        let service = self
            .services
            .entry(id.clone())
            .or_insert_with(|| Service::new(Arc::clone(description)));
        service.runner = Some(runner);
        if service.listed(fact, now) || !known {
            self.touched.insert(id);
        }
    }

    /// A health check of an instance came to this.
    pub fn checked(&mut self, instance: &InstanceId, outcome: Outcome, now: Date) {
        self.with(instance, |service| service.checked(instance, outcome, now));
    }

    /// The router that checks an instance says how it is.
    pub fn told(&mut self, instance: &InstanceId, healthy: bool, now: Date) {
        self.with(instance, |service| service.told(instance, healthy, now));
    }

    /// An instance is to be replaced: somebody said so, or it failed too often.
    pub fn expire(&mut self, instance: &InstanceId) {
        self.with(instance, |service| service.expire(instance));
    }

    /// An instance was ended on purpose; from here on it takes no requests, listed or not.
    pub fn killed(&mut self, instance: &InstanceId) {
        self.with(instance, |service| service.kill(instance));
    }

    /// Time has passed; wanted once a second or oftener. Pushes an [`Order::Fail`] for each
    /// instance that was not healthy within its grace.
    pub fn tick(&mut self, orders: &mut Vec<Order>, now: Date) {
        for (id, service) in &mut self.services {
            if service.due <= now && service.tick(orders, now) {
                self.touched.insert(id.clone());
            }
        }
    }

    /// The services whose state is another than when this was last asked, by id; none as state:
    /// gone.
    pub fn changes(&mut self) -> Vec<(ServiceId, Option<Arc<State>>)> {
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(service) = self.services.get_mut(&id) else {
                changes.push((id, None));
                continue;
            };
            let state = service.gather(&self.rules.of(service.runner));
            if service.state.as_deref() != Some(&state) {
                let state = Arc::new(state);
                service.state = Some(Arc::clone(&state));
                changes.push((id, Some(state)));
            }
        }
        changes
    }

    /// A service's state, as last given out by [`Aggregator::changes`].
    pub fn state(&self, id: &ServiceId) -> Option<&Arc<State>> {
        self.services.get(id).and_then(|service| service.state.as_ref())
    }

    /// All states, as last given out, in no order.
    pub fn states(&self) -> impl Iterator<Item = (&ServiceId, &Arc<State>)> {
        self.services.iter().filter_map(|(id, service)| Some((id, service.state.as_ref()?)))
    }

    /// A service's description, whether or not it is known to a scheduler.
    pub fn description(&self, id: &ServiceId) -> Option<&Arc<Description>> {
        self.descriptions.get(id)
    }

    fn with(&mut self, instance: &InstanceId, told: impl FnOnce(&mut Service) -> bool) {
        let id = ServiceId::new(instance.service());
        if self.services.get_mut(&id).is_some_and(told) {
            self.touched.insert(id);
        }
    }
}

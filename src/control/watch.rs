//! Whom the prober checks.

use crate::base::address::SocketAddr;
use crate::base::ids::InstanceId;
use crate::base::time::Instant;
use crate::control::plane::Plane;
use crate::control::prober::{Health, Probe, Target};
use crate::core::aggregator::{Instance, State};
use crate::core::service::Origin;
use std::collections::HashSet;

impl Plane {
    pub(super) fn forget(&mut self, instance: &InstanceId) {
        self.watched.remove(instance);
        self.failures.remove(instance);
        self.prober.tell(Probe::Forget(instance.clone()));
    }

    /// Tells the prober whom to check.
    pub(super) fn watch(&mut self, state: &State, now: Instant) {
        let id = &state.description.id;
        if matches!(state.description.origin, Origin::Static { checked: false, .. }) {
            return;
        }
        let mut present = HashSet::new();
        let healthy = state.healthy.iter().map(|it| (it, Health::Serving));
        for (it, health) in healthy.chain(state.unhealthy.iter().map(|it| (it, Health::Down))) {
            let instance = &it.fact.id;
            present.insert(instance);
            self.launches.launched += u64::from(self.is_launched_anew(state, instance));
            if !self.checks(state, instance, now) {
                if let Some(Some(_)) = self.watched.insert(instance.clone(), None) {
                    self.prober.tell(Probe::Forget(instance.clone()));
                }
                continue;
            }
            match self.watched.insert(instance.clone(), Some(health)).flatten() {
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

    fn is_launched_anew(&self, state: &State, instance: &InstanceId) -> bool {
        !state.description.is_static() && !self.watched.contains_key(instance)
    }

    fn target(&self, state: &State, it: &Instance, health: Health) -> Option<Target> {
        let parameters = &state.description.parameters;
        let port = *it.fact.ports.get(usize::from(parameters.health_check_port_index))?;
        let service = &state.description.id;
        Some(Target {
            id: it.fact.id.clone(),
            service: service.clone(),
            instance: self.publisher.instance(service, &it.fact.id)?.clone(),
            slots: self.publisher.slots(service)?.clone(),
            address: SocketAddr::new(it.fact.host, port),
            path: parameters.health_check_url.clone(),
            interval: parameters.health_check_interval,
            health,
        })
    }
}

//! Whom the prober checks.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::Instant;
use crate::control::plane::Plane;
use crate::control::prober::{Health, Probe, Target};
use crate::core::aggregator::{Instance, State};
use crate::core::service::Origin;
use std::collections::HashMap;

/// Instances that are there, by service, and how those are believed to be that are checked here:
/// what one service costs does not grow with the others.
pub(super) type Watched = HashMap<ServiceId, HashMap<InstanceId, Option<Health>>>;

impl Plane {
    /// A service is gone, and all its instances with it.
    pub(super) fn forget(&mut self, service: &ServiceId) {
        for instance in self.watched.remove(service).into_iter().flatten() {
            self.forget_one(instance.0);
        }
    }

    fn forget_one(&mut self, instance: InstanceId) {
        self.failures.remove(&instance);
        self.prober.tell(Probe::Forget(instance));
    }

    /// An instance is elsewhere than it was: it is checked there, as a new one.
    pub(super) fn watch_anew(&mut self, instance: &InstanceId) {
        if let Some(watched) = self.watched.get_mut(&ServiceId::new(instance.service())) {
            watched.remove(instance);
            self.forget_one(instance.clone());
        }
    }

    /// Tells the prober whom to check.
    pub(super) fn watch(&mut self, state: &State, now: Instant) {
        let id = &state.description.id;
        if matches!(state.description.origin, Origin::Static { checked: false, .. }) {
            return;
        }
        let mut before = self.watched.remove(id).unwrap_or_default();
        let mut present = HashMap::new();
        let healthy = state.healthy.iter().map(|it| (it, Health::Serving));
        for (it, health) in healthy.chain(state.unhealthy.iter().map(|it| (it, Health::Down))) {
            let instance = &it.fact.id;
            let known = before.remove(instance);
            if known.is_none() {
                // Once it is known where it listens.
                if self.target(state, it, health).is_none() {
                    continue;
                }
                self.launches.launched += u64::from(!state.description.is_static());
            }
            let known = known.flatten();
            if !self.checks(state, instance, now) {
                if known.is_some() {
                    self.prober.tell(Probe::Forget(instance.clone()));
                }
                present.insert(instance.clone(), None);
                continue;
            }
            match known {
                Some(before) if before == health => {}
                Some(_) => self.prober.tell(Probe::Known(instance.clone(), health)),
                None => {
                    if let Some(target) = self.target(state, it, health) {
                        self.prober.tell(Probe::Watch(Box::new(target)));
                    }
                }
            }
            present.insert(instance.clone(), Some(health));
        }
        for instance in before.into_keys() {
            self.forget_one(instance);
        }
        if !present.is_empty() {
            self.watched.insert(id.clone(), present);
        }
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

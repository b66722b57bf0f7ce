//! From what is known of services to the world that the shards see.
//!
//! The only writer of worlds and rosters. It keeps the `Arc<Instance>` of every instance that
//! exists, so that slots survive a new version of their service, and every world that a shard may
//! still use: only this thread frees worlds.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::Date;
use crate::core::aggregator::{DeploymentError, State};
use crate::core::service::{Description, Origin, static_instance_id};
use crate::core::slots::{Gate, Instance, Roster, ServiceSlots};
use crate::core::world::{Member, Service, World};
use arc_swap::ArcSwap;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

/// Publishes worlds.
#[derive(Debug)]
pub struct Publisher {
    cell: Arc<ArcSwap<World>>,
    next: World,
    changed: bool,
    published: VecDeque<Arc<World>>,
    instances: HashMap<ServiceId, HashMap<InstanceId, Arc<Instance>>>,
    /// Instances that left: as long as anybody still holds one, it must return as the same.
    departed: HashMap<InstanceId, Weak<Instance>>,
    slots: HashMap<ServiceId, Arc<ServiceSlots>>,
}

impl Publisher {
    /// A publisher of an empty world.
    pub fn new(cell: Arc<ArcSwap<World>>) -> Self {
        Self {
            cell,
            next: World::default(),
            changed: false,
            published: VecDeque::new(),
            instances: HashMap::new(),
            departed: HashMap::new(),
            slots: HashMap::new(),
        }
    }

    /// The instances of a service, in order of start and id.
    pub fn instances(&self, service: &ServiceId) -> Vec<Arc<Instance>> {
        let known = self.instances.get(service);
        let mut all: Vec<_> = known.into_iter().flat_map(HashMap::values).cloned().collect();
        all.sort_by(|a, b| (a.started_at, a.suffix()).cmp(&(b.started_at, b.suffix())));
        all
    }

    /// A service is wanted: it is in the world from now on, with its queue, though without
    /// instances yet.
    pub fn await_service(&mut self, description: &Arc<Description>, slots: &Arc<ServiceSlots>) {
        if self.next.get(&description.id).is_none() {
            self.slots.insert(description.id.clone(), slots.clone());
            self.put(description, Vec::new(), None);
        }
    }

    /// Routers share a service: its new instances have no slots until they are divided.
    pub fn share(&mut self, service: &ServiceId) {
        self.slots.entry(service.clone()).or_default().share();
    }

    /// Servers of the router's own, of which nobody is told.
    pub fn keep(&mut self, description: &Arc<Description>) {
        let Origin::Static { addresses, .. } = &description.origin else { return };
        let limit = description.parameters.concurrency_level;
        let one = |address: &SocketAddr| {
            let id = static_instance_id(&description.id, address);
            let instance = Arc::new(Instance::new(id.suffix(), *address, Date(0), limit));
            Member { instance, healthy: true, expired: false, starting: false }
        };
        let members: Vec<Member> = addresses.iter().map(one).collect();
        let slots = self.slots.entry(description.id.clone()).or_default().clone();
        slots.publish(Arc::new(roster(&members, description)));
        self.put(description, members, None);
    }

    /// A service is now in this state. Returns those of its instances that are elsewhere than they
    /// were.
    pub fn update(&mut self, state: &State) -> Vec<InstanceId> {
        let slots = self.slots.entry(state.description.id.clone()).or_default().clone();
        let mut moved = Vec::new();
        let members = self.members(state, slots.is_shared(), &mut moved);
        slots.publish(Arc::new(roster(&members, &state.description)));
        self.put(&state.description, members, state.deployment_error.clone());
        if let Origin::Static { name, .. } = &state.description.origin
            && !self.next.names.contains_key(name.as_str())
        {
            // Copied once for all that come before the next publication.
            let names = Arc::make_mut(&mut self.next.names);
            names.insert(name.as_str().into(), state.description.id.clone());
        }
        moved
    }

    /// A service that was wanted will not come, for this reason: whoever wants it is told.
    pub fn refuse(&mut self, description: &Arc<Description>, why: DeploymentError) {
        self.put(description, Vec::new(), Some(why));
    }

    /// A service is gone.
    pub fn remove(&mut self, id: &ServiceId) {
        if self.next.get(id).is_none() {
            return;
        }
        if let Some(slots) = self.slots.remove(id) {
            slots.publish(Arc::new(Roster::new(
                Vec::new(),
                0,
                crate::core::service::LoadBalancing::Oldest,
            )));
        }
        for (id, instance) in self.instances.remove(id).unwrap_or_default() {
            self.departed.insert(id, Arc::downgrade(&instance));
        }
        self.next.remove(id);
        self.changed = true;
    }

    /// Publishes what has changed since the last call; whether anything has.
    pub fn publish(&mut self) -> bool {
        if !std::mem::take(&mut self.changed) {
            return false;
        }
        self.next.version += 1;
        let world = Arc::new(self.next.clone());
        self.published.push_back(world.clone());
        self.cell.store(world);
        true
    }

    /// Frees the worlds that no shard uses any more.
    pub fn free(&mut self, oldest_used: u64) {
        while self.published.front().is_some_and(|it| it.version < oldest_used) {
            self.published.pop_front();
        }
        self.departed.retain(|_, it| it.strong_count() > 0);
    }

    /// Whether an instance of this id exists.
    pub fn has(&self, id: &InstanceId) -> bool {
        self.instance(&ServiceId::new(id.service()), id).is_some()
    }

    /// The instance of this id.
    pub fn instance(&self, service: &ServiceId, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(service)?.get(id)
    }

    /// What the versions of a service share.
    pub fn slots(&self, service: &ServiceId) -> Option<&Arc<ServiceSlots>> {
        self.slots.get(service)
    }

    fn put(
        &mut self,
        description: &Arc<Description>,
        members: Vec<Member>,
        deployment_error: Option<DeploymentError>,
    ) {
        let slots = self.slots.entry(description.id.clone()).or_default().clone();
        self.next.insert(Arc::new(Service {
            description: description.clone(),
            slots,
            members: members.into(),
            deployment_error,
        }));
        self.changed = true;
    }

    fn members(&mut self, state: &State, shared: bool, moved: &mut Vec<InstanceId>) -> Vec<Member> {
        let known = self.instances.entry(state.description.id.clone()).or_default();
        let limit = state.description.parameters.concurrency_level;
        let mut members = Vec::with_capacity(state.healthy.len() + state.unhealthy.len());
        let both = [(true, &state.healthy), (false, &state.unhealthy)];
        for (healthy, it) in
            both.iter().flat_map(|(healthy, list)| list.iter().map(|it| (*healthy, it)))
        {
            let Some(port) = it.fact.ports.first() else { continue };
            let address = SocketAddr::new(it.fact.host, *port);
            // What moved is another one: its connections lead to where it was.
            if known.get(&it.fact.id).is_some_and(|it| it.address != address) {
                known.remove(&it.fact.id);
                moved.push(it.fact.id.clone());
            }
            let instance = known
                .entry(it.fact.id.clone())
                .or_insert_with(|| {
                    let same = self.departed.get(&it.fact.id).and_then(Weak::upgrade);
                    if let Some(same) = same.filter(|it| it.address == address) {
                        return same;
                    }
                    let suffix = it.fact.id.suffix();
                    let free = if shared { 0 } else { limit };
                    let fresh = Instance::new(suffix, address, it.fact.started_at, free);
                    if shared {
                        fresh.word.close(Gate::Foreign);
                    }
                    Arc::new(fresh)
                })
                .clone();
            let starting = state.starting.iter().any(|start| start.fact.id == it.fact.id);
            members.push(Member { instance, healthy, expired: it.is_expired(), starting });
        }
        if known.len() > members.len() {
            let gone = |it: &Arc<Instance>| !members.iter().any(|m| Arc::ptr_eq(&m.instance, it));
            let departed = &mut self.departed;
            known.retain(|id, it| {
                let stays = !gone(it);
                if !stays {
                    departed.insert(id.clone(), Arc::downgrade(it));
                }
                stays
            });
        }
        members
    }
}

/// The serveable instances in order of preference (control-plane §5.3).
fn roster(members: &[Member], description: &Description) -> Roster {
    let mut live: Vec<&Member> = members.iter().filter(|it| it.healthy && !it.expired).collect();
    live.sort_by_key(|it| (it.instance.started_at, it.instance.suffix()));
    let mut old: Vec<&Member> = members.iter().filter(|it| it.healthy && it.expired).collect();
    old.sort_by_key(|it| (Reverse(it.instance.started_at), it.instance.suffix()));
    let count = live.len();
    let instances = live.into_iter().chain(old).map(|it| it.instance.clone()).collect();
    Roster::new(instances, count, description.parameters.load_balancing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::aggregator;
    use crate::core::fact::InstanceFact;
    use crate::core::service::testing::description;

    fn state(port: u16) -> State {
        let description = Arc::new(description("s"));
        let id = InstanceId::new(&description.id, "1");
        let fact = InstanceFact::new(id, [127, 0, 0, 1].into(), vec![port], Date(1));
        let (health_check_status, health_check_error) = (None, None);
        let it =
            aggregator::Instance { fact, healthy: true, health_check_status, health_check_error };
        State { healthy: vec![Arc::new(it)], ..State::absent(description) }
    }

    #[test]
    fn an_instance_that_moves_is_another_one() {
        let mut publisher = Publisher::new(Arc::default());
        let id = ServiceId::new("s");
        let at = |publisher: &mut Publisher, port| {
            let moved = publisher.update(&state(port));
            let all = publisher.instances(&id);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].address.port(), port, "its address is kept");
            (all[0].clone(), moved.len())
        };
        let (first, moved) = at(&mut publisher, 1);
        assert_eq!(moved, 0);
        let (same, moved) = at(&mut publisher, 1);
        assert!(Arc::ptr_eq(&first, &same) && moved == 0);
        let (other, moved) = at(&mut publisher, 2);
        assert!(!Arc::ptr_eq(&first, &other) && moved == 1);
        // Away for a while, and back: as long as somebody has it, it is the same.
        publisher.remove(&ServiceId::new("s"));
        let (back, _) = at(&mut publisher, 2);
        assert!(Arc::ptr_eq(&other, &back));
        publisher.remove(&ServiceId::new("s"));
        let (elsewhere, _) = at(&mut publisher, 3);
        assert!(!Arc::ptr_eq(&other, &elsewhere));
    }
}

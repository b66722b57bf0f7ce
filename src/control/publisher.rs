//! From what is known of services to the world that the shards see.
//!
//! The only writer of worlds and rosters. It keeps the `Arc<Instance>` of every instance that
//! exists, so that slots survive a new version of their service, and every world that a shard may
//! still use: only this thread frees worlds.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::Date;
use crate::core::aggregator::{self, State};
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

    /// A service is now in this state.
    pub fn update(&mut self, state: &State) {
        let slots = self.slots.entry(state.description.id.clone()).or_default().clone();
        let members = self.members(state, slots.is_shared());
        slots.publish(Arc::new(roster(&members, &state.description)));
        self.put(&state.description, members, state.deployment_error);
        if let Origin::Static { name, .. } = &state.description.origin
            && !self.next.names.contains_key(name.as_str())
        {
            let mut names = (*self.next.names).clone();
            names.insert(name.as_str().into(), state.description.id.clone());
            self.next.names = Arc::new(names);
        }
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
        deployment_error: Option<aggregator::DeploymentError>,
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

    fn members(&mut self, state: &State, shared: bool) -> Vec<Member> {
        let known = self.instances.entry(state.description.id.clone()).or_default();
        let limit = state.description.parameters.concurrency_level;
        let mut members = Vec::with_capacity(state.healthy.len() + state.unhealthy.len());
        let both = [(true, &state.healthy), (false, &state.unhealthy)];
        for (healthy, it) in
            both.iter().flat_map(|(healthy, list)| list.iter().map(|it| (*healthy, it)))
        {
            let Some(port) = it.fact.ports.first() else { continue };
            let instance = known
                .entry(it.fact.id.clone())
                .or_insert_with(|| {
                    if let Some(same) = self.departed.get(&it.fact.id).and_then(Weak::upgrade) {
                        return same;
                    }
                    let address = SocketAddr::new(it.fact.host, *port);
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

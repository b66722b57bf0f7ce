//! The world as the shards see it: every service, whole, dated; the newest wins.
//!
//! The control thread writes a new world by changing one leaf of the former; what did not change is
//! shared. A shard compares two worlds by their addresses and so finds what changed without a list.

use crate::base::ids::ServiceId;
use crate::core::aggregator::DeploymentError;
use crate::core::service::Description;
use crate::core::slots::{Instance, ServiceSlots};
use std::collections::HashMap;
use std::sync::Arc;

const FAN: usize = 64;

/// One version of a service, whole.
#[derive(Debug)]
pub struct Service {
    /// What it is.
    pub description: Arc<Description>,
    /// Who waits and which instances serve; shared by all versions.
    pub slots: Arc<ServiceSlots>,
    /// All instances that exist, in no order.
    pub members: Box<[Member]>,
    /// Why it cannot be started.
    pub deployment_error: Option<DeploymentError>,
}

/// An instance with what is said of it in this version.
#[derive(Clone, Debug)]
pub struct Member {
    /// The instance.
    pub instance: Arc<Instance>,
    /// It passed its last checks.
    pub healthy: bool,
    /// It is to be replaced.
    pub expired: bool,
    /// It is young and was never healthy.
    pub starting: bool,
}

/// All services.
#[derive(Clone, Debug)]
pub struct World {
    /// Counts publications.
    pub version: u64,
    /// Static services by the name requests use.
    pub names: Arc<HashMap<Box<str>, ServiceId, foldhash::fast::FixedState>>,
    tree: Arc<[Arc<[Leaf]>]>,
    len: usize,
}

type Leaf = Arc<[Arc<Service>]>;

impl Service {
    /// Its id.
    pub fn id(&self) -> &ServiceId {
        &self.description.id
    }
}

impl Default for World {
    fn default() -> Self {
        let leaf: Leaf = Arc::from(Vec::new());
        let middle: Arc<[Leaf]> = vec![leaf; FAN].into();
        Self { version: 0, names: Arc::default(), tree: vec![middle; FAN].into(), len: 0 }
    }
}

impl World {
    /// The service of this id.
    pub fn get(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        let (top, middle) = places(id);
        self.tree[top][middle].iter().find(|it| it.id() == id)
    }

    /// The static service of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Service>> {
        self.get(self.names.get(name)?)
    }

    /// Puts a new version of a service in.
    pub fn insert(&mut self, service: Arc<Service>) {
        let (top, middle) = places(service.id());
        let mut leaf = self.tree[top][middle].to_vec();
        match leaf.iter_mut().find(|it| it.id() == service.id()) {
            Some(old) => *old = service,
            None => {
                leaf.push(service);
                self.len += 1;
            }
        }
        self.replace(top, middle, leaf);
    }

    /// Takes a service out.
    pub fn remove(&mut self, id: &ServiceId) {
        let (top, middle) = places(id);
        let mut leaf = self.tree[top][middle].to_vec();
        let before = leaf.len();
        leaf.retain(|it| it.id() != id);
        self.len -= before - leaf.len();
        self.replace(top, middle, leaf);
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.tree.iter().flat_map(|it| it.iter()).flat_map(|it| it.iter())
    }

    /// How many services there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `changed` with the id and the new version (none: gone) of every service that differs
    /// from `older`.
    pub fn changes(
        &self,
        older: &Self,
        mut changed: impl FnMut(&ServiceId, Option<&Arc<Service>>),
    ) {
        for (new, old) in self.tree.iter().zip(older.tree.iter()) {
            if Arc::ptr_eq(new, old) {
                continue;
            }
            for (new, old) in new.iter().zip(old.iter()) {
                if !Arc::ptr_eq(new, old) {
                    leaf_changes(new, old, &mut changed);
                }
            }
        }
    }

    fn replace(&mut self, top: usize, middle: usize, leaf: Vec<Arc<Service>>) {
        let mut middles = self.tree[top].to_vec();
        middles[middle] = leaf.into();
        let mut tops = self.tree.to_vec();
        tops[top] = middles.into();
        self.tree = tops.into();
    }
}

fn leaf_changes(
    new: &[Arc<Service>],
    old: &[Arc<Service>],
    changed: &mut impl FnMut(&ServiceId, Option<&Arc<Service>>),
) {
    for service in new {
        if !old.iter().any(|it| Arc::ptr_eq(it, service)) {
            changed(service.id(), Some(service));
        }
    }
    for service in old {
        if !new.iter().any(|it| it.id() == service.id()) {
            changed(service.id(), None);
        }
    }
}

/// Homes take the low bits of the hash, so places take the high ones.
fn places(id: &ServiceId) -> (usize, usize) {
    let hash = id.hash64();
    ((hash >> 58) as usize, (hash >> 52) as usize % FAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{description, parameters};

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service {
            description: description(name, parameters()),
            slots: Arc::default(),
            members: Box::default(),
            deployment_error: None,
        })
    }

    #[test]
    fn services_are_found_replaced_and_removed() {
        let mut world = World::default();
        for n in 0..1000 {
            world.insert(service(&format!("s{n}")));
        }
        assert_eq!((world.len(), world.services().count()), (1000, 1000));
        let id = ServiceId::new("s7");
        let newer = service("s7");
        world.insert(newer.clone());
        assert!(Arc::ptr_eq(world.get(&id).expect("there"), &newer));
        world.remove(&id);
        assert!(world.get(&id).is_none() && world.len() == 999);
    }

    #[test]
    fn two_worlds_tell_what_changed() {
        let mut older = World::default();
        for n in 0..100 {
            older.insert(service(&format!("s{n}")));
        }
        let mut newer = older.clone();
        newer.insert(service("s1"));
        newer.insert(service("new"));
        newer.remove(&ServiceId::new("s2"));
        let mut seen = Vec::new();
        newer.changes(&older, |id, now| seen.push(format!("{id} {}", now.is_some())));
        seen.sort();
        assert_eq!(seen, ["new true", "s1 true", "s2 false"]);
    }
}

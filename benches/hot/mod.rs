//! The hot rules, each made ready to run again and again: timed by `rules`, counted by `counts`.

#![allow(dead_code, reason = "each of the two benches that include this uses its part of it")]

pub(crate) mod control;
pub(crate) mod exchange;
mod play;
pub(crate) mod routing;
pub(crate) mod slots;
pub(crate) mod wire;

use std::sync::Arc;
use waiter::core::service::LoadBalancing;
use waiter::core::service::testing::description;
use waiter::core::slots::{Instance, Roster, ServiceSlots};
use waiter::core::world::{Member, Service};

/// One run of a rule. What it needs, it owns.
pub(crate) type Rule = Box<dyn FnMut()>;

/// A service of this name with these instances, all of which serve.
fn service(name: &str, instances: &[Arc<Instance>]) -> Arc<Service> {
    let slots = Arc::new(ServiceSlots::default());
    let roster = Roster::new(instances.to_vec(), instances.len(), LoadBalancing::Oldest);
    slots.publish(Arc::new(roster));
    let members = instances.iter().map(|it| Member {
        instance: it.clone(),
        healthy: true,
        expired: false,
        starting: false,
    });
    Arc::new(Service {
        description: Arc::new(description(name)),
        slots,
        members: members.collect(),
        deployment_error: None,
    })
}

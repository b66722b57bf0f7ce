//! Instances, as pages show them (api §4.2).

use super::logs;
use crate::base::ids::{InstanceId, ServiceId};
use crate::core::aggregator::{Instance, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Failed and killed instances shown.
const ENDED_SHOWN: usize = 10;

/// `active-instances`, `failed-instances` and `killed-instances`, each by start, then id.
pub(super) fn lists(id: &ServiceId, state: &State, base: &str) -> Value {
    let id = (id, base);
    let active = state.healthy.iter().chain(&state.unhealthy);
    json!({
        "active-instances": list(id, active, Kind::Active),
        "failed-instances": list(id, newest(&state.failed), Kind::Failed),
        "killed-instances": list(id, newest(&state.killed), Kind::Killed),
    })
}

/// `healthy-instances` of `/apps` (api §4.1).
pub(super) fn healthy(state: &State) -> Value {
    let short = |it: &Arc<Instance>| {
        json!({
            "host": logs::host_of(it),
            "id": it.fact.id.as_str(),
            "port": it.fact.ports.first(),
            "started-at": it.fact.started_at.iso(),
        })
    };
    state.healthy.iter().map(short).collect()
}

/// Ids, for `/state`.
pub(super) fn ids(instances: &[Arc<Instance>]) -> Value {
    instances.iter().map(|it| it.fact.id.as_str()).map(Value::from).collect()
}

/// Failures in a row of instances that rest.
pub(super) fn ejected(list: &[(InstanceId, u32)]) -> Value {
    list.iter().map(|(id, failures)| (id.to_string(), Value::from(*failures))).collect()
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Active,
    Failed,
    Killed,
}

/// Lists of the ended begin with the oldest.
fn newest(list: &[Arc<Instance>]) -> &[Arc<Instance>] {
    &list[list.len().saturating_sub(ENDED_SHOWN)..]
}

fn list<'a>(
    id: (&ServiceId, &str),
    instances: impl IntoIterator<Item = &'a Arc<Instance>>,
    kind: Kind,
) -> Value {
    let mut sorted: Vec<_> = instances.into_iter().collect();
    sorted.sort_by(|a, b| (a.fact.started_at, &a.fact.id).cmp(&(b.fact.started_at, &b.fact.id)));
    sorted.into_iter().map(|it| whole(id, it, kind)).collect()
}

fn whole((service, base): (&ServiceId, &str), instance: &Instance, kind: Kind) -> Value {
    let fact = &instance.fact;
    let host = logs::host_of(instance);
    let healthy = instance.healthy && kind == Kind::Active;
    let status = match kind {
        Kind::Active if healthy => "Healthy",
        Kind::Active => "Unhealthy",
        Kind::Failed => "Failed",
        Kind::Killed => "Killed",
    };
    let mut shown = json!({
        "id": fact.id.as_str(),
        "service-id": service.as_str(),
        "started-at": fact.started_at.iso(),
        "healthy?": healthy,
        "health-check-status": instance.health_check_status,
        "flags": fact.flags.names().collect::<Vec<_>>(),
        "exit-code": fact.exit_code,
        "host": host,
        "port": fact.ports.first(),
        "extra-ports": fact.ports.get(1..).unwrap_or_default(),
        "log-directory": fact.log_directory,
        "log-url": logs::link(base, service, fact.id.as_str(), &host),
        "message": fact.message,
        "status": status,
        "failed?": kind == Kind::Failed,
        "killed?": kind == Kind::Killed,
    });
    if let Some(error) = instance.health_check_error {
        shown["health-check-error"] = error.name().into();
    }
    if let Some(placement) = &fact.placement {
        shown["marathon/slave-id"] = placement.agent.as_str().into();
        shown["marathon/address"] = fact.host.to_string().into();
    }
    if let Some(pid) = fact.pid {
        shown["shell-scheduler/pid"] = pid.into();
        shown["shell-scheduler/working-directory"] = fact.log_directory.as_str().into();
    }
    shown
}

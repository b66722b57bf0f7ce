//! How apps and tasks look in answers, in both generations.

use serde_json::{Map, Value, json};

use crate::clock::{Ms, iso};
use crate::http::Request;
use crate::options::Generation;
use crate::world::{Failure, Health, Spec, Task, TaskState, Version, World};

/// What an answer holds besides the definition. Counts and deployments are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Embed {
    pub(super) tasks: bool,
    pub(super) last_failure: bool,
    pub(super) stats: bool,
    pub(super) readiness: bool,
}

impl Embed {
    pub(super) const ONE: Self =
        Self { tasks: true, last_failure: true, stats: false, readiness: false };

    /// Prefixes are optional, unknown words are ignored.
    pub(super) fn of(request: &Request) -> Self {
        let mut it = Self { tasks: false, last_failure: false, stats: false, readiness: false };
        for word in request.params("embed") {
            let bare = ["group.apps.", "apps.", "app."]
                .iter()
                .find_map(|prefix| word.strip_prefix(prefix));
            match bare.unwrap_or(word) {
                "tasks" => it.tasks = true,
                "failures" => (it.tasks, it.last_failure) = (true, true),
                "lastTaskFailure" => it.last_failure = true,
                "taskStats" => it.stats = true,
                "readiness" => it.readiness = true,
                _ => {}
            }
        }
        it
    }
}

/// An app as the lists and the single answer show it.
pub(super) fn app_info(world: &World, id: &str, embed: Embed) -> Option<Value> {
    let app = world.apps.get(id)?;
    let mut out = definition(world.options.generation, &app.as_version());
    let tasks = world.tasks_of(id);
    let count = |of: &dyn Fn(&Task) -> bool| json!(tasks.iter().filter(|it| of(it)).count());
    let staged = |it: &Task| matches!(it.state, TaskState::Staging | TaskState::Starting);
    let generation = world.options.generation;
    let running = |it: &Task| it.state.name(generation) == "TASK_RUNNING";
    out.insert("tasksStaged".into(), count(&staged));
    out.insert("tasksRunning".into(), count(&running));
    out.insert("tasksHealthy".into(), count(&Task::is_healthy));
    out.insert("tasksUnhealthy".into(), count(&Task::is_unhealthy));
    let at_work = world.deployments.iter().filter(|it| it.touches(id));
    out.insert(
        "deployments".into(),
        json!(at_work.map(|it| json!({ "id": it.id })).collect::<Vec<_>>()),
    );
    if embed.tasks {
        let list: Vec<Value> = tasks.iter().map(|it| task(world, it)).collect();
        out.insert("tasks".into(), json!(list));
    }
    if let (true, Some(it)) = (embed.last_failure, world.failures.get(id)) {
        out.insert("lastTaskFailure".into(), failure(id, it));
    }
    if embed.readiness {
        out.insert("readinessCheckResults".into(), json!([]));
    }
    if embed.stats {
        out.insert("taskStats".into(), stats(&tasks, app.configured_at));
    }
    Some(Value::Object(out))
}

/// A version of an app, without what runs.
pub(super) fn definition(generation: Generation, of: &Version) -> Map<String, Value> {
    let mut out = of.spec.0.clone();
    if generation == Generation::V1_3 {
        out.insert("ports".into(), json!(service_ports(&of.spec)));
    }
    out.insert("version".into(), json!(of.name()));
    let info =
        json!({ "lastScalingAt": iso(of.scaled_at), "lastConfigChangeAt": iso(of.configured_at) });
    out.insert("versionInfo".into(), info);
    out
}

pub(super) fn service_ports(spec: &Spec) -> Vec<u16> {
    spec.ports().iter().map(|it| it.port).collect()
}

pub(super) fn task(world: &World, it: &Task) -> Value {
    let agent = &world.agents[it.agent];
    let mut out = json!({
        "id": it.id, "appId": it.app_id, "host": agent.host, "ports": it.ports,
        "ipAddresses": [{ "ipAddress": agent.host, "protocol": "IPv4" }],
        "slaveId": agent.slave_id, "state": it.state.name(world.options.generation),
        "stagedAt": iso(it.staged_at),
        "version": iso(it.version), "localVolumes": [],
    });
    let mut set = |key: &str, value: Value| {
        out[key] = value;
    };
    if let Some(apps) = world.apps.get(&it.app_id) {
        set("servicePorts", json!(service_ports(&apps.spec)));
    }
    let generation = world.options.generation;
    match (it.started_at, generation) {
        (Some(at), _) => set("startedAt", json!(iso(at))),
        (None, Generation::V1_3) => set("startedAt", Value::Null),
        (None, Generation::V1_10) => {}
    }
    let results: Vec<Value> = it
        .health
        .iter()
        .filter(|one| one.has_result())
        .map(|one| health(one, &it.instance_id, generation))
        .collect();
    if !results.is_empty() {
        set("healthCheckResults", json!(results));
    }
    if generation == Generation::V1_10 {
        let role = world.apps.get(&it.app_id).and_then(|it| it.spec.text("role")).unwrap_or("*");
        set("role", json!(role));
    }
    out
}

fn health(it: &Health, instance: &str, generation: Generation) -> Value {
    let mut out = Map::new();
    out.insert("alive".into(), json!(it.alive()));
    out.insert("consecutiveFailures".into(), json!(it.failures));
    let id = match generation {
        Generation::V1_3 => "taskId",
        Generation::V1_10 => "instanceId",
    };
    out.insert(id.into(), json!(instance));
    let times = [
        ("firstSuccess", it.first_success.map(iso)),
        ("lastSuccess", it.last_success.map(iso)),
        ("lastFailure", it.last_failure.map(iso)),
        ("lastFailureCause", it.cause.clone()),
    ];
    for (key, value) in times {
        match (value, generation) {
            (None, Generation::V1_10) => {}
            (value, _) => {
                out.insert(key.into(), json!(value));
            }
        }
    }
    Value::Object(out)
}

fn failure(app: &str, it: &Failure) -> Value {
    json!({
        "appId": app, "host": it.host, "message": it.message, "state": it.state,
        "taskId": it.task_id, "timestamp": iso(it.at), "version": iso(it.version),
        "slaveId": it.slave_id,
    })
}

/// Only groups that hold tasks are shown.
fn stats(tasks: &[&Task], configured_at: Ms) -> Value {
    let row = |of: &[&Task]| {
        let count = |of_: &dyn Fn(&Task) -> bool| of.iter().filter(|it| of_(it)).count();
        json!({ "stats": { "counts": {
            "staged": count(&|it| matches!(it.state, TaskState::Staging | TaskState::Starting)),
            "running": count(&|it| it.state == TaskState::Running),
            "healthy": count(&Task::is_healthy),
            "unhealthy": count(&Task::is_unhealthy),
        } } })
    };
    let (new, old): (Vec<&Task>, Vec<&Task>) =
        tasks.iter().partition(|it| it.configured_at >= configured_at);
    let mut out = json!({});
    for (name, of) in
        [("withLatestConfig", &new[..]), ("withOutdatedConfig", &old[..]), ("totalSummary", tasks)]
    {
        if !of.is_empty() {
            out[name] = row(of);
        }
    }
    out
}

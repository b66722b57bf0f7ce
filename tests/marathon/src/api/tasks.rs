//! Tasks: lists, and kills of some or all, with or without scaling down.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::refusal::{no_app, no_path};
use super::shape::task;
use super::{Answer, Call, deployments};
use crate::http::Response;
use crate::http::request::Default;
use crate::world::{self, Change, Force, KillReason, Task, TaskState, app_id};

pub(super) fn list(call: &Call<'_>) -> Answer {
    let wanted: Vec<&str> =
        call.request.params("status").chain(call.request.params("status[]")).collect();
    let status = |it: &Task| match it.state {
        TaskState::Staging | TaskState::Starting => "staging",
        _ => "running",
    };
    let shown =
        call.world.tasks.values().filter(|it| wanted.is_empty() || wanted.contains(&status(it)));
    let list: Vec<Value> = shown.map(|it| task(call.world, it)).collect();
    Ok(Response::json(200, &json!({ "tasks": list })))
}

pub(super) fn list_of_app(call: &Call<'_>, id: &str) -> Answer {
    if let Some(group) = id.strip_suffix("/*").or_else(|| (id == "*").then_some("")) {
        let prefix = format!("{}/", app_id(group).trim_end_matches('/'));
        let inside = call.world.tasks.values().filter(|it| it.app_id.starts_with(&prefix));
        let list: Vec<Value> = inside.map(|it| task(call.world, it)).collect();
        return Ok(Response::json(200, &json!({ "tasks": list })));
    }
    let id = app_id(id);
    if !call.world.apps.contains_key(&id) {
        return Err(no_app(&id));
    }
    let list: Vec<Value> =
        call.world.tasks_of(&id).into_iter().map(|it| task(call.world, it)).collect();
    Ok(Response::json(200, &json!({ "tasks": list })))
}

pub(super) fn delete_all(call: &mut Call<'_>, id: &str) -> Answer {
    let (id, how) = (app_id(id), How::of(call)?);
    let host = call.request.param("host").filter(|it| *it != "*").map(str::to_owned);
    let here =
        |it: &&Task| host.as_ref().is_none_or(|host| call.world.agents[it.agent].host == *host);
    let ids: Vec<String> =
        call.world.tasks_of(&id).into_iter().filter(here).map(|it| it.id.clone()).collect();
    if how == How::Scale {
        return scale_down(call, BTreeMap::from([(id, ids)]));
    }
    if !call.world.apps.contains_key(&id) {
        return Err(no_path(&id));
    }
    Ok(Response::json(200, &json!({ "tasks": kill(call, &ids) })))
}

pub(super) fn delete_one(call: &mut Call<'_>, id: &str, task_id: &str) -> Answer {
    let (id, how) = (app_id(id), How::of(call)?);
    let ids: Vec<String> = call
        .world
        .tasks
        .get(task_id)
        .filter(|it| it.app_id == id)
        .map(|it| it.id.clone())
        .into_iter()
        .collect();
    if how == How::Scale {
        return scale_down(call, BTreeMap::from([(id, ids)]));
    }
    if !call.world.apps.contains_key(&id) {
        return Err(no_path(&id));
    }
    let killed = kill(call, &ids).pop();
    let it = killed
        .ok_or_else(|| Response::message(404, &format!("Task '{task_id}' does not exist")))?;
    Ok(Response::json(200, &json!({ "task": it })))
}

/// `POST /v2/tasks/delete`: tasks of any apps. Unknown ones are passed over, malformed refused.
pub(super) fn delete_given(call: &mut Call<'_>) -> Answer {
    let how = How::of(call)?;
    let body = world::object(&call.request.body)?;
    let list = body
        .get("ids")
        .and_then(Value::as_array)
        .ok_or_else(|| world::not_json("undefined ids"))?;
    let mut by_app: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for it in list {
        let id = it.as_str().filter(|it| it.contains('.')).ok_or_else(|| {
            let shown = it.as_str().map_or_else(|| it.to_string(), str::to_owned);
            Response::message(400, &format!("Invalid task id '{shown}'"))
        })?;
        if let Some(known) = call.world.tasks.get(id) {
            by_app.entry(known.app_id.clone()).or_default().push(id.to_owned());
        }
    }
    if how == How::Scale {
        return scale_down(call, by_app);
    }
    let ids: Vec<String> = by_app.into_values().flatten().collect();
    Ok(Response::json(200, &json!({ "tasks": kill(call, &ids) })))
}

/// What becomes of the place of a killed task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Replace,
    Scale,
    /// Like replace: there are no volumes to wipe here.
    Wipe,
}

impl How {
    fn of(call: &Call<'_>) -> Result<Self, Response> {
        let flag = |name: &str| call.request.flag(name, Default::False);
        match (flag("scale"), flag("wipe")) {
            (true, true) => {
                Err(Response::message(400, "You cannot use scale and wipe at the same time."))
            }
            (true, false) => Ok(Self::Scale),
            (false, true) => Ok(Self::Wipe),
            (false, false) => Ok(Self::Replace),
        }
    }
}

/// Kills without a deployment, so also beside one. Answers the tasks as they were.
fn kill(call: &mut Call<'_>, ids: &[String]) -> Vec<Value> {
    let shown: Vec<Value> = ids
        .iter()
        .filter_map(|id| call.world.tasks.get(id))
        .map(|it| task(call.world, it))
        .collect();
    for id in ids {
        call.world.kill(id, KillReason::Asked, call.outside, call.now);
    }
    shown
}

/// Wants fewer, and these killed first. Nothing to kill is a change of nothing, which is taken. An
/// app that has no instance at all is refused.
fn scale_down(call: &mut Call<'_>, by_app: BTreeMap<String, Vec<String>>) -> Answer {
    let mut changes = Vec::new();
    let mut named = Vec::new();
    for (id, ids) in by_app {
        let has_any = !call.world.tasks_of(&id).is_empty() || call.world.missing(&id) > 0;
        let app = call.world.apps.get(&id).filter(|_| has_any).ok_or_else(|| no_path(&id))?;
        let mut spec = app.spec.clone();
        spec.set_instances(spec.instances().saturating_sub(ids.len()));
        if !ids.is_empty() {
            changes.push(Change::Set(id, spec));
        }
        named.extend(ids);
    }
    let force = Force::of(call.request.flag("force", Default::False));
    deployments::taken(call.world.deploy(changes, named, force, call.now))
}

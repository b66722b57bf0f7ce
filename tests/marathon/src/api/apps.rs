//! `/v2/apps`: list, create, show, delete, versions.

use serde_json::{Map, Value, json};

use super::refusal::no_app;
use super::shape::{Embed, app_info, definition};
use super::{Answer, Call, deployments, refusal};
use crate::http::Response;
use crate::http::request::Default;
use crate::world::{self, Change, Force, Spec, app_id};

pub(super) fn list(call: &Call<'_>) -> Answer {
    let embed = Embed::of(call.request);
    let wanted = Filter::of(call);
    let apps: Vec<Value> = call
        .world
        .apps
        .iter()
        .filter(|(id, app)| wanted.fits(id, &app.spec))
        .filter_map(|(id, _)| app_info(call.world, id, embed))
        .collect();
    Ok(Response::json(200, &json!({ "apps": apps })))
}

/// `id` and `cmd` are parts in any case; `label` is a list of `name`, `name==value`, `name!=value`.
struct Filter {
    id: Option<String>,
    cmd: Option<String>,
    labels: Vec<(String, Option<(Sign, String)>)>,
}

#[derive(PartialEq, Eq)]
enum Sign {
    Is,
    IsNot,
}

impl Filter {
    fn of(call: &Call<'_>) -> Self {
        let part = |name: &str| {
            call.request.param(name).filter(|it| !it.is_empty()).map(str::to_lowercase)
        };
        let label = |text: &str| {
            let (name, rest) = match (text.split_once("=="), text.split_once("!=")) {
                (Some((name, value)), _) => (name, Some((Sign::Is, value.trim().to_owned()))),
                (None, Some((name, value))) => (name, Some((Sign::IsNot, value.trim().to_owned()))),
                (None, None) => (text, None),
            };
            (name.trim().to_owned(), rest)
        };
        let labels = call.request.params("label").flat_map(|it| it.split(','));
        Self { id: part("id"), cmd: part("cmd"), labels: labels.map(label).collect() }
    }

    fn fits(&self, id: &str, spec: &Spec) -> bool {
        let holds = |text: Option<&str>, part: &Option<String>| match part {
            None => true,
            Some(part) => text.is_some_and(|it| it.to_lowercase().contains(part)),
        };
        let labels = spec.texts("labels");
        let label = |(name, rest): &(String, Option<(Sign, String)>)| {
            let has = labels.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            match rest {
                None => has.is_some(),
                Some((Sign::Is, value)) => has == Some(value),
                Some((Sign::IsNot, value)) => has.is_some_and(|it| it != value),
            }
        };
        holds(Some(id), &self.id)
            && holds(spec.text("cmd"), &self.cmd)
            && self.labels.iter().all(label)
    }
}

pub(super) fn list_group(call: &Call<'_>, group: &str) -> Answer {
    let prefix = format!("{}/", app_id(group).trim_end_matches('/'));
    let embed = Embed::of(call.request);
    let inside = call.world.apps.keys().filter(|id| id.starts_with(&prefix));
    let apps: Vec<Value> = inside.filter_map(|id| app_info(call.world, id, embed)).collect();
    Ok(Response::json(200, &json!({ "*": apps })))
}

pub(super) fn one(call: &Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    let embed = Embed { stats: Embed::of(call.request).stats, ..Embed::ONE };
    let info = app_info(call.world, &id, embed).ok_or_else(|| no_app(&id))?;
    Ok(Response::json(200, &json!({ "app": info })))
}

pub(super) fn create(call: &mut Call<'_>) -> Answer {
    let given = world::object(&call.request.body)?;
    let spec = accept(call, given, None)?;
    let id = spec.text("id").unwrap_or_default().to_owned();
    if call.world.apps.contains_key(&id) {
        return Err(Response::message(409, &format!("An app with id [{id}] already exists.")));
    }
    let force = Force::of(call.request.flag("force", Default::False));
    let taken = call
        .world
        .deploy(vec![Change::Set(id.clone(), spec)], Vec::new(), force, call.now)
        .map_err(|it| refusal::refused(&it))?;
    deployments::tell_post(call, &id);
    let mut info = app_info(call.world, &id, Embed::ONE).unwrap_or_default();
    info["deployments"] = json!([{ "id": taken.id }]);
    Ok(Response::json(201, &info)
        .with("Location", format!("http://{}/v2/apps{id}", call.leader))
        .with("Marathon-Deployment-Id", taken.id))
}

/// A complete and valid definition of what was sent. `id` is that of the path, if there is one.
pub(super) fn accept(
    call: &Call<'_>,
    mut given: Map<String, Value>,
    id: Option<&str>,
) -> Result<Spec, Response> {
    world::shape(&given)?;
    let id = match (id, given.get("id").and_then(Value::as_str)) {
        (Some(id), _) => id.to_owned(),
        (None, Some(id)) => app_id(id),
        (None, None) => return Err(world::not_json("undefined id")),
    };
    // These are answers, not wishes; clients send back what they read.
    for key in ANSWERS {
        given.remove(*key);
    }
    given.insert("id".into(), json!(id));
    let ports = call.world.service_ports(&id);
    let spec = world::complete(given, call.world.options.generation, ports);
    world::values(&spec)?;
    Ok(spec)
}

const ANSWERS: &[&str] = &[
    "version",
    "versionInfo",
    "deployments",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "lastTaskFailure",
    "taskStats",
    "readinessCheckResults",
];

pub(super) fn delete(call: &mut Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    if !call.world.apps.contains_key(&id) {
        return Err(no_app(&id));
    }
    // The one write whose force is the default.
    let force = Force::of(call.request.flag("force", Default::True));
    deployments::taken(call.world.deploy(vec![Change::Delete(id)], Vec::new(), force, call.now))
}

pub(super) fn versions(call: &Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    let all = call.world.versions.get(&id).ok_or_else(|| no_app(&id))?;
    let names: Vec<String> = all.iter().rev().map(world::Version::name).collect();
    Ok(Response::json(200, &json!({ "versions": names })))
}

pub(super) fn version(call: &Call<'_>, id: &str, version: &str) -> Answer {
    let id = app_id(id);
    let all = call.world.versions.get(&id).ok_or_else(|| no_app(&id))?;
    let found = all.iter().find(|it| it.name() == version).ok_or_else(|| {
        Response::message(404, &format!("App '{id}' does not exist with version {version}"))
    })?;
    let shown = definition(call.world.options.generation, found);
    Ok(Response::json(200, &Value::Object(shown)))
}

//! Changes of apps: PUT and PATCH of one or of many, restart, roll back.

use serde_json::{Map, Value, json};

use super::refusal::no_app;
use super::{Answer, Call, apps, deployments};
use crate::http::Response;
use crate::http::request::Default;
use crate::world::{self, Change, Force, Spec, app_id};

pub(super) fn one(call: &mut Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    let given = world::object(&call.request.body)?;
    let existed = call.world.apps.contains_key(&id);
    if call.request.method == "PATCH" && !existed {
        return Err(no_app(&id));
    }
    let spec = target(call, given, &id)?;
    let answer = deploy(call, vec![Change::Set(id.clone(), spec)])?;
    deployments::tell_post(call, &id);
    if existed {
        return Ok(answer);
    }
    let location = format!("http://{}/v2/apps{id}", call.leader);
    Ok(Response { status: 201, ..answer }.with("Location", location))
}

/// An array of updates, each with its id, in one deployment.
pub(super) fn many(call: &mut Call<'_>) -> Answer {
    let Ok(Value::Array(list)) = serde_json::from_slice(&call.request.body) else {
        return Err(world::not_json("error.expected.jsarray"));
    };
    let mut changes = Vec::new();
    for it in list {
        let Value::Object(given) = it else {
            return Err(world::not_json("error.expected.jsobject"));
        };
        let Some(id) = given.get("id").and_then(Value::as_str).map(app_id) else {
            return Err(world::unprocessable(&[world::detail("/id", &["must not be empty"])]));
        };
        if call.request.method == "PATCH" && !call.world.apps.contains_key(&id) {
            return Err(no_app(&id));
        }
        let spec = target(call, given, &id)?;
        changes.push(Change::Set(id, spec));
    }
    deploy(call, changes)
}

pub(super) fn restart(call: &mut Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    if !call.world.apps.contains_key(&id) {
        return Err(no_app(&id));
    }
    deploy(call, vec![Change::Restart(id)])
}

fn deploy(call: &mut Call<'_>, changes: Vec<Change>) -> Answer {
    let force = Force::of(call.request.flag("force", Default::False));
    deployments::taken(call.world.deploy(changes, Vec::new(), force, call.now))
}

/// What the app is to be: an older version if only that is named, else what it is with what is sent
/// put over it, or only what is sent if the update is not partial.
fn target(call: &Call<'_>, mut given: Map<String, Value>, id: &str) -> Result<Spec, Response> {
    if given.get("id").and_then(Value::as_str).is_some_and(|it| app_id(it) != id) {
        return Err(world::unprocessable(&[world::detail("/id", &["must be the id of the path"])]));
    }
    given.remove("id");
    if let (1, Some(version)) = (given.len(), given.get("version").and_then(Value::as_str)) {
        let rows = call.world.versions.get(id).ok_or_else(|| no_app(id))?;
        let found = rows.iter().find(|it| it.name() == version);
        return found.map(|it| it.spec.clone()).ok_or_else(|| {
            let message = format!("Version {version} does not exist");
            Response::json(422, &json!({ "message": message }))
        });
    }
    world::shape(&given)?;
    let partial =
        call.request.method == "PATCH" || call.request.flag("partialUpdate", Default::True);
    let base = call.world.apps.get(id).filter(|_| partial).map(|it| it.spec.0.clone());
    let Some(mut base) = base else { return apps::accept(call, given, Some(id)) };
    // A command takes the place of arguments, the older way to write ports that of the newer one.
    let sets = |key: &str| given.get(key).is_some_and(|it| !it.is_null());
    if sets("cmd") {
        base.remove("args");
    }
    if sets("args") {
        base.remove("cmd");
    }
    if sets("ports") {
        base.remove("portDefinitions");
    }
    // Null is not a value here; it leaves things as they are.
    base.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
    apps::accept(call, base, Some(id))
}

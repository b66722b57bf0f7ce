//! `/v2/groups`, as far as clients go: groups are the common beginnings of the apps' ids, a write
//! is one deployment of all the apps it names. A group without apps does not exist.

use serde_json::{Map, Value, json};

use super::shape::{Embed, app_info};
use super::{Answer, Call, apps, deployments};
use crate::clock::iso;
use crate::http::Response;
use crate::http::request::Default;
use crate::world::{self, Change, Force, app_id};

pub(super) fn route(call: &mut Call<'_>, method: &str, id: &[&str]) -> Answer {
    let id = app_id(&id.join("/"));
    match method {
        "GET" => show(call, &id),
        "POST" | "PUT" => put(call, &id),
        "DELETE" => delete(call, &id),
        _ => Err(Response::html(405, "Method Not Allowed")),
    }
}

fn show(call: &Call<'_>, id: &str) -> Answer {
    if id != "/" && inside(call, id).is_empty() {
        return Err(missing(id));
    }
    Ok(Response::json(200, &group(call, id)))
}

fn group(call: &Call<'_>, id: &str) -> Value {
    let prefix = format!("{}/", id.trim_end_matches('/'));
    let (mut apps, mut groups) = (Vec::new(), Vec::new());
    for app in inside(call, id) {
        match app[prefix.len()..].split_once('/') {
            None => apps.extend(app_info(call.world, &app, Embed::of(call.request))),
            Some((name, _)) => groups.push(format!("{prefix}{name}")),
        }
    }
    groups.dedup();
    let versions =
        inside(call, id).into_iter().filter_map(|it| Some(call.world.apps.get(&it)?.version));
    json!({
        "id": id, "apps": apps, "pods": [], "dependencies": [],
        "groups": groups.iter().map(|it| group(call, it)).collect::<Vec<_>>(),
        "version": iso(versions.max().unwrap_or(0)),
    })
}

fn put(call: &mut Call<'_>, id: &str) -> Answer {
    let body = world::object(&call.request.body)?;
    let mut changes = Vec::new();
    if let Some(factor) = body.get("scaleBy").and_then(Value::as_f64) {
        scale(call, id, factor, &mut changes)?;
    } else {
        let id = body
            .get("id")
            .and_then(Value::as_str)
            .map_or_else(|| id.to_owned(), |it| under(id, it));
        collect(call, &id, &body, &mut changes)?;
    }
    let force = Force::of(call.request.flag("force", Default::False));
    let is_new = call.request.method == "POST";
    let answer = deployments::taken(call.world.deploy(changes, Vec::new(), force, call.now))?;
    Ok(Response { status: if is_new { 201 } else { 200 }, ..answer })
}

fn scale(
    call: &Call<'_>,
    id: &str,
    factor: f64,
    changes: &mut Vec<Change>,
) -> Result<(), Response> {
    let apps = inside(call, id);
    if apps.is_empty() {
        return Err(missing(id));
    }
    for app in apps {
        let Some(it) = call.world.apps.get(&app) else { continue };
        let mut spec = it.spec.clone();
        spec.set_instances((spec.instances() as f64 * factor).ceil() as usize);
        changes.push(Change::Set(app, spec));
    }
    Ok(())
}

fn collect(
    call: &Call<'_>,
    id: &str,
    body: &Map<String, Value>,
    changes: &mut Vec<Change>,
) -> Result<(), Response> {
    let list = |key: &str| body.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    for app in list("apps").iter().filter_map(Value::as_object) {
        let name = app.get("id").and_then(Value::as_str).unwrap_or_default();
        let full = under(id, name);
        changes.push(Change::Set(full.clone(), apps::accept(call, app.clone(), Some(&full))?));
    }
    for inner in list("groups").iter().filter_map(Value::as_object) {
        let name = inner.get("id").and_then(Value::as_str).unwrap_or_default();
        collect(call, &under(id, name), inner, changes)?;
    }
    Ok(())
}

fn delete(call: &mut Call<'_>, id: &str) -> Answer {
    let apps = inside(call, id);
    if apps.is_empty() {
        return Err(missing(id));
    }
    let changes = apps.into_iter().map(Change::Delete).collect();
    let force = Force::of(call.request.flag("force", Default::False));
    deployments::taken(call.world.deploy(changes, Vec::new(), force, call.now))
}

/// Ids of the apps in a group, in order.
fn inside(call: &Call<'_>, id: &str) -> Vec<String> {
    let prefix = format!("{}/", id.trim_end_matches('/'));
    call.world.apps.keys().filter(|it| it.starts_with(&prefix)).cloned().collect()
}

/// A name that is not absolute counts from its group.
fn under(group: &str, name: &str) -> String {
    if name.starts_with('/') {
        app_id(name)
    } else {
        app_id(&format!("{group}/{name}")).replace("//", "/")
    }
}

fn missing(id: &str) -> Response {
    Response::message(404, &format!("Group '{id}' does not exist"))
}

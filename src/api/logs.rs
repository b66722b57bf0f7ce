//! `/apps/<service-id>/logs`: what is in the folder of an instance (api §4.6).
//!
//! Output may hold secrets, so whoever may not launch services here does not see it. Folders are
//! those of instances that are known: a client names an instance, never a host to be asked.

use super::about::View;
use super::app;
use super::errand::Errand;
use super::pages::Step;
use super::query::Query;
use super::reply::Reply;
use super::resolve::may_start;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::core::aggregator::{Instance, State};
use crate::core::fact::Runner;
use crate::core::sandbox::{Item, Kind, Wanted};
use crate::wire::call::Call;
use crate::wire::escape::query_value;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// How folders are looked into: it may take time. None: there is no such folder.
pub type Look = Arc<dyn Fn(Runner, &Wanted) -> Result<Option<Vec<Item>>, String> + Send + Sync>;

/// One look into a folder.
#[derive(Debug)]
pub(super) struct Logs {
    service: ServiceId,
    runner: Runner,
    wanted: Wanted,
}

/// Whose folder it is, and who may see it.
pub(super) fn page(id: &str, call: &Call, query: &Query, view: &View<'_>) -> Step {
    match prepare(id, call, query, view) {
        Ok(logs) => Step::Errand(Errand::Logs(logs)),
        Err(fault) => Step::Reply(Reply::fault(&fault, call, view.now)),
    }
}

fn prepare(id: &str, call: &Call, query: &Query, view: &View<'_>) -> Result<Logs, Fault> {
    if !matches!(call.head.method, Method::GET | Method::HEAD) {
        return Err(Fault::new(Class::MethodNotAllowed, "Only GET supported"));
    }
    let (service, entry) = app::find(id, view)?;
    may_start(call, view)?;
    let given = |name: &str, missing: &str| {
        let value = query.get(name).filter(|it| !it.trim().is_empty());
        value.ok_or_else(|| Fault::new(Class::BadRequest, missing))
    };
    let instance = given("instance-id", "Missing instance-id parameter")?;
    let host = given("host", "Missing host parameter")?;
    let known = find(instance, &entry.state).filter(|it| host_of(it) == host);
    let known = known.ok_or_else(|| {
        let fault = Fault::new(Class::NotFound, "Instance not found");
        fault.with("instance-id", instance).with("host", host)
    })?;
    Ok(Logs {
        service: service.clone(),
        runner: entry.state.runner.unwrap_or(Runner::Local),
        wanted: Wanted {
            instance: instance.to_owned(),
            host: host.to_owned(),
            root: known.fact.log_directory.clone(),
            folder: query.get("directory").unwrap_or_default().to_owned(),
        },
    })
}

fn find<'a>(id: &str, state: &'a State) -> Option<&'a Arc<Instance>> {
    let lists = [&state.healthy, &state.unhealthy, &state.failed, &state.killed];
    lists.into_iter().flatten().find(|it| it.fact.id.as_str() == id)
}

/// The host of an instance, as its scheduler names it.
pub(super) fn host_of(instance: &Instance) -> String {
    let named = instance.fact.placement.as_ref().map(|it| it.host.as_str());
    let named = named.filter(|it| !it.is_empty());
    named.map_or_else(|| instance.fact.host.to_string(), str::to_owned)
}

/// Where the folder of an instance is shown.
pub(super) fn link(base: &str, service: &ServiceId, instance: &str, host: &str) -> String {
    let (instance, host) = (query_value(instance), query_value(host));
    format!("{base}/apps/{service}/logs?instance-id={instance}&host={host}")
}

/// Looks into the folder.
pub(super) fn carry_out(logs: &Logs, call: &Call, look: &Look, view: &View<'_>) -> Reply {
    let wanted = &logs.wanted;
    match look(logs.runner, wanted) {
        Ok(Some(items)) => {
            let told: Value = items.iter().map(|it| told(it, logs)).collect();
            Reply::json(StatusCode::OK, &told)
        }
        Ok(None) => {
            let fault = Fault::new(Class::NotFound, "There is no such folder");
            let fault = fault.with("instance-id", wanted.instance.as_str());
            Reply::fault(&fault, call, view.now)
        }
        Err(why) => Reply::fault(&Fault::new(Class::InstanceError, why), call, view.now),
    }
}

fn told(item: &Item, logs: &Logs) -> Value {
    let (kind, url) = match &item.kind {
        Kind::File(url) => ("file", url.clone()),
        Kind::Folder(path) => {
            let link = link("", &logs.service, &logs.wanted.instance, &logs.wanted.host);
            ("directory", format!("{link}&directory={}", query_value(path)))
        }
    };
    json!({"name": item.name, "size": item.size, "type": kind, "url": url})
}

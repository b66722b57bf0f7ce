//! `/waiter-ping`: starts a service if it must, sends a health check through the router's own
//! listener, and tells what came of it (api §4.7).
//!
//! The request of the ping comes from this machine, whoever asked for it. So who may start a
//! service is decided here, by who asked.

use super::about::{About, View};
use super::errand::{Errand, Tools, wait_until};
use super::pages::Step;
use super::query::Query;
use super::reply::Reply;
use super::resolve::{may_start, resolve};
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::aggregator::Status;
use crate::core::catalogue::{Catalogue, Entry};
use crate::core::service::Description;
use crate::core::service::headers::PREFIX;
use crate::mesh::clock;
use crate::wire::call::Call;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::sync::Arc;

/// How long a ping takes at most, if the client says nothing (`x-waiter-timeout`).
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long the answer waits for the catalogue to show what the ping found.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Bytes of the instance's answer that are told.
const BODY_MAX: u64 = 256 * 1024;

/// One ping.
#[derive(Debug)]
pub(super) struct Ping {
    pub(super) description: Arc<Description>,
    /// Whether the service may be started for it.
    pub(super) start: Start,
    /// How long it may take.
    pub(super) timeout: Duration,
    pub(super) state: Shown,
}

/// Whether a service may be started for a ping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    Allowed,
    Denied,
}

/// Whether the answer tells how the service is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    Shown,
    Excluded,
}

/// Resolves the service; what cannot be resolved is told at once.
pub(super) fn page(call: &Call, query: &Query, view: &View<'_>) -> Step {
    match prepare(call, query, view) {
        Ok(ping) => Step::Errand(Errand::Ping(ping)),
        Err(fault) => Step::Reply(unresolved(&fault, call, query, view)),
    }
}

fn prepare(call: &Call, query: &Query, view: &View<'_>) -> Result<Ping, Fault> {
    let description = resolve(b"/", call, view)?;
    let check = description.parameters.health_check_url.as_bytes();
    let path = check.split(|it| *it == b'?').next().unwrap_or_default();
    // A check of one of the router's own pages would ping, and so check, and so ping.
    if !resolve(path, call, view).is_ok_and(|it| it.id == description.id) {
        let text = "The health-check-url of this service is a page of the router itself";
        return Err(Fault::new(Class::ServiceMisconfigured, text));
    }
    let start = start(&description, call, view)?;
    let millis = call.head.fields.get(b"x-waiter-timeout");
    let millis = millis.and_then(|it| str::from_utf8(it).ok()?.parse().ok());
    let timeout = millis.filter(|it| *it > 0).map_or(TIMEOUT, Duration::from_millis);
    let state = shown(query);
    Ok(Ping { description, start, timeout, state })
}

/// One who may not start a service may still ping it while it runs.
fn start(description: &Description, call: &Call, view: &View<'_>) -> Result<Start, Fault> {
    if description.is_static() {
        return Ok(Start::Allowed);
    }
    let entry = view.catalogue.services.get(&description.id);
    match may_start(call, view) {
        Ok(()) => Ok(Start::Allowed),
        Err(_) if entry.is_some_and(|it| it.exists) => Ok(Start::Denied),
        Err(fault) => Err(fault),
    }
}

fn shown(query: &Query) -> Shown {
    match query.all("exclude").any(|it| it == "service-state") {
        true => Shown::Excluded,
        false => Shown::Shown,
    }
}

fn unresolved(fault: &Fault, call: &Call, query: &Query, view: &View<'_>) -> Reply {
    let reply = Reply::fault(fault, call, view.now);
    let mut headers = Map::new();
    if let Some(kind) = reply.kind {
        headers.insert("content-type".into(), kind.into());
    }
    let response = json!({
        "result": "descriptor-error",
        "status": reply.status.as_u16(),
        "headers": headers,
        "body": reply.body.to_text(),
    });
    let state = match shown(query) {
        Shown::Shown => service_state(None, None),
        Shown::Excluded => json!({"result": "excluded", "service-id": null}),
    };
    Reply::ok(&json!({
        "ping-response": response,
        "service-description": null,
        "service-state": state,
    }))
}

/// Sends the ping, and waits until the catalogue shows what it found: a client that lists services
/// afterwards finds this one.
pub(super) fn carry_out(ping: &Ping, call: &Call, tools: &Tools<'_>, end: Instant) -> Reply {
    let left = end - clock::now();
    let response = match send(ping, call, tools.about, ping.timeout.min(left)) {
        Ok(response) => response,
        Err(ureq::Error::Timeout(_)) => json!({"result": "timed-out"}),
        Err(error) => json!({"result": "ping-internal-error", "body": error.to_string()}),
    };
    let id = &ping.description.id;
    let state = match ping.state {
        Shown::Excluded => json!({"result": "excluded", "service-id": id.as_str()}),
        Shown::Shown => {
            if response["result"] == "received-response" {
                let until = (clock::now() + SHOWN_WITHIN).min(end);
                wait_until(tools.catalogue, until, |it| is_settled(it, id));
            }
            service_state(Some(id), tools.catalogue.load().services.get(id))
        }
    };
    Reply::ok(&json!({
        "ping-response": response,
        "service-description": ping.description.to_json(),
        "service-state": state,
    }))
}

/// Whether the service takes requests, or cannot be started.
fn is_settled(catalogue: &Catalogue, id: &ServiceId) -> bool {
    let entry = catalogue.services.get(id);
    entry.is_some_and(|it| matches!(it.state.status(), Status::Running | Status::Failing))
}

fn service_state(id: Option<&ServiceId>, entry: Option<&Arc<Entry>>) -> Value {
    let is = |what: fn(&Entry) -> bool| entry.is_some_and(|it| what(it));
    json!({
        "exists?": is(|it| it.exists),
        "healthy?": is(|it| it.exists && !it.state.healthy.is_empty()),
        "service-id": id.map(ServiceId::as_str),
        "status": entry.map_or(Status::Inactive, |it| it.state.status()).label(),
    })
}

fn send(ping: &Ping, call: &Call, about: &About, timeout: Duration) -> Result<Value, ureq::Error> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(format!("waiter-ping/{}", about.version))
            .accept("application/json;q=1.0, */*;q=0.9")
            .build(),
    );
    let path = &ping.description.parameters.health_check_url;
    let mut request = agent.get(format!("http://{}{path}", about.reachable()));
    for (name, value) in call.head.fields.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        request = request.header(name, value);
    }
    if !call.head.authority().is_empty() {
        request = request.header("host", call.head.authority());
    }
    request = request.header("x-cid", &call.cid[..]).header("x-waiter-debug", "true");
    // It was known a moment ago. Should it have gone since, this keeps the shard from starting it.
    if ping.start == Start::Denied {
        request = request.header("origin", "null");
    }
    let (parts, body) = request.call()?.into_parts();
    let mut text = Vec::new();
    body.into_reader().take(BODY_MAX).read_to_end(&mut text).map_err(ureq::Error::from)?;
    Ok(told(&parts, &text))
}

fn told(parts: &http::response::Parts, body: &[u8]) -> Value {
    let field = |name: &str| parts.headers.get(name).and_then(|it| it.to_str().ok());
    let headers: Map<_, _> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), Value::from(value))
        })
        .collect();
    let mut response = json!({
        "result": "received-response",
        "status": parts.status.as_u16(),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    });
    if let Some(id) = field("x-waiter-backend-id") {
        let port = field("x-waiter-backend-port").and_then(|it| it.parse::<u16>().ok());
        response["instance"] =
            json!({"host": field("x-waiter-backend-host"), "id": id, "port": port});
    }
    response
}

//! `/state`: what the router knows, part by part (api §4.8). Parts that this router does not have
//! are not offered.

use super::about::View;
use super::app::{self, traffic};
use super::cluster;
use super::instance;
use super::reply::Reply;
use crate::base::fault::Fault;
use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration, millis};
use crate::core::aggregator::{Instance, State};
use crate::core::catalogue::Entry;
use crate::core::fact::{self, Runner};
use crate::core::histogram::Histogram;
use crate::core::slots::Gate;
use crate::wire::call::Call;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Page = fn(&View<'_>) -> Value;

/// The parts there are.
const COMPONENTS: [(&str, Page); 9] = [
    ("autoscaler", autoscaler),
    ("ejection-expiry", ejections),
    ("gc-broken-services", broken),
    ("gc-services", idle),
    ("leader", leader),
    ("local-usage", usage),
    ("maintainer", maintainer),
    ("scheduler", scheduler),
    ("stealing", cluster::stealing),
];

/// Links to the parts.
pub(super) fn index(view: &View<'_>) -> Reply {
    let base = &view.base;
    let link = |(name, _): &(&str, Page)| {
        ((*name).to_owned(), Value::from(format!("{base}/state/{name}")))
    };
    let flat = [("cluster".to_owned(), Value::from(format!("{base}/state/cluster")))];
    Reply::ok(&json!({
        "details": COMPONENTS.iter().map(link).chain(flat).collect::<Map<_, _>>(),
        "router-id": &*view.catalogue.router_id,
        "routers": routers(view),
    }))
}

/// One part, or one service.
pub(super) fn page(name: &str, call: &Call, view: &View<'_>) -> Reply {
    if name == "cluster" {
        return cluster::page(view);
    }
    let state = match COMPONENTS.iter().find(|(it, _)| *it == name) {
        Some((_, page)) => Ok(page(view)),
        None => service(name, view),
    };
    match state {
        Ok(state) => Reply::ok(&json!({"router-id": &*view.catalogue.router_id, "state": state})),
        Err(fault) => Reply::fault(&fault, call, view.now),
    }
}

fn service(name: &str, view: &View<'_>) -> Result<Value, Fault> {
    let (_, entry) = app::find(name, view)?;
    Ok(json!({
        "autoscaler-state": scaling(entry),
        "autoscaling-multiplexer-state": null,
        "interstitial-maintainer-state": null,
        "latency": entry.latency.as_ref().map(|it| json!({
            "queue": quantiles(&it.queue),
            "total": quantiles(&it.total),
        })),
        "local-usage": used(entry),
        "responder-state": responder(entry),
        "scheduler-broken-services-gc-state": broken_of(entry),
        "scheduler-services-gc-state": idle_of(entry),
        "scheduler-state": scheduled(entry),
        "service-maintainer-state": {
            "exists?": entry.exists,
            "last-update-time": view.catalogue.time.iso(),
            "maintainer": {
                "healthy-instances": instance::ids(&entry.state.healthy),
                "unhealthy-instances": instance::ids(&entry.state.unhealthy),
                "starting-instances": instance::ids(&entry.state.starting),
                "expired-instances": instance::ids(&entry.state.expired),
                "failed-instances": instance::ids(&entry.state.failed),
                "killed-instances": instance::ids(&entry.state.killed),
            },
        },
        "transient-metrics-gc-state": null,
        "scope": cluster::scope(entry, view),
        "work-stealing-state": null,
    }))
}

fn maintainer(view: &View<'_>) -> Value {
    let catalogue = view.catalogue;
    let id = &*catalogue.router_id;
    let instances =
        |of: fn(&State) -> &Vec<Arc<Instance>>| each(view, |it| Some(instance::ids(of(&it.state))));
    json!({
        "all-available-service-ids": existing(view).map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        "iteration": catalogue.iteration,
        "time": catalogue.time.iso(),
        "routers": routers(view),
        "router-details": {id: {
            "address": view.about.address.ip().to_string(),
            "port": view.about.address.port(),
            "id": id,
            "name": id,
            "custom-details": {},
        }},
        "service-id->healthy-instances": instances(|it| &it.healthy),
        "service-id->unhealthy-instances": instances(|it| &it.unhealthy),
        "service-id->starting-instances": instances(|it| &it.starting),
        "service-id->expired-instances": instances(|it| &it.expired),
        "service-id->failed-instances": instances(|it| &it.failed),
        "service-id->killed-instances": instances(|it| &it.killed),
        "service-id->instance-counts": each(view, |it| Some(counts(&it.state))),
        "service-id->deployment-error": each(view, |it| {
            it.state.deployment_error.as_ref().map(|error| error.key().into())
        }),
        "service-id->instability-issue": each(view, |it| {
            it.state.instability.map(|issue| issue.key().into())
        }),
        "service-id->my-instance->slots": each(view, |it| Some(slots(it))),
    })
}

fn autoscaler(view: &View<'_>) -> Value {
    json!({"service-id->scale-state": each(view, |it| Some(scaling(it)))})
}

fn ejections(view: &View<'_>) -> Value {
    let resting = |it: &Entry| (!it.ejected.is_empty()).then(|| instance::ejected(&it.ejected));
    json!({"service-id->instance-id->failures": each(view, resting)})
}

fn idle(view: &View<'_>) -> Value {
    json!({"service-id->state": each(view, |it| Some(idle_of(it)))})
}

fn broken(view: &View<'_>) -> Value {
    json!({"service-id->state": each(view, |it| Some(broken_of(it)))})
}

/// One router leads itself.
fn leader(view: &View<'_>) -> Value {
    if let Some(cluster) = &view.catalogue.cluster {
        let it = cluster::leader(cluster, view);
        return json!({"leader?": it["leader?"], "leader-id": it["id"], "since": it["since"]});
    }
    json!({"leader?": true, "leader-id": &*view.catalogue.router_id})
}

fn usage(view: &View<'_>) -> Value {
    each(view, |it| Some(used(it)))
}

fn scheduler(view: &View<'_>) -> Value {
    json!({
        "type": view.about.settings.pointer("/scheduler-config/kind"),
        "last-update-time": date(view.catalogue.scheduler_heard),
        "supported-include-params": [],
        "views": views(view),
        "id->doubt": each(view, |it| {
            let since = it.state.doubted_since?;
            Some(json!({"why": it.state.doubt, "since": since.iso()}))
        }),
        "id->service": each(view, |it| Some(scheduled(it))),
    })
}

/// How far those schedulers are believed that can be in doubt.
fn views(view: &View<'_>) -> Value {
    let one = |(runner, it): (&Runner, &fact::View)| {
        let shown = json!({
            "view": it.sight.name(),
            "since": it.since.iso(),
            "why": it.why,
            "believed-at": date(it.heard),
            "place": it.place,
            "event-stream": it.hints.name(),
            "polls": it.polls,
            "polls-failed": it.polls_failed,
            "answers-doubted": it.answers_doubted,
            "poll-ms": millis(it.poll_time),
        });
        (runner.name().to_owned(), shown)
    };
    Value::Object(view.catalogue.views.iter().map(one).collect())
}

fn scaling(entry: &Entry) -> Value {
    let it = &entry.scaling;
    json!({
        "scale-amount": it.amount,
        "scale-to-instances": it.scale_to,
        "target-instances": it.target,
        "scaling-state": it.state(),
        "reason": &*it.reason,
        "decided-at": date(it.decided),
        "boot-time-ms": entry.state.boot_time.map(millis),
    })
}

/// In milliseconds, to the microsecond; since the router began.
fn quantiles(times: &Histogram<u64>) -> Value {
    let of = |q| times.quantile(q).map(|it| it.as_micros() as f64 / 1000.0);
    json!({"p50": of(0.5), "p99": of(0.99)})
}

fn used(entry: &Entry) -> Value {
    let mut used = traffic(entry);
    used["last-request-time"] = date(entry.last_request);
    used
}

fn responder(entry: &Entry) -> Value {
    json!({
        "instance-id->state": slots(entry),
        "instance-id->consecutive-failures": instance::ejected(&entry.ejected),
        "waiting-requests": entry.slots.waiting.count(),
        "oldest-waiting-ms": millis(entry.traffic.oldest_waiting),
    })
}

/// The slots of the serveable instances, as they are at this moment.
fn slots(entry: &Entry) -> Value {
    let id = &entry.state.description.id;
    let roster = entry.slots.roster();
    let slot = |it: &Arc<crate::core::slots::Instance>| {
        let tags = [
            (Gate::Ejected, "ejected"),
            (Gate::Locked, "locked"),
            (Gate::Retired, "retired"),
            (Gate::Failing, "failing"),
        ];
        let tags = tags.into_iter().filter(|(gate, _)| it.word.is(*gate));
        let state = json!({
            "slots-assigned": it.word.limit(),
            "slots-used": it.word.used(),
            "status-tags": tags.map(|(_, name)| name).collect::<Vec<_>>(),
        });
        (it.id(id).to_string(), state)
    };
    Value::Object(roster.instances().iter().map(slot).collect())
}

fn scheduled(entry: &Entry) -> Value {
    let mut shown = counts(&entry.state);
    shown["exists?"] = entry.exists.into();
    shown["scheduler"] = entry.state.runner.map(Runner::name).into();
    shown["doubt"] = entry.state.doubt.as_str().into();
    shown["failed"] = entry.state.failed.len().into();
    shown["killed"] = entry.state.killed.len().into();
    shown
}

fn idle_of(entry: &Entry) -> Value {
    let timeout = entry.state.description.parameters.idle_timeout;
    let timeout = timeout.filter(|it| !it.is_zero() && !entry.state.description.is_static());
    let at = timeout.zip(entry.idle_since).map(|(timeout, since)| after(since, timeout));
    json!({
        "outstanding": entry.traffic.outstanding,
        "last-request-time": date(entry.last_request),
        "last-modified-time": date(entry.idle_since),
        "collected-at": date(at),
    })
}

fn broken_of(entry: &Entry) -> Value {
    let hosts: std::collections::BTreeSet<_> =
        entry.state.failed.iter().map(|it| it.fact.host.to_string()).collect();
    json!({
        "failed-instance-hosts": hosts,
        "has-failed-instances": !entry.state.failed.is_empty(),
        "has-healthy-instances": !entry.state.healthy.is_empty(),
        "last-modified-time": date(entry.broken_since),
    })
}

fn counts(state: &State) -> Value {
    let it = &state.counts;
    json!({"healthy": it.healthy, "requested": it.requested, "scheduled": it.scheduled})
}

fn existing<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a ServiceId, &'a Arc<Entry>)> {
    view.catalogue.services.iter().filter(|(_, it)| it.exists)
}

/// What there is to say of each service that exists.
fn each(view: &View<'_>, say: impl Fn(&Entry) -> Option<Value>) -> Value {
    let said = existing(view).filter_map(|(id, it)| Some((id.to_string(), say(it)?)));
    Value::Object(said.collect())
}

/// All routers of the cluster, or this one.
fn routers(view: &View<'_>) -> Value {
    let alone = || json!({&*view.catalogue.router_id: url(view)});
    view.catalogue.cluster.as_ref().map_or_else(alone, |it| cluster::routers(it))
}

/// This router, for other routers and for clients that know them all.
fn url(view: &View<'_>) -> String {
    format!("{}/", view.base)
}

pub(super) fn date(date: Option<Date>) -> Value {
    date.map(Date::iso).into()
}

fn after(date: Date, time: Duration) -> Date {
    Date(date.0.saturating_add(millis(time)))
}

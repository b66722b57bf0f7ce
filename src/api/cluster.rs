//! `/state/cluster`, `/state/stealing`, `/state/distribution/<service-id>`: the routers, what they
//! lend each other, and who gives the slots of a service out.

use super::about::View;
use super::reply::Reply;
use super::state::date;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::base::time::{Date, millis};
use crate::core::catalogue::{Cluster, Distribution, Done, Entry, Peer};
use crate::core::fact::Runner;
use crate::core::peers::Member;
use crate::core::peers::status::Ownership;
use crate::wire::call::Call;
use serde_json::{Map, Value, json};

/// The routers: a flat object. `members` are those by whom slots are divided at this moment.
pub(super) fn page(view: &View<'_>) -> Reply {
    let Some(it) = &view.catalogue.cluster else { return Reply::ok(&alone(view)) };
    Reply::ok(&json!({
        "router-id": it.router.as_str(),
        "cluster": &*it.name,
        "members": it.members.iter().map(member).collect::<Vec<_>>(),
        "strangers": it.strangers.iter().map(member).collect::<Vec<_>>(),
        "epoch": it.epoch,
        "leader": leader(it, view),
        "min-routers": it.min_routers,
        "session": {
            "granted-ms": it.session.map(millis),
            "server": it.server,
            "last-good-view": date(it.seen),
            "age-ms": it.seen.map(|at| millis(view.now.since(at))),
            "lost-since": date(it.lost.as_ref().map(|(since, _)| *since)),
            "lost-why": it.lost.as_ref().map(|(_, why)| why.as_str()),
        },
        "isolated": if it.stops_alone { "stop" } else { "serve" },
        "away": it.away,
        "stale-counters": it.stale.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        "unproven-total": it.unproven,
        "peers": it.peers.iter().map(peer).collect::<Vec<_>>(),
        "connections-refused": refused(it),
        "slots-lent": it.lent,
        "slots-borrowed": it.borrowed,
    }))
}

/// Connections that were closed for what the other said, by cause.
fn refused(it: &Cluster) -> Value {
    let one = |(cause, count): &(&str, u64)| ((*cause).to_owned(), Value::from(*count));
    Value::Object(it.refused.iter().map(one).collect())
}

/// A router that has no peers leads itself.
fn alone(view: &View<'_>) -> Value {
    let id = &*view.catalogue.router_id;
    json!({
        "router-id": id,
        "cluster": null,
        "members": [{
            "id": id,
            "address": view.about.reachable().ip().to_string(),
            "port": view.about.reachable().port(),
            "since": view.about.started.iso(),
        }],
        "strangers": [],
        "epoch": 0,
        "leader": {"id": id, "leader?": true, "since": view.about.started.iso()},
        "min-routers": 1,
        "peers": [],
        "slots-lent": 0,
        "slots-borrowed": 0,
    })
}

/// Who leads, as far as this router knows.
pub(super) fn leader(it: &Cluster, view: &View<'_>) -> Value {
    json!({
        "id": it.leader.as_ref().map(AsRef::<str>::as_ref),
        "leader?": it.leads_still(view.catalogue.time, view.now),
        "since": date(it.leads_since),
        "lease-left-ms": it.lease_left.map(millis),
    })
}

/// Each router and where it is.
pub(super) fn routers(it: &Cluster) -> Value {
    let one = |it: &Member| (it.id.as_str().to_owned(), format!("http://{}/", it.address).into());
    Value::Object(it.members.iter().map(one).collect())
}

/// What routers lend each other.
pub(super) fn stealing(view: &View<'_>) -> Value {
    let Some(it) = &view.catalogue.cluster else { return json!({"peers": {}}) };
    let one = |it: &Peer| {
        let status = &it.status;
        let shown = json!({
            "lent": status.lent,
            "borrowed": status.borrowed,
            "owes": status.owes,
        });
        (status.router.as_str().to_owned(), shown)
    };
    json!({
        "scheme": scheme(it),
        "lent": it.lent,
        "borrowed": it.borrowed,
        "peers": it.peers.iter().map(one).collect::<Map<_, _>>(),
    })
}

/// Who gives the slots of a service out, as the control thread answered.
pub(super) fn distribution(
    service: &ServiceId,
    done: &Done,
    call: &Call,
    view: &View<'_>,
) -> Reply {
    match done {
        Done::Distribution(it) => Reply::ok(&json!({
            "router-id": &*view.catalogue.router_id,
            "service-id": service.as_str(),
            "scheme": view.catalogue.cluster.as_ref().map(|it| scheme(it)),
            "instances": instances(it),
            "shares": shares(it),
        })),
        _ => {
            let text = "Routers do not share this service: it is not there, or runs on one host";
            let fault = Fault::new(Class::NotFound, text).with("service-id", service.as_str());
            Reply::fault(&fault, call, view.now)
        }
    }
}

/// Where a service counts: on all routers, or on the host that launched it.
pub(super) fn scope(entry: &Entry, view: &View<'_>) -> &'static str {
    let Some(cluster) = &view.catalogue.cluster else { return "host" };
    let description = &entry.state.description;
    // One that is not listed yet will be run by whom it names.
    let named = || cluster.runners.of(description.parameters.scheduler.as_deref());
    let runner = entry.state.runner.or_else(named);
    if description.is_static() || runner == Some(Runner::Marathon) { "cluster" } else { "host" }
}

fn scheme(it: &Cluster) -> &'static str {
    if it.balanced { "balanced" } else { "simple" }
}

fn instances(it: &Distribution) -> Value {
    let one = |it: &Ownership| {
        let shown = json!({
            "owner": it.owner.as_ref().map(AsRef::<str>::as_ref),
            "given-out-here": it.own,
            "slots-used": it.used,
            "slots-limit": it.limit,
            "slots-lent": it.lent,
            "slots-borrowed": it.borrowed,
            "slots-owed-by-others": it.owed,
        });
        (it.instance.to_string(), shown)
    };
    Value::Object(it.instances.iter().map(one).collect())
}

fn shares(it: &Distribution) -> Value {
    let router = |(id, shares): &(crate::base::ids::RouterId, Vec<_>)| {
        let one = |(instance, slots): &(crate::base::ids::InstanceId, u32)| {
            (instance.to_string(), Value::from(*slots))
        };
        (id.as_str().to_owned(), Value::Object(shares.iter().map(one).collect()))
    };
    Value::Object(it.shares.iter().map(router).collect())
}

fn member(it: &Member) -> Value {
    let (address, port) = it.address.rsplit_once(':').unwrap_or((&it.address, ""));
    json!({
        "id": it.id.as_str(),
        "address": address.trim_matches(['[', ']']),
        "port": port.parse::<u16>().ok(),
        "since": Date(it.since).iso(),
    })
}

fn peer(it: &Peer) -> Value {
    let status = &it.status;
    json!({
        "id": status.router.as_str(),
        "member?": status.is_member,
        "silent-ms": status.silent.map(millis),
        "epoch": status.epoch,
        "counters-lag-ms": it.lag.map(millis),
        "connected-since": date(it.connected),
        "bytes-received": it.bytes.0,
        "bytes-sent": it.bytes.1,
        "last-error": it.last_error,
        "lent": status.lent,
        "borrowed": status.borrowed,
        "owes": status.owes,
    })
}

//! The queue, and what Marathon says of itself.

use serde_json::{Value, json};

use super::refusal::no_path;
use super::shape::definition;
use super::{Answer, Call};
use crate::clock::{Ms, iso};
use crate::http::{Request, Response};
use crate::options::Generation;
use crate::world::{App, app_id};

pub(super) fn queue(call: &Call<'_>) -> Answer {
    let rows: Vec<Value> = call
        .world
        .apps
        .iter()
        .filter(|(id, _)| call.world.missing(id) > 0)
        .map(|(id, app)| queued(call, id, app))
        .collect();
    Ok(Response::json(200, &json!({ "queue": rows })))
}

fn queued(call: &Call<'_>, id: &str, app: &App) -> Value {
    let left: Ms = call.world.delays.until(id, app.configured_at, call.now) - call.now;
    let count = call.world.missing(id);
    let mut row = json!({
        "count": count,
        "delay": { "timeLeftSeconds": (left + 999) / 1000, "overdue": left <= 0 },
        "app": definition(call.world.options.generation, &app.as_version()),
    });
    if call.world.options.generation == Generation::V1_10 {
        row["since"] = json!(iso(app.queued_since.unwrap_or(call.now)));
        row["role"] = json!(app.spec.text("role").unwrap_or("*"));
        row["processedOffersSummary"] = json!({
            "processedOffersCount": 0, "unusedOffersCount": 0,
            "rejectSummaryLastOffers": [], "rejectSummaryLaunchAttempt": [],
        });
        if call.request.params("embed").any(|it| it == "lastUnusedOffers") {
            row["lastUnusedOffers"] = json!([]);
        }
    }
    row
}

pub(super) fn reset_delay(call: &mut Call<'_>, id: &str) -> Answer {
    let id = app_id(id);
    if !call.world.apps.contains_key(&id) {
        return Err(no_path(&id));
    }
    if call.world.missing(&id) == 0 {
        return Err(Response::message(404, &format!("Application {id} not found in tasks queue.")));
    }
    call.world.delays.reset(&id);
    Ok(Response::empty(204))
}

pub(super) fn info(call: &Call<'_>) -> Answer {
    let (host, port) = call.leader.rsplit_once(':').unwrap_or((call.leader, "0"));
    let version = match call.world.options.generation {
        Generation::V1_3 => "1.3.5",
        Generation::V1_10 => "1.10.26",
    };
    let config = json!({
        "master": "127.0.0.1:5050", "failover_timeout": 604_800, "framework_name": "marathon",
        "ha": true, "checkpoint": true, "local_port_min": 10_000, "local_port_max": 20_000,
        "executor": "//cmd", "hostname": host, "webui_url": null, "mesos_role": null,
        "task_launch_timeout": 300_000, "task_reservation_timeout": 20_000,
        "reconciliation_initial_delay": 15_000, "reconciliation_interval": 600_000,
        "mesos_user": "root", "leader_proxy_connection_timeout_ms": 5_000,
        "leader_proxy_read_timeout_ms": 10_000, "features": [],
        "mesos_leader_ui_url": "http://127.0.0.1:5050/",
        "task_lost_expunge_initial_delay": 300_000, "task_lost_expunge_interval": 30_000,
    });
    let zookeeper = json!({
        "zk": "zk://127.0.0.1:2181/marathon", "zk_timeout": 10_000, "zk_session_timeout": 10_000,
        "zk_connection_timeout": 10_000, "zk_max_versions": 50,
    });
    let mut out = json!({
        "name": "marathon", "version": version, "buildref": "stand-in", "elected": true,
        "leader": call.leader, "frameworkId": call.world.framework_id,
        "marathon_config": config, "zookeeper_config": zookeeper,
        "http_config": { "http_port": port.parse::<u16>().unwrap_or(0), "https_port": 8443 },
    });
    if call.world.options.generation == Generation::V1_3 {
        out["event_subscriber"] = Value::Null;
    } else if let Some(config) = out["marathon_config"].as_object_mut() {
        config.retain(|_, value| !value.is_null());
    }
    Ok(Response::json(200, &out))
}

pub(super) fn leader(call: &Call<'_>) -> Answer {
    Ok(Response::json(200, &json!({ "leader": call.leader })))
}

/// Who wants JSON gets it, who wants neither JSON nor text gets nothing.
pub(super) fn ping(request: &Request) -> Response {
    let accept = request.header("accept").unwrap_or("*/*");
    if accept.contains("text/plain") || accept.contains("*/*") || accept.contains("text/*") {
        Response::text(200, "text/plain", "pong")
    } else if accept.contains("application/json") {
        Response::json(200, &json!("pong"))
    } else {
        Response::empty(204)
    }
}

pub(super) fn metrics(call: &Call<'_>) -> Answer {
    let gauges = json!({
        "marathon.apps.active.gauge": { "value": call.world.apps.len() },
        "marathon.instances.running.gauge": { "value": call.world.tasks.len() },
    });
    let out = json!({
        "version": "3.0.0", "gauges": gauges, "counters": {}, "histograms": {}, "meters": {},
        "timers": {},
    });
    Ok(Response::json(200, &out))
}

//! The fault port: a small REST interface for tests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::{Fault, Kind, warp};
use crate::clock::{Ms, now};
use crate::http::deliver::Reply;
use crate::http::serve::Door;
use crate::http::{Request, Response};
use crate::outside::{Outside, Signal};
use crate::plant::Plant;
use crate::world::{TaskState, World};

/// Answers a request to the fault port. `doors` are those of the Marathons.
pub(crate) fn answer(plant: &Plant, doors: &[Arc<Door>], request: &Request) -> Reply {
    let body: Map<String, Value> = match request.body.as_slice() {
        [] => Map::new(),
        bytes => match crate::world::object(bytes) {
            Ok(it) => it,
            Err(why) => return Reply::Whole(why),
        },
    };
    let path = request.segments();
    let done = match (request.method.as_str(), path.as_slice()) {
        (method, ["faults", rest @ ..]) => faults(plant, method, rest, &body),
        ("GET", ["requests"]) => Ok(plant.record.json()),
        ("DELETE", ["requests"]) => {
            plant.record.clear();
            Ok(json!({}))
        }
        ("GET", ["processes"]) => Ok(plant.change(|world, outside, _| processes(world, outside))),
        ("POST", ["leader"]) => leader(plant, &body),
        ("POST", ["door"]) => door(doors, &body),
        ("POST", ["lose-state"]) => lose_state(plant, &body),
        ("POST", ["tasks", id, what]) => tasks(plant, id, what, &body),
        (method, ["deployments", "hold"]) => hold(plant, method, &body),
        (method, ["offers", "stop"]) => {
            plant.change(|world, _, _| world.no_offers = method == "POST");
            Ok(json!({}))
        }
        ("POST", ["events", what]) => events(plant, what, &body),
        _ => Err((404, format!("the fault port has no {} {}", request.method, request.path))),
    };
    Reply::Whole(match done {
        Ok(value) => Response::json(200, &value),
        Err((status, message)) => Response::message(status, &message),
    })
}

type Done = Result<Value, (u16, String)>;

fn faults(plant: &Plant, method: &str, rest: &[&str], body: &Map<String, Value>) -> Done {
    match (method, rest) {
        ("POST", []) => {
            let fault = read(body, plant).map_err(|why| (400, why))?;
            Ok(json!({ "id": plant.faults.add(fault) }))
        }
        ("GET", []) => Ok(plant.faults.json()),
        ("DELETE", []) => {
            plant.faults.remove(None);
            Ok(json!({}))
        }
        ("DELETE", [id]) => {
            let id = id.parse().map_err(|_| (400, format!("{id} is no id")))?;
            plant.faults.remove(Some(id));
            Ok(json!({}))
        }
        _ => Err((405, "POST, GET or DELETE is wanted".to_owned())),
    }
}

fn read(body: &Map<String, Value>, plant: &Plant) -> Result<Fault, String> {
    let known = [
        "do",
        "to",
        "method",
        "path",
        "times",
        "for_ms",
        "carried_out",
        "ms",
        "bytes_per_s",
        "code",
        "body",
        "content_type",
        "deployment",
        "keep",
        "list",
        "set",
    ];
    if let Some(key) = body.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("a fault has no {key}; it may have {}", known.join(", ")));
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| body.get(key).and_then(Value::as_i64);
    Ok(Fault {
        id: 0,
        text: Value::Object(body.clone()),
        to: text("to").unwrap_or_else(|| "api".to_owned()),
        method: text("method"),
        path: text("path"),
        times: number("times").map(i64::unsigned_abs).filter(|it| *it > 0),
        until: number("for_ms").map(|it| now() + it),
        carried_out: body.get("carried_out").and_then(Value::as_bool).unwrap_or(false),
        kind: kind(body, plant)?,
    })
}

fn kind(body: &Map<String, Value>, plant: &Plant) -> Result<Kind, String> {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let number = |key: &str| body.get(key).and_then(Value::as_i64);
    Ok(match text("do").unwrap_or_default() {
        "latency" => Kind::Latency(number("ms").ok_or("latency wants ms")?),
        "hang" => match number("ms") {
            Some(ms) => Kind::Latency(ms),
            None => Kind::Hang,
        },
        "drip" => Kind::Drip(u32::try_from(number("bytes_per_s").unwrap_or(1)).unwrap_or(1)),
        "status" => {
            let code =
                number("code").and_then(|it| u16::try_from(it).ok()).ok_or("status wants code")?;
            Kind::Replace(warp::replacement(code, text("body"), text("content_type")))
        }
        "locked" => Kind::Locked(text("deployment").map(str::to_owned)),
        "truncate" => Kind::Truncate(body.get("keep").and_then(Value::as_f64).unwrap_or(0.5)),
        "empty-list" => Kind::EmptyList,
        "half-list" => match text("list") {
            None | Some("apps") => Kind::HalfApps,
            Some("tasks") => Kind::HalfTasks,
            Some(other) => return Err(format!("half of apps or tasks, not of {other}")),
        },
        "stale-list" => Kind::Stale(Box::new(plant.change(|world, _, _| world.clone()))),
        "edit" => Kind::Edit {
            list: text("list").unwrap_or("tasks").to_owned(),
            set: body.get("set").cloned().ok_or("edit wants set")?,
        },
        "reset" => Kind::Reset,
        other => return Err(format!("{other:?} is no fault; see README")),
    })
}

fn processes(world: &World, outside: &Outside) -> Value {
    let row = |pid: i32| {
        let task = world.tasks.values().find(|it| it.pid == Some(pid));
        let sandbox = task.map(|it| it.sandbox.display().to_string());
        json!({ "pid": pid, "task": task.map(|it| &it.id), "sandbox": sandbox })
    };
    json!({ "processes": outside.process_ids().into_iter().map(row).collect::<Vec<_>>() })
}

fn leader(plant: &Plant, body: &Map<String, Value>) -> Done {
    let absent = body.get("absent_ms").and_then(Value::as_i64).unwrap_or(1_000);
    let next = body.get("node").and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
    plant.throne.leave(now(), absent, next);
    plant.throne.tick(now());
    plant.change(|world, _, _| world.hub.close());
    Ok(json!({}))
}

fn door(doors: &[Arc<Door>], body: &Map<String, Value>) -> Done {
    let shut = body
        .get("shut")
        .and_then(Value::as_bool)
        .ok_or_else(|| (400, "door wants shut".to_owned()))?;
    let node = body.get("node").and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
    for (at, it) in doors.iter().enumerate() {
        if node.is_none_or(|node| node == at) {
            it.set_shut(shut);
        }
    }
    Ok(json!({}))
}

fn lose_state(plant: &Plant, body: &Map<String, Value>) -> Done {
    let keep = body.get("keep_processes").and_then(Value::as_bool).unwrap_or(true);
    plant.change(|world, outside, _| {
        world.forget();
        if !keep {
            outside.process_ids().into_iter().for_each(|pid| outside.signal(pid, Signal::KILL));
        }
    });
    Ok(json!({}))
}

/// `*` means all tasks, a name with a slash in front cannot be written: an app's tasks by `app`.
fn tasks(plant: &Plant, id: &str, what: &str, body: &Map<String, Value>) -> Done {
    let app = body.get("app").and_then(Value::as_str).map(crate::world::app_id);
    plant.change(|world, outside, now| {
        let all = world.tasks.values().filter(|it| {
            (id == "*" || it.id == id) && app.as_ref().is_none_or(|app| *app == it.app_id)
        });
        let ids: Vec<String> = all.map(|it| it.id.clone()).collect();
        if ids.is_empty() && id != "*" {
            return Err((404, format!("no task {id}")));
        }
        for id in &ids {
            task(world, id, what, body, outside, now)?;
        }
        Ok(json!({ "tasks": ids }))
    })
}

fn task(
    world: &mut World,
    id: &str,
    what: &str,
    body: &Map<String, Value>,
    outside: &Outside,
    now: Ms,
) -> Result<(), (u16, String)> {
    let Some(pid) = world.tasks.get(id).map(|it| it.pid) else { return Ok(()) };
    match what {
        "oom" => {
            let used = world.tasks.get(id).and_then(|it| world.apps.get(&it.app_id));
            let used = used.map_or(1.0, |it| it.spec.number("mem"));
            world.on_memory_exceeded(id, used, outside);
        }
        "signal" => {
            let raw =
                body.get("signal").and_then(Value::as_i64).and_then(|it| i32::try_from(it).ok());
            let signal = raw
                .and_then(Signal::from_named_raw)
                .ok_or_else(|| (400, "which signal?".to_owned()))?;
            pid.into_iter().for_each(|pid| outside.signal(pid, signal));
        }
        "lose" => lose(world, id, body, pid, outside, now)?,
        other => return Err((404, format!("a task can oom, lose or get a signal, not {other}"))),
    }
    Ok(())
}

fn lose(
    world: &mut World,
    id: &str,
    body: &Map<String, Value>,
    pid: Option<i32>,
    outside: &Outside,
    now: Ms,
) -> Result<(), (u16, String)> {
    let message = "Agent health check timed out";
    match body.get("state").and_then(Value::as_str).unwrap_or("TASK_LOST") {
        "TASK_UNREACHABLE" => return set_state(world, id, TaskState::Unreachable, now),
        "TASK_RUNNING" => return set_state(world, id, TaskState::Running, now),
        "TASK_LOST" => world.end(id, world.lost_state(), message, now),
        "TASK_GONE" => world.end(id, "TASK_GONE", message, now),
        "TASK_DROPPED" => world.end(id, "TASK_DROPPED", message, now),
        "TASK_UNKNOWN" => world.end(id, "TASK_UNKNOWN", message, now),
        other => return Err((400, format!("no task is lost as {other}"))),
    }
    if !body.get("keep_process").and_then(Value::as_bool).unwrap_or(false) {
        pid.into_iter().for_each(|pid| outside.signal(pid, Signal::KILL));
    }
    Ok(())
}

fn set_state(world: &mut World, id: &str, state: TaskState, now: Ms) -> Result<(), (u16, String)> {
    let Some(task) = world.tasks.get_mut(id) else { return Ok(()) };
    task.state = state;
    let task = task.clone();
    let name = state.name(world.options.generation);
    world.tell_status(&task, name, "", now);
    Ok(())
}

fn hold(plant: &Plant, method: &str, body: &Map<String, Value>) -> Done {
    let app = body.get("app").and_then(Value::as_str).map(crate::world::app_id);
    plant.change(|world, _, _| match (method, app) {
        ("POST", app) => world.held.push(app.unwrap_or_else(|| "*".to_owned())),
        (_, Some(app)) => world.held.retain(|it| *it != app),
        (_, None) => world.held.clear(),
    });
    Ok(json!({}))
}

fn events(plant: &Plant, what: &str, body: &Map<String, Value>) -> Done {
    plant.change(|world, _, _| match what {
        "close" => {
            let count = world.hub.subscriber_count();
            world.hub.close();
            Ok(json!({ "closed": count }))
        }
        "silence" => {
            let on = body.get("on").and_then(Value::as_bool).unwrap_or(true);
            world.hub.silent.store(on, Ordering::Relaxed);
            Ok(json!({}))
        }
        other => Err((404, format!("events can close or silence, not {other}"))),
    })
}

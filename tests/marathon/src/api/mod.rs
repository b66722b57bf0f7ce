//! Marathon's REST API: what is asked is looked up here, each group of resources answers itself.

mod apps;
mod deployments;
mod groups;
pub(crate) mod refusal;
mod shape;
mod system;
mod tasks;
mod updates;

use std::thread;
use std::time::Duration;

use crate::clock::{Ms, now};
use crate::http::deliver::{Reply, Stream};
use crate::http::{Request, Response};
use crate::outside::Outside;
use crate::plant::Plant;
use crate::standby;
use crate::world::World;

/// One request in the world it is carried out in.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    pub(crate) world: &'a mut World,
    pub(crate) outside: &'a Outside,
    /// Address of the leader.
    pub(crate) leader: &'a str,
    pub(crate) now: Ms,
}

/// An answer, right or a refusal: both go the same way.
pub(crate) type Answer = Result<Response, Response>;

/// Answers a request that came to the Marathon of this number.
pub(crate) fn answer(plant: &Plant, node: usize, request: &Request) -> Reply {
    let name = if node == 0 { "api".to_owned() } else { format!("standby-{node}") };
    plant.record.note(&name, request, now());
    let Some((leading, leader)) = wait_for_leader(plant) else {
        return Reply::Whole(Response::html(502, "Could not determine the current leader"));
    };
    if leading != node {
        return standby::pass_on(&leader, request);
    }
    // The leader meets them; a standby would use them up on the way.
    let trouble = plant.faults.meet("api", request, now());
    trouble.delay(&plant.faults);
    if let Some((reply, carried_out)) = trouble.instead() {
        if carried_out {
            whole(plant, &leader, request, None);
        }
        return reply;
    }
    if request.segments() == ["v2", "events"] {
        return events(plant, &leader, request);
    }
    trouble.bend(whole(plant, &leader, request, trouble.stale()))
}

/// Nobody leads for a while: the request is held, and looked after every 250 ms.
fn wait_for_leader(plant: &Plant) -> Option<(usize, String)> {
    let limit = plant.change(|world, _, _| world.options.leader_wait_ms);
    let until = now() + Ms::try_from(limit).unwrap_or(Ms::MAX / 2);
    loop {
        let leader = plant.throne.leader();
        if leader.is_some() || now() >= until {
            return leader;
        }
        thread::sleep(Duration::from_millis(250.min(limit.max(1))));
    }
}

fn whole(plant: &Plant, leader: &str, request: &Request, stale: Option<World>) -> Response {
    let answered = plant.change(|world, outside, now| {
        if let Some(why) = refusal::unauthorized(&world.options, request) {
            return why;
        }
        let mut stale = stale.filter(|_| request.method == "GET");
        let world = stale.as_mut().unwrap_or(world);
        let mut call = Call { request, world, outside, leader, now };
        let (Ok(it) | Err(it)) = route(&mut call);
        it
    });
    if request.method == "DELETE"
        && request.segments() == ["v2", "leader"]
        && answered.status == 200
    {
        let absent = plant.change(|world, _, _| world.options.election_ms);
        plant.throne.leave(now() + crate::throne::ABDICATION_MS, absent, None);
    }
    answered.with("X-Marathon-Leader", format!("http://{leader}"))
}

fn route(call: &mut Call<'_>) -> Answer {
    let request = call.request;
    let path = request.segments();
    let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
    match (method, path.as_slice()) {
        (_, ["v2", "apps", rest @ ..]) => apps(call, method, rest),
        ("GET", ["v2", "tasks"]) => tasks::list(call),
        ("POST", ["v2", "tasks", "delete"]) => tasks::delete_given(call),
        (_, ["v2", "groups", rest @ ..]) => groups::route(call, method, rest),
        ("GET", ["v2", "deployments"]) => deployments::list(call),
        ("DELETE", ["v2", "deployments", id]) => deployments::cancel(call, id),
        ("GET", ["v2", "queue"]) => system::queue(call),
        ("DELETE", ["v2", "queue", app @ .., "delay"]) => system::reset_delay(call, &app.join("/")),
        ("GET", ["v2", "info"]) => system::info(call),
        ("GET", ["v2", "leader"]) => system::leader(call),
        ("DELETE", ["v2", "leader"]) => Ok(Response::message(200, "Leadership abdicated")),
        ("GET", ["ping"]) => Ok(system::ping(request)),
        ("GET", ["metrics"]) => system::metrics(call),
        (
            _,
            ["ping" | "metrics"] | ["v2", "tasks" | "deployments" | "queue" | "info" | "leader"],
        ) => Err(Response::html(405, "Method Not Allowed")),
        _ => Err(Response::message(500, "URI not found")),
    }
}

/// An id may hold slashes, and what is asked of the app follows it.
fn apps(call: &mut Call<'_>, method: &str, rest: &[&str]) -> Answer {
    match (method, rest) {
        ("GET", []) => apps::list(call),
        ("POST", []) => apps::create(call),
        ("PUT" | "PATCH", []) => updates::many(call),
        ("GET", [group @ .., "*"]) => apps::list_group(call, &group.join("/")),
        ("GET", [id @ .., "tasks"]) if !id.is_empty() => tasks::list_of_app(call, &id.join("/")),
        ("DELETE", [id @ .., "tasks"]) if !id.is_empty() => tasks::delete_all(call, &id.join("/")),
        ("DELETE", [id @ .., "tasks", task]) if !id.is_empty() => {
            tasks::delete_one(call, &id.join("/"), task)
        }
        ("POST", [id @ .., "restart"]) => updates::restart(call, &id.join("/")),
        ("GET", [id @ .., "versions"]) => apps::versions(call, &id.join("/")),
        ("GET", [id @ .., "versions", version]) => apps::version(call, &id.join("/"), version),
        ("GET", id) => apps::one(call, &id.join("/")),
        ("PUT" | "PATCH", id) => updates::one(call, &id.join("/")),
        ("DELETE", id) => apps::delete(call, &id.join("/")),
        _ => Err(Response::html(405, "Method Not Allowed")),
    }
}

fn events(plant: &Plant, leader: &str, request: &Request) -> Reply {
    let accepts = request.header("accept").is_some_and(|it| it.contains("text/event-stream"));
    if request.method != "GET" || !accepts {
        return Reply::Whole(Response::html(405, "HTTP method GET is not supported by this URL"));
    }
    plant.change(|world, _, now| {
        if let Some(why) = refusal::unauthorized(&world.options, request) {
            return Reply::Whole(why);
        }
        let types = request.params("event_type").map(str::to_owned).collect();
        let frames = world.hub.subscribe(types);
        let peer = request.peer.ip().to_string();
        world.tell("event_stream_attached", serde_json::json!({ "remoteAddress": peer }), now);
        Reply::Stream(Stream {
            headers: vec![
                ("X-Marathon-Leader", format!("http://{leader}")),
                ("Cache-Control", "no-cache, no-store, must-revalidate".to_owned()),
                ("Pragma", "no-cache".to_owned()),
                ("Expires", "0".to_owned()),
            ],
            frames,
            heartbeat: Duration::from_millis(world.options.heartbeat_ms),
            silent: std::sync::Arc::clone(&world.hub.silent),
        })
    })
}

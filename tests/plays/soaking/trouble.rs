//! Those who see to it in a soak that nothing stays as it is.

use super::{Stage, count};
use crate::stage::{Connection, Request, end_at_once, now, pause_until};
use std::net::SocketAddr;
use std::time::Duration;

const KILL_INTERVAL: Duration = Duration::from_millis(250);
const DELETE_INTERVAL: Duration = Duration::from_millis(1500);

/// Kills an instance of each service in turn: its leader, or the process that answers.
pub(super) fn kills(stage: &Stage) {
    for round in 0.. {
        pause_until(now() + KILL_INTERVAL);
        if !stage.goes_on() {
            return;
        }
        let service = &stage.services[round % stage.services.len()];
        let pid = if round % 2 == 0 {
            leader(stage, &format!("churn{}", round % stage.services.len()))
        } else {
            let answer = stage.connect().try_ask(&service.get("/"));
            answer.ok().and_then(|it| it.field("x-instance")?.parse().ok())
        };
        if let Some(pid) = pid {
            end_at_once(pid);
            count(&stage.tally.killed);
        }
    }
}

/// The leader of an active instance of the service of this name.
fn leader(stage: &Stage, name: &str) -> Option<u32> {
    let id = id_of(stage, name)?;
    let page = stage.connect().ask(&Request::get(&format!("/apps/{id}")));
    let page = (page.status == 200).then(|| page.json())?;
    let pid = page["instances"]["active-instances"][0]["shell-scheduler/pid"].as_u64()?;
    u32::try_from(pid).ok()
}

/// The id of the service of this name, if it exists.
fn id_of(stage: &Stage, name: &str) -> Option<String> {
    let list = stage.connect().ask(&Request::get("/apps")).expect(200).json();
    let mut ids = list.as_array()?.iter().filter_map(|it| it["service-id"].as_str());
    ids.find(|it| it.contains(&format!("-{name}-"))).map(str::to_owned)
}

/// Deletes a service now and then; the next request creates it again.
pub(super) fn deletes(stage: &Stage) {
    for round in 0.. {
        pause_until(now() + DELETE_INTERVAL);
        if !stage.goes_on() {
            return;
        }
        let name = format!("churn{}", round % stage.services.len());
        if let Some(id) = id_of(stage, &name) {
            delete(stage.address, &id);
            count(&stage.tally.deleted);
        }
    }
}

/// Deletes a service, if it is there, and waits until it is gone.
pub(super) fn delete(router: SocketAddr, id: &str) {
    let request = Request::of("DELETE", &format!("/apps/{id}?timeout=15000"));
    let status = Connection::open(router).ask(&request).status;
    assert!(matches!(status, 200 | 400 | 404 | 409), "{id}: {status}");
}

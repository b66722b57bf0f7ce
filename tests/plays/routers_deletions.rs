//! Deletions that Marathon carries out late: no request that any router has started is on what they
//! end.

use crate::marathon::service;
use crate::stage::{
    Cluster, Connection, Ensemble, Flow, PATIENCE, Request, Router, now, pause_until, until,
    until_members,
};
use serde_json::json;
use std::thread;
use std::time::Duration;

/// A deletion that Marathon carries out so much later, when the router that wrote it has been
/// stopped, or has ended, for longer than its session.
const LATE: Duration = Duration::from_secs(9);

/// Every deletion of an app is carried out so much later, so many times.
fn late(marathon: &Cluster, late: Duration, times: u64) {
    let ms = late.as_millis() as u64;
    marathon.fault(&json!({"do": "latency", "ms": ms, "times": times, "method": "DELETE",
        "path": "/v2/apps/*"}));
}

fn deletions(marathon: &Cluster) -> usize {
    marathon.writes().iter().filter(|it| it.starts_with("DELETE /v2/apps/")).count()
}

/// A router wrote a deletion that comes late; then this befell it. What the other was asked
/// meanwhile is answered.
fn is_taken_along(befalls: impl FnOnce(&mut Router)) -> (Ensemble, Cluster, [Router; 2]) {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let joining = ensemble.flags();
    let flags: Vec<&str> = joining.iter().map(String::as_str).collect();
    let [mut deleter, other] = [marathon.another(&flags), marathon.another(&flags)];
    until_members(&[&deleter, &other]);
    let service = service("doomed", "");
    for it in [&deleter, &other] {
        it.ask(&service.get("/")).expect(200);
    }
    let id = other.service_id("doomed").expect("it is listed");
    late(&marathon, LATE, 1);
    let mut asks = deleter.connect();
    asks.send(&Request::of("DELETE", &format!("/apps/{id}")));
    until("the order is written", PATIENCE, || (deletions(&marathon) == 1).then_some(()));
    befalls(&mut deleter);
    until("it is no member", PATIENCE, || {
        let page = other.page("/state/cluster");
        (page["members"].as_array()?.len() == 1).then_some(())
    });
    // Whoever comes now would be in the midst of it when the deletion is carried out.
    let mut waits = Connection::open(other.address);
    waits.send(&service.get("/?delay-ms=8000"));
    assert!(marathon.app("doomed").is_some(), "the deletion is still to come");
    until("it is carried out", LATE * 2, || marathon.processes().is_empty().then_some(()));
    let silent = (0..4).take_while(|_| waits.is_silent(PATIENCE / 2)).count();
    println!("it waited for {:?} at least", PATIENCE / 2 * silent as u32);
    assert_eq!(waits.response().expect("an answer").status, 200, "it was not taken along");
    assert_eq!(other.metric("waiter_over_limit_total"), 0.0);
    (ensemble, marathon, [deleter, other])
}

#[test]
fn a_deletion_that_comes_after_its_router_was_killed_takes_no_request() {
    let (_ensemble, marathon, _routers) = is_taken_along(|it| it.process.kill());
    assert_eq!(deletions(&marathon), 1);
}

#[test]
fn a_deletion_that_comes_after_its_router_was_stopped_takes_no_request() {
    let (_ensemble, marathon, [deleter, other]) = is_taken_along(|it| it.process.signal("STOP"));
    // It goes on, and deletes nothing by the rights it had.
    let flow = Flow::begin(2, &[other.address], &service("doomed", "").get("/?delay-ms=200"));
    deleter.process.signal("CONT");
    until_members(&[&deleter, &other]);
    pause_until(now() + Duration::from_secs(4));
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    assert_eq!(deletions(&marathon), 1, "{:?}", marathon.writes());
    deleter.ask(&service("doomed", "").get("/")).expect(200);
}

#[test]
fn a_deletion_that_is_late_does_not_take_what_was_created_after_the_next_one() {
    let marathon = Cluster::start(&[]);
    let router = marathon.router(&[]);
    let service = service("again", "");
    router.ask(&service.get("/")).expect(200);
    let id = router.service_id("again").expect("it is listed");
    // The router gives the first one up, and asks once more.
    late(&marathon, Duration::from_secs(3), 1);
    let (to, delete) = (router.address, Request::of("DELETE", &format!("/apps/{id}")));
    let deletes = thread::spawn(move || Connection::open(to).ask(&delete).status);
    until("it has asked twice", PATIENCE, || (deletions(&marathon) == 2).then_some(()));
    let told = router.ask(&service.get("/?delay-ms=3000"));
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(deletes.join().expect("an answer"), 200);
    assert!(marathon.app("again").is_some());
}

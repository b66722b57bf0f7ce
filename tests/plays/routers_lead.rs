//! One router decides for all: what they share is scaled, shrunk and deleted by consent.

use crate::marathon::service;
use crate::stage::{
    Cluster, Connection, Ensemble, Flow, PATIENCE, Request, Router, SESSION, until, until_members,
};
use std::thread;

fn leads(it: &Router) -> bool {
    it.metric("waiter_cluster_leads") == 1.0
}

fn routers(ensemble: &Ensemble, marathon: &Cluster, count: usize) -> Vec<Router> {
    let joining = ensemble.flags();
    let flags: Vec<&str> = joining.iter().map(String::as_str).collect();
    let routers: Vec<Router> = (0..count).map(|_| marathon.another(&flags)).collect();
    until_members(&routers.iter().collect::<Vec<_>>());
    until("somebody leads", PATIENCE, || routers.iter().any(leads).then_some(()));
    routers
}

#[test]
fn a_service_of_marathon_is_everybodys_and_one_router_scales_it() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let routers = routers(&ensemble, &marathon, 3);
    let follower = routers.iter().position(|it| !leads(it)).expect("two follow");
    let service = service("shared", "")
        .with("max-instances", "3")
        .with("min-instances", "1")
        .with("scaling-policy", "classic")
        .with("scale-down-factor", "0.9");
    // Any router starts it; the others, and its owner among them, learn of it.
    routers[follower].ask(&service.get("/")).expect(200);
    for it in &routers {
        it.ask(&service.get("/")).expect(200);
        assert_eq!(it.page("/apps")[0]["scope"], "cluster");
    }
    // What waits at all of them together makes it grow, though most of it is not at the leader.
    let addresses: Vec<_> = routers.iter().map(|it| it.address).collect();
    let flow = Flow::begin(9, &addresses, &service.get("/?delay-ms=200"));
    until("it grows", PATIENCE * 2, || (routers[0].active("shared").len() == 3).then_some(()));
    // It shrinks while requests are in flight, and takes none of them along.
    let few = Flow::begin(1, &addresses, &service.get("/?delay-ms=100"));
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    until("it shrinks", PATIENCE * 4, || (marathon.tasks("shared").len() == 1).then_some(()));
    let told = few.end();
    assert_eq!(told.failed, Vec::<String>::new());
    for it in &routers {
        assert_eq!(it.metric("waiter_over_limit_total"), 0.0);
    }
    // Shrinking is one order for one task, never a lower count.
    let writes = marathon.writes();
    let lowered = writes.iter().filter(|it| it.contains("DELETE") && it.contains("scale=true"));
    assert_eq!(lowered.count(), 2, "{writes:?}");
}

#[test]
fn another_router_goes_on_when_the_leader_is_killed() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let mut routers = routers(&ensemble, &marathon, 2);
    let leader = routers.iter().position(leads).expect("one leads");
    let mut leader = routers.remove(leader);
    let other = &routers[0];
    let service = service("heir", "").with("max-instances", "3").with("min-instances", "1");
    leader.ask(&service.get("/")).expect(200);
    leader.process.kill();
    let flow = Flow::begin(6, &[other.address], &service.get("/?delay-ms=200"));
    until("the other leads", SESSION * 4, || leads(other).then_some(()));
    until("it scales", PATIENCE * 2, || (other.active("heir").len() == 3).then_some(()));
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
}

#[test]
fn a_service_is_deleted_when_nobody_uses_it_any_more() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let routers = routers(&ensemble, &marathon, 2);
    let service = service("closing", "");
    for it in &routers {
        it.ask(&service.get("/")).expect(200);
    }
    let id = routers[0].service_id("closing").expect("it is listed");
    let slow = {
        let (to, request) = (routers[1].address, service.get("/?delay-ms=2000"));
        thread::spawn(move || Connection::open(to).ask(&request).status)
    };
    until("it is in flight", PATIENCE, || {
        let page = routers[1].service("closing")?;
        (page["metrics"]["aggregate"]["outstanding"] == 1).then_some(())
    });
    // The one that is asked waits until the other has nothing in flight.
    let gone = routers[0].ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200);
    assert_eq!(gone.json()["result"], "deleted");
    assert_eq!(slow.join().expect("an answer"), 200, "it was not cut");
    until("it is gone everywhere", PATIENCE, || {
        routers.iter().all(|it| it.service_ids().is_empty()).then_some(())
    });
    // Whoever comes later starts it again.
    routers[1].ask(&service.get("/")).expect(200);
}

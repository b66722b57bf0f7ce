//! One router decides for all: what they share is scaled, shrunk and deleted by consent.

use crate::marathon::service;
use crate::stage::{
    Cluster, Connection, Ensemble, Flow, Instance, PATIENCE, Request, Router, SESSION, fronted,
    now, pause_until, until, until_members,
};
use serde_json::json;
use std::thread;
use std::time::Duration;

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

/// An order that Marathon carries out so much later, once the router that wrote it has been stopped
/// for longer than its session.
const LATE: Duration = Duration::from_secs(9);
/// And one that comes when another router has had time to scale a service as far as it goes.
const LATER: Duration = Duration::from_secs(30);

/// Waits until Marathon has got an order, stops the router that wrote it, and waits until the other
/// one leads.
fn stop_the_leader(marathon: &Cluster, order: &str, (leader, other): (&Router, &Router)) {
    until("the order is written", Duration::from_secs(90), || {
        marathon.writes().iter().any(|it| it.contains(order)).then_some(())
    });
    leader.process.signal("STOP");
    until("the other leads", PATIENCE, || leads(other).then_some(()));
}

/// The router that was stopped goes on: it leads no more, and orders nothing by the rights it had.
fn wake(marathon: &Cluster, (leader, other): (&Router, &Router)) {
    let before = marathon.writes().len();
    leader.process.signal("CONT");
    for _ in 0..20 {
        assert!(!leads(leader) || !leads(other), "two lead");
    }
    until_members(&[leader, other]);
    assert!(leads(other), "it goes on leading");
    let since = marathon.writes().split_off(before);
    let kills = since.iter().filter(|it| it.starts_with("DELETE")).count();
    assert_eq!(kills, 0, "{since:?}");
}

#[test]
fn a_kill_that_comes_after_its_router_was_stopped_takes_no_request() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let routers = routers(&ensemble, &marathon, 2);
    let first = routers.iter().position(leads).expect("one leads");
    let pair = (&routers[first], &routers[1 - first]);
    let service = service("late", "")
        .with("max-instances", "2")
        .with("scaling-policy", "classic")
        .with("scale-down-factor", "0.9");
    pair.0.ask(&service.get("/")).expect(200);
    let both = Flow::begin(2, &[pair.1.address], &service.get("/?delay-ms=300"));
    until("there are two", PATIENCE, || (pair.1.active("late").len() == 2).then_some(()));
    let ms = LATE.as_millis() as u64;
    marathon.fault(&json!({"do": "latency", "ms": ms, "times": 1, "method": "DELETE",
        "path": "/v2/apps/*/tasks/*"}));
    assert_eq!(both.end().failed, Vec::<String>::new());
    stop_the_leader(&marathon, "/tasks/", pair);
    // More are asked for than one can serve, but nothing starts on the one that is to go.
    let flow = Flow::begin(2, &[pair.1.address], &service.get("/?delay-ms=300"));
    until("the kill is carried out", LATE * 3, || (marathon.processes().len() == 1).then_some(()));
    until("another comes for it", PATIENCE, || (pair.1.active("late").len() == 2).then_some(()));
    wake(&marathon, pair);
    assert_eq!(flow.end().failed, Vec::<String>::new());
    for it in [pair.0, pair.1] {
        assert_eq!(it.metric("waiter_over_limit_total"), 0.0);
    }
}

#[test]
fn a_growth_that_comes_after_its_router_was_stopped_costs_one_cycle() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let routers = routers(&ensemble, &marathon, 2);
    let first = routers.iter().position(leads).expect("one leads");
    let pair = (&routers[first], &routers[1 - first]);
    let service = service("slow", "")
        .with("max-instances", "4")
        .with("min-instances", "1")
        .with("scaling-policy", "classic");
    pair.0.ask(&service.get("/")).expect(200);
    let ms = LATER.as_millis() as u64;
    marathon.fault(&json!({"do": "latency", "ms": ms, "times": 1, "method": "PUT"}));
    let few = Flow::begin(2, &[pair.1.address], &service.get("/?delay-ms=300"));
    stop_the_leader(&marathon, "PUT ", pair);
    let more = Flow::begin(2, &[pair.1.address], &service.get("/?delay-ms=300"));
    // The late order takes something away of what has grown meanwhile. (While it grows, Marathon
    // may refuse it.)
    until("the other grows it", PATIENCE, || (pair.1.active("slow").len() == 4).then_some(()));
    let lost = until("the late order is carried out", LATER * 2, || {
        let count = marathon.app("slow")?["instances"].as_u64()?;
        (count < 4).then_some(4 - count)
    });
    wake(&marathon, pair);
    until("there are four again", PATIENCE * 2, || {
        (pair.1.active("slow").len() == 4 && marathon.processes().len() == 4).then_some(())
    });
    // Marathon ended those at once, and with each the request that was on it: the limit of what a
    // router can promise for an order that it cannot call back.
    let failed = [few.end().failed, more.end().failed].concat();
    assert!(failed.len() as u64 <= lost, "{lost} instances were lost: {failed:?}");
    assert!(failed.iter().all(|it| it.contains("connection to the instance broke")), "{failed:?}");
}

#[test]
fn the_owner_of_an_instance_checks_it_and_the_other_believes() {
    let ensemble = Ensemble::start(1);
    let mut instances = [Instance::start(&[])];
    let how = "health-check-url=/status;health-check-interval-secs=5;\
               health-check-max-consecutive-failures=1";
    let checked = fronted("checked", &instances, how);
    let routers = ensemble.routers(2, &["--scheduler", "none", "--static", &checked]);
    let ask = |it: &Router| it.ask(&Request::get("/").with("host", "checked"));
    for it in &routers {
        ask(it).expect(200);
    }
    let checks = || instances[0].count("connections");
    pause_until(now() + Duration::from_secs(2)); // both have heard who checks
    let (before, begun) = (checks(), now());
    // Four checks take one router three intervals at least, and two routers no more than two;
    // asking for the count is a connection itself.
    let mut asked = 0;
    until("there were four checks", PATIENCE * 3, || {
        pause_until(now() + Duration::from_millis(100));
        asked += 1;
        (checks() >= before + asked + 4).then_some(())
    });
    let took = now() - begun;
    println!("four checks within {took:?}");
    assert!(took > Duration::from_secs(12), "{took:?}");
    instances[0].kill();
    for it in &routers {
        let healthy = || it.active("checked").iter().any(|it| it["healthy?"] == true);
        until("it is known to be down", PATIENCE, || (!healthy()).then_some(()));
    }
}

/// The ports of the instances of a service whose slots this router gives out, and those of them
/// that are lent.
fn given_out(router: &Router, name: &str) -> (Vec<u16>, Vec<u16>) {
    let id = router.service_id(name).expect("it is listed");
    let page = router.page(&format!("/state/distribution/{id}"));
    let active = router.active(name);
    let of = |wanted: &dyn Fn(&serde_json::Value) -> bool| {
        let is_one = |it: &&serde_json::Value| {
            let id = it["id"].as_str().expect("an id");
            wanted(&page["instances"][id])
        };
        let port = |it: &serde_json::Value| it["port"].as_u64().expect("a port") as u16;
        active.iter().filter(is_one).map(port).collect()
    };
    (of(&|it| it["given-out-here"] == true), of(&|it| it["slots-lent"] == 1))
}

#[test]
fn an_instance_of_which_all_slots_are_lent_is_checked_by_its_owner() {
    let ensemble = Ensemble::start(1);
    let mut instances: Vec<Instance> = (0..6).map(|_| Instance::start(&[])).collect();
    let how = "concurrency-level=1;load-balancing=random;health-check-url=/status;\
               health-check-interval-secs=5;health-check-max-consecutive-failures=1";
    let lent = fronted("lent", &instances, how);
    let routers = ensemble.routers(2, &["--scheduler", "none", "--static", &lent]);
    let request = |target: &str| Request::get(target).with("host", "lent");
    for it in &routers {
        it.ask(&request("/")).expect(200);
    }
    let owns = |it: &Router| given_out(it, "lent").0.len();
    let owner = usize::from(owns(&routers[1]) > owns(&routers[0]));
    let (owner, borrower) = (&routers[owner], &routers[1 - owner]);
    // The other one needs all of them once; later it keeps what it has, for it goes on a little.
    let burst = Flow::begin(6, &[borrower.address], &request("/?delay-ms=100"));
    until("all are lent", PATIENCE, || {
        let (own, lent) = given_out(owner, "lent");
        (own == lent).then_some(())
    });
    let flow = Flow::begin(1, &[borrower.address], &request("/?delay-ms=20"));
    assert_eq!(burst.end().failed, Vec::<String>::new());
    let port = given_out(owner, "lent").0[0];
    let at = instances.iter().position(|it| it.address.port() == port).expect("one of these");
    let healthy = |router: &Router| {
        let active = router.active("lent");
        let found = active.iter().find(|it| it["port"] == port).expect("it is listed");
        found["healthy?"] == true
    };
    for it in [owner, borrower] {
        until("it is known to be healthy", PATIENCE, || healthy(it).then_some(()));
    }
    instances[at].kill();
    for it in [owner, borrower] {
        until("it is known to be down", PATIENCE, || (!healthy(it)).then_some(()));
    }
    instances[at] = Instance::start_at(&port.to_string(), &[]);
    for it in [owner, borrower] {
        until("it is known to be back", PATIENCE, || healthy(it).then_some(()));
    }
    assert_eq!(flow.end().failed, Vec::<String>::new());
    for it in &routers {
        assert_eq!(it.metric("waiter_over_limit_total"), 0.0);
    }
}

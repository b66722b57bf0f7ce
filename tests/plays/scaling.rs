//! Instances come with demand and go without.

use crate::stage::{Connection, PATIENCE, Request, Router, Service, exists, now, until, wave};
use serde_json::Value;
use std::time::Duration;

/// Collectors that look often.
const OFTEN: [&str; 2] = ["--gc-interval-ms", "200"];

#[test]
fn a_service_is_idle_goes_to_zero_and_comes_back() {
    let router = Router::start(&OFTEN);
    let service = Service::new("idler", "").with("idle-timeout-secs", "1");
    let first = router.ask(&service.get("/")).expect(200).instance();
    until("nobody uses it, so it goes", PATIENCE, || (!exists(first)).then_some(()));
    until("it is not listed", PATIENCE, || router.service_ids().is_empty().then_some(()));
    let second = router.ask(&service.get("/")).expect(200).instance();
    assert_ne!(first, second);
    until("it goes again", PATIENCE, || (!exists(second)).then_some(()));
}

#[test]
fn a_service_in_use_is_not_collected() {
    let router = Router::start(&OFTEN);
    let service = Service::new("busy", "").with("idle-timeout-secs", "1");
    let begun = now();
    let long = router.ask(&service.get("/?delay-ms=3000")).expect(200);
    assert!(now() - begun >= Duration::from_secs(3));
    let after = router.ask(&service.get("/")).expect(200);
    assert_eq!(long.instance(), after.instance());
}

#[test]
fn more_instances_come_with_demand_and_leave_after_it() {
    let router = Router::start(&["--cores", "0,1"]);
    let service = Service::new("wave", "--delay-ms 150").with("max-instances", "4");
    let seen = wave(&router, &service);
    assert!((2..=4).contains(&seen.len()), "{seen:?}");
    let begun = now();
    until("they leave", Duration::from_secs(90), || {
        (router.active("wave").len() < 2).then_some(())
    });
    println!("{} instances at most; one was left after {:?}", seen.len(), now() - begun);
}

#[test]
fn at_least_as_many_as_described_run() {
    let router = Router::start(&[]);
    let service = Service::new("trio", "").with("min-instances", "3");
    router.ask(&service.get("/")).expect(200);
    until("three run", PATIENCE, || (router.active("trio").len() == 3).then_some(()));
}

#[test]
fn who_waits_when_a_service_is_deleted_is_served_by_a_new_one() {
    let router = Router::start(&["--cores", "0,1"]);
    let service = Service::new("phoenix", "").with("max-instances", "1");
    let first = router.ask(&service.get("/")).expect(200).instance();
    let mut busy = router.connect();
    busy.send(&service.get("/?delay-ms=4000"));
    router.until_in_flight("phoenix", 1);
    let mut queue: Vec<_> = (0..3).map(|_| router.connect()).collect();
    for connection in &mut queue {
        connection.send(&service.get("/"));
    }
    until("three wait", PATIENCE, || (router.waiting("phoenix") == 3).then_some(()));
    let id = router.service_id("phoenix").expect("it is listed");
    let page: Value = router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200).json();
    assert_eq!(page["result"], "deleted");
    for connection in &mut queue {
        let answer = connection.response().expect("a response").expect(200);
        assert_ne!(answer.instance(), first);
    }
    let cut = busy.response().expect("an answer").status;
    assert!(cut == 502 || cut == 200, "{cut}");
    until("the first is gone", PATIENCE, || (!exists(first)).then_some(()));
}

/// What the router adds to a cold start: request to first byte minus the instance's own start to its
/// first answer. Printed; only nonsense is asserted.
#[test]
fn a_cold_start_is_measured() {
    const ROUNDS: usize = 20;
    let router = Router::start(&["--cores", "0,1"]);
    let mut own = Vec::new();
    let mut cold = Vec::new();
    for round in 0..ROUNDS {
        let begun = now();
        let instance = crate::stage::Instance::start(&[]);
        Connection::open(instance.address).ask(&Request::get("/status")).expect(200);
        own.push(now() - begun);
        let service = Service::new("cold", "").with("version", &round.to_string());
        let mut connection = router.connect();
        let begun = now();
        connection.send(&service.get("/"));
        connection.head().expect("an answer").expect(200);
        cold.push(now() - begun);
        let id = router.service_id("cold").expect("it is listed");
        router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200);
    }
    let median = |list: &mut Vec<Duration>| {
        list.sort_unstable();
        list[ROUNDS / 2]
    };
    let (own, cold) = (median(&mut own), median(&mut cold));
    let added = cold.saturating_sub(own);
    println!("cold start, median of {ROUNDS}: {cold:?}, of it the instance {own:?}: {added:?}");
    assert!(cold < Duration::from_secs(5), "{cold:?}");
}

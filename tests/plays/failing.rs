//! Instances that fail, and clients that leave.

use crate::stage::{Connection, Instance, PATIENCE, Request, Router, Service, fronted, now, until};
use std::time::Duration;

/// What comes back without having to wait comes back within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

fn to_one(target: &str) -> Request {
    Request::get(target).with("host", "one")
}

/// A router before one server of limit 1.
fn one_slot(parameters: &str) -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, &format!("concurrency-level=1;{parameters}"));
    let router = Router::start(&["--cores", "0,0,1", "--scheduler", "none", "--static", &one]);
    (server, router)
}

/// A client whose request is at the server.
fn seated(server: &Instance, router: &Router, target: &str) -> Connection {
    let mut connection = router.connect();
    connection.send(&to_one(target));
    until("it is served", PATIENCE, || (server.count("in_flight") == 1).then_some(()));
    connection
}

/// The slot is free: the next request is served at once.
fn slot_is_free(router: &Router) {
    let begun = now();
    router.ask(&to_one("/")).expect(200);
    assert!(now() - begun < AT_ONCE, "the slot came back after {:?}", now() - begun);
}

#[test]
fn an_instance_that_closes_without_an_answer_is_a_502_for_that_request_alone() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=10");
    let router = Router::start(&["--cores", "0,1", "--scheduler", "none", "--static", &one]);
    let mut others: Vec<_> = (0..3).map(|_| router.connect()).collect();
    for other in &mut others {
        other.send(&to_one("/?delay-ms=500"));
    }
    until("they are served", PATIENCE, || (server[0].count("in_flight") == 3).then_some(()));
    let mut connection = router.connect();
    let failed = connection.ask(&to_one("/?crash=before")).expect(502);
    assert!(failed.text().contains("Request to service backend failed"), "{}", failed.text());
    for other in &mut others {
        other.response().expect("a response").expect(200);
    }
    connection.ask(&to_one("/")).expect(200);
}

#[test]
pub(crate) fn an_answer_that_breaks_off_is_broken_off() {
    let (_server, router) = one_slot("");
    for target in ["/?size=100000&crash=body", "/?size=100000&chunks=10&crash=body"] {
        let mut connection = router.connect();
        connection.send(&to_one(target));
        let error = connection.response().expect_err("half an answer is none");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{target}: {error}");
        slot_is_free(&router);
    }
}

#[test]
fn a_process_that_dies_is_a_502_and_another_one_takes_over() {
    let router = Router::start(&[]);
    let (mortal, other) = (Service::new("mortal", ""), Service::new("bystander", ""));
    let first = router.ask(&mortal.get("/")).expect(200).instance();
    let bystander = router.ask(&other.get("/")).expect(200).instance();
    router.ask(&mortal.get("/?crash=exit")).expect(502);
    let second = router.ask(&mortal.get("/")).expect(200).instance();
    assert_ne!(first, second);
    assert_eq!(router.ask(&other.get("/")).expect(200).instance(), bystander);
}

#[test]
pub(crate) fn a_client_that_leaves_the_queue_reaches_nobody() {
    let (server, router) = one_slot("");
    let mut busy = seated(&server[0], &router, "/?delay-ms=800");
    let mut leaver = router.connect();
    leaver.send(&to_one("/?delay-ms=9000"));
    until("it waits", PATIENCE, || (router.waiting("one") == 1).then_some(()));
    let mut next = router.connect();
    next.send(&to_one("/"));
    until("both wait", PATIENCE, || (router.waiting("one") == 2).then_some(()));
    drop(leaver);
    busy.response().expect("a response").expect(200);
    let begun = now();
    next.response().expect("a response").expect(200);
    assert!(now() - begun < AT_ONCE, "{:?}", now() - begun);
    assert_eq!(server[0].count("requests"), 2);
}

#[test]
fn a_client_that_leaves_before_its_answer_gives_its_slot_back() {
    let (server, router) = one_slot("");
    drop(seated(&server[0], &router, "/?delay-ms=60000"));
    slot_is_free(&router);
    until("the server was told", PATIENCE, || (server[0].count("aborted") == 1).then_some(()));
}

#[test]
pub(crate) fn a_client_that_says_that_nothing_follows_is_gone() {
    let (server, router) = one_slot("");
    let connection = seated(&server[0], &router, "/?delay-ms=60000");
    connection.half_close();
    slot_is_free(&router);
}

#[test]
pub(crate) fn a_half_closed_client_gets_its_answer_where_the_operator_allows_it() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=1");
    let flags = ["--scheduler", "none", "--half-close", "allow", "--static", &one];
    let router = Router::start(&flags);
    let mut connection = seated(&server[0], &router, "/?delay-ms=300");
    connection.half_close();
    connection.response().expect("a response").expect(200);
    assert!(connection.rest(PATIENCE).expect("it is closed").is_empty());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_gives_its_slot_back() {
    let (server, router) = one_slot("");
    let mut connection = seated(&server[0], &router, "/?size=1000&chunks=1000&chunk-delay-ms=30");
    connection.head().expect("a head").expect(200);
    connection.bytes(10).expect("some of the body");
    drop(connection);
    slot_is_free(&router);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_gives_its_slot_back() {
    let (server, router) = one_slot("");
    let mut connection = router.connect();
    connection.write(b"POST /echo HTTP/1.1\r\nHost: one\r\nContent-Length: 1000\r\n\r\nhalf");
    until("it is at the server", PATIENCE, || (server[0].count("in_flight") == 1).then_some(()));
    drop(connection);
    slot_is_free(&router);
}

#[test]
fn with_finish_a_server_never_sees_two_although_clients_leave() {
    let (server, router) = one_slot("client-abort=finish");
    for round in 1..=5 {
        let leaver = seated(&server[0], &router, "/?delay-ms=250");
        let mut next = router.connect();
        next.send(&to_one("/?delay-ms=20"));
        drop(leaver);
        next.response().expect("a response").expect(200);
        assert_eq!(server[0].count("requests"), 2 * round);
    }
    let stats = server[0].stats();
    assert_eq!((&stats["max_in_flight"], &stats["aborted"]), (&1.into(), &0.into()), "{stats}");
}

#[test]
pub(crate) fn a_connection_that_went_stale_is_not_seen_by_the_client() {
    let server = [Instance::start(&["--idle-close-ms", "30"])];
    let one = fronted("one", &server, "concurrency-level=1");
    let router = Router::start(&["--scheduler", "none", "--static", &one]);
    let mut connection = router.connect();
    for _ in 0..20 {
        connection.ask(&to_one("/")).expect(200);
        crate::stage::pause_until(now() + Duration::from_millis(30));
    }
}

#[test]
fn an_instance_that_does_not_answer_in_time_is_a_504() {
    let (_server, router) = one_slot("");
    let begun = now();
    router.ask(&to_one("/?hang=1").with("x-waiter-timeout", "400")).expect(504);
    assert!(now() - begun < Duration::from_secs(2), "{:?}", now() - begun);
    router.ask(&to_one("/")).expect(200);
}

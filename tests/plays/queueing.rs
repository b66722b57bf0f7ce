//! Requests that wait for a slot.

use crate::stage::{
    Connection, Instance, PATIENCE, Request, Router, Service, fronted, now, pause_until, until,
};
use std::thread;
use std::time::Duration;

/// A request to the static service `one`.
fn to_one(target: &str) -> Request {
    Request::get(target).with("host", "one")
}

/// A router before one server of limit 1, whose only slot is taken for so long.
fn occupied(parameters: &str, cores: &str, delay_ms: u32) -> ([Instance; 1], Router, Connection) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, &format!("concurrency-level=1;{parameters}"));
    let router = Router::start(&["--cores", cores, "--scheduler", "none", "--static", &one]);
    let mut busy = router.connect();
    busy.send(&to_one(&format!("/?delay-ms={delay_ms}")));
    until("the slot is taken", PATIENCE, || (server[0].count("in_flight") == 1).then_some(()));
    (server, router, busy)
}

#[test]
fn who_came_first_is_served_first() {
    let (server, router, mut busy) = occupied("", "0,0,1,1", 3000);
    let mut queue: Vec<_> = (0..8).map(|_| router.connect()).collect();
    for connection in &mut queue {
        connection.send(&to_one("/"));
        // Longer than a hop, and than a busy machine stops a shard.
        pause_until(now() + Duration::from_millis(100));
    }
    until("all wait", PATIENCE, || (router.waiting("one") == 8).then_some(()));
    busy.response().expect("a response").expect(200);
    for (connection, sequence) in queue.iter_mut().zip(2..) {
        let answer = connection.response().expect("a response").expect(200);
        assert_eq!(answer.field("x-sequence"), Some(&*sequence.to_string()));
    }
    assert_eq!(server[0].count("max_in_flight"), 1);
}

#[test]
fn eight_shards_and_one_slot_never_run_two_at_a_time() {
    let server = [Instance::start(&["--delay-ms", "1"])];
    let one = fronted("one", &server, "concurrency-level=1");
    let cores = "0,0,0,0,1,1,1,1";
    let router = Router::start(&["--cores", cores, "--scheduler", "none", "--static", &one]);
    let address = router.address;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for _ in 0..15 {
                    connection.ask(&to_one("/")).expect(200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is served");
    }
    let stats = server[0].stats();
    assert_eq!((&stats["requests"], &stats["max_in_flight"]), (&240.into(), &1.into()));
}

#[test]
fn a_queue_that_is_full_takes_nobody() {
    let (_server, router, mut busy) = occupied("max-queue-length=2", "0,0", 1500);
    let mut queue: Vec<_> = (0..2).map(|_| router.connect()).collect();
    for connection in &mut queue {
        connection.send(&to_one("/"));
    }
    until("both wait", PATIENCE, || (router.waiting("one") == 2).then_some(()));
    let begun = now();
    let answer = router.ask(&to_one("/").with("accept", "application/json")).expect(503).json();
    assert!(now() - begun < Duration::from_millis(500), "it is told at once");
    assert_eq!(answer["waiter-error"]["details"]["error-class"], "waiter.QueueLength", "{answer}");
    busy.response().expect("a response").expect(200);
    for connection in &mut queue {
        connection.response().expect("a response").expect(200);
    }
}

#[test]
fn who_waits_too_long_is_told_so_and_takes_no_slot() {
    let (server, router, mut busy) = occupied("", "0,0", 1200);
    let begun = now();
    let impatient = to_one("/").with("x-waiter-queue-timeout", "300");
    let answer = router.ask(&impatient.with("accept", "application/json")).expect(503).json();
    let took = now() - begun;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
    let class = &answer["waiter-error"]["details"]["error-class"];
    assert_eq!(class, "waiter.RequestTimeout", "{answer}");
    busy.response().expect("a response").expect(200);
    router.ask(&to_one("/")).expect(200);
    assert_eq!(server[0].count("requests"), 2, "who left the queue reached nobody");
}

#[test]
fn a_queue_timeout_ends_the_wait_for_a_service_that_does_not_start() {
    let router = Router::start(&[]);
    let service = Service::new("late", "--startup-delay-ms 3000");
    let begun = now();
    router.ask(&service.get("/").with("x-waiter-queue-timeout", "400")).expect(503);
    assert!(now() - begun < Duration::from_millis(1500));
    router.ask(&service.get("/")).expect(200);
}

#[test]
fn the_body_of_a_request_that_waits_is_not_lost() {
    let (_server, router, mut busy) = occupied("", "0,0", 600);
    let body: Vec<u8> = (0..200_000_u32).map(|it| b'a' + (it % 26) as u8).collect();
    let mut waiting = router.connect();
    let mut socket = waiting.socket();
    let bytes = Request::post("/echo", &body).with("host", "one").bytes(router.address);
    let writer = thread::spawn(move || std::io::Write::write_all(&mut socket, &bytes));
    busy.response().expect("a response").expect(200);
    let answer = waiting.response().expect("a response").expect(200);
    writer.join().expect("no panic").expect("all of it was taken");
    assert!(answer.body == body, "{} bytes of {}", answer.body.len(), body.len());
}

#[test]
fn nobody_who_waits_is_told_to_continue() {
    let (server, router, mut busy) = occupied("", "0,0", 800);
    let mut polite = router.connect();
    polite.write(
        b"POST /echo HTTP/1.1\r\nHost: one\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(polite.is_silent(Duration::from_millis(300)));
    assert_eq!(server[0].count("requests"), 1);
    busy.response().expect("a response").expect(200);
    assert_eq!(polite.head().expect("an interim response").status, 100);
    polite.write(b"abc");
    assert_eq!(polite.response().expect("a response").expect(200).text(), "abc");
}

//! Order and limits while many requests want few slots.

use crate::stage::{Connection, Instance, Request, Router, fronted, now, pause_until};
use std::thread;
use std::time::{Duration, Instant};

/// Requests of a rush, and the time between two of them.
const REQUESTS: usize = 240;
const SPACING: Duration = Duration::from_millis(1);
/// What an instance does for each.
const WORK: Duration = Duration::from_millis(20);
/// Requests further apart than this are never served in the other order: a hop between shards, and
/// what the machine adds to it.
const HOP: Duration = Duration::from_millis(5);
/// A machine that has more to do than this play may stop a shard for so long while others run on.
const STALL: Duration = Duration::from_millis(100);
/// Order is shown by one rush in which no shard was stopped.
const RUSHES: usize = 5;

/// One request of a rush.
#[derive(Clone, Copy, Debug)]
struct Served {
    sent: Instant,
    ended: Instant,
    instance: u32,
    sequence: u64,
}

#[test]
fn requests_a_millisecond_apart_are_served_in_order_by_one_shard() {
    rush("0-0");
}

#[test]
fn requests_a_millisecond_apart_are_served_in_order_by_two_shards() {
    rush("0,1");
}

#[test]
fn requests_a_millisecond_apart_are_served_in_order_by_eight_shards() {
    rush("0,0,0,0,1,1,1,1");
}

/// 240 requests 1 ms apart to 4 servers of limit 1, until they are served in order.
fn rush(cores: &str) {
    let work = WORK.as_millis().to_string();
    let servers: Vec<Instance> = (0..4).map(|_| Instance::start(&["--delay-ms", &work])).collect();
    let bench = fronted("bench", &servers, "concurrency-level=1");
    let router = Router::start(&["--cores", cores, "--scheduler", "none", "--static", &bench]);
    let in_order = (0..RUSHES).any(|_| {
        let served = send_all(&router);
        let worst = worst_inversion(&served);
        let slowest = served.iter().map(|it| it.ended - it.sent).max();
        println!("{cores}: worst inversion {worst:?}, slowest {slowest:?}");
        assert!(worst < STALL, "{cores}: requests {worst:?} apart were served in the other order");
        worst <= HOP
    });
    assert!(in_order, "{cores}: no rush of {RUSHES} was served in order");
    for server in &servers {
        let stats = server.stats();
        assert_eq!(stats["max_in_flight"], 1, "{cores}: {stats}");
        assert!(stats["requests"].as_u64() > Some(30), "{cores}: all servers work: {stats}");
    }
}

/// Sends them all on connections that are open already, each read by a thread of its own.
fn send_all(router: &Router) -> Vec<Served> {
    let mut connections: Vec<_> = (0..REQUESTS).map(|_| router.connect()).collect();
    let request = Request::get("/").with("host", "bench");
    let begun = now();
    let mut sent = Vec::new();
    for (connection, n) in connections.iter_mut().zip(0..) {
        pause_until(begun + SPACING * n);
        connection.send(&request);
        sent.push(now());
    }
    let readers: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            thread::spawn(move || (connection.response().expect("a response"), now()))
        })
        .collect();
    let answers = readers.into_iter().map(|it| it.join().expect("a response"));
    let served = sent.into_iter().zip(answers).map(|(sent, (response, ended))| {
        let response = response.expect(200);
        let sequence = response.field("x-sequence").and_then(|it| it.parse().ok());
        let (instance, sequence) = (response.instance(), sequence.expect("a number"));
        Served { sent, ended, instance, sequence }
    });
    served.collect()
}

/// The longest time between two requests that one instance began in the other order than they came.
fn worst_inversion(served: &[Served]) -> Duration {
    let mut worst = Duration::ZERO;
    for (at, first) in served.iter().enumerate() {
        for second in &served[at + 1..] {
            if first.instance == second.instance && second.sequence < first.sequence {
                worst = worst.max(second.sent - first.sent);
            }
        }
    }
    worst
}

#[test]
fn a_single_threaded_keep_alive_server_behind_eight_shards_makes_nobody_wait() {
    let server = [Instance::start(&["--single"])];
    let lone = fronted("lone", &server, "concurrency-level=1");
    let cores = "0,0,0,0,1,1,1,1";
    let router = Router::start(&["--cores", cores, "--scheduler", "none", "--static", &lone]);
    let request = Request::get("/").with("host", "lone");
    let mut connections: Vec<_> = (0..24).map(|_| router.connect()).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        for connection in &mut connections {
            let begun = now();
            connection.ask(&request).expect(200);
            slowest = slowest.max(now() - begun);
        }
    }
    println!("slowest of 72 requests over 24 connections: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "a request waited {slowest:?}");
    drop(router);
    assert_eq!(server[0].count("max_in_flight"), 1);
    assert_eq!(server[0].count("requests"), 72);
}

#[test]
fn two_servers_share_a_load_and_neither_is_above_its_limit() {
    let servers = [Instance::start(&["--delay-ms", "2"]), Instance::start(&["--delay-ms", "2"])];
    let pair = fronted("pair", &servers, "concurrency-level=3");
    let router = Router::start(&["--cores", "0,0,1,1", "--scheduler", "none", "--static", &pair]);
    let address = router.address;
    let clients: Vec<_> = (0..12)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let request = Request::get("/").with("host", "pair");
                for _ in 0..25 {
                    connection.ask(&request).expect(200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is served");
    }
    let requests: u64 = servers.iter().map(|it| it.count("requests")).sum();
    assert_eq!(requests, 300);
    for server in &servers {
        assert!(server.count("max_in_flight") <= 3, "{}", server.stats());
    }
}

//! Whatever there is little of (descriptors, entries of a ring, its buffers) is used up: nobody gets
//! a wrong answer, those who are served stay so, and it passes by itself.

use crate::resets::nothing_is_left;
use crate::stage::{Instance, PATIENCE, Path, Request, Router, fronted, on, until};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;

/// Descriptors of a router that is to run out of them: clients may have a few hundred.
const DESCRIPTORS: usize = 400;

fn to_one(target: &str) -> Request {
    Request::get(target).with("host", "one")
}

fn twice(story: fn()) {
    on(&["--io", "ring"], story);
    on(&["--io", "glommio"], story);
}

/// Whether the other side has closed it.
fn is_closed(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("an option");
    match client.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn more_clients_than_descriptors() {
    twice(|| {
        let server = [Instance::start(&[])];
        let one = fronted("one", &server, "concurrency-level=4");
        let idle = ["--upstream-idle-timeout-ms", "1"];
        let flags = [&["--scheduler", "none", "--static", &one][..], &idle].concat();
        let router = Router::start_with_descriptors(DESCRIPTORS, &flags);
        let mut early = router.connect();
        early.ask(&to_one("/")).expect(200);
        let before = router.descriptors();
        for _ in 0..2 {
            let connect = |_| TcpStream::connect(router.address).expect("the kernel has room");
            let crowd: Vec<_> = (0..2 * DESCRIPTORS).map(connect).collect();
            let closed = until("all are served or refused", PATIENCE, || {
                let text = early.ask(&Request::get("/metrics")).expect(200).text();
                let closed = crowd.iter().filter(|it| is_closed(it)).count();
                let served = crowd.len() - closed;
                text.contains(&format!("\nwaiter_connections {}\n", served + 1)).then_some(closed)
            });
            println!("{closed} of {} clients were refused", crowd.len());
            assert!(closed > 0 && closed < crowd.len(), "some are refused, some are served");
            // Each of these needs a connection to the instance of its own.
            for _ in 0..4 {
                early.ask(&to_one("/")).expect(200);
                until("the router keeps none", PATIENCE, || {
                    (server[0].count("open_connections") <= 1).then_some(())
                });
            }
            drop(crowd);
            until("they are gone", PATIENCE, || (router.descriptors() <= before).then_some(()));
            until("others may come", PATIENCE, || router.connect().try_ask(&to_one("/")).ok());
        }
    });
}

#[test]
fn more_requests_than_descriptors() {
    twice(|| {
        let server = [Instance::start(&[])];
        let one = fronted("one", &server, "concurrency-level=200");
        let router =
            Router::start_with_descriptors(DESCRIPTORS, &["--scheduler", "none", "--static", &one]);
        router.ask(&to_one("/")).expect(200);
        let before = router.descriptors();
        let mut clients: Vec<_> = (0..DESCRIPTORS).map(|_| router.connect()).collect();
        clients.retain_mut(|it| it.try_send(&to_one("/?delay-ms=1500")).is_ok());
        let words: Vec<_> =
            clients.iter_mut().map(|it| it.response().map_or(0, |it| it.status)).collect();
        let count = |status: u16| words.iter().filter(|it| **it == status).count();
        println!("{} served, {} told 503, {} closed", count(200), count(503), count(0));
        assert!(count(200) > 0 && count(503) > 0, "{words:?}");
        assert_eq!(count(200) + count(503) + count(0), words.len(), "{words:?}");
        let page = clients[0].ask(&Request::get("/state/maintainer")).expect(200).text();
        assert!(!page.contains("ejected") && !page.contains("failing"), "nobody rests: {page}");
        drop(clients);
        until("they are gone", PATIENCE, || (router.descriptors() <= before + 8).then_some(()));
        until("others may come", PATIENCE, || router.connect().try_ask(&to_one("/")).ok());
        assert_eq!(router.metric("waiter_over_limit_total"), 0.0);
    });
}

/// As little of everything as can be asked for.
const TINY: [&str; 10] = [
    "--ring-depth",
    "64",
    "--receive-buffers",
    "16",
    "--receive-buffer-bytes",
    "4096",
    "--body-buffers",
    "16",
    "--body-buffer-bytes",
    "4096",
];

#[test]
fn more_heads_and_bodies_than_entries_and_buffers() {
    let paths: [Path; 3] = [
        &["--io", "ring"],
        &["--ring-without", "multishot-receive"],
        &["--ring-without", "defer-taskrun"],
    ];
    for path in paths {
        on(path, || {
            let server = [Instance::start(&[])];
            let one = fronted("one", &server, "concurrency-level=50");
            let idle = ["--upstream-idle-timeout-ms", "200"];
            let flags = [&["--scheduler", "none", "--static", &one][..], &idle, &TINY].concat();
            let router = Router::start(&flags);
            let before = router.descriptors();
            many_heads(&router);
            many_bodies(&router);
            nothing_is_left(&router, before, "heads and bodies");
            println!("{path:?}: {} starved", router.metric("waiter_receives_starved_total"));
        });
    }
}

/// Heads of most of a buffer each, all at a time.
fn many_heads(router: &Router) {
    let mut clients: Vec<_> = (0..200).map(|_| router.connect()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            let body = format!("{round} {n}");
            let request = Request::post("/echo", body.as_bytes());
            client.send(&request.with("host", "one").with("x-padding", &"x".repeat(3000)));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let answer = client.response().expect("a response").expect(200);
            assert_eq!(answer.text(), format!("{round} {n}"));
        }
    }
}

/// Bodies of many buffers each, both ways, all at a time.
fn many_bodies(router: &Router) {
    let clients: Vec<_> = (0..40_usize)
        .map(|n| {
            let mut client = router.connect();
            thread::spawn(move || {
                let body: Vec<u8> = (0..300_000).map(|at| ((at * (n + 3)) >> 3) as u8).collect();
                let request = Request::post("/echo?stream=1", &body).with("host", "one");
                let (mut socket, bytes) = (client.socket(), request.bytes(client.address()));
                let writer = thread::spawn(move || socket.write_all(&bytes));
                let answer = client.response().expect("a response").expect(200);
                writer.join().expect("no panic").expect("it was taken");
                assert!(answer.body == body, "body {n}: {} bytes", answer.body.len());
            })
        })
        .collect();
    clients.into_iter().for_each(|it| it.join().expect("it is right"));
}

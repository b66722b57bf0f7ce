//! Peers that break off at every point of an exchange: afterwards nothing is left of it.

use crate::stage::{Connection, Instance, PATIENCE, Request, Router, fronted, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 6;

/// Where a client breaks off: in words, what it has written, what it still does.
type Point<'a> = (&'a str, &'a str, fn(&mut Connection));

/// A router that has served a request, and how many descriptors it had before.
fn start(one: &str) -> (Router, usize) {
    let idle = ["--upstream-idle-timeout-ms", "200"];
    let cores = ["--cores", "0,1", "--scheduler", "none"];
    let router = Router::start(&[&cores[..], &idle, &["--static", one]].concat());
    let before = router.descriptors();
    router.ask(&to_one("/")).expect(200);
    (router, before)
}

fn to_one(target: &str) -> Request {
    Request::get(target).with("host", "one")
}

/// Nothing is left: no descriptor, no connection, no request, no slot.
pub(crate) fn nothing_is_left(router: &Router, before: usize, what: &str) {
    until(what, PATIENCE, || (router.descriptors() <= before).then_some(()));
    for metric in ["waiter_outstanding", "waiter_waiting", "waiter_receive_buffers_taken"] {
        until(&format!("{what}: {metric}"), PATIENCE, || {
            (router.metric(metric) == 0.0).then_some(())
        });
    }
    // The one who asks is there, and his request.
    for metric in ["waiter_connections", "waiter_exchanges"] {
        until(&format!("{what}: {metric}"), PATIENCE, || {
            (router.metric(metric) <= 1.0).then_some(())
        });
    }
    assert_eq!(router.metric("waiter_over_limit_total"), 0.0);
    router.ask(&to_one("/")).expect(200);
}

#[test]
pub(crate) fn clients_break_off_at_every_point() {
    let server = [Instance::start(&[])];
    let (router, before) = start(&fronted("one", &server, "concurrency-level=2"));
    let head = "POST /echo?stream=1 HTTP/1.1\r\nHost: one\r\nContent-Length: 100000\r\n\r\n";
    let points: [Point<'_>; 6] = [
        ("before the head", "", |_| {}),
        ("in the head", "GET / HTTP/1.1\r\nHos", |_| {}),
        ("after the head", "GET /?delay-ms=3000 HTTP/1.1\r\nHost: one\r\n\r\n", |_| {}),
        ("in the body", head, |it| it.write(b"some of it")),
        ("in the response", "GET /?size=9000000 HTTP/1.1\r\nHost: one\r\n\r\n", |it| {
            it.bytes(100).expect("it begins");
        }),
        ("in both", head, |it| {
            it.write(b"some of it");
            it.bytes(20).expect("it begins");
        }),
    ];
    for (what, bytes, act) in points {
        for round in 0..ROUNDS {
            let mut connection = router.connect();
            connection.write(bytes.as_bytes());
            act(&mut connection);
            if round % 2 == 0 {
                connection.reset();
            }
        }
        nothing_is_left(&router, before, what);
    }
}

/// A server that breaks its connections where the target says.
fn breaking() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(&stream).set_linger(linger).expect("an option");
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !got.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => got.extend_from_slice(&buffer[..read]),
            }
        }
        let text = String::from_utf8_lossy(&got).into_owned();
        let answer = match text.split(' ').nth(1).unwrap_or_default() {
            "/silent" => "",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Le",
            "/interim" => "HTTP/1.1 103 Early Hints\r\n\r\n",
            "/body" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "/chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        if stream.write_all(answer.as_bytes()).is_err() || !answer.ends_with("ok") {
            return;
        }
        got.clear();
    }
}

#[test]
pub(crate) fn instances_break_off_at_every_point() {
    let address = breaking();
    let (router, before) = start(&format!("one={address};concurrency-level=2"));
    for (target, answered) in [
        ("/silent", true),
        ("/head", true),
        ("/interim", true),
        ("/body", false),
        ("/chunk", false),
    ] {
        for method in ["GET", "POST"] {
            for _ in 0..ROUNDS {
                let mut connection = router.connect();
                connection.send(&Request::of(method, target).with("host", "one"));
                match connection.response() {
                    Ok(answer) if answered => assert_eq!(answer.status, 502, "{target}"),
                    Err(_) if !answered => {}
                    other => panic!("{target}: {other:?}"),
                }
            }
        }
        nothing_is_left(&router, before, target);
    }
}

#[test]
pub(crate) fn an_instance_that_resets_what_it_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let rude = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&stream).set_linger(linger).expect("an option");
        }
    });
    let one = format!("one={rude};concurrency-level=2");
    let router = Router::start(&["--scheduler", "none", "--static", &one]);
    let before = router.descriptors();
    for _ in 0..ROUNDS {
        router.ask(&to_one("/")).expect(502);
    }
    until("nothing is left", PATIENCE, || (router.descriptors() <= before).then_some(()));
    assert_eq!(router.metric("waiter_outstanding"), 0.0);
}

#[test]
pub(crate) fn an_answer_before_the_end_of_the_request_is_delivered_and_the_connection_ends() {
    let server = [Instance::start(&[])];
    let (router, before) = start(&fronted("one", &server, "concurrency-level=1"));
    for _ in 0..ROUNDS {
        let mut connection = router.connect();
        connection.write(
            b"POST /?early=1&status=413&close=1 HTTP/1.1\r\nHost: one\r\nContent-Length: 9000000\r\n\r\n",
        );
        connection.write(&[b'x'; 10_000]);
        connection.response().expect("it comes early").expect(413);
        let rest = connection.rest(PATIENCE).expect("what was not read cannot be left behind");
        assert!(rest.is_empty());
    }
    nothing_is_left(&router, before, "early answers");
}

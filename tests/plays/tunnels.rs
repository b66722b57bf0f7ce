//! Connections that become tunnels: WebSocket, and whatever else a client and an instance agree on.

use crate::bulk::bounded;
use crate::stage::{Connection, Instance, PATIENCE, Request, Router, Service, fronted, until};
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

const BULK: usize = 8 << 20;

/// A router before one echo server of limit 1.
fn stage() -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=1");
    let router = Router::start(&["--cores", "0,0,1", "--scheduler", "none", "--static", &one]);
    (server, router)
}

fn upgrade(target: &str) -> Request {
    let request = Request::get(target).with("host", "one");
    request.with("connection", "Upgrade").with("upgrade", "echo")
}

/// A tunnel to the echo server.
fn open(router: &Router) -> Connection {
    let mut connection = router.connect();
    let answer = connection.ask(&upgrade("/upgrade")).expect(101);
    assert_eq!(answer.field("upgrade"), Some("echo"));
    assert_eq!(answer.field("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert!(answer.field("x-cid").is_some());
    connection
}

fn echoes(connection: &mut Connection, text: &[u8]) {
    connection.write(text);
    assert_eq!(connection.bytes(text.len()).expect("an echo"), text);
}

/// The slot is free, although the server has only one.
fn slot_is_free(router: &Router) {
    let mut next = router.connect();
    next.send(&Request::get("/").with("host", "one").with("x-waiter-queue-timeout", "5000"));
    next.response().expect("a response").expect(200);
}

#[test]
pub(crate) fn eight_mebibytes_go_each_way_at_a_time_in_little_memory() {
    let (_server, router) = stage();
    echoes(&mut open(&router), b"warm");
    let connection = open(&router);
    bounded(&router, move || {
        let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 16) as u8;
        let (mut up, mut down) = (connection.socket(), connection.socket());
        let writer = thread::spawn(move || {
            let bytes: Vec<u8> = (0..BULK).map(byte).collect();
            up.write_all(&bytes).expect("it takes all of it");
            up.shutdown(std::net::Shutdown::Write).expect("it is open");
        });
        let mut got = Vec::with_capacity(BULK);
        down.read_to_end(&mut got).expect("it ends when both have ended");
        writer.join().expect("it was written");
        assert_eq!(got.len(), BULK);
        assert!(got.iter().enumerate().all(|(at, it)| *it == byte(at)), "intact");
    });
    slot_is_free(&router);
}

#[test]
fn a_request_waits_until_the_tunnel_ends() {
    let (server, router) = stage();
    let mut tunnel = open(&router);
    let mut next = router.connect();
    next.send(&Request::get("/").with("host", "one"));
    until("it waits", PATIENCE, || (router.waiting("one") == 1).then_some(()));
    echoes(&mut tunnel, b"still here");
    assert!(next.is_silent(Duration::from_millis(200)));
    assert_eq!(server[0].count("max_in_flight"), 1);
    tunnel.half_close();
    next.response().expect("a response").expect(200);
    assert!(tunnel.rest(PATIENCE).expect("it is closed").is_empty());
}

#[test]
pub(crate) fn a_client_that_dies_gives_its_slot_back() {
    let (_server, router) = stage();
    let mut tunnel = open(&router);
    echoes(&mut tunnel, b"x");
    drop(tunnel);
    slot_is_free(&router);
    open(&router).reset();
    slot_is_free(&router);
}

#[test]
fn an_instance_that_dies_ends_the_tunnel_and_another_one_takes_over() {
    let router = Router::start(&[]);
    let service = Service::new("mortal", "").with("concurrency-level", "1");
    let mut tunnel = router.connect();
    let request = service.get("/upgrade").with("connection", "upgrade").with("upgrade", "echo");
    let pid = tunnel.ask(&request).expect(101).instance();
    echoes(&mut tunnel, b"x");
    crate::stage::end_at_once(pid);
    assert!(tunnel.rest(PATIENCE).expect("it is told").is_empty());
    drop(tunnel);
    assert_ne!(router.ask(&service.get("/")).expect(200).instance(), pid);
    let id = router.service_id("mortal").expect("it is listed");
    until("nothing is left of it", PATIENCE, || {
        let page = router.page(&format!("/apps/{id}?include=metrics"));
        (page["metrics"]["aggregate"]["outstanding"] == 0).then_some(())
    });
}

#[test]
pub(crate) fn what_comes_right_behind_a_head_is_not_lost() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let mut bytes = upgrade("/upgrade").bytes(router.address);
    bytes.extend(b"early");
    connection.write(&bytes);
    connection.head().expect("a head").expect(101);
    assert_eq!(connection.bytes(5).expect("an echo"), b"early");
}

#[test]
fn who_does_not_ask_gets_no_tunnel_and_a_refusal_is_an_ordinary_answer() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let unasked = connection.ask(&Request::get("/upgrade").with("host", "one")).expect(502);
    assert!(unasked.text().contains("unasked"), "{}", unasked.text());
    let answer = connection.ask(&upgrade("/headers")).expect(200).json();
    let fields = answer["headers"].to_string().to_lowercase();
    assert!(fields.contains("[\"upgrade\",\"echo\"]"), "{fields}");
    assert!(fields.contains("[\"connection\",\"upgrade\"]"), "{fields}");
    let http2 = upgrade("/headers").with("upgrade", "h2c");
    let fields = connection.ask(&http2).expect(200).json()["headers"].to_string().to_lowercase();
    assert!(!fields.contains("upgrade\""), "no request hides in a tunnel: {fields}");
    connection.ask(&Request::get("/status").with("upgrade", "x").with("connection", "upgrade"));
    connection
        .write(b"GET /upgrade HTTP/1.0\r\nHost: one\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    connection.response().expect("a response").expect(502);
}

#[test]
fn a_websocket_talks() {
    let router = Router::start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plays/websocket.py");
    let service = Service::run("ws", &format!("exec python3 '{script}' $PORT0"));
    let request = service
        .get("/chat")
        .with("connection", "keep-alive, Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-version", "13")
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut socket = router.connect();
    let answer = socket.ask(&request).expect(101);
    // The key and its answer stand in RFC 6455, section 1.3; the frames in section 5.7.
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    socket.write(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    assert_eq!(socket.bytes(7).expect("an echo"), b"\x81\x05Hello");
    socket.write(&[&[0x89, 0x80][..], &mask].concat());
    assert_eq!(socket.bytes(2).expect("a pong"), [0x8a, 0]);
    let long: Vec<u8> = (0..60_000_u32).map(|it| it as u8).collect();
    let masked: Vec<u8> = long.iter().enumerate().map(|(at, it)| it ^ mask[at % 4]).collect();
    let size = 60_000_u16.to_be_bytes();
    socket.write(&[&[0x82, 0xfe][..], &size, &mask, &masked].concat());
    assert_eq!(socket.bytes(4).expect("a head"), [0x82, 0x7e, size[0], size[1]]);
    assert_eq!(socket.bytes(long.len()).expect("a message"), long);
    socket.write(&[&[0x88, 0x80][..], &mask].concat());
    assert_eq!(socket.rest(PATIENCE).expect("it is closed"), [0x88, 0]);
}

#[test]
fn a_tunnel_is_one_request_of_status_101() {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=1");
    let path = log.path().to_string_lossy();
    let router = Router::start(&["--scheduler", "none", "--static", &one, "--access-log", &path]);
    let mut tunnel = open(&router);
    echoes(&mut tunnel, b"12345");
    tunnel.half_close();
    tunnel.rest(PATIENCE).expect("it is closed");
    let mut refused = router.connect();
    refused
        .write(b"PUT /bad HTTP/1.1\r\nHost: one\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");
    assert!(refused.response().expect("an answer").expect(400).field("x-cid").is_some());
    let lines = until("both lines are written", PATIENCE, || {
        let text = std::fs::read_to_string(log.path()).ok()?;
        (text.lines().count() >= 2).then_some(text)
    });
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|it| serde_json::from_str(it).expect("json")).collect();
    assert_eq!((&lines[0]["status"], &lines[0]["outcome"]), (&101.into(), &"success".into()));
    assert_eq!((&lines[0]["request-bytes"], &lines[0]["response-bytes"]), (&5.into(), &5.into()));
    assert_eq!((&lines[1]["status"], &lines[1]["path"]), (&400.into(), &"/bad".into()));
    assert_eq!(lines[1]["method"], "PUT");
}

#[test]
fn a_tunnel_does_not_keep_a_router_from_ending() {
    let (_server, mut router) = stage();
    let mut tunnel = open(&router);
    echoes(&mut tunnel, b"x");
    router.terminate();
    echoes(&mut tunnel, b"it may still talk");
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(3), "something was cut");
    assert!(tunnel.rest(PATIENCE).expect("it is closed").is_empty());
}

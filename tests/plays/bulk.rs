//! Large bodies in little memory.

use crate::stage::{Connection, Instance, PATIENCE, Request, Router, fronted, until};
use std::io::{Read, Write};
use std::thread;

const MIB: usize = 1 << 20;
/// Size of a body.
const BULK: usize = 100 * MIB;
/// By how much the router may grow: 8 MiB of buffers that are touched for the first time, and what
/// up to eight clients have under way; one that sends much unasked may fill 4 MiB of buffers once.
const GROWTH_MAX: u64 = 48 * MIB as u64;

fn stage() -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=8");
    let router = Router::start(&["--cores", "0,1", "--scheduler", "none", "--static", &one]);
    // What a first request needs is not growth.
    router.ask(&Request::get("/?size=1000000").with("host", "one")).expect(200);
    (server, router)
}

/// Runs the story and asserts that the router has hardly grown, at any time in it.
pub(crate) fn bounded(router: &Router, story: impl FnOnce() + Send + 'static) {
    let before = router.resident_bytes();
    let mut most = before;
    let story = thread::spawn(story);
    while !story.is_finished() {
        most = most.max(router.resident_bytes());
        crate::stage::pause_until(crate::stage::now() + std::time::Duration::from_millis(5));
    }
    story.join().expect("the story went well");
    let grown = most - before;
    println!("the router grew by {} KiB from {} KiB", grown >> 10, before >> 10);
    assert!(grown < GROWTH_MAX, "the router grew by {grown} bytes");
}

/// Writes a body of `BULK` bytes behind a head.
fn write_bulk(connection: &Connection) -> thread::JoinHandle<()> {
    let mut socket = connection.socket();
    thread::spawn(move || {
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..BULK / piece.len() {
            socket.write_all(&piece).expect("the router takes all of it");
        }
    })
}

#[test]
fn a_hundred_mebibytes_go_up() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    bounded(&router, move || {
        connection.write(
            format!("POST / HTTP/1.1\r\nHost: one\r\nContent-Length: {BULK}\r\n\r\n").as_bytes(),
        );
        let writer = write_bulk(&connection);
        let answer = connection.response().expect("a response").expect(200);
        writer.join().expect("it was written");
        assert_eq!(answer.field("x-request-bytes"), Some(&*BULK.to_string()));
    });
}

#[test]
fn a_hundred_mebibytes_come_down() {
    let (_server, router) = stage();
    for target in [format!("/?size={BULK}"), format!("/?size={BULK}&chunks=1000")] {
        let mut connection = router.connect();
        bounded(&router, move || {
            connection.send(&Request::get(&target).with("host", "one"));
            let answer = connection.response().expect("a response").expect(200);
            assert_eq!(answer.body.len(), BULK);
            assert!(answer.body.iter().enumerate().all(|(n, it)| *it == b'a' + (n % 26) as u8));
        });
    }
}

#[test]
pub(crate) fn a_hundred_mebibytes_go_both_ways_at_a_time() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    bounded(&router, move || {
        let head = "POST /echo?stream=1 HTTP/1.1\r\nHost: one\r\n";
        connection.write(format!("{head}Content-Length: {BULK}\r\n\r\n").as_bytes());
        let writer = write_bulk(&connection);
        let answer = connection.response().expect("a response").expect(200);
        writer.join().expect("it was written");
        assert_eq!(answer.body.len(), BULK);
    });
}

#[test]
fn readers_that_do_not_read_cost_a_bounded_amount_each() {
    let (server, router) = stage();
    let address = router.address;
    let mut readers: Vec<_> = (0..8).map(|_| Connection::open(address)).collect();
    let before = router.resident_bytes();
    for reader in &mut readers {
        reader.send(&Request::get(&format!("/?size={BULK}")).with("host", "one"));
    }
    until("all are served", PATIENCE, || (server[0].count("in_flight") == 8).then_some(()));
    let mut seen = Vec::new();
    until("the router has stopped growing", PATIENCE, || {
        seen.push(router.resident_bytes());
        let tail = &seen[seen.len().saturating_sub(100)..];
        (tail.len() == 100 && tail.iter().max() == tail.first()).then_some(())
    });
    let grown = seen.iter().max().expect("looked") - before;
    println!("eight readers that do not read: {} KiB", grown >> 10);
    assert!(grown < GROWTH_MAX, "the router grew by {grown} bytes");
    let mut first = readers.swap_remove(0).socket();
    let mut buffer = vec![0; MIB];
    let mut read = 0;
    while read < 10 * MIB {
        read += first.read(&mut buffer).expect("it goes on when it reads again");
    }
}

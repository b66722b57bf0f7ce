//! Clients of a soak, good ones and others. What is answered with 200 is right, whoever it is from;
//! at the rock everything is answered with 200.

use super::{Stage, count};
use crate::stage::{Request, Response, now, pause_until};
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

fn to_rock(target: &str) -> Request {
    Request::get(target).with("host", "rock")
}

/// What `?size=` is answered with.
fn is_alphabet(body: &[u8]) -> bool {
    body.iter().enumerate().all(|(at, it)| *it == b'a' + (at % 26) as u8)
}

/// One of many, always another.
fn varied(n: usize, round: usize, of: usize) -> usize {
    (n * 7 + round).wrapping_mul(2_654_435_761) / 97 % of
}

/// Asks without a pause, on one connection for a while and then on another.
pub(super) fn asks_the_rock(stage: &Stage, n: usize) {
    for begun in 0.. {
        let mut connection = stage.connect();
        for round in 0..500 {
            if !stage.goes_on() {
                return;
            }
            let size = [0, 100, 1024, 20_000, 200_000][varied(n + begun, round, 5)];
            let answer = connection.ask(&to_rock(&format!("/?size={size}"))).expect(200);
            assert!(answer.body.len() == size && is_alphabet(&answer.body), "{size}");
            count(&stage.tally.served);
        }
    }
}

/// Asks services whose instances come and go.
pub(super) fn asks_whoever_churns(stage: &Stage, n: usize) {
    let mut connection = stage.connect();
    for round in 0.. {
        if !stage.goes_on() {
            return;
        }
        let service = &stage.services[varied(n, round, stage.services.len())];
        let size = [10, 3000, 70_000][varied(n, round, 3)];
        let request = service.get(&format!("/?size={size}&delay-ms={}", round % 3));
        match connection.try_ask(&request) {
            Ok(Response { status: 200, body, .. }) => {
                assert!(body.len() == size && is_alphabet(&body), "{size}");
                count(&stage.tally.served);
            }
            Ok(answer) => {
                assert!(matches!(answer.status, 502..=504), "{} {}", answer.status, answer.text());
                count(&stage.tally.refused);
            }
            Err(_) => {
                count(&stage.tally.cut);
                connection = stage.connect();
            }
        }
    }
}

/// Leaves at another point each time, by a reset or an end.
pub(super) fn breaks_off(stage: &Stage, n: usize) {
    for round in 0.. {
        if !stage.goes_on() {
            return;
        }
        let mut connection = stage.connect();
        let bytes: &[u8] = match varied(n, round, 6) {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\nHos",
            2 => b"GET /?delay-ms=30 HTTP/1.1\r\nHost: rock\r\n\r\n",
            3 => {
                b"POST /echo?stream=1 HTTP/1.1\r\nHost: rock\r\nContent-Length: 100000\r\n\r\nsome"
            }
            4 => b"GET /?size=3000000 HTTP/1.1\r\nHost: rock\r\n\r\n",
            _ => b"GET /?size=3000&chunks=30&chunk-delay-ms=2 HTTP/1.1\r\nHost: rock\r\n\r\n",
        };
        connection.write(bytes);
        if round % 3 == 0 && bytes.ends_with(b"\r\n\r\n") {
            connection.bytes(20).expect("it begins");
        }
        if round % 2 == 0 {
            connection.reset();
        }
        count(&stage.tally.broken_off);
    }
}

/// Says that nothing follows, and leaves.
pub(super) fn closes_its_half(stage: &Stage) {
    while stage.goes_on() {
        let mut connection = stage.connect();
        connection.send(&to_rock("/?delay-ms=5&size=5000"));
        connection.half_close();
        // Whether it was answered before its end was seen is a matter of chance.
        let _ = connection.rest(Duration::from_secs(20)).expect("it is closed");
        count(&stage.tally.broken_off);
    }
}

/// Takes little of much, in many small pieces.
pub(super) fn reads_slowly(stage: &Stage) {
    while stage.goes_on() {
        let mut connection = stage.connect();
        connection.send(&to_rock(&format!("/?size={}", 20 * MIB)));
        let mut socket = connection.socket();
        let mut buffer = vec![0; 32 << 10];
        for _ in 0..60 {
            assert!(socket.read(&mut buffer).expect("it goes on") > 0);
            pause_until(now() + Duration::from_millis(10));
        }
        count(&stage.tally.broken_off);
    }
}

/// Opens a tunnel, says a little, and ends it in one of three ways.
pub(super) fn tunnels(stage: &Stage, n: usize) {
    for round in 0.. {
        if !stage.goes_on() {
            return;
        }
        let mut connection = stage.connect();
        let request = to_rock("/upgrade").with("connection", "Upgrade").with("upgrade", "echo");
        connection.ask(&request).expect(101);
        for size in [1, 1000, 100_000] {
            let text = vec![b'a' + (size % 26) as u8; size];
            connection.write(&text);
            assert_eq!(connection.bytes(size).expect("an echo"), text);
        }
        match varied(n, round, 3) {
            0 => {
                connection.half_close();
                assert!(connection.rest(Duration::from_secs(20)).expect("an end").is_empty());
            }
            1 => connection.reset(),
            _ => drop(connection),
        }
        count(&stage.tally.tunnels);
    }
}

/// Sends much and takes it back at the same time.
pub(super) fn sends_much(stage: &Stage, n: usize) {
    for round in 0.. {
        if !stage.goes_on() {
            return;
        }
        let mut connection = stage.connect();
        let body: Vec<u8> = (0..3 * MIB).map(|at| ((at * (n + round + 1)) >> 5) as u8).collect();
        let request = Request::post("/echo?stream=1", &body).with("host", "rock");
        let (mut socket, bytes) = (connection.socket(), request.bytes(connection.address()));
        let writer = thread::spawn(move || socket.write_all(&bytes));
        let answer = connection.response().expect("a response").expect(200);
        writer.join().expect("no panic").expect("it was taken");
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
        count(&stage.tally.big);
    }
}

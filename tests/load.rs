//! `waiter load` before servers that behave badly in ways that are known exactly.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What becomes of request `n`, counted from 0 over all connections.
enum Act {
    Say(&'static str),
    /// Says this and closes.
    Part(&'static str),
    /// Answers after so many milliseconds.
    Stall(u64),
    Silence,
}

/// A server that answers heads without a body; it ends with the test.
fn server(act: impl Fn(u64) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (act, count) = (Arc::new(act), Arc::new(AtomicU64::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (act, count) = (act.clone(), count.clone());
            thread::spawn(move || converse(&stream, &count, &*act));
        }
    });
    address
}

fn converse(stream: &TcpStream, count: &AtomicU64, act: &dyn Fn(u64) -> Act) {
    let mut lines = BufReader::new(stream).lines();
    loop {
        match lines.next() {
            Some(Ok(line)) if line.is_empty() => {}
            Some(Ok(_)) => continue,
            _ => return,
        }
        let mut out = stream;
        let said = match act(count.fetch_add(1, Ordering::SeqCst)) {
            Act::Say(text) => out.write_all(text.as_bytes()),
            Act::Part(text) => {
                let _ = out.write_all(text.as_bytes());
                return;
            }
            Act::Stall(millis) => {
                thread::sleep(Duration::from_millis(millis));
                out.write_all(OK.as_bytes())
            }
            Act::Silence => Ok(()),
        };
        if said.is_err() {
            return;
        }
    }
}

/// Runs the load: its exit code and its report.
fn load(address: SocketAddr, arguments: &str) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_waiter"))
        .args(["load", "--json", "--url", &format!("http://{address}/")])
        .args(arguments.split_whitespace())
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code().expect("an exit code"), report)
}

fn millis(report: &Value, percentile: &str) -> f64 {
    report["latency_us"][percentile].as_f64().expect("a number") / 1000.0
}

#[test]
fn a_stall_is_felt_by_every_request_that_was_due_meanwhile() {
    let stalls = || server(|n| if n == 300 { Act::Stall(100) } else { Act::Say(OK) });
    let (code, open) = load(stalls(), "--rate 1000 --connections 1 --duration 1");
    assert_eq!((code, &open["sent"], &open["answered"]), (0, &1000.into(), &1000.into()), "{open}");
    // Those due 0, 1, 2… ms after the stall began waited 100, 99, 98… ms: 100 of 1000.
    assert!(millis(&open, "p99.9") > 98.0 && millis(&open, "p99") > 88.0, "{open}");
    // A closed load asks nothing meanwhile: one slow answer among thousands.
    let (code, closed) = load(stalls(), "--connections 1 --duration 1");
    assert_eq!(code, 0, "{closed}");
    assert!(millis(&closed, "max") > 98.0 && millis(&closed, "p99") < 50.0, "{closed}");
}

#[test]
fn requests_without_an_answer_count_with_their_age() {
    let silent = server(|n| if n < 5 { Act::Say(OK) } else { Act::Silence });
    let arguments = "--rate 100 --connections 2 --duration 0.2 --timeout 0.5 --threads 2";
    let (code, report) = load(silent, arguments);
    assert_eq!(code, 1);
    assert_eq!(report["answered"], 5, "{report}");
    let count = |kind: &str| report["errors"][kind].as_u64().expect("a number");
    assert_eq!(count("timeout") + count("unanswered"), 15, "{report}");
    assert_eq!(report["latency_us"]["count"], 20, "{report}");
    assert!(millis(&report, "p50") > 400.0, "{report}");
}

#[test]
fn connections_that_close_are_made_anew() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    let closing = server(|n| Act::Part(if n % 2 == 0 { LAST } else { UNTIL_CLOSE }));
    let (code, report) = load(closing, "--rate 200 --connections 4 --duration 0.5");
    assert_eq!((code, &report["answered"]), (0, &100.into()), "{report}");
    assert_eq!(report["reconnects"], 100, "{report}");
}

#[test]
fn each_way_to_fail_is_counted_by_its_name() {
    let bad = server(|n| match n % 4 {
        0 => Act::Part("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
        1 => Act::Part("no HTTP\r\n"),
        2 => Act::Say("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        _ => Act::Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    });
    let (code, report) = load(bad, "--rate 200 --connections 1 --duration 0.5 --header a:b");
    assert_eq!(code, 1);
    assert_eq!(report["sent"], 100, "{report}");
    assert_eq!(report["errors"]["reset"], 25, "{report}");
    assert_eq!(report["errors"]["malformed"], 25, "{report}");
    assert_eq!((&report["statuses"]["5xx"], &report["statuses"]["2xx"]), (&25.into(), &25.into()));
}

#[test]
fn nobody_to_connect_to_is_told_in_one_sentence() {
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let output = Command::new(env!("CARGO_BIN_EXE_waiter"))
        .args(["load", "--url", &format!("http://{address}/")])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("cannot connect to {address}")), "{said}");
}

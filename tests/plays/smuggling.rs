//! Requests that two readers could read in two ways. Each is refused and its connection closed, and
//! no byte of it reaches an instance.

use crate::stage::{Instance, PATIENCE, Request, Router, fronted};

/// What stands behind the request line and `Host`, up to the end of what is sent.
const AMBIGUOUS: [(&str, &str); 26] = [
    ("both lengths", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("both lengths, turned", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("a list of lengths", "Content-Length: 5, 6\r\n\r\nhello!"),
    ("a signed length", "Content-Length: +5\r\n\r\nhello"),
    ("a negative length", "Content-Length: -5\r\n\r\nhello"),
    ("a length in hex", "Content-Length: 0x5\r\n\r\nhello"),
    ("a length with a space", "Content-Length: 5 0\r\n\r\nhello"),
    ("an empty length", "Content-Length: \r\n\r\nhello"),
    ("a huge length", "Content-Length: 99999999999999999999999\r\n\r\nhello"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("two transfer codings", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("almost chunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked with a tab", "Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the name", " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a folded field", "X-Long: a\r\n b\r\n\r\n"),
    ("a bare CR", "X-Odd: a\rTransfer-Encoding: chunked\r\n\r\n"),
    ("a NUL", "X-Odd: a\0b\r\n\r\n"),
    ("a field without a colon", "X-Odd\r\n\r\n"),
    ("a name that is none", "X(Odd): 1\r\n\r\n"),
    ("an empty name", ": 1\r\n\r\n"),
    ("two hosts", "Host: other\r\n\r\n"),
    ("an underscore for a dash", "Transfer_Encoding: chunked\r\nContent-Length: x\r\n\r\n"),
];

/// First lines that are wrong.
const LINES: [&str; 7] = [
    "GET  / HTTP/1.1",
    "GET / HTTP/1.1 x",
    "GET /a b HTTP/1.1",
    "G(T / HTTP/1.1",
    " GET / HTTP/1.1",
    "GET / http/1.1",
    "GET /\x01 HTTP/1.1",
];

fn stage() -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=8");
    let router = Router::start(&["--scheduler", "none", "--static", &one]);
    (server, router)
}

/// Sends these bytes and a harmless request behind them; both must be gone.
fn refused(router: &Router, what: &str, bytes: &str) {
    let mut connection = router.connect();
    connection.write(bytes.as_bytes());
    let status = connection.response().unwrap_or_else(|error| panic!("{what}: {error}")).status;
    assert!((400..500).contains(&status) || status == 501, "{what}: {status}");
    let rest = connection.rest(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"));
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty(), "{what}: more was answered: {rest}");
}

#[test]
fn what_is_ambiguous_is_refused_before_a_byte_of_it_reaches_an_instance() {
    let (server, router) = stage();
    let behind = "GET /smuggled HTTP/1.1\r\nHost: one\r\n\r\n";
    for (what, rest) in AMBIGUOUS {
        let bytes = format!("POST /echo HTTP/1.1\r\nHost: one\r\n{rest}{behind}");
        refused(&router, what, &bytes);
    }
    for line in LINES {
        refused(&router, line, &format!("{line}\r\nHost: one\r\n\r\n{behind}"));
    }
    refused(&router, "no host", &format!("GET / HTTP/1.1\r\nx: y\r\n\r\n{behind}"));
    assert_eq!(server[0].count("requests"), 0);
    router.ask(&Request::get("/").with("host", "one")).expect(200);
    assert_eq!(server[0].count("requests"), 1);
}

#[test]
fn a_body_in_bad_chunks_ends_its_connection_and_nothing_behind_it_is_read() {
    let (server, router) = stage();
    for (what, chunks) in [
        ("no number", "g\r\nabc\r\n0\r\n\r\n"),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a huge size", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("an empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("no line end behind a chunk", "3\r\nabcX\r\n0\r\n\r\n"),
        ("a bare LF behind a size", "3\nabc\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ] {
        let head = "POST /echo HTTP/1.1\r\nHost: one\r\nTransfer-Encoding: chunked\r\n\r\n";
        let behind = "GET /smuggled HTTP/1.1\r\nHost: one\r\n\r\n";
        refused(&router, what, &format!("{head}{chunks}{behind}"));
    }
    let answer = router.ask(&Request::get("/headers").with("host", "one")).expect(200);
    assert_eq!(answer.json()["target"], "/headers");
    let requests = server[0].count("requests");
    assert!(requests <= 9, "at most the heads in front of the bodies arrived: {requests}");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (server, router) = stage();
    let long = "a".repeat(40_000);
    let mut connection = router.connect();
    let _ = connection
        .try_ask(&Request::get("/").with("host", "one").with("x-long", &long))
        .map(|answer| assert_eq!(answer.status, 431));
    let many = (0..200)
        .fold(Request::get("/").with("host", "one"), |it, n| it.with(&format!("x-{n}"), "1"));
    let status = router.ask(&many).status;
    assert!(status == 431 || status == 400, "{status}");
    assert_eq!(server[0].count("requests"), 0);
}

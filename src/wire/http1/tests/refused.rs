//! Requests that are refused, with which status; and the tricks by which requests are smuggled.

use super::driver::{Cause, Close, Driver, Habit, Length, Part, START, same_at_every_cut};
use crate::base::limits::Limits;
use crate::wire::http1::Server;

/// A request line and fields (a Host field and the empty line are added), and the status.
const HEADS: &[(&str, u16)] = &[
    // Request line.
    ("GET  / HTTP/1.1\r\n", 400),
    (" GET / HTTP/1.1\r\n", 400),
    ("GET /\r\n", 400),
    ("GET / \r\n", 400),
    ("GET / HTTP/1.1 \r\n", 400),
    ("GET /\tHTTP/1.1\r\n", 400),
    ("GET / HTTP/1.1\n", 400),
    ("GET / HTTP/1.1\r\r\n", 400),
    ("G@T / HTTP/1.1\r\n", 400),
    ("GET / http/1.1\r\n", 400),
    ("GET / FOO/1.1\r\n", 400),
    ("GET / HTTP/11\r\n", 400),
    ("GET / HTTP/2.0\r\n", 505),
    ("GET / HTTP/1.2\r\n", 505),
    ("GET / HTTP/0.9\r\n", 505),
    ("PRI * HTTP/2.0\r\n", 505),
    ("GET a HTTP/1.1\r\n", 400),
    ("GET * HTTP/1.1\r\n", 400),
    ("GET /a b HTTP/1.1\r\n", 400),
    ("GET /a#b HTTP/1.1\r\n", 400),
    ("GET /a\\b HTTP/1.1\r\n", 400),
    ("GET /\u{e4} HTTP/1.1\r\n", 400),
    ("GET /\u{1} HTTP/1.1\r\n", 400),
    ("GET /\u{7f} HTTP/1.1\r\n", 400),
    ("GET http://u:p@a/ HTTP/1.1\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\n", 400),
    ("GET http:///x HTTP/1.1\r\n", 400),
    ("GET ftp://a/ HTTP/1.1\r\n", 400),
    ("CONNECT a:443 HTTP/1.1\r\n", 501),
    ("CONNECT / HTTP/1.1\r\n", 501),
    // Fields.
    ("GET / HTTP/1.1\r\nX : 1\r\n", 400),
    ("GET / HTTP/1.1\r\n X: 1\r\n", 400),
    ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n", 400),
    ("GET / HTTP/1.1\r\nX: 1\r\n\t2\r\n", 400),
    ("GET / HTTP/1.1\r\nX:\r\n 2\r\n", 400),
    ("GET / HTTP/1.1\r\n: 1\r\n", 400),
    ("GET / HTTP/1.1\r\nX\r\n", 400),
    ("GET / HTTP/1.1\r\nX(: 1\r\n", 400),
    ("GET / HTTP/1.1\r\nX\u{e4}: 1\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\rb\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\nY: b\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\n\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\0b\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\u{b}b\r\n", 400),
    ("GET / HTTP/1.1\r\nX: a\u{7f}b\r\n", 400),
    ("GET / HTTP/1.1\r\nX: \u{1b}[1m\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n", 400),
    ("GET / HTTP/1.0\r\nHost: a\r\n", 400),
    ("GET / HTTP/1.1\r\nExpect: 200-ok\r\n", 417),
    ("GET / HTTP/1.1\r\nExpect: 100-continue, x\r\n", 417),
    // Framing.
    ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\nContent-Length: 1\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: \r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: +1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: -1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 0x1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1 1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1_0\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length : 1\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length\u{0}: 1\r\n", 400),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding\r\n: chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nX: a\nTransfer-Encoding: chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", 501),
];

/// Values of the only Host field of an HTTP/1.1 request.
const HOSTS: &[&str] =
    &["", "a b", "a,b", "u@a", "a/b", "a:b", "a:99999", "[::1", "a\\b", "a?b", "http://a", "a%2e"];

#[test]
fn malformed_heads_are_refused_at_every_cut() {
    for (head, status) in HEADS {
        refused(&format!("{head}Host: a\r\n\r\n"), *status);
    }
    for host in HOSTS {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
    ] {
        refused(bytes, 400);
    }
}

fn refused(bytes: &str, status: u16) {
    let behind = format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let driver = same_at_every_cut(behind.as_bytes(), || Driver::server(Habit::Answer));
    let [said] = &driver.said[..] else { panic!("{bytes:?} gave {:?}", driver.said) };
    assert!(said.starts_with("refused ") && !said.contains("smuggled"), "{bytes:?} gave {said}");
    assert_eq!(driver.close(), Close::Flush, "{bytes:?}");
    assert_eq!(driver.needs().intake, 0, "{bytes:?}");
    let text = driver.out_text();
    let line = format!("HTTP/1.1 {status} ");
    assert!(text.starts_with(&line), "{bytes:?}: {status} expected, {text}");
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
}

/// What can be told of a request that is refused: for the log, and for its answer.
#[test]
fn a_refused_request_is_described_as_far_as_it_was_read() {
    let cases = [
        ("GET /a?b HTTP/1.1\r\nX-A: 1\n\r\n", "BadRequest: GET /a?b @ 1.1"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "NotImplemented: 200 1.1"),
        ("PUT /x HTTP/1.0\r\nA : 1\r\n\r\n", "BadRequest: PUT /x @ 1.0"),
        ("GET / HTTP/3.0\r\n\r\n", "VersionUnsupported: GET / @ 1.1"),
        ("\u{1} / HTTP/1.1\r\n\r\n", "BadRequest: 200 1.1"),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nContent-Length: z\r\n\r\n",
            "BadRequest: POST /x @ 1.1 accept:application/json",
        ),
    ];
    for (bytes, expected) in cases {
        let driver = same_at_every_cut(bytes.as_bytes(), || Driver::server(Habit::Answer));
        assert_eq!(driver.said, [format!("refused {expected}")], "{bytes:?}");
    }
    // One who does not answer it still receives nothing more.
    let mut watched = Driver::server(Habit::Watch);
    watched.feed(b"x\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((watched.said.len(), watched.needs().intake), (1, 0));
    watched.write(Part::Cut(&Cause::Abandoned));
    assert_eq!(watched.close(), Close::Now);
}

/// Bodies behind a chunked head that are malformed.
const CHUNKS: &[&str] = &[
    "\r\n",
    ";\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    "1\t;x\r\na\r\n0\r\n\r\n",
    "1 ;x\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "-1\r\na\r\n0\r\n\r\n",
    "g\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\ra\r\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\na\r0\r\n\r\n",
    "1\r\na0\r\n\r\n",
    "2\r\na\r\n0\r\n\r\n",
    "1;x\na\r\n0\r\n\r\n",
    "1;x\rb\r\na\r\n0\r\n\r\n",
    "1;\0\r\na\r\n0\r\n\r\n",
    "00000000000000001\r\na\r\n0\r\n\r\n",
    "10000000000000000\r\na\r\n0\r\n\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\nX : 1\r\n\r\n",
    "0\r\n X: 1\r\n\r\n",
    "0\r\nX: 1\r\n 2\r\n\r\n",
    "0\r\nX: 1\n\r\n",
    "0\r\n\n",
    "0\r\nX: \0\r\n\r\n",
    "0\n\r\n",
];

#[test]
fn malformed_chunks_cut_the_stream_and_close() {
    for chunks in CHUNKS {
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let mut driver = same_at_every_cut(bytes.as_bytes(), || Driver::server(Habit::Answer));
        let last = driver.said.last().unwrap();
        assert_eq!(last, "cut BadRequest", "{chunks:?} gave {:?}", driver.said);
        assert!(driver.said.iter().all(|it| !it.starts_with("GET")), "{chunks:?}");
        driver.answer(Length::Exact(0));
        assert!(driver.out_text().contains("connection: close"), "{chunks:?}");
        assert_eq!(driver.close(), Close::Flush, "{chunks:?}");
    }
}

#[test]
fn everything_is_bounded() {
    let host = "GET / HTTP/1.1\r\nHost: a\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let tiny = || Driver::new(Server::new(&Limits::TINY, START), Habit::Answer);
    let field = |bytes: usize| format!("{host}X: {}\r\n\r\n", "a".repeat(bytes - host.len() - 7));
    let most = Limits::TINY.head_bytes;
    assert_eq!(tiny().feed(field(most).as_bytes()).said.len(), 2, "as long as may be");
    let cases = [
        field(most + 1),
        "a".repeat(most),
        format!("{host}{}\r\n", "X: 1\r\n".repeat(Limits::TINY.head_fields)),
        format!("{host}Connection: {}\r\n\r\n", "a,".repeat(Limits::TINY.head_fields + 1)),
    ];
    for bytes in cases {
        let driver = same_at_every_cut(bytes.as_bytes(), tiny);
        assert!(driver.out_text().starts_with("HTTP/1.1 431 "), "{bytes:?} {:?}", driver.said);
    }
    let trailer = |bytes: usize| format!("{chunked}0\r\nX: {}\r\n\r\n", "a".repeat(bytes));
    let extension = |bytes: usize| format!("{chunked}0;{}\r\n\r\n", "a".repeat(bytes));
    let most = Limits::TINY.trailer_bytes;
    let last = |bytes: String| tiny().feed(bytes.as_bytes()).said.last().unwrap().clone();
    assert!(last(trailer(most - 7)).starts_with("end x:a"));
    assert_eq!(last(trailer(most - 6)), "cut BadRequest");
    assert_eq!(last(extension(256)), "end");
    assert_eq!(last(extension(257)), "cut BadRequest");
}

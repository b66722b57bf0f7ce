//! Responses as they are written: framing, persistence, trailers.

use super::driver::{Close, Driver, Habit, Length, Part, Server, response_head};
use crate::wire::codec::Cause;
use crate::wire::fields::Fields;

/// A request line, a status, a length, a body in pieces; what is written, and how it closes. Fields
/// of the request follow its line; `%` stands for CR LF.
type Case<'a> = (&'a str, u16, Length, &'a [&'a str], &'a str, Close);

const CASES: &[Case<'_>] = &[
    (
        "GET / HTTP/1.1",
        200,
        Length::Exact(5),
        &["he", "llo"],
        "200 OK%x-a: 1%content-length: 5%%hello",
        Close::Open,
    ),
    (
        "GET / HTTP/1.1",
        200,
        Length::Exact(0),
        &[],
        "200 OK%x-a: 1%content-length: 0%%",
        Close::Open,
    ),
    ("GET / HTTP/1.1", 200, Length::Absent, &[], "200 OK%x-a: 1%content-length: 0%%", Close::Open),
    (
        "GET / HTTP/1.1",
        200,
        Length::Unknown,
        &["hello", "0123456789abcdef"],
        "200 OK%x-a: 1%transfer-encoding: chunked%%5%hello%10%0123456789abcdef%0%%",
        Close::Open,
    ),
    (
        "GET / HTTP/1.1%Connection: close",
        404,
        Length::Exact(1),
        &["a"],
        "404 Not Found%x-a: 1%content-length: 1%connection: close%%a",
        Close::Flush,
    ),
    (
        "GET / HTTP/1.0",
        200,
        Length::Exact(1),
        &["a"],
        "200 OK%x-a: 1%content-length: 1%connection: close%%a",
        Close::Flush,
    ),
    (
        "GET / HTTP/1.0%Connection: keep-alive",
        200,
        Length::Exact(1),
        &["a"],
        "200 OK%x-a: 1%content-length: 1%connection: keep-alive%%a",
        Close::Open,
    ),
    (
        "GET / HTTP/1.0%Connection: keep-alive",
        200,
        Length::Unknown,
        &["a", "b"],
        "200 OK%x-a: 1%connection: close%%ab",
        Close::Flush,
    ),
    (
        "HEAD / HTTP/1.1",
        200,
        Length::Exact(5),
        &["hello"],
        "200 OK%x-a: 1%content-length: 5%%",
        Close::Open,
    ),
    (
        "HEAD / HTTP/1.1",
        200,
        Length::Unknown,
        &["a"],
        "200 OK%x-a: 1%transfer-encoding: chunked%%",
        Close::Open,
    ),
    ("HEAD / HTTP/1.1", 200, Length::Absent, &[], "200 OK%x-a: 1%%", Close::Open),
    (
        "HEAD / HTTP/1.0%Connection: keep-alive",
        200,
        Length::Unknown,
        &[],
        "200 OK%x-a: 1%connection: keep-alive%%",
        Close::Open,
    ),
    ("GET / HTTP/1.1", 204, Length::Absent, &[], "204 No Content%x-a: 1%%", Close::Open),
    ("GET / HTTP/1.1", 204, Length::Exact(0), &[], "204 No Content%x-a: 1%%", Close::Open),
    (
        "GET / HTTP/1.1",
        304,
        Length::Exact(9),
        &[],
        "304 Not Modified%x-a: 1%content-length: 9%%",
        Close::Open,
    ),
    ("GET / HTTP/1.1", 304, Length::Unknown, &[], "304 Not Modified%x-a: 1%%", Close::Open),
    ("GET / HTTP/1.1", 299, Length::Exact(0), &[], "299 %x-a: 1%content-length: 0%%", Close::Open),
    // What the head declared was not kept: the client must see it.
    (
        "GET / HTTP/1.1",
        200,
        Length::Exact(5),
        &["hell"],
        "200 OK%x-a: 1%content-length: 5%%hell",
        Close::Now,
    ),
    (
        "GET / HTTP/1.1",
        200,
        Length::Exact(2),
        &["hell"],
        "200 OK%x-a: 1%content-length: 2%%he",
        Close::Now,
    ),
];

/// A driver with this request read, body and all.
fn asked(request: &str) -> Driver<Server> {
    let mut driver = Driver::server(Habit::Room);
    let lines = request.replace('%', "\r\n");
    driver.feed(format!("{lines}\r\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(driver.said.len(), 2, "{request:?}");
    driver
}

#[test]
fn responses_are_framed_for_their_request() {
    for (request, status, length, body, written, close) in CASES {
        let mut driver = asked(request);
        let mut head = response_head(*status, *length);
        head.fields.push(b"X-A", b"1");
        driver.write(Part::Head(&head));
        for piece in *body {
            driver.write(Part::Body(piece.as_bytes()));
        }
        driver.write(Part::End(None));
        let expected = format!("HTTP/1.1 {}", written.replace('%', "\r\n"));
        assert_eq!(driver.out_text(), expected, "{request:?} {status} {length:?}");
        assert_eq!(driver.close(), *close, "{request:?} {status} {length:?}");
    }
}

#[test]
fn interim_heads_pass_to_those_who_know_them() {
    for (request, written) in
        [("GET / HTTP/1.1", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"), ("GET / HTTP/1.0", "")]
    {
        let mut driver = asked(request);
        let mut head = response_head(103, Length::Absent);
        head.fields.push(b"link", b"x");
        driver.write(Part::Head(&head));
        assert_eq!(driver.out_text(), written, "{request:?}");
        driver.answer(Length::Absent);
        assert!(driver.out_text().contains("200 OK"));
    }
}

#[test]
fn trailers_are_written_behind_chunks_only() {
    let mut trailers = Fields::default();
    trailers.push(b"x-sum", b"1");
    trailers.push(b"content-length", b"1");
    trailers.push(b"transfer-encoding", b"chunked");
    let end = |request, length| {
        let mut driver = asked(request);
        driver.write(Part::Head(&response_head(200, length))).write(Part::End(Some(&trailers)));
        driver.out_text()
    };
    assert!(end("GET / HTTP/1.1", Length::Unknown).ends_with("\r\n\r\n0\r\nx-sum: 1\r\n\r\n"));
    assert!(!end("GET / HTTP/1.1", Length::Exact(0)).contains("x-sum"));
    assert!(!end("GET / HTTP/1.0", Length::Unknown).contains("x-sum"));
    assert!(!end("HEAD / HTTP/1.1", Length::Unknown).contains("x-sum"));
}

#[test]
fn a_cut_response_closes_at_once() {
    for length in [None, Some(Length::Unknown), Some(Length::Exact(3))] {
        let mut driver = asked("GET / HTTP/1.1");
        if let Some(length) = length {
            driver.write(Part::Head(&response_head(200, length))).write(Part::Body(b"a"));
        }
        driver.write(Part::Cut(&Cause::Broken));
        assert_eq!(driver.close(), Close::Now);
        let before = driver.out_text();
        driver.write(Part::Body(b"late")).write(Part::End(None));
        assert_eq!(driver.out_text(), before, "nothing follows a cut");
        assert!(!before.ends_with("0\r\n\r\n"));
    }
}

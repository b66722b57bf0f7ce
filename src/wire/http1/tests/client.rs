//! The instance-facing side: requests as they are written, responses as they are read, and when the
//! connection may be used again.

use super::driver::{
    Client, Close, Codec, Driver, Habit, LIMITS, Length, Part, Server, request_head, response_head,
    same_at_every_cut,
};
use crate::wire::codec::Cause;
use crate::wire::fields::Fields;
use http::Method;

/// Method asked, bytes of the response, what is said of them, whether the connection stays.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], bool);

const GOOD: &[Case<'_>] = &[
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello",
        &["200 1.1 =5 x-a:1", "body hello", "end"],
        true,
    ),
    ("GET", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", &["200 1.1 =0", "end"], true),
    (
        "GET",
        "HTTP/1.1 200 \u{e4}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
        &["200 1.1 =?", "body abc", "end x-t:1"],
        true,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
        &["200 1.1 =1", "body a", "end"],
        false,
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        &["200 1.0 =1", "body a", "end"],
        false,
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
        &["200 1.0 =1", "body a", "end"],
        true,
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &["200 1.1 =9", "end"], true),
    ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &["200 1.1 =?", "end"], true),
    ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", &["200 1.1", "end"], true),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\n", &["204 1.1", "end"], true),
    ("GET", "HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", &["304 1.1 =9", "end"], true),
    (
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
        &["100 1.1", "103 1.1 link:x", "200 1.1 =0 set-cookie:a set-cookie:b", "end"],
        true,
    ),
    // Surplus is never taken for the next response.
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n",
        &["200 1.1 =1", "body a", "end"],
        false,
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", &["200 1.1 =1", "end"], false),
    ("GET", "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\na", &["204 1.1", "end"], false),
    // Malformed.
    ("GET", "HTTP/1.1 101 Switching\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "\r\nHTTP/1.1 200 OK\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/2.0 200 OK\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 099 OK\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 20 OK\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 2000 OK\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "SSH-2.0-x\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", &["cut InstanceError"], false),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        &["cut InstanceError"],
        false,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        &["cut InstanceError"],
        false,
    ),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", &["cut InstanceError"], false),
    (
        "GET",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        &["cut InstanceError"],
        false,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        &["cut InstanceError"],
        false,
    ),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", &["cut InstanceError"], false),
    ("GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &["cut InstanceError"], false),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        &["200 1.1 =?", "body a", "cut InstanceError"],
        false,
    ),
];

#[test]
fn responses_are_read_at_every_cut() {
    for (method, bytes, expected, stays) in GOOD {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let bytes: Vec<u8> = bytes.chars().map(|it| it as u8).collect();
        let make = || Driver::client(method.clone(), Habit::Room);
        let driver = same_at_every_cut(&bytes, make);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(driver.said, *expected, "{shown:?}");
        assert_eq!(driver.needs().idle, *stays, "{shown:?}");
        let close = if *stays { Close::Open } else { Close::Now };
        assert_eq!(driver.close(), close, "{shown:?}");
    }
}

#[test]
fn the_end_of_the_connection_ends_or_cuts() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["cut Closed"]),
        ("HTTP/1.1 200 OK\r\nCont", &["cut Closed"]),
        ("HTTP/1.1 100 Continue\r\n\r\n", &["100 1.1", "cut Closed"]),
        ("HTTP/1.1 200 OK\r\n\r\n", &["200 1.1 =?", "end"]),
        ("HTTP/1.1 200 OK\r\n\r\nabc", &["200 1.1 =?", "body abc", "end"]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", &["200 1.1 =2", "body a", "cut Closed"]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
            &["200 1.1 =?", "body a", "cut Closed"],
        ),
    ];
    for (bytes, expected) in cases {
        let mut driver = Driver::client(Method::GET, Habit::Room);
        driver.feed(bytes.as_bytes()).end();
        assert_eq!(driver.said, *expected, "{bytes:?}");
        assert_eq!(driver.close(), Close::Now, "{bytes:?}");
        // Without room, what was kept comes before the end.
        let mut driver = Driver::client(Method::GET, Habit::Watch);
        driver.feed(bytes.as_bytes()).end();
        driver.room(1).feed(b"").room(9).feed(b"");
        assert_eq!(driver.said, *expected, "{bytes:?}");
    }
}

#[test]
fn interim_heads_are_bounded() {
    let mut driver = Driver::client(Method::GET, Habit::Room);
    driver.feed(&b"HTTP/1.1 103 Early\r\n\r\n".repeat(16));
    assert_eq!((driver.said.len(), driver.close()), (16, Close::Open));
    driver.feed(b"HTTP/1.1 103 Early\r\n\r\n");
    assert_eq!(driver.said.last().unwrap(), "cut InstanceError");
}

#[test]
fn an_idle_connection_is_watched() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let idle = || {
        let mut driver = Driver::client(Method::GET, Habit::Room);
        driver.feed(response);
        assert!(driver.needs().idle && driver.needs().intake > 0);
        driver
    };
    let mut again = idle();
    again.ask(Method::GET);
    assert!(!again.needs().idle);
    again.feed(response);
    assert_eq!(again.said, ["200 1.1 =0", "end", "200 1.1 =0", "end"]);
    for at in 0..3 {
        let mut driver = idle();
        match at {
            0 => _ = driver.feed(b"H"),
            1 => _ = driver.end(),
            _ => driver.codec.retire(),
        }
        assert_eq!(driver.close(), Close::Now);
        assert!(!driver.needs().idle);
        assert_eq!(driver.said.len(), 2);
    }
}

#[test]
fn a_connection_is_not_used_again_if_the_request_was_not_written_whole() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut driver = Driver::new(Client::new(&LIMITS), Habit::Room);
    driver.write(Part::Head(&request_head(Method::POST, Length::Exact(2))));
    driver.write(Part::Body(b"a")).feed(response);
    assert_eq!(driver.said, ["200 1.1 =0", "end"]);
    assert_eq!(driver.close(), Close::Now);

    for part in [Part::End(None), Part::Body(b"abc"), Part::Cut(&Cause::Abandoned)] {
        let mut driver = Driver::new(Client::new(&LIMITS), Habit::Room);
        driver.write(Part::Head(&request_head(Method::POST, Length::Exact(2)))).write(part);
        assert_eq!(driver.close(), Close::Now, "{part:?}");
        assert!(driver.feed(response).said.is_empty(), "{part:?}");
    }
}

#[test]
fn requests_are_written_with_their_framing() {
    let cases = [
        (Method::GET, Length::Absent, "GET /", "", ""),
        (Method::DELETE, Length::Absent, "DELETE /", "", ""),
        (Method::POST, Length::Absent, "POST /", "content-length: 0\r\n", ""),
        (Method::PUT, Length::Absent, "PUT /", "content-length: 0\r\n", ""),
        (Method::PATCH, Length::Absent, "PATCH /", "content-length: 0\r\n", ""),
        (Method::GET, Length::Exact(0), "GET /", "content-length: 0\r\n", ""),
        (Method::GET, Length::Exact(2), "GET /", "content-length: 2\r\n", "ab"),
        (
            Method::POST,
            Length::Unknown,
            "POST /",
            "transfer-encoding: chunked\r\n",
            "2\r\nab\r\n0\r\nx-t: 1\r\n\r\n",
        ),
    ];
    for (method, length, line, framing, body) in cases {
        let mut driver = Driver::new(Client::new(&LIMITS), Habit::Watch);
        let mut head = request_head(method, length);
        head.fields.push(b"x-a", b"1");
        driver.write(Part::Head(&head));
        if !body.is_empty() {
            driver.write(Part::Body(b"ab"));
        }
        let mut trailers = Fields::default();
        trailers.push(b"x-t", b"1");
        driver.write(Part::End(Some(&trailers)));
        let expected = format!("{line} HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n{framing}\r\n{body}");
        assert_eq!(driver.out_text(), expected);
        assert_eq!(driver.close(), Close::Open);
    }
}

/// Through both codecs and back, nothing is lost.
#[test]
fn what_one_side_writes_the_other_reads() {
    for length in [Length::Absent, Length::Exact(0), Length::Exact(3), Length::Unknown] {
        for method in [Method::GET, Method::POST, Method::HEAD, Method::DELETE] {
            round_trip(&method, length);
        }
    }
}

fn round_trip(method: &Method, length: Length) {
    let body: &[u8] =
        if matches!(length, Length::Exact(0) | Length::Absent) { b"" } else { b"abc" };
    let mut client = Driver::new(Client::new(&LIMITS), Habit::Room);
    let mut server = Driver::server(Habit::Room);
    let mut head = request_head(method.clone(), length);
    head.set_target(b"/x?y");
    head.fields.push(b"x-a", b"1");
    for _ in 0..2 {
        client.stream.0 += 1;
        client.write(Part::Head(&head)).room(100);
        send(&mut client, body);
        server.feed(&std::mem::take(&mut client.out));
        let mut answer = response_head(200, length);
        answer.fields.push(b"x-b", b"2");
        server.write(Part::Head(&answer));
        send(&mut server, body);
        client.feed(&std::mem::take(&mut server.out));
        assert!(client.needs().idle && server.needs().idle, "{method} {length:?}");
    }
    let asked = server.said[..server.said.len() / 2].join(", ");
    let answered = client.said[..client.said.len() / 2].join(", ");
    let text = |of: Length| match of {
        Length::Absent => "",
        Length::Exact(0) => " =0",
        Length::Exact(_) => " =3",
        Length::Unknown => " =?",
    };
    let shown = if body.is_empty() { "" } else { ", body abc" };
    let sent =
        if *method == Method::POST && length == Length::Absent { " =0" } else { text(length) };
    assert_eq!(asked, format!("{method} /x?y @a 1.1{sent} x-a:1{shown}, end"));
    let (sent, shown) = match (method, length) {
        (&Method::HEAD, _) => (text(length), ""),
        (_, Length::Absent) => (" =0", ""),
        _ => (text(length), shown),
    };
    assert_eq!(answered, format!("200 1.1{sent} x-b:2{shown}, end"));
}

fn send<C: Codec>(driver: &mut Driver<C>, body: &[u8]) {
    if !body.is_empty() {
        driver.write(Part::Body(body));
    }
    driver.write(Part::End(None));
}

/// A response through a server to an old client ends with its connection.
#[test]
fn an_unknown_length_survives_http_1_0() {
    let mut server: Driver<Server> = Driver::server(Habit::Room);
    server.feed(b"GET / HTTP/1.0\r\n\r\n");
    server.write(Part::Head(&response_head(200, Length::Unknown)));
    send(&mut server, b"abc");
    let mut client = Driver::client(Method::GET, Habit::Room);
    client.feed(&server.out).end();
    assert_eq!(client.said, ["200 1.1 =?", "body abc", "end"]);
}

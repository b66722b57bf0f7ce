//! Well-formed requests: what is yielded, at every cut of the bytes.

use super::driver::{Close, Codec, Driver, Habit, Input, Part, same_at_every_cut};

/// Bytes of a connection, and what is said of them.
const GOOD: &[(&str, &[&str])] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / @a 1.1", "end"]),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / @a 1.1", "end"]),
    (
        "GET /p?q=%20 HTTP/1.1\r\nhost: a:80\r\nX-A:  1 \r\nx-b:\r\nX-A:\t2\t3\r\n\r\n",
        &["GET /p?q=%20 @a:80 1.1 x-a:1 x-b: x-a:2\t3", "end"],
    ),
    ("GET http://B/x HTTP/1.1\r\nHost: b\r\n\r\n", &["GET /x @B 1.1", "end"]),
    ("GET http://b?x HTTP/1.1\r\nHost: b\r\n\r\n", &["GET /?x @b 1.1", "end"]),
    ("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", &["GET / @b 1.1", "end"]),
    ("OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", &["OPTIONS * @b 1.1", "end"]),
    ("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", &["OPTIONS * @b 1.1", "end"]),
    ("FOO-BAR / HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", &["FOO-BAR / @[::1]:8 1.1", "end"]),
    ("GET / HTTP/1.0\r\n\r\n", &["GET / @ 1.0", "end"]),
    ("GET http://a/ HTTP/1.0\r\n\r\n", &["GET / @a 1.0", "end"]),
    ("GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", &["GET / @a 1.0", "end"]),
    ("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", &["GET / @ 1.0", "end"]),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        &["POST / @a 1.1 =5", "body hello", "end"],
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &["POST / @a 1.1 =0", "end"]),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
         5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        &["POST / @a 1.1 =?", "body hello0123456789", "end"],
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         1\r\na\r\n0;end\r\nX-Sum: 1\r\ncontent-length: 9\r\nHost: b\r\nAuthorization: c\r\n\
         Connection: d\r\nX-More: 2\r\nX-Waiter-Cmd: e\r\nX-Forwarded-For: f\r\nVia: g\r\n\
         Forwarded: h\r\nX-Cid: i\r\nUpgrade: j\r\nTransfer-Encoding: k\r\n\r\n",
        &["POST / @a 1.1 =?", "body a", "end x-sum:1 x-more:2"],
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket, foo/2\r\nConnection: Upgrade, X-Hop\r\n\
         X-Hop: 1\r\nSec-WebSocket-Key: k\r\n\r\n",
        &["GET / @a 1.1 sec-websocket-key:k upgrade:WebSocket, foo/2", "end"],
    ),
    // Not asked for by Connection; nothing asked for; other versions of HTTP.
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n", &["GET / @a 1.1", "end"]),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", &["GET / @a 1.1", "end"]),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, h2c\r\n\r\n",
        &["GET / @a 1.1", "end"],
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop ,, x-hop2\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTE: trailers\r\n\
         Upgrade: h2c\r\nX-Hop2: 1\r\nX-End: 1\r\n\r\n",
        &["GET / @a 1.1 x-end:1", "end"],
    ),
    (
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nHost: b\r\n\
         Content-Length: 1\r\n\r\nxGET /3 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n\
         POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n",
        &[
            "GET /1 @a 1.1",
            "end",
            "POST /2 @b 1.1 =1",
            "body x",
            "end",
            "GET /3 @ 1.0",
            "end",
            "POST /4 @a 1.1 =?",
            "body y",
            "end",
        ],
    ),
];

#[test]
fn good_requests_are_read_at_every_cut() {
    for (bytes, expected) in GOOD {
        let driver = same_at_every_cut(bytes.as_bytes(), || Driver::server(Habit::Answer));
        assert_eq!(driver.said, *expected, "{bytes:?}");
        let stays = !bytes.contains("HTTP/1.0\r\n") || bytes.contains("Keep-Alive\r\n");
        let expected = if stays { Close::Open } else { Close::Flush };
        assert_eq!(driver.close(), expected, "{bytes:?}");
        assert_eq!(driver.needs().idle, stays, "{bytes:?}");
    }
}

#[test]
fn a_body_that_arrives_in_time_is_lent_not_copied() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let mut driver = Driver::server(Habit::Room);
    driver.feed(head);
    let bytes = b"hello";
    let read = driver.codec.read(Input::Bytes(bytes), driver.now, &mut driver.out);
    let Some((_, Part::Body(body))) = read.part else { panic!("a body is due: {read:?}") };
    assert_eq!(body.as_ptr_range(), bytes.as_ptr_range());
}

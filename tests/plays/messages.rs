//! The forms of HTTP/1 through the real binary.

use crate::stage::{Instance, PATIENCE, Request, Router, fronted};

fn stage() -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=8");
    let router = Router::start(&["--cores", "0,1", "--scheduler", "none", "--static", &one]);
    (server, router)
}

fn to_one(target: &str) -> Request {
    Request::get(target).with("host", "one")
}

#[test]
pub(crate) fn chunks_and_trailers_cross_both_ways() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let answer = connection.ask(&to_one("/?size=10000&chunks=7&trailers=1")).expect(200);
    assert_eq!(answer.body.len(), 10_000);
    assert_eq!(answer.trailers, [("x-body-bytes".to_owned(), "10000".to_owned())]);
    connection.write(
        b"POST /echo?stream=1 HTTP/1.1\r\nHost: one\r\nTransfer-Encoding: chunked\r\n\
          Trailer: x-sum\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
    );
    let answer = connection.response().expect("a response").expect(200);
    assert_eq!(answer.text(), "hello world");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "11".to_owned())]);
    connection.ask(&to_one("/")).expect(200);
}

#[test]
fn the_answer_to_head_has_a_length_and_no_body() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let head = connection.ask(&Request::of("HEAD", "/?size=77").with("host", "one")).expect(200);
    assert_eq!(head.field("content-length"), Some("77"));
    connection.ask(&to_one("/?status=204")).expect(204);
    connection.ask(&to_one("/?status=304")).expect(304);
    let next = connection.ask(&to_one("/?size=3")).expect(200);
    assert_eq!(next.text(), "abc", "the connection is in step");
}

#[test]
pub(crate) fn a_client_that_waits_for_continue_gets_it_once() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let head =
        b"POST /echo HTTP/1.1\r\nHost: one\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    connection.write(head);
    let interim = connection.head().expect("an interim response");
    assert_eq!(interim.status, 100);
    connection.write(b"abc");
    let answer = connection.response().expect("a response").expect(200);
    assert_eq!((answer.text(), answer.interim), ("abc".to_owned(), vec![]));
    let mut refused = router.connect();
    refused.write(
        b"POST /?early=1&status=403 HTTP/1.1\r\nHost: one\r\nExpect: 100-continue\r\n\
          Content-Length: 3\r\n\r\n",
    );
    let answer = refused.response().expect("a response").expect(403);
    // RFC 9110 section 10.1.1 would have this expectation forwarded; the router answers it itself.
    assert!(answer.interim.len() <= 1, "{:?}", answer.interim);
}

#[test]
pub(crate) fn a_client_of_http_1_0_is_served_and_its_connection_closed() {
    let (_server, router) = stage();
    for target in ["/?size=5", "/?size=5&chunks=2", "/?size=5&http10=1"] {
        let mut connection = router.connect();
        connection.write(format!("GET {target} HTTP/1.0\r\nHost: one\r\n\r\n").as_bytes());
        let answer = connection.response().expect("a response").expect(200);
        assert_eq!((answer.text(), answer.chunks), ("abcde".to_owned(), 0), "{target}");
        assert!(connection.rest(PATIENCE).expect("it is closed").is_empty(), "{target}");
    }
    let mut kept = router.connect();
    for _ in 0..2 {
        kept.write(b"GET /?size=2 HTTP/1.0\r\nHost: one\r\nConnection: keep-alive\r\n\r\n");
        let answer = kept.response().expect("a response").expect(200);
        assert_eq!(answer.field("connection"), Some("keep-alive"));
    }
}

#[test]
pub(crate) fn connection_close_is_heeded_on_both_sides() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let answer = connection.ask(&to_one("/").with("connection", "close")).expect(200);
    assert_eq!((answer.field("connection"), &*answer.version), (Some("close"), "HTTP/1.1"));
    assert!(connection.rest(PATIENCE).expect("it is closed").is_empty());
    let mut kept = router.connect();
    for target in ["/?close=1", "/?http10=1&size=9", "/"] {
        let answer = kept.ask(&to_one(target)).expect(200);
        assert_eq!(answer.field("connection"), None, "the client's connection is its own");
    }
}

#[test]
pub(crate) fn pipelined_requests_are_answered_in_order() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    let mut bytes = Vec::new();
    for n in 1..=6 {
        let delay = 40 * (7 - n);
        let target = format!("/?size={n}&delay-ms={delay}");
        bytes.extend(to_one(&target).bytes(router.address));
    }
    bytes.extend(Request::post("/echo", b"last").with("host", "one").bytes(router.address));
    connection.write(&bytes);
    for n in 1..=6 {
        let answer = connection.response().expect("a response").expect(200);
        assert_eq!(answer.body.len(), n);
    }
    assert_eq!(connection.response().expect("a response").text(), "last");
}

#[test]
pub(crate) fn a_body_comes_through_piece_by_piece() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    connection
        .write(b"POST /echo?stream=1 HTTP/1.1\r\nHost: one\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.head().expect("the head comes before the body").expect(200);
    for piece in ["one", "two", "three"] {
        connection.write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
        let mut seen = String::new();
        while !seen.contains(piece) {
            let byte = connection.bytes(1).expect("it comes back before more is sent");
            seen.push(char::from(byte[0]));
        }
    }
    connection.write(b"0\r\n\r\n");
}

#[test]
pub(crate) fn a_request_in_single_bytes_is_a_request() {
    let (_server, router) = stage();
    let mut connection = router.connect();
    for byte in to_one("/?size=4").bytes(router.address) {
        connection.write(&[byte]);
    }
    assert_eq!(connection.response().expect("a response").expect(200).text(), "abcd");
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "");
    let flags = ["--scheduler", "none", "--static", &one, "--header-timeout-ms", "300"];
    let router = Router::start(&flags);
    let mut connection = router.connect();
    connection.write(b"GET / HTTP/1.1\r\nHost: one\r\nx-slow");
    assert_eq!(connection.response().expect("an answer").status, 408);
    assert!(connection.rest(PATIENCE).expect("it is closed").is_empty());
    let mut silent = router.connect();
    let rest = silent.rest(PATIENCE).expect("one who never says anything is let go as well");
    assert!(rest.is_empty(), "and is told nothing");
}

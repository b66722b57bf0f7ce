//! Each knob, over a real connection.

use super::*;
use std::io::Read;
use std::net::Shutdown;

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts an instance in a thread of this process; it ends with the tests.
fn start(change: impl FnOnce(&mut InstanceArgs)) -> SocketAddr {
    let mut args = InstanceArgs {
        port: Some(0),
        host: IpAddr::from([127, 0, 0, 1]),
        single: false,
        startup_delay_ms: 0,
        exit_after_ms: Vec::new(),
        crash_on_start: None,
        health_status: 200,
        health_path: "/status".to_owned(),
        delay_ms: 0,
        memory_mib: 0,
        idle_close_ms: None,
    };
    change(&mut args);
    let server = Server::bind(args).unwrap();
    let address = server.address().unwrap();
    thread::spawn(move || server.serve());
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends one request, says that nothing follows only after the answer, reads to the end.
fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn get(address: SocketAddr, target: &str) -> String {
    talk(address, &format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"))
}

/// Reads until the text seen ends with `end`.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

fn stats(address: SocketAddr) -> serde_json::Value {
    let text = get(address, "/stats");
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn knobs() {
    let address = start(|_| {});
    let check = |target: &str, starts: &str, holds: &str, ends: &str| {
        let text = get(address, target);
        assert!(text.starts_with(starts), "{target}: {text}");
        assert!(text.contains(holds), "{target}: {text}");
        assert!(text.ends_with(ends), "{target}: {text}");
    };
    check("/", "HTTP/1.1 200 OK\r\n", "x-instance: ", "\r\n\r\n1\n");
    check("/?status=503", "HTTP/1.1 503 Service Unavailable\r\n", "x-sequence: 2", "\n");
    check("/?status=204", "HTTP/1.1 204 No Content\r\n", "x-sequence: 3", "close\r\n\r\n");
    check("/?size=3", "HTTP/1.1 200", "Content-Length: 3\r\n", "\r\n\r\nabc");
    let chunks = "\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    check("/?size=5&chunks=2&chunk-delay-ms=1", "HTTP", "Transfer-Encoding: chunked", chunks);
    let trailer = "\r\n\r\n1\r\na\r\n0\r\nX-Body-Bytes: 1\r\n\r\n";
    check("/?size=1&trailers=1", "HTTP", "Trailer: X-Body-Bytes", trailer);
    check("/?size=3&http10=1", "HTTP/1.0 200", "Connection: close", "\r\n\r\nabc");
    check("/?crash=before", "", "", "");
    check("/?size=9&crash=headers", "HTTP/1.1 200", "Content-Length: 9", "\r\n\r\n");
    check("/?size=6&crash=body", "HTTP/1.1 200", "Content-Length: 6", "\r\n\r\nabc");
    check("/?size=6&chunks=2&crash=body", "HTTP/1.1 200", "chunked", "\r\n\r\n3\r\nabc\r\n");
    check("/?status=x", "HTTP/1.1 400", "Connection: close", "status is no number in range\n");
    check("/status", "HTTP/1.1 200", "x-sequence: 12", "");
    let text = talk(address, "HEAD /?size=7 HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(text.contains("Content-Length: 7") && text.ends_with("\r\n\r\n"), "{text}");
    let text = talk(address, "GET / HTTP/1.1\r\nx-status: 418\r\nx-close: 1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 418"), "{text}");
    let text = talk(address, "GET /?size=4&chunks=2 HTTP/1.0\r\n\r\n");
    assert!(text.ends_with("\r\n\r\nabcd"), "{text}");
    assert!(get(address, "/env").contains("\"PATH\":"));
    assert!(get(address, "/headers").contains("[\"Connection\",\"close\"]"));
}

#[test]
fn echo_of_all_framings() {
    let address = start(|_| {});
    let check = |rest: &str, holds: &str, ends: &str| {
        let text = talk(address, &format!("POST /echo{rest}"));
        assert!(text.contains(holds) && text.ends_with(ends), "{rest}: {text}");
    };
    let close = "Connection: close\r\n";
    check(
        &format!(" HTTP/1.1\r\n{close}Content-Length: 3\r\n\r\nxyz"),
        "Content-Length: 3",
        "\r\n\r\nxyz",
    );
    let chunked =
        format!("{close}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;e=f\r\nc\r\n0\r\n");
    check(&format!(" HTTP/1.1\r\n{chunked}T: u\r\n\r\n"), "x-trailer-T: u", "\r\n\r\nabc");
    let streamed = "2\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n";
    check(&format!("?stream=1 HTTP/1.1\r\n{chunked}T: u\r\n\r\n"), "chunked", streamed);
}

#[test]
fn a_connection_is_kept_and_requests_may_be_pipelined() {
    let address = start(|_| {});
    let mut stream = connect(address);
    let body = "Content-Length: 2\r\n\r\nhi";
    let two = format!("POST /echo HTTP/1.1\r\n{body}POST /echo?early=1 HTTP/1.1\r\n{body}");
    stream.write_all(two.as_bytes()).unwrap();
    stream.write_all(b"GET /?close=1 HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert!(text.ends_with("\r\n\r\n3\n"), "{text}");
    let seen = stats(address);
    assert_eq!((&seen["connections"], &seen["requests"]), (&2.into(), &3.into()));
}

#[test]
fn continue_is_said_before_the_body_is_read_unless_the_answer_is_early() {
    let address = start(|_| {});
    let head = "HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    let mut stream = connect(address);
    stream.write_all(format!("POST /echo {head}").as_bytes()).unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ab").unwrap();
    assert!(read_until(&mut stream, "ab").starts_with("HTTP/1.1 200 OK"));
    let mut stream = connect(address);
    stream.write_all(format!("POST /?early=1&status=403 {head}").as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 403"));
}

#[test]
fn what_is_in_flight_is_counted_exactly() {
    let address = start(|_| {});
    let mut hanging: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    for stream in &mut hanging {
        stream.write_all(b"GET /?hang=1 HTTP/1.1\r\n\r\n").unwrap();
    }
    let wait_for = |key: &str, value: u64| {
        let begun = crate::mesh::clock::now();
        while stats(address)[key] != value {
            assert!(crate::mesh::clock::now() - begun < PATIENCE, "{}", stats(address));
        }
    };
    wait_for("in_flight", 3);
    drop(hanging);
    wait_for("in_flight", 0);
    wait_for("aborted", 3);
    for _ in 0..100 {
        get(address, "/?size=100000");
        assert_eq!(stats(address)["in_flight"], 0);
    }
    assert_eq!(stats(address)["max_in_flight"], 3);
}

#[test]
fn a_single_instance_serves_one_connection_at_a_time() {
    let address = start(|args| args.single = true);
    let mut first = connect(address);
    first.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    read_until(&mut first, "1\n");
    let mut second = connect(address);
    second.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.read(&mut [0]).is_err());
    drop(first);
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    read_until(&mut second, "2\n");
}

#[test]
fn a_connection_can_become_a_tunnel() {
    let address = start(|_| {});
    let mut stream = connect(address);
    let head = "GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nahead";
    stream.write_all(head.as_bytes()).unwrap();
    assert!(read_until(&mut stream, "ahead").starts_with("HTTP/1.1 101 Switching Protocols"));
    stream.write_all(b"more").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_until(&mut stream, "more"), "more");
}

#[test]
fn an_idle_connection_is_closed_when_asked_for() {
    let address = start(|args| args.idle_close_ms = Some(20));
    let mut text = String::new();
    connect(address).read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

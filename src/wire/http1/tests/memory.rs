//! What an idle connection keeps.

use super::driver::{Client, Driver, Habit, Server};
use http::Method;

/// The head of an ordinary browser's request, in length and number of fields.
fn request(most: usize) -> String {
    let fields: String =
        (0..12).map(|at| format!("X-Field-{at}: {}\r\n", "v".repeat(most / 12))).collect();
    format!("GET /some/path?with=query HTTP/1.1\r\nHost: example.test\r\n{fields}\r\n")
}

#[test]
fn a_large_head_does_not_stay_with_an_idle_connection() {
    for cut in [30_000, 1000] {
        let mut server = Driver::server(Habit::Answer);
        for piece in request(30_000).as_bytes().chunks(cut) {
            server.feed(piece);
        }
        assert!(server.needs().idle && server.said.len() == 2);
        assert!(server.codec.memory() <= 4096 + 1024, "{}", server.codec.memory());
        let mut client = Driver::client(Method::GET, Habit::Room);
        let response = format!("HTTP/1.1 204 No\r\nX: {}\r\n\r\n", "v".repeat(30_000));
        for piece in response.as_bytes().chunks(cut) {
            client.feed(piece);
        }
        assert!(client.needs().idle && client.said.len() == 2);
        assert!(client.codec.memory() <= 4096 + 1024, "{}", client.codec.memory());
    }
}

#[test]
fn an_idle_connection_after_ordinary_requests_is_small() {
    let mut server = Driver::server(Habit::Answer);
    for _ in 0..3 {
        server.feed(request(400).as_bytes());
    }
    let whole = size_of::<Server>() + server.codec.memory();
    println!("an idle client connection's codec: {whole} bytes");
    assert!(whole <= 1536, "{whole}");
    let mut client = Driver::client(Method::GET, Habit::Room);
    client.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nhi");
    let whole = size_of::<Client>() + client.codec.memory();
    println!("an idle instance connection's codec: {whole} bytes");
    assert!(whole <= 1024, "{whole}");
}

//! Requests and responses as they cross a shard.

use super::world::{Habit, World};

const GET: &str = "GET /a?b HTTP/1.1\r\nhost: bench\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn a_request_is_answered_again_and_again_on_one_connection() {
    let mut world = World::usual(Habit::Answers(OK));
    let client = world.client(0);
    for _ in 0..3 {
        world.send(client, GET);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nhi"), "{got}");
    }
    assert_eq!(world.remotes.len(), 2, "one connection was used for all");
    let upstream = world.upstream()[0];
    let asked = world.got(upstream);
    assert!(asked.starts_with("GET /a?b HTTP/1.1\r\nhost: bench\r\n"), "{asked}");
    world.end_of_play();
}

#[test]
fn a_chunked_body_is_echoed() {
    let mut world = World::usual(Habit::Echoes);
    let client = world.client(0);
    world.send(
        client,
        "POST / HTTP/1.1\r\nhost: bench\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    );
    world.send(client, "2\r\nde\r\n0\r\n\r\n");
    let got = world.take(client);
    assert!(got.ends_with("\r\n\r\nabcde"), "{got}");
    world.end_of_play();
}

#[test]
fn the_second_request_waits_for_the_one_slot() {
    let mut world = World::new(super::world::Setup {
        service: "bench=10.0.0.1:80",
        ..super::world::Setup::default()
    });
    let (first, second) = (world.client(0), world.client(0));
    world.send(first, GET);
    world.send(second, GET);
    assert_eq!(world.asked().len(), 1);
    let instance = world.asked()[0];
    world.answer(instance, OK);
    assert!(world.take(first).ends_with("hi"));
    assert_eq!(world.asked(), [instance], "the second on the same connection");
    world.answer(instance, OK);
    assert!(world.take(second).ends_with("hi"));
    world.end_of_play();
}

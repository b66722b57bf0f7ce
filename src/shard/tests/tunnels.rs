//! Tunnels over one shard: bytes and ends both ways, and the slot that is held meanwhile.

use super::world::{Id, Setup, World};
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::core::slots::Gate;
use crate::shard::settings::HalfClose;

const ASK: &str = "GET / HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const ONE: &str = "bench=10.0.0.1:80;concurrency-level=1";

fn stage(half_close: HalfClose) -> World {
    World::new(Setup { service: ONE, half_close, ..Setup::default() })
}

/// A tunnel from a client to an instance.
fn open(world: &mut World) -> (Id, Id) {
    let client = world.client(0);
    world.send(client, ASK);
    let instance = world.asked()[0];
    let asked = world.take(instance);
    assert!(asked.contains("\r\nupgrade: echo\r\n"), "{asked}");
    assert!(asked.contains("\r\nconnection: upgrade\r\n"), "{asked}");
    world.answer(instance, SWITCH);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 101 ") && got.contains("\r\nx-cid: "), "{got}");
    (client, instance)
}

/// Whether the shard has told this remote that nothing more follows.
fn is_told(world: &mut World, id: Id) -> bool {
    let (shard, link) = (world.remote(id).shard, world.remote(id).link);
    world.shards[shard].engine.wire(link).finished
}

#[test]
fn ends_are_passed_on_whatever_a_half_close_means_elsewhere() {
    for half_close in [HalfClose::Gone, HalfClose::Allow] {
        for client_first in [true, false] {
            let mut world = stage(half_close);
            let (client, instance) = open(&mut world);
            let (first, last) = if client_first { (client, instance) } else { (instance, client) };
            world.send(first, "one");
            world.send(last, "two");
            world.end(first);
            assert!(is_told(&mut world, last) && !is_told(&mut world, first));
            assert_eq!(world.take(last), "one");
            world.send(last, "more");
            assert_eq!(world.instances[0].word.used(), 1, "the slot is held");
            world.end(last);
            assert_eq!(world.take(first), "twomore");
            assert!(world.is_closed(client) && world.is_closed(instance));
            world.end_of_play();
        }
    }
}

#[test]
fn a_slow_reader_stops_the_other_side() {
    let window = Limits::PRODUCTION.window_bytes as usize;
    let mut world = stage(HalfClose::Gone);
    let (client, instance) = open(&mut world);
    world.remote(client).reads = false;
    world.send(instance, "x".repeat(4 * window));
    world.send(client, "y".repeat(4 * window));
    assert_eq!(world.take(instance).len(), 4 * window, "the other direction does not wait");
    assert!(world.queued_most <= window + 1024, "{}", world.queued_most);
    world.remote(client).reads = true;
    world.settle();
    assert_eq!(world.take(client).len(), 4 * window);
    world.reset(client);
    assert!(world.is_closed(instance));
    world.end_of_play();
}

#[test]
fn a_tunnel_ends_with_the_side_that_breaks_and_its_instance_does_not_rest() {
    for client_breaks in [true, false] {
        let mut world = stage(HalfClose::Gone);
        let (client, instance) = open(&mut world);
        world.reset(if client_breaks { client } else { instance });
        assert!(world.is_closed(client) || !client_breaks);
        assert!(world.upstream().is_empty());
        assert!(!world.instances[0].word.is(Gate::Ejected));
        world.end_of_play();
    }
}

#[test]
fn a_silent_tunnel_ends() {
    let mut world = stage(HalfClose::Gone);
    let (client, _) = open(&mut world);
    world.pass(Duration::from_secs(3590));
    assert!(!world.is_closed(client));
    world.pass(Duration::from_secs(20));
    assert!(world.is_closed(client) && world.upstream().is_empty());
    world.end_of_play();
}

#[test]
fn one_who_waits_is_served_when_the_tunnel_ends() {
    let mut world = stage(HalfClose::Gone);
    let (client, instance) = open(&mut world);
    let next = world.client(0);
    world.send(next, "GET / HTTP/1.1\r\nhost: bench\r\n\r\n");
    world.end(client);
    assert_eq!(world.take(next), "");
    world.end(instance);
    let instance = world.asked()[0];
    world.answer(instance, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    assert!(world.take(next).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn a_request_that_is_refused_as_it_is_read_is_answered_like_any_other() {
    let mut world = stage(HalfClose::Gone);
    let client = world.client(0);
    let fields = "accept: application/json\r\nx-cid: mine\r\n";
    world.send(
        client,
        format!("GET /x HTTP/1.1\r\nhost: a\r\n{fields}content-length: x\r\n\r\nGET / HTTP/1.1"),
    );
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("\r\nx-cid: mine\r\n"), "{got}");
    assert!(got.contains("\r\nconnection: close\r\n") && got.contains("\"uri\":\"/x\""), "{got}");
    assert!(world.is_closed(client));
    let late = world.client(0);
    world.send(late, "GET /y HTTP/1.1\r\nho");
    world.pass(Duration::from_secs(11));
    let got = world.take(late);
    assert!(got.starts_with("HTTP/1.1 408 ") && got.contains("\r\nx-cid: "), "{got}");
    assert!(world.is_closed(late));
    world.end_of_play();
}

//! Large responses that pass by: who gets what, who is waited for, and what is left of it.

use super::world::{Habit, Id, Setup, World};
use crate::base::time::Duration;
use crate::core::slots::Gate;

const GET: &str = "GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const BODY: usize = 100_000;

/// A world in which bodies of 32 KiB pass, a client that has asked, and who is to answer.
fn asked(service: &'static str) -> (World, Id, Id) {
    let mut world = World::new(Setup { service, habit: Habit::Manual, ..Setup::default() });
    world.shards[0].engine.passes_from = Some(32 << 10);
    let client = world.client(0);
    world.send(client, GET);
    let instance = world.asked()[0];
    world.take(instance);
    (world, client, instance)
}

fn response(body: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n{}", "b".repeat(body))
}

/// Bytes of the body of a response.
fn length(response: &str) -> usize {
    response.split_once("\r\n\r\n").expect("a head").1.len()
}

/// Bytes on their way from the instance to the client that neither has.
fn passes(world: &mut World, instance: Id) -> bool {
    let link = world.remote(instance).link;
    world.shards[0].engine.wire(link).passes.is_some()
}

#[test]
fn it_comes_whole_and_its_connection_serves_the_next() {
    let (mut world, client, instance) = asked("bench=10.0.0.1:80");
    world.send(instance, response(1000));
    assert!(passes(&mut world, instance), "the rest of it");
    world.send(instance, "b".repeat(BODY - 1000));
    let got = world.take(client);
    assert_eq!(length(&got), BODY, "every byte once");
    assert!(!passes(&mut world, instance));
    world.send(client, GET);
    assert_eq!(world.asked(), [instance], "over the same connection");
    world.answer(instance, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    assert!(world.take(client).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn short_chunked_and_unwanted_bodies_are_read() {
    for (request, head) in [
        (GET, "content-length: 20000"),
        (GET, "transfer-encoding: chunked"),
        (GET, "x-nothing: is declared"),
        ("HEAD / HTTP/1.1\r\nhost: bench\r\n\r\n", "content-length: 100000"),
    ] {
        let (mut world, client, instance) = asked("bench=10.0.0.1:80");
        world.answer(instance, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        world.take(client);
        world.send(client, request);
        world.take(instance);
        world.send(instance, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
        assert!(!passes(&mut world, instance), "{head}");
        world.reset(client);
        world.end_of_play();
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_its_instance_not_blamed() {
    let (mut world, client, instance) = asked("bench=10.0.0.1:80");
    world.remote(client).reads = false;
    world.send(instance, response(BODY));
    world.pass(Duration::from_secs(29));
    assert!(!world.is_closed(client) && passes(&mut world, instance));
    world.pass(Duration::from_secs(600));
    assert!(world.is_closed(client));
    assert!(!world.instances[0].word.is(Gate::Failing), "it was not its fault");
    world.end_of_play();
}

#[test]
fn an_instance_that_stops_midway_is_cut_and_blamed() {
    for ends in [true, false] {
        let (mut world, client, instance) = asked("bench=10.0.0.1:80");
        world.send(instance, response(50_000));
        assert!(passes(&mut world, instance));
        if ends {
            world.end(instance);
        } else {
            world.pass(Duration::from_secs(905)); // it may be silent for 900
        }
        assert!(world.is_closed(client), "what is not whole does not look so");
        assert_eq!(length(&world.take(client)), 50_000);
        assert!(world.instances[0].word.is(Gate::Failing), "ends: {ends}");
        world.pass(Duration::from_secs(60));
        world.end_of_play();
    }
}

#[test]
fn of_a_client_that_leaves_the_rest_is_read_if_that_is_wished() {
    for (service, finishes) in
        [("bench=10.0.0.1:80;client-abort=finish", true), ("bench=10.0.0.1:80", false)]
    {
        let (mut world, client, instance) = asked(service);
        world.remote(client).reads = false;
        world.send(instance, response(60_000));
        assert!(passes(&mut world, instance));
        world.reset(client);
        assert_eq!(world.is_closed(instance), !finishes);
        if finishes {
            assert_eq!(world.instances[0].word.used(), 1, "it still works");
            world.send(instance, "b".repeat(BODY - 60_000));
            assert_eq!(world.instances[0].word.used(), 0);
            assert_eq!(world.upstream(), [instance], "kept for the next");
        }
        world.end_of_play();
    }
}

#[test]
fn what_an_instance_says_beyond_its_body_ends_its_connection() {
    let (mut world, client, instance) = asked("bench=10.0.0.1:80");
    world.send(instance, response(BODY) + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(length(&world.take(client)), BODY);
    assert!(!world.is_closed(client) && world.is_closed(instance));
    world.end_of_play();
}

//! Other routers that call: they are handed over as nobody else is, whatever strangers do.

use super::world::{Habit, Id, Setup, World};
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::core::letter::{Command, Notice};
use crate::core::slots::Gate;
use crate::shard::state::Draining;

const ASK: &str = "GET /waiter-peers HTTP/1.1\r\nhost: 10.9.9.9:1\r\nconnection: upgrade\r\n\
                   upgrade: waiter-peers/1\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: waiter-peers/1\r\n\r\n";
const SERVICE: &str = "waiter-peers=10.0.0.1:80;concurrency-level=2";

fn stage(limits: Limits) -> World {
    World::new(Setup { service: SERVICE, is_of_peers: true, limits, ..Setup::default() })
}

fn usual() -> World {
    stage(Limits::PRODUCTION)
}

/// A router that has called, and those who talk to it.
fn called(world: &mut World) -> (Id, Id) {
    let caller = world.client(0);
    world.send(caller, ASK);
    let inner = world.asked()[0];
    assert!(world.take(inner).starts_with("GET /waiter-peers HTTP/1.1\r\n"));
    world.answer(inner, SWITCH);
    assert!(world.take(caller).starts_with("HTTP/1.1 101 "));
    (caller, inner)
}

/// The status of the answer to this request.
fn status(world: &mut World, request: &str) -> String {
    let stranger = world.client(0);
    world.send(stranger, request);
    let status = world.take(stranger).get(9..12).unwrap_or_default().to_owned();
    world.reset(stranger);
    status
}

#[test]
fn what_is_not_asked_as_routers_ask_is_handed_over_to_nobody() {
    let mut world = usual();
    for (from, to) in [
        ("upgrade: waiter-peers/1", "upgrade: websocket"),
        ("upgrade: waiter-peers/1", "upgrade: waiter-peers/1, h2c"),
        ("connection: upgrade\r\n", ""),
        ("GET ", "HEAD "),
    ] {
        assert_eq!(status(&mut world, &ASK.replace(from, to)), "400", "{to}");
    }
    assert!(world.upstream().is_empty() && world.calls.try_recv().is_err());
    world.end_of_play();
}

#[test]
fn a_router_that_is_alone_has_no_such_page() {
    let mut world = World::usual(Habit::Manual);
    let caller = world.client(0);
    world.send(caller, ASK);
    assert!(world.calls.try_recv().is_ok(), "the API says that there is none");
    world.reset(caller);
    world.end_of_play();
}

#[test]
fn strangers_do_not_keep_routers_apart() {
    let mut world = usual();
    for answer in ["", "nonsense\r\n\r\n", "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"] {
        let stranger = world.client(0);
        world.send(stranger, ASK);
        let inner = world.asked()[0];
        world.answer(inner, answer);
        world.reset(inner);
        world.reset(stranger);
    }
    let word = &world.instances[0].word;
    assert!(!word.is(Gate::Ejected) && !word.is(Gate::Failing), "no shard asks home about it");
    let (caller, inner) = called(&mut world);
    world.send(inner, "one");
    assert_eq!(world.take(caller), "one");
    world.reset(caller);
    world.end_of_play();
}

#[test]
fn those_for_whom_there_is_no_room_are_told_at_once() {
    let mut world = usual();
    let callers = [called(&mut world).0, called(&mut world).0];
    assert_eq!(status(&mut world, ASK), "503");
    for it in callers {
        world.reset(it);
    }
    let (caller, _) = called(&mut world);
    world.reset(caller);
    world.end_of_play();
}

#[test]
fn no_header_and_no_limit_of_requests_cuts_routers_off() {
    let tunnel_idle_timeout = Duration::from_millis(1);
    let mut world = stage(Limits { tunnel_idle_timeout, ..Limits::PRODUCTION });
    let ask = ASK.replace("host", "x-waiter-timeout: 1\r\nx-waiter-queue-timeout: 1\r\nhost");
    let caller = world.client(0);
    world.send(caller, ask);
    let inner = world.asked()[0];
    world.pass(Duration::from_secs(1));
    world.answer(inner, SWITCH);
    assert!(world.take(caller).starts_with("HTTP/1.1 101 "));
    world.pass(Duration::from_secs(3));
    assert!(!world.is_closed(caller));
    world.pass(Duration::from_secs(3));
    assert!(world.is_closed(caller), "it is not kept for ever either");
    world.end_of_play();
}

#[test]
fn routers_that_have_called_are_counted_for_no_service() {
    let mut world = usual();
    let (caller, _) = called(&mut world);
    let now = world.now;
    world.shards[0].beat(now);
    let pulses = std::iter::from_fn(|| world.notices.try_recv().ok());
    let counted: usize = pulses
        .map(|it| match it {
            Notice::Pulse(_, pulse) => pulse.services.len() + pulse.latencies.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(counted, 0);
    world.reset(caller);
    world.end_of_play();
}

#[test]
fn the_end_does_not_wait_for_routers_that_have_called() {
    let mut world = usual();
    let (caller, _) = called(&mut world);
    let late = world.client(0);
    world.command(0, Command::Drain);
    world.settle();
    assert!(world.is_closed(caller) && world.upstream().is_empty());
    world.send(late, ASK);
    assert_ne!(world.take(late).get(9..12), Some("101"), "it would stay");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.shards[0].draining(), Draining::Told);
}

//! Many shards, few slots: who is served when, and whose connection it is.

use super::world::{Habit, Setup, World, home};
use crate::base::ids::ShardId;
use crate::base::time::Duration;
use crate::core::histogram::Latency;
use crate::core::letter::{Command, Notice};
use crate::core::slots::{Gate, Instance};
use std::sync::Arc;

const GET: &str = "GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn scarce(shards: usize) -> World {
    World::new(Setup { shards, service: "bench=10.0.0.1:80", ..Setup::default() })
}

#[test]
fn one_slot_is_passed_round_eight_shards_in_order_of_arrival() {
    let mut world = scarce(8);
    let clients: Vec<_> = (0..24).map(|at| world.client(at * 5 % 8)).collect();
    for client in &clients {
        world.send(*client, GET);
    }
    assert_eq!(world.service().slots.waiting.count(), 23);
    for (at, client) in clients.iter().enumerate() {
        let [instance] = world.asked()[..] else { panic!("one request at a time") };
        world.answer(instance, OK);
        assert!(world.take(*client).ends_with("hi"), "number {at} is next");
        for later in &clients[at + 1..] {
            assert_eq!(world.got(*later), "", "nobody overtakes number {at}");
        }
    }
    world.end_of_play();
}

#[test]
fn a_pulse_tells_how_long_requests_took() {
    let mut world = scarce(1);
    let clients = [world.client(0), world.client(0)];
    for client in clients {
        world.send(client, GET);
    }
    let now = world.now;
    let load = world.shards[0].pulse(now).load;
    assert_eq!((load.exchanges, load.queued, load.connections), (2, 1, 2));
    for client in clients {
        world.pass(Duration::from_millis(100));
        let instance = world.asked()[0];
        world.answer(instance, OK);
        assert!(world.take(client).ends_with("hi"));
    }
    let now = world.now;
    let pulse = world.shards[0].pulse(now);
    let [(id, counted)] = &pulse.latencies[..] else { panic!("one service was used") };
    assert_eq!(id, world.service().id());
    let mut latency = Latency::default();
    latency.add(counted);
    assert_eq!((latency.queue.sum(), latency.total.sum()), {
        let [one, two] = [1, 2].map(|it| Duration::from_millis(it * 100));
        (one, one + two)
    });
    assert_eq!((latency.total.count(), pulse.load.queued, pulse.load.over_limit), (2, 0, 0));
    assert!(world.shards[0].pulse(now).latencies.is_empty(), "each is told once");
    world.end_of_play();
}

#[test]
fn an_idle_connection_elsewhere_closes_when_the_slot_moves() {
    let mut world = scarce(4);
    let clients: Vec<_> = (0..4).map(|shard| world.client(shard)).collect();
    for _ in 0..3 {
        for client in &clients {
            world.send(*client, GET);
            let [instance] = world.asked()[..] else { panic!("one request at a time") };
            world.answer(instance, OK);
            assert!(world.take(*client).ends_with("hi"));
            assert_eq!(world.upstream().len(), 1, "the former shard's is closed");
        }
    }
    world.end_of_play();
}

#[test]
fn idle_connections_expire() {
    let mut world = scarce(1);
    let client = world.client(0);
    world.send(client, GET);
    let instance = world.asked()[0];
    world.answer(instance, OK);
    world.pass(Duration::from_millis(3900));
    assert!(!world.is_closed(instance));
    world.pass(Duration::from_millis(200));
    assert!(world.is_closed(instance), "after four seconds");
    assert!(!world.is_closed(client), "a client has longer");
    world.pass(Duration::from_secs(75));
    assert!(world.is_closed(client));
    world.end_of_play();
}

#[test]
fn one_who_leaves_the_queue_leaves_no_trace() {
    for shards in [1, 3] {
        let mut world = scarce(shards);
        let clients: Vec<_> = (0..4).map(|at| world.client(at % shards)).collect();
        for client in &clients {
            world.send(*client, GET);
        }
        world.end(clients[1]);
        world.reset(clients[2]);
        assert_eq!(world.service().slots.waiting.count(), 1);
        for client in [clients[0], clients[3]] {
            let [instance] = world.asked()[..] else { panic!("one request at a time") };
            world.answer(instance, OK);
            assert!(world.take(client).ends_with("hi"));
        }
        assert!(world.asked().is_empty());
        world.end_of_play();
    }
}

#[test]
fn a_slot_granted_to_one_who_has_left_goes_to_the_next() {
    // The grant and the withdrawal cross: the client leaves before its shard reads its mail.
    let mut world = scarce(3);
    let home = home(world.service().id(), 3);
    let away = (home + 1) % 3;
    let (first, second, third) = (world.client(home), world.client(away), world.client(home));
    for client in [first, second, third] {
        world.send(client, GET);
    }
    let instance = world.asked()[0];
    // Only the home shard moves: it passes the slot on, and the letter lies in the other's box.
    let (link, now) = (world.remote(instance).link, world.now);
    world.remote(instance).got.clear();
    let mut answer = OK.as_bytes().to_vec();
    let received = crate::shard::engine::Happening::Received(link, &mut answer);
    world.shards[home].happened(received, now);
    world.reset(second);
    let [instance] = world.asked()[..] else { panic!("the third is served") };
    world.answer(instance, OK);
    assert!(world.take(third).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn a_request_that_waits_too_long_is_told_so() {
    let mut world = scarce(2);
    let (first, second) = (world.client(0), world.client(1));
    world.send(first, GET);
    let impatient = "GET / HTTP/1.1\r\nhost: bench\r\nx-waiter-queue-timeout: 500\r\n\r\n";
    world.send(second, impatient);
    world.pass(Duration::from_millis(480));
    assert_eq!(world.got(second), "");
    world.pass(Duration::from_millis(80));
    let got = world.take(second);
    assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("waiter.RequestTimeout"), "{got}");
    let instance = world.asked()[0];
    world.answer(instance, OK);
    assert!(world.take(first).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn a_full_queue_is_told_so() {
    let mut world = World::new(Setup {
        shards: 2,
        service: "bench=10.0.0.1:80;max-queue-length=1",
        ..Setup::default()
    });
    let clients: Vec<_> = (0..3).map(|at| world.client(at % 2)).collect();
    for client in &clients {
        world.send(*client, GET);
    }
    let got = world.take(clients[2]);
    assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("waiter.QueueLength"), "{got}");
    for client in &clients[..2] {
        let instance = world.asked()[0];
        world.answer(instance, OK);
        assert!(world.take(*client).ends_with("hi"));
    }
    world.end_of_play();
}

#[test]
fn who_waits_for_a_service_that_goes_is_told_so() {
    let mut world = scarce(2);
    let (first, second) = (world.client(0), world.client(1));
    world.send(first, GET);
    world.send(second, GET);
    let service = world.service();
    world.publish(|it| it.remove(service.id()));
    assert!(world.take(second).starts_with("HTTP/1.1 503 "));
    assert!(world.instances[0].word.is(Gate::Retired));
    let instance = world.asked()[0];
    world.answer(instance, OK);
    assert!(world.take(first).ends_with("hi"), "what runs is finished");
    assert!(world.is_closed(instance), "but its connection is not kept");
    assert_eq!(world.instances[0].word.used(), 0);
}

#[test]
fn draining_finishes_what_is_at_hand() {
    let mut world = scarce(2);
    let (busy, waits, idle) = (world.client(0), world.client(1), world.client(0));
    world.send(busy, GET);
    world.send(waits, GET);
    for shard in 0..2 {
        world.command(shard, Command::Drain);
    }
    assert!(world.is_closed(idle), "at once");
    let late = world.client(0);
    world.settle();
    assert!(world.is_closed(late), "one that was on its way");
    for client in [busy, waits] {
        let instance = world.asked()[0];
        world.answer(instance, OK);
        let got = world.take(client);
        assert!(got.contains("connection: close\r\n") && got.ends_with("hi"), "{got}");
        assert!(world.is_closed(client));
    }
    world.pass(Duration::from_millis(40));
    let mut told: Vec<ShardId> = Vec::new();
    while let Ok(notice) = world.notices.try_recv() {
        if let Notice::Drained(shard) = notice {
            told.push(shard);
        }
    }
    told.sort();
    assert_eq!(told, [ShardId(0), ShardId(1)], "once each");
    world.end_of_play();
}

#[test]
fn a_busy_instance_is_used_on_all_its_slots_from_all_shards() {
    let mut world = World::new(Setup {
        shards: 4,
        service: "bench=10.0.0.1:80,10.0.0.2:80;concurrency-level=3",
        ..Setup::default()
    });
    let clients: Vec<_> = (0..40).map(|at| world.client(at % 4)).collect();
    for client in &clients {
        world.send(*client, GET);
    }
    assert_eq!(world.asked().len(), 6, "every slot is used");
    let mut served = 0;
    while let Some(instance) = world.asked().first().copied() {
        world.answer(instance, OK);
        served += 1;
        let used: u16 = world.instances.iter().map(|it: &Arc<Instance>| it.word.used()).sum();
        assert_eq!(usize::from(used), 6.min(clients.len() - served), "no slot lies idle");
    }
    for client in clients {
        assert!(world.take(client).ends_with("hi"));
    }
    world.end_of_play();
}

#[test]
fn an_echo_on_many_shards_in_small_sips() {
    let mut world = World::new(Setup {
        shards: 3,
        service: "bench=10.0.0.1:80,10.0.0.2:80",
        habit: Habit::Echoes,
        ..Setup::default()
    });
    world.sip = 5;
    let clients: Vec<_> = (0..9).map(|at| world.client(at % 3)).collect();
    for (at, client) in clients.iter().enumerate() {
        let post = format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: 1\r\n\r\n{at}");
        world.send(*client, post.repeat(3));
    }
    for (at, client) in clients.iter().enumerate() {
        assert_eq!(world.take(*client).matches(&format!("\r\n\r\n{at}")).count(), 3);
    }
    world.end_of_play();
}

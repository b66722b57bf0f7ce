//! Connections that change shards: with their slot, or because one shard has too many clients.

use super::world::{Habit, Id, Setup, World, home};
use crate::base::time::Duration;
use crate::core::letter::Command;
use crate::shard::settings::Accept;

const GET: &str = "GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn scarce(shards: usize) -> World {
    World::new(Setup { shards, service: "bench=10.0.0.1:80", ..Setup::default() })
}

/// Connections to instances there ever were.
fn connects(world: &World) -> usize {
    world.remotes.values().filter(|it| it.address.is_some()).count()
}

fn letters(world: &mut World) -> u64 {
    world.shards.iter_mut().map(|it| it.post().sent).sum()
}

/// The instance answers, and the one who was answered asks again.
fn answer(world: &mut World, client: Id) {
    let [instance] = world.asked()[..] else { panic!("one request at a time") };
    world.answer(instance, OK);
    assert!(world.take(client).ends_with("hi"), "it is this one's turn");
}

#[test]
fn one_connection_serves_two_shards_by_turns() {
    for (near, far) in [(0, 1), (1, 2)] {
        // Once with a client at home, once with both elsewhere.
        let mut world = scarce(3);
        let home = home(world.service().id(), 3);
        let clients = [near, far].map(|it| world.client((home + it) % 3));
        world.send(clients[0], GET);
        world.send(clients[1], GET);
        let before = letters(&mut world);
        for turn in 0..20 {
            answer(&mut world, clients[turn % 2]);
            world.send(clients[turn % 2], GET);
        }
        assert_eq!(connects(&world), 1, "nobody connects anew");
        // Claim, grant and settlement of each request away from home, and nothing else.
        let away = if near == 0 { 10 } else { 20 };
        assert_eq!(letters(&mut world) - before, 3 * away, "no connection is asked to close");
        #[expect(clippy::needless_range_loop, reason = "the world is borrowed in between")]
        for turn in 0..2 {
            answer(&mut world, clients[turn]);
        }
        world.end_of_play();
    }
}

#[test]
fn a_connection_that_cannot_leave_is_closed_in_time() {
    let mut world = scarce(2);
    let clients = [0, 1].map(|it| world.client(it));
    world.shards.iter_mut().for_each(|it| it.engine.clings = true);
    for client in clients {
        world.send(client, GET);
    }
    for turn in 0..6 {
        answer(&mut world, clients[turn % 2]);
        world.send(clients[turn % 2], GET);
        assert_eq!(world.upstream().len(), 1);
    }
    assert_eq!(connects(&world), 7, "one for each turn");
    #[expect(clippy::needless_range_loop, reason = "the world is borrowed in between")]
    for turn in 0..2 {
        answer(&mut world, clients[turn]);
    }
    world.end_of_play();
}

#[test]
fn a_connection_that_dies_on_its_way_is_replaced_once() {
    let mut world = scarce(2);
    let home = home(world.service().id(), 2);
    let clients = [home, 1 - home].map(|it| world.client(it));
    for client in clients {
        world.send(client, GET);
    }
    let [instance] = world.asked()[..] else { panic!("one request at a time") };
    world.answer(instance, OK.to_owned() + "");
    world.end(instance); // it had closed before it saw the second request
    answer(&mut world, clients[1]);
    assert_eq!(connects(&world), 2);
    world.end_of_play();
}

#[test]
fn what_travels_to_one_who_has_left_is_closed_or_goes_on() {
    // The grant and the withdrawal cross: the client leaves before its shard reads its mail.
    for third_waits in [true, false] {
        let mut world = scarce(3);
        let home = home(world.service().id(), 3);
        let away = (home + 1) % 3;
        let (first, second, third) = (world.client(home), world.client(away), world.client(home));
        world.send(first, GET);
        world.send(second, GET);
        if third_waits {
            world.send(third, GET);
        }
        world.answer_at(home, OK);
        world.reset(second);
        if third_waits {
            answer(&mut world, third);
            assert_eq!(connects(&world), 1, "it came back with the slot");
        } else {
            assert!(world.upstream().is_empty(), "nobody wants it");
        }
        world.end_of_play();
    }
}

#[test]
fn a_connection_to_an_instance_that_goes_does_not_stay() {
    let mut world = scarce(3);
    let home = home(world.service().id(), 3);
    let (first, second) = (world.client((home + 1) % 3), world.client((home + 2) % 3));
    world.send(first, GET);
    world.send(second, GET);
    let service = world.service();
    world.answer_at((home + 1) % 3, OK);
    world.publish(|it| it.remove(service.id()));
    assert!(world.take(second).starts_with("HTTP/1.1 503 "));
    assert!(world.upstream().is_empty());
    assert_eq!((world.instances[0].connections(), world.instances[0].word.used()), (0, 0));
}

#[test]
fn nothing_is_left_on_the_way_when_shards_drain() {
    let mut world = scarce(3);
    let clients: Vec<_> = (0..9).map(|at| world.client(at % 3)).collect();
    for client in &clients {
        world.send(*client, GET);
    }
    for shard in 0..3 {
        world.command(shard, Command::Drain);
    }
    for client in &clients {
        answer(&mut world, *client);
        assert!(world.is_closed(*client));
    }
    assert_eq!(connects(&world), 1);
    world.pass(Duration::from_millis(40));
    assert!(world.upstream().is_empty());
    world.end_of_play();
}

/// Clients of each shard, after so many have come to the shards that `of` says.
fn spread(accept: Accept, count: usize, of: impl Fn(usize) -> usize) -> (World, Vec<u32>) {
    let habit = Habit::Answers(OK);
    let service = "bench=10.0.0.1:80;concurrency-level=100";
    let mut world = World::new(Setup { shards: 8, accept, habit, service, ..Setup::default() });
    let clients: Vec<_> = (0..count).map(|at| world.client(of(at))).collect();
    world.settle();
    for client in clients {
        world.send(client, GET);
        assert!(world.take(client).ends_with("hi"), "each is served, wherever it went");
        assert!(!world.is_closed(client));
    }
    world.end_of_play();
    let loads = world.shards.iter().map(|it| it.load().0).collect();
    (world, loads)
}

/// A number that looks random.
fn scattered(at: usize) -> usize {
    (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) as usize
}

#[test]
fn clients_are_spread_over_the_shards() {
    for count in [16, 64, 200] {
        let arrivals: [fn(usize) -> usize; 2] = [|_| 0, |at| scattered(at) % 8];
        for of in arrivals {
            let (world, loads) = spread(Accept::Balanced, count, of);
            let busiest = f64::from(*loads.iter().max().expect("eight"));
            assert!(busiest / (count as f64 / 8.0) <= 1.25, "{loads:?}");
            assert_eq!(loads.iter().sum::<u32>() as usize, count);
            assert!(world.travelled < count, "each once at most");
        }
    }
    let (world, loads) = spread(Accept::Plain, 64, |_| 0);
    assert_eq!((loads[0], world.travelled), (64, 0), "plain leaves them");
}

#[test]
fn a_burst_is_spread_before_any_shard_has_read_its_mail() {
    let (world, loads) = {
        let mut world =
            World::new(Setup { shards: 8, accept: Accept::Balanced, ..Setup::default() });
        for _ in 0..64 {
            world.client(0);
        }
        assert!(world.shards[1..].iter().all(|it| it.load().0 == 0), "they are on their way");
        world.settle();
        let loads: Vec<u32> = world.shards.iter().map(|it| it.load().0).collect();
        (world, loads)
    };
    assert_eq!(loads.iter().sum::<u32>(), 64);
    assert!(loads.iter().all(|it| (7..=10).contains(it)), "{loads:?}");
    assert_eq!(world.travelled, 64 - loads[0] as usize);
}

#[test]
fn a_client_handed_to_a_shard_that_ends_is_answered_first() {
    let mut world = World::new(Setup {
        shards: 2,
        accept: Accept::Balanced,
        habit: Habit::Answers(OK),
        ..Setup::default()
    });
    let _first = world.client(0);
    let second = world.client(0);
    assert_eq!(world.shards[1].settings.clients.of(world.shards[1].id()), 1, "it is on its way");
    world.remote(second).say(GET);
    world.control.send(world.shards[1].id(), Command::Drain);
    world.settle();
    let got = world.take(second);
    assert!(got.ends_with("hi") || world.is_closed(second), "{got}");
    world.end_of_play();
}

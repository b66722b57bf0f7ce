//! Worlds of slots between cores, in one thread: the rules are the product's own (words, rosters,
//! seats, reservers), the shells around them are pretended.
//!
//! A world draws its size, load and troubles from a seed; the invariants of design §4 are looked at
//! after every event. A failure prints its seed: `WAITER_SEED=… cargo test --test sim` replays it,
//! and a line in `seeds.txt` keeps it for all time.

mod cluster;
mod control;
mod options;
mod shard;
mod travel;
mod watch;
mod world;

use options::{Chance, Options, Planted};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Figures, World};

use waiter as _;

/// Seeds that are always run, and fresh ones in each run.
const FIXED: u64 = 100;
const FRESH: u64 = 20;

/// Seeds among which a planted defect is found.
const FOUND_WITHIN: u64 = 20;

/// Runs the world of a seed.
fn run(seed: u64, planted: Option<Planted>) -> Figures {
    let mut chance = Chance::new(seed);
    let mut options = Options::drawn(&mut chance);
    options.planted = planted;
    let mut world = World::new(options, chance);
    world.run();
    world.figures.clone()
}

/// Runs the world of a seed; a failure says how to replay it.
fn replayable(seed: u64) -> Figures {
    catch_unwind(|| run(seed, None)).unwrap_or_else(|_| {
        panic!(
            "the world of seed {seed} broke; replay it with \
             WAITER_SEED={seed} cargo test --test sim -- worlds; keep it in tests/sim/seeds.txt"
        )
    })
}

/// Seeds that once failed.
fn past() -> impl Iterator<Item = u64> {
    let lines = include_str!("seeds.txt").lines();
    let numbers = lines.map(|it| it.split('#').next().expect("a first piece").trim());
    numbers.filter(|it| !it.is_empty()).map(|it| it.parse().expect("a seed is a number"))
}

#[test]
fn worlds_hold_their_invariants() {
    let seeds: Vec<u64> = match std::env::var("WAITER_SEED") {
        Ok(seed) => vec![seed.parse().expect("WAITER_SEED is a number")],
        Err(_) => {
            let mut chance = Chance::fresh();
            let fresh: Vec<u64> = (0..FRESH).map(|_| chance.number() >> 16).collect();
            println!("fresh seeds: {fresh:?}");
            past().chain(0..FIXED).chain(fresh).collect()
        }
    };
    let mut total = Figures::default();
    for seed in &seeds {
        let figures = replayable(*seed);
        total.events += figures.events;
        total.served += figures.served;
        total.refused += figures.refused;
        total.impatient += figures.impatient;
        total.travelled += figures.travelled;
    }
    println!(
        "{} worlds, {} events: {} requests served, {} refused, {} impatient; {} connections \
         travelled",
        seeds.len(),
        total.events,
        total.served,
        total.refused,
        total.impatient,
        total.travelled
    );
    let all_seen =
        total.served > 0 && total.travelled > 0 && total.refused > 0 && total.impatient > 0;
    assert!(all_seen || seeds.len() < 10, "the worlds do not reach every answer");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    assert_eq!(run(7, None).waits, run(7, None).waits);
}

/// Runs worlds with a defect until one breaks with `complaint`.
#[expect(clippy::print_stdout, reason = "a test says what it found")]
fn is_found(planted: Planted, complaint: &str) {
    for seed in 0..FOUND_WITHIN {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, Some(planted)))) else {
            continue;
        };
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        assert!(said.contains(complaint), "{planted:?} breaks otherwise (seed {seed}): {said}");
        println!("{planted:?} is found with seed {seed}: {said}");
        return;
    }
    panic!("{planted:?} is not found in {FOUND_WITHIN} worlds");
}

#[test]
fn a_put_without_a_look_at_who_waits_is_found() {
    is_found(Planted::PutBlindly, "waits beside a free slot");
}

#[test]
fn a_take_without_a_look_at_who_waits_is_found() {
    is_found(Planted::TakeBlindly, "while somebody waits");
}

#[test]
fn a_gate_looked_at_before_the_swap_only_is_found() {
    is_found(Planted::GateBeforeSwap, "through a closed gate");
}

#[test]
fn a_withdrawal_by_shard_is_found() {
    is_found(Planted::WithdrawByShard, "home's queue");
}

#[test]
fn a_lost_grant_is_found() {
    is_found(Planted::LostGrant, "used is not running + in a message");
}

#[test]
fn a_connection_that_travels_and_stays_is_found() {
    is_found(Planted::LeftBehind, "counts other connections");
}

#[test]
fn a_lost_settlement_is_found() {
    is_found(Planted::LostSettle, "used is not running + in a message");
}

/// Runs a calm world and prints what it cost; returns messages per request.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn cost(name: &str, options: Options) -> f64 {
    let mut world = World::new(options, Chance::new(42));
    world.run();
    let mut it = world.figures.clone();
    it.waits.sort_unstable();
    let count = it.waits.len();
    let mean = it.waits.iter().sum::<u64>() as f64 / count as f64 / 1e3;
    let messages = it.messages as f64 / count as f64;
    println!(
        "{name:<34} messages/request {messages:.3}  wait mean {mean:.1} µs  p99 {:.1} µs  \
         idle beside waiting {:.1} µs/request",
        it.waits[count * 99 / 100] as f64 / 1e3,
        it.idle_beside_waiting / count as f64 / 1e3
    );
    messages
}

#[test]
fn few_requests_cost_a_message() {
    let lone = Options { lone: true, ..Options::calm(1, 0.5, 20_000) };
    assert!(cost("lone client on a foreign shard", lone) == 0.0);
    assert!(cost("64 slots at 50 %", Options::calm(64, 0.5, 200_000)) <= 0.05);
    assert!(cost("16 slots at 50 %", Options::calm(16, 0.5, 200_000)) <= 0.1);
    assert!(cost("64 slots at 80 %", Options::calm(64, 0.8, 200_000)) <= 0.35);
}

//! How the cost of a publication grows with the world: `cargo bench --bench scale`.
//!
//! The world of a million instances is published and freed once and not by criterion: one time says
//! enough, and building it takes far longer than what is measured.

#![expect(clippy::print_stdout, reason = "measures are printed")]

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::Arc;
use waiter::base::ids::{InstanceId, ShardId};
use waiter::base::time::Date;
use waiter::control::publisher::Publisher;
use waiter::core::aggregator::{Instance, State};
use waiter::core::fact::InstanceFact;
use waiter::core::service::testing::description;
use waiter::core::world::World;
use waiter::mesh::clock;

/// A service with so many healthy instances.
fn state(name: &str, instances: u64) -> State {
    let mut state = State::absent(Arc::new(description(name)));
    let id = state.description.id.clone();
    state.healthy = (0..instances)
        .map(|it| {
            let fact = InstanceFact::new(
                InstanceId::new(&id, &format!("i{it}")),
                "127.0.0.1".parse().expect("an address"),
                vec![1],
                Date(it + 1),
            );
            Arc::new(Instance {
                fact,
                healthy: true,
                health_check_status: None,
                health_check_error: None,
            })
        })
        .collect();
    state
}

/// A publisher of this world, published, and the cell it is published to.
fn world(services: u64, instances: u64) -> (Publisher, Arc<ArcSwap<World>>) {
    let cell = Arc::new(ArcSwap::from_pointee(World::default()));
    let mut publisher = Publisher::new(cell.clone());
    for it in 0..services {
        publisher.update(&state(&format!("s{it}"), instances));
    }
    publisher.publish();
    (publisher, cell)
}

/// One service changes: a new world is published, and a shard finds what changed.
fn one_change(c: &mut Criterion) {
    let mut group = c.benchmark_group("one service's change");
    for services in [100, 1_000, 10_000, 100_000] {
        let (mut publisher, cell) = world(services, 1);
        // Another one each time, so that neither its leaf nor its roster is in the cache.
        let step = services / 100;
        let states: Vec<State> = (0..100).map(|it| state(&format!("s{}", it * step), 1)).collect();
        let mut changed = states.iter().cycle();
        group.bench_function(BenchmarkId::new("published", services), |b| {
            b.iter(|| {
                publisher.update(changed.next().expect("a cycle"));
                publisher.publish();
                publisher.free(cell.load().version);
            });
        });
        group.bench_function(BenchmarkId::new("published and found", services), |b| {
            let mut seen = cell.load_full();
            b.iter(|| {
                publisher.update(changed.next().expect("a cycle"));
                publisher.publish();
                let now = cell.load_full();
                let mut count = 0;
                now.changes(&seen, |_, _| count += 1);
                assert_eq!(count, 1);
                seen = now;
                publisher.free(seen.version);
            });
        });
    }
    group.finish();
}

/// One service of so many instances is published anew; a slot of it is taken and put.
fn one_roster(c: &mut Criterion) {
    let mut group = c.benchmark_group("one service");
    for instances in [1, 10, 100, 1_000] {
        let (mut publisher, cell) = world(1, instances);
        let same = state("s0", instances);
        group.bench_function(BenchmarkId::new("published, instances", instances), |b| {
            b.iter(|| {
                publisher.update(&same);
                publisher.publish();
                publisher.free(cell.load().version);
            });
        });
        let slots = publisher.slots(&same.description.id).expect("it is there").clone();
        group.bench_function(BenchmarkId::new("slot taken and put, instances", instances), |b| {
            b.iter(|| {
                let it = slots.take(ShardId(0), &[], 0).expect("all are free");
                black_box(&it).word.release();
                slots.hint(&it);
            });
        });
    }
    group.finish();
}

/// 1 000 services of 1 000 instances: the whole world at once, one change in it, and its end.
fn a_million() {
    let states: Vec<State> = (0..1_000).map(|it| state(&format!("s{it}"), 1_000)).collect();
    let cell = Arc::new(ArcSwap::from_pointee(World::default()));
    let mut publisher = Publisher::new(cell.clone());
    let began = clock::now();
    states.iter().for_each(|it| publisher.update(it));
    publisher.publish();
    println!("a million instances: published at once in {:?}", clock::now() - began);
    let began = clock::now();
    states.iter().for_each(|it| publisher.update(it));
    publisher.publish();
    println!("a million instances: published again in {:?}", clock::now() - began);
    let older = clock::now();
    publisher.free(cell.load().version);
    println!("a million instances: the former world freed in {:?}", clock::now() - older);
    let began = clock::now();
    publisher.update(&states[7]);
    publisher.publish();
    println!("a million instances: one service's change in {:?}", clock::now() - began);
    let began = clock::now();
    drop(publisher);
    cell.store(Arc::default());
    println!("a million instances: all freed in {:?}", clock::now() - began);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    one_change(&mut criterion);
    one_roster(&mut criterion);
    criterion.final_summary();
    a_million();
}

//! The hot rules, timed; one also beside a second core: `cargo bench --bench rules`.

mod hot;

use criterion::{Criterion, criterion_group, criterion_main};
use hot::Rule;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use waiter::core::slots::Word;

type Make = fn() -> Rule;

fn rules(c: &mut Criterion) {
    let all: [(&str, Make); 15] = [
        ("slot take + put", hot::slots::slot),
        ("choice of an instance, 500 of 1000 full", hot::slots::choice),
        ("claim + settle at 1000 instances, all slots in use", hot::slots::claim_and_settle),
        ("route by name", hot::routing::by_name),
        ("route by headers, remembered", hot::routing::by_headers),
        ("describe a service by headers, anew", hot::routing::described_anew),
        ("request head read", hot::wire::request_head),
        ("response head written", hot::wire::response_head),
        ("exchange, by name", hot::exchange::named),
        ("exchange, by headers", hot::exchange::described),
        ("wheel arm + expire", hot::control::wheel),
        ("autoscaler cycle, one service", || hot::control::autoscaler(1)),
        ("autoscaler cycle, 10 000 services", || hot::control::autoscaler(10_000)),
        ("publish one service of 10 000", hot::control::publish),
        ("histogram record", hot::control::histogram),
    ];
    for (name, make) in all {
        let mut rule = make();
        c.bench_function(name, |b| b.iter(&mut rule));
    }
}

fn beside_a_second_core(c: &mut Criterion) {
    let (word, stop) = (Arc::new(Word::new(4)), Arc::new(AtomicBool::new(false)));
    let (shared, ends) = (word.clone(), stop.clone());
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut other = hot::slots::slot_of(shared);
            while !ends.load(Ordering::Relaxed) {
                other();
            }
        });
        let mut rule = hot::slots::slot_of(word);
        c.bench_function("slot take + put, beside a second core", |b| b.iter(&mut rule));
        stop.store(true, Ordering::Relaxed);
    });
}

criterion_group!(all, rules, beside_a_second_core);
criterion_main!(all);

//! The hot rules, alone and beside a second core: `cargo bench --bench rules`.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use waiter::base::address::SocketAddr;
use waiter::base::ids::{ServiceId, ShardId, Ticket};
use waiter::base::limits::Limits;
use waiter::base::time::{Date, Duration, Instant};
use waiter::core::autoscaler::{Autoscaler, Demand, Input, Rules, Standing};
use waiter::core::letter::{Claim, Settle};
use waiter::core::outcome::Outcome;
use waiter::core::reserver::{Reply, Reserver};
use waiter::core::route::{Hosts, Route, route};
use waiter::core::service::testing::description;
use waiter::core::service::{Defaults, LoadBalancing, fingerprint, from_headers};
use waiter::core::slots::{Instance, Roster, ServiceSlots, Word};
use waiter::core::world::{Member, Service, World};
use waiter::wire::fields::Fields;

fn instances(count: u64) -> Vec<Arc<Instance>> {
    let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    (0..count).map(|it| Arc::new(Instance::new(&it.to_string(), address, Date(it), 1))).collect()
}

fn service(name: &str, instances: &[Arc<Instance>]) -> Arc<Service> {
    let slots = Arc::new(ServiceSlots::default());
    let roster = Roster::new(instances.to_vec(), instances.len(), LoadBalancing::Oldest);
    slots.publish(Arc::new(roster));
    let members = instances.iter().map(|it| Member {
        instance: it.clone(),
        healthy: true,
        expired: false,
        starting: false,
    });
    Arc::new(Service {
        description: Arc::new(description(name)),
        slots,
        members: members.collect(),
        deployment_error: None,
    })
}

fn words(c: &mut Criterion) {
    let word = Arc::new(Word::new(4));
    c.bench_function("slot take + put, alone", |b| {
        b.iter(|| {
            assert!(black_box(&word).take());
            word.release();
        });
    });
    let stop = Arc::new(AtomicBool::new(false));
    let (other, ends) = (word.clone(), stop.clone());
    let thread = std::thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            assert!(other.take());
            other.release();
        }
    });
    c.bench_function("slot take + put, beside a second core", |b| {
        b.iter(|| {
            assert!(black_box(&word).take());
            word.release();
        });
    });
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("the other core ends");
}

fn choice(c: &mut Criterion) {
    let all = instances(1000);
    let service = service("choice", &all);
    for it in &all[..500] {
        assert!(it.word.take());
    }
    c.bench_function("choice of an instance, 500 of 1000 full", |b| {
        b.iter(|| {
            let it = service.slots.take(ShardId(0), &[], 0).expect("500 are free");
            it.word.release(); // its bit stays set: nobody found it full
        });
    });
}

fn claim_and_settle(c: &mut Criterion) {
    let all = instances(1000);
    let service = service("queue", &all);
    let id = service.id().clone();
    let mut reserver = Reserver::new(id.clone(), Some(service), ShardId(0));
    let mut replies = Vec::new();
    let mut number = 0;
    let mut claim = |reserver: &mut Reserver, replies: &mut Vec<Reply>| {
        number += 1;
        let ticket = Ticket { shard: ShardId(0), number };
        let claim = Claim {
            ticket,
            service: id.clone(),
            description: None,
            not: Vec::new(),
            since: Instant(1),
        };
        reserver.claim(claim, replies);
    };
    let mut seats = std::collections::VecDeque::new();
    for _ in 0..1000 {
        claim(&mut reserver, &mut replies);
    }
    let granted = |reply: Reply| match reply {
        Reply::Grant(_, seat) => Some(seat),
        _ => None,
    };
    seats.extend(replies.drain(..).filter_map(granted));
    assert_eq!(seats.len(), 1000);
    claim(&mut reserver, &mut replies);
    replies.clear();
    c.bench_function("claim + settle at 1000 instances, all slots in use", |b| {
        b.iter(|| {
            claim(&mut reserver, &mut replies);
            let seat = seats.pop_front().expect("one is granted for each that is settled");
            let settle = Settle { seat, outcome: Outcome::Success };
            reserver.settle(settle, &Limits::PRODUCTION, Instant(1), &mut replies);
            seats.extend(replies.drain(..).filter_map(granted));
        });
    });
    reserver.refuse_all(&waiter::core::letter::Why::Draining, &mut replies);
    seats.into_iter().for_each(waiter::core::slots::Seat::release);
}

fn routes(c: &mut Criterion) {
    let mut world = World::default();
    for it in 0..1000 {
        world.insert(service(&format!("s{it}"), &[]));
    }
    let names = (0..1000).map(|it| (format!("n{it}").into(), ServiceId::new(&format!("s{it}"))));
    world.names = Arc::new(names.collect());
    let hosts = Hosts::new(["localhost"], []);
    let mut plain = Fields::default();
    for (name, value) in [("user-agent", "curl/7.88.1"), ("accept", "*/*"), ("x-cid", "1-2")] {
        plain.push(name.as_bytes(), value.as_bytes());
    }
    c.bench_function("route by name", |b| {
        b.iter(|| {
            let found = route(b"/", b"n77:80", plain.iter(), &hosts, |it| world.named(it).cloned());
            assert!(matches!(found, Ok(Route::Static(_))));
        });
    });
    let mut described = plain.clone();
    for (name, value) in [
        ("x-waiter-cmd", "python3 -m http.server $PORT0"),
        ("x-waiter-cpus", "1"),
        ("x-waiter-mem", "128"),
        ("x-waiter-version", "1"),
        ("x-waiter-health-check-url", "/"),
    ] {
        described.push(name.as_bytes(), value.as_bytes());
    }
    let mut key = Vec::new();
    c.bench_function("route by headers, remembered", |b| {
        b.iter(|| {
            let found =
                route(b"/", b"localhost", described.iter(), &hosts, |it| world.named(it).cloned());
            assert!(matches!(found, Ok(Route::Headers)));
            key.clear();
            assert!(fingerprint(described.iter(), &mut key));
            black_box(foldhash::fast::FixedState::default());
        });
    });
    let defaults = Defaults::default();
    c.bench_function("describe a service by headers, anew", |b| {
        b.iter(|| from_headers(described.iter(), "me", &defaults).expect("a description"));
    });
}

fn autoscaler(c: &mut Criterion) {
    let ids: Vec<ServiceId> = (0..10_000).map(|it| ServiceId::new(&format!("s{it}"))).collect();
    let parameters = description("s").parameters;
    let mut autoscaler = Autoscaler::new(Rules::DEFAULT);
    let (mut out, mut second) = (Vec::new(), 0_u64);
    c.bench_function("autoscaler cycle, 10 000 services under traffic", |b| {
        b.iter(|| {
            second += 1;
            let inputs = ids.iter().map(|id| Input {
                id,
                parameters: &parameters,
                standing: Standing {
                    requested: 4,
                    task_count: 4,
                    healthy: 4,
                    outstanding: 3,
                    ..Standing::default()
                },
                demand: Demand {
                    arrivals: second * 10,
                    completions: second * 10,
                    service_time_sum: Duration::from_secs(second * 3),
                    concurrency_integral: Duration::from_secs(second * 3),
                    ..Demand::default()
                },
                boot_time: Some(Duration::from_secs(1)),
            });
            out.clear();
            autoscaler.cycle(inputs, &mut out, Instant(second * 1_000_000_000));
        });
    });
}

criterion_group!(rules, words, choice, claim_and_settle, routes, autoscaler);
criterion_main!(rules);

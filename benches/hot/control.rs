//! What is done beside requests: deadlines, decisions, publications, sums.

use super::Rule;
use arc_swap::ArcSwap;
use std::hint::black_box;
use std::sync::Arc;
use waiter::base::ids::{InstanceId, ServiceId};
use waiter::base::time::{Date, Duration, Instant};
use waiter::control::publisher::Publisher;
use waiter::core::aggregator::{Instance, State};
use waiter::core::autoscaler::{Autoscaler, Demand, Input, Rules, Standing};
use waiter::core::fact::{Flags, InstanceFact};
use waiter::core::histogram::Histogram;
use waiter::core::service::testing::description;
use waiter::core::world::World;
use waiter::shard::wheel::Wheel;

/// One of 1000 deadlines is set, time passes, and it comes.
pub(crate) fn wheel() -> Rule {
    let mut now = Instant(0);
    let mut wheel = Wheel::new(now);
    let nodes: Vec<_> = (0..1000_u32).map(|it| wheel.add(it)).collect();
    let far = now + Duration::from_secs(1_000_000_000);
    for (at, node) in (0..).zip(&nodes) {
        wheel.arm(*node, Some(far + Duration::from_millis(17 * at)));
    }
    let mut due = Vec::new();
    Box::new(move || {
        wheel.arm(nodes[500], Some(now + Duration::from_millis(1)));
        now += Duration::from_millis(40);
        wheel.expire(now, &mut due);
        assert_eq!(black_box(&due), &[500]);
        due.clear();
    })
}

/// So many services under traffic are looked at.
pub(crate) fn autoscaler(services: usize) -> Rule {
    let ids: Vec<_> = (0..services).map(|it| ServiceId::new(&format!("s{it}"))).collect();
    let parameters = description("s").parameters;
    let mut autoscaler = Autoscaler::new(Rules::DEFAULT);
    let (mut out, mut second) = (Vec::new(), 0_u64);
    Box::new(move || {
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
    })
}

/// One of 10 000 services has an instance more, or less, and the world is published.
pub(crate) fn publish() -> Rule {
    let mut publisher = Publisher::new(Arc::new(ArcSwap::from_pointee(World::default())));
    let states: Vec<_> = (0..10_000).map(|it| state(&format!("s{it}"), 1)).collect();
    for it in &states {
        publisher.update(it);
    }
    assert!(publisher.publish());
    let both = [state("s77", 2), state("s77", 1)];
    let mut turn = 0;
    Box::new(move || {
        publisher.update(&both[turn % 2]);
        assert!(publisher.publish());
        turn += 1;
        publisher.free(turn as u64); // every shard has seen the one before
    })
}

/// A time is counted.
pub(crate) fn histogram() -> Rule {
    let mut histogram = Histogram::default();
    let mut micros = 0;
    Box::new(move || {
        micros = (micros + 997) % 50_000;
        histogram.record(black_box(Duration::from_micros(micros)));
    })
}

fn state(name: &str, instances: u16) -> State {
    let mut state = State::absent(Arc::new(description(name)));
    let instance = |number: u16| {
        Arc::new(Instance {
            fact: InstanceFact {
                id: InstanceId::new(&state.description.id, &number.to_string()),
                host: [127, 0, 0, 1].into(),
                ports: vec![number],
                started_at: Date(0),
                pid: None,
                log_directory: String::new(),
                exit_code: None,
                flags: Flags::default(),
                message: String::new(),
            },
            healthy: true,
            health_check_status: None,
            health_check_error: None,
        })
    };
    state.healthy = (1..=instances).map(instance).collect();
    state
}

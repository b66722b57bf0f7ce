//! A made-up router for the tests of this room: four launched services and a static one.
//!
//! | service | status | of note |
//! |---|---|---|
//! | kitchen | Running | a healthy, an unhealthy, twelve failed and a killed instance; traffic |
//! | broken | Failing | its command ends at once |
//! | slow | Starting | one instance, not healthy yet |
//! | stored | Inactive | only described |
//! | bench | Running | static, two servers |

use super::about::{About, View};
use super::pages::{self, Step};
use crate::base::ids::{InstanceId, ServiceId, ShardId, Ticket};
use crate::base::limits::Limits;
use crate::base::time::{Date, Duration};
use crate::core::aggregator::{CheckError, Counts, DeploymentError, Instance, State};
use crate::core::catalogue::{Catalogue, Entry, Launches, Scaling, Traffic};
use crate::core::fact::{Flags, InstanceFact};
use crate::core::histogram::Latency;
use crate::core::pulse::Load;
use crate::core::route::Hosts;
use crate::core::service::{Defaults, Description, LoadBalancing, from_core, parse_static};
use crate::core::slots::{self, Roster, ServiceSlots};
use crate::wire::call::{Answer, Call};
use crate::wire::head::Head;
use serde_json::{Value, json};
use std::sync::Arc;

/// 2024-01-02T03:04:05.678Z.
pub(super) const NOW: Date = Date(1_704_164_645_678);

/// The requester of all requests.
pub(super) const USER: &str = "alice";

pub(super) struct Router {
    pub(super) catalogue: Catalogue,
    pub(super) about: About,
}

/// What came of a call.
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) kind: Option<String>,
    pub(super) body: String,
    pub(super) answer: Answer,
}

impl Outcome {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.kind.as_deref(), Some("application/json"), "{}", self.body);
        serde_json::from_str(&self.body).expect("it says that it is JSON")
    }
}

impl Router {
    pub(super) fn new() -> Self {
        let mut router = Self { catalogue: catalogue(), about: about() };
        router.put(kitchen());
        router.put(broken());
        router.put(slow());
        let stored = State::absent(launched("stored", json!({})));
        router.put(Entry::new(Arc::new(stored), false, Arc::default()));
        router.put(bench());
        router
    }

    pub(super) fn put(&mut self, entry: Entry) {
        let id = entry.state.description.id.clone();
        self.catalogue.services.insert(id, Arc::new(entry));
    }

    /// What comes of a call.
    pub(super) fn step(&self, call: &Call) -> Step {
        pages::answer(call, &View::new(&self.catalogue, &self.about, call, NOW))
    }

    /// The reply to `METHOD /target` with these fields.
    pub(super) fn ask(&self, line: &str, fields: &[(&str, &str)]) -> Outcome {
        let call = call(line, fields);
        match self.step(&call) {
            Step::Reply(reply) => outcome(reply.into_answer(&call)),
            Step::Errand(errand) => panic!("{line}: {errand:?}"),
        }
    }

    /// The JSON of a page with status 200.
    pub(super) fn json(&self, path: &str) -> Value {
        let outcome = self.ask(&format!("GET {path}"), &[]);
        assert_eq!(outcome.status, 200, "{path}: {}", outcome.body);
        outcome.json()
    }
}

pub(super) fn outcome(answer: Answer) -> Outcome {
    let kind = answer.head.fields.get(b"content-type");
    Outcome {
        status: answer.head.status.as_u16(),
        kind: kind.map(|it| String::from_utf8_lossy(it).into_owned()),
        body: String::from_utf8(answer.pieces.concat()).expect("pages are text"),
        answer,
    }
}

/// A call from this machine to `localhost:9091`. A `host` field is its authority.
pub(super) fn call(line: &str, fields: &[(&str, &str)]) -> Call {
    let (method, target) = line.split_once(' ').expect("METHOD /target");
    let mut head = Head::default();
    head.method = method.parse().expect("a method");
    head.set_target(target.as_bytes());
    head.set_authority(b"localhost:9091");
    for (name, value) in fields {
        match *name {
            "host" => head.set_authority(value.as_bytes()),
            _ => head.fields.push(name.as_bytes(), value.as_bytes()),
        }
    }
    Call {
        ticket: Ticket { shard: ShardId(0), number: 7 },
        head,
        body: Vec::new(),
        peer: [127, 0, 0, 1].into(),
        cid: b"cid-1".to_vec(),
    }
}

/// The id of a service of the fixture.
pub(super) fn id(name: &str) -> ServiceId {
    match name {
        "bench" => static_description().id.clone(),
        "kitchen" => kitchen_description().id.clone(),
        _ => launched(name, json!({})).id.clone(),
    }
}

/// The headers that describe kitchen.
pub(super) const KITCHEN: [(&str, &str); 9] = [
    ("x-waiter-name", "kitchen"),
    ("x-waiter-cmd", "./kitchen -p $PORT0"),
    ("x-waiter-cpus", "0.5"),
    ("x-waiter-mem", "256"),
    ("x-waiter-version", "1"),
    ("x-waiter-run-as-user", USER),
    ("x-waiter-permitted-user", "*"),
    ("x-waiter-env-foo", "bar"),
    ("x-waiter-metadata-flag", "on"),
];

fn about() -> About {
    About {
        settings: json!({
            "cluster-config": {"name": "local"},
            "scheduler-config": {"kind": "shell", "shell": {}},
            "scheduler-syncer-interval-secs": 5,
        }),
        started: Date(NOW.0 - 60_000),
        version: "0.1.0".into(),
        address: "0.0.0.0:9091".parse().expect("address"),
        hosts: Hosts::new([], []),
        user: USER.into(),
        defaults: Defaults::default(),
        launch_from: Vec::new(),
        launches: true,
        limits: Limits::PRODUCTION,
    }
}

fn catalogue() -> Catalogue {
    Catalogue {
        iteration: 3,
        time: NOW,
        router_id: "router-1".into(),
        scheduler_heard: Some(Date(NOW.0 - 500)),
        load: Load {
            connections: 4,
            exchanges: 2,
            queued: 3,
            queued_bytes: 3000,
            over_limit: 1,
            letters: 99,
            lines_dropped: 8,
            buffers_taken: 6,
            receives_starved: 5,
        },
        clients: vec![3, 1],
        launches: Launches { launched: 6, failed: 12, killed: 2, orders_failed: 5 },
        ..Catalogue::default()
    }
}

fn launched(name: &str, more: Value) -> Arc<Description> {
    let mut core = json!({
        "name": name,
        "cmd": "./kitchen -p $PORT0",
        "cpus": 0.5,
        "mem": 256,
        "version": "1",
        "run-as-user": USER,
        "permitted-user": "*",
    });
    let (map, more) = (core.as_object_mut(), more.as_object().cloned());
    map.expect("an object").extend(more.expect("an object"));
    let core = serde_json::from_value(core).expect("an object");
    Arc::new(from_core(core, USER, &Defaults::default()).expect("a right description"))
}

fn kitchen_description() -> Arc<Description> {
    launched("kitchen", json!({"env": {"FOO": "bar"}, "metadata": {"flag": "on"}}))
}

fn static_description() -> Arc<Description> {
    let text = "bench=127.0.0.1:8081,127.0.0.1:8082;concurrency-level=64";
    Arc::new(parse_static(text, &Defaults::default()).expect("a right specification"))
}

/// The instance of this number; younger ones have higher numbers.
fn instance(service: &ServiceId, number: u16) -> Instance {
    let fact = InstanceFact {
        pid: Some(4000 + u32::from(number)),
        log_directory: format!("/tmp/i{number:02}"),
        ..InstanceFact::new(
            InstanceId::new(service, &format!("i{number:02}")),
            [127, 0, 0, 1].into(),
            vec![10_000 + number, 20_000 + number],
            Date(NOW.0 - 10_000 + u64::from(number)),
        )
    };
    Instance { fact, healthy: true, health_check_status: None, health_check_error: None }
}

fn kitchen() -> Entry {
    let description = kitchen_description();
    let id = &description.id;
    let healthy = vec![Arc::new(instance(id, 20))];
    let mut unhealthy = instance(id, 19);
    unhealthy.healthy = false;
    unhealthy.health_check_status = Some(503);
    unhealthy.health_check_error = Some(CheckError::Timeout);
    unhealthy.fact.flags = Flags::EXPIRED.with(Flags::HAS_CONNECTED);
    let unhealthy = vec![Arc::new(unhealthy)];
    let failed = |number| {
        let mut it = instance(id, number);
        it.fact.exit_code = Some(1);
        Arc::new(it)
    };
    let state = State {
        expired: unhealthy.clone(),
        failed: (1..=12).map(failed).collect(),
        killed: vec![Arc::new(instance(id, 15)), Arc::new(instance(id, 14))],
        counts: Counts { healthy: 1, requested: 2, scheduled: 2 },
        boot_time: Some(Duration::from_millis(1500)),
        healthy,
        unhealthy,
        ..State::absent(description.clone())
    };
    let ejected = vec![(InstanceId::new(id, "i19"), 3)];
    let traffic = Traffic {
        outstanding: 3,
        waiting: 1,
        oldest_waiting: Duration::from_millis(250),
        requests: 5_000_000_000,
        completions: 4_999_999_990,
        failures: 7,
        service_time: Duration::from_millis(12_500),
    };
    let scaling = Scaling {
        target: 2.5,
        scale_to: 3,
        amount: 1,
        reason: "1 waiting".into(),
        decided: Some(Date(NOW.0 - 1000)),
    };
    let (last_request, idle_since) = (Some(Date(NOW.0 - 100)), Some(Date(NOW.0 - 100)));
    let slots = slots("i20", "127.0.0.1:10020", 1);
    assert!(slots.take(ShardId(0), &[], 0).is_some());
    Entry {
        traffic,
        latency: Some(Arc::new(latency())),
        scaling,
        last_request,
        idle_since,
        ejected,
        ..Entry::new(Arc::new(state), true, slots)
    }
}

/// Two requests: 5 ms without a wait, and 100 ms after one of 3 ms.
pub(super) fn latency() -> Latency<u64> {
    let mut counted = Latency::<u32>::default();
    for (queue, total) in [(0, 5), (3, 100)] {
        counted.queue.record(Duration::from_millis(queue));
        counted.total.record(Duration::from_millis(total));
    }
    let mut latency = Latency::default();
    latency.add(&counted);
    latency
}

fn slots(suffix: &str, address: &str, limit: u16) -> Arc<ServiceSlots> {
    let address = address.parse().expect("address");
    let instance = Arc::new(slots::Instance::new(suffix, address, NOW, limit));
    let slots = ServiceSlots::default();
    slots.publish(Arc::new(Roster::new(vec![instance], 1, LoadBalancing::Oldest)));
    Arc::new(slots)
}

fn broken() -> Entry {
    let description = launched("broken", json!({}));
    let state = State {
        failed: vec![Arc::new(instance(&description.id, 1))],
        counts: Counts { healthy: 0, requested: 1, scheduled: 0 },
        deployment_error: Some(DeploymentError::BadStartupCommand),
        ..State::absent(description)
    };
    let broken_since = Some(Date(NOW.0 - 5000));
    Entry { broken_since, ..Entry::new(Arc::new(state), true, Arc::default()) }
}

fn slow() -> Entry {
    let description = launched("slow", json!({}));
    let mut starting = instance(&description.id, 1);
    starting.healthy = false;
    let starting = vec![Arc::new(starting)];
    let state = State {
        unhealthy: starting.clone(),
        starting,
        counts: Counts { healthy: 0, requested: 1, scheduled: 1 },
        ..State::absent(description)
    };
    Entry::new(Arc::new(state), true, Arc::default())
}

fn bench() -> Entry {
    let description = static_description();
    let server = |number| {
        let mut it = instance(&description.id, number);
        it.fact.pid = None;
        Arc::new(it)
    };
    let state = State {
        healthy: vec![server(1), server(2)],
        counts: Counts { healthy: 2, requested: 2, scheduled: 2 },
        ..State::absent(description.clone())
    };
    Entry::new(Arc::new(state), true, Arc::default())
}

/// A service of this name, of which nothing runs.
pub(super) fn empty(name: &str) -> State {
    State::absent(launched(name, json!({})))
}

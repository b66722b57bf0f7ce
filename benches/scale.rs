//! How the cost of a publication grows with the world: `cargo bench --bench scale`; with the
//! argument `marathon` only what a poll of a large Marathon costs.
//!
//! The world of a million instances is published and freed once and not by criterion: one time says
//! enough, and building it takes far longer than what is measured.

#![expect(clippy::print_stdout, reason = "measures are printed")]

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use waiter::base::ids::{InstanceId, ShardId};
use waiter::base::time::{Date, Duration};
use waiter::control::publisher::Publisher;
use waiter::control::schedule::marathon::{Answer, Means, Picture, Sandboxes};
use waiter::core::aggregator::{Aggregator, DeploymentRules, Instance, State};
use waiter::core::fact::{InstanceFact, Runner};
use waiter::core::service::testing::description;
use waiter::core::world::World;
use waiter::mesh::clock;
use waiter::wire::marathon::Apps;

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
    states.iter().for_each(|it| drop(publisher.update(it)));
    publisher.publish();
    println!("a million instances: published at once in {:?}", clock::now() - began);
    let began = clock::now();
    states.iter().for_each(|it| drop(publisher.update(it)));
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

/// Apps of a large cluster, and tasks of each.
const APPS: usize = 5_000;
const TASKS: usize = 4;

/// The answer of a Marathon with so many apps. Of every so many tasks one is another than in round
/// 0.
fn apps(round: usize, of: usize) -> Vec<u8> {
    let mut text = String::from("{\"apps\":[");
    for app in 0..APPS {
        let id = service_name(app);
        let comma = if app == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":"/{id}","cmd":"./serve --port $PORT0 --and --some --more --options",
"cpus":0.1,"mem":128,"disk":0,"instances":{TASKS},"executor":"","constraints":[],"env":{{
"WAITER_CLUSTER":"waiter","WAITER_SERVICE_ID":"{id}","WAITER_CPUS":"0.1","HOME":"/home/nobody"}},
"labels":{{"source":"waiter","user":"nobody"}},"backoffSeconds":1,"backoffFactor":1.15,
"maxLaunchDelaySeconds":300,"healthChecks":[{{"protocol":"HTTP","path":"/status","portIndex":0,
"gracePeriodSeconds":300,"intervalSeconds":10,"timeoutSeconds":20,"maxConsecutiveFailures":3}}],
"portDefinitions":[{{"port":10000,"protocol":"tcp"}}],"networks":[{{"mode":"host"}}],
"version":"2021-05-01T10:00:00.000Z","tasksStaged":0,"tasksRunning":{TASKS},"tasksHealthy":{TASKS},
"tasksUnhealthy":0,"deployments":[],"tasks":["#
        );
        for task in 0..TASKS {
            let number = app * TASKS + task;
            let instance =
                if number.is_multiple_of(of) { number + round * 1_000_000 } else { number };
            let comma = if task == 0 { "" } else { "," };
            let _ = write!(
                text,
                r#"{comma}{{"appId":"/{id}","id":"{id}.instance-{instance:032x}._app.1",
"host":"10.1.{}.{}","ports":[{}],"servicePorts":[10001],"slaveId":"9c3f2a6e-S{}",
"ipAddresses":[{{"ipAddress":"10.1.0.1","protocol":"IPv4"}}],"state":"TASK_RUNNING",
"stagedAt":"2021-05-01T10:00:06.000Z","startedAt":"2021-05-01T10:00:07.000Z",
"version":"2021-05-01T10:00:00.000Z","role":"*","localVolumes":[],"healthCheckResults":[{{
"alive":true,"consecutiveFailures":0,"firstSuccess":"2021-05-01T10:00:09.000Z",
"lastSuccess":"2021-05-01T11:00:09.000Z","instanceId":"{id}.instance-{instance:032x}"}}]}}"#,
                number % 50,
                number / 1000,
                31_000 + number % 1000,
                number % 500
            );
        }
        text.push_str("]}");
    }
    text.push_str("]}");
    text.into_bytes()
}

fn service_name(app: usize) -> String {
    format!("waiter-service-app{app}-ce797b64f894beeba0a9281563535500")
}

/// Answers every request with this, until its listener's process ends.
fn serve(body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

fn get(address: SocketAddr) -> Vec<u8> {
    let url = format!("http://{address}/v2/apps");
    let mut answer = ureq::get(&url).call().expect("an answer");
    answer.body_mut().with_config().limit(256 << 20).read_to_vec().expect("a body")
}

fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = text.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a number");
    pages * 4096.0 / f64::from(1 << 20)
}

/// How late a loop is that wakes every millisecond as a shard does, on the very core that does this
/// work meanwhile: half of the time at most, in one of a hundred cases, and in the worst.
fn lateness(work: impl FnOnce()) -> [Duration; 3] {
    const NAP: Duration = Duration::from_millis(1);
    let ends = Arc::new(AtomicBool::new(false));
    let told = ends.clone();
    let watcher = thread::spawn(move || {
        let mut late = Vec::new();
        while !told.load(Ordering::Relaxed) {
            let begun = clock::now();
            thread::sleep(NAP);
            late.push((clock::now() - begun).saturating_sub(NAP));
        }
        late.sort();
        [late[late.len() / 2], late[late.len() * 99 / 100], late[late.len() - 1]]
    });
    work();
    ends.store(true, Ordering::Relaxed);
    watcher.join().expect("it only counts")
}

/// From here on everything is done on one core.
fn stay_on_one_core() {
    let mut allowed = sched_getaffinity(None).expect("Linux");
    let last = (0..CpuSet::MAX_CPU).rev().find(|it| allowed.is_set(*it)).expect("there is one");
    allowed.clear();
    allowed.set(last);
    sched_setaffinity(None, &allowed).expect("it is allowed");
}

/// A poll of a large Marathon, from the request to the changed states.
fn a_large_marathon() {
    let mut aggregator = Aggregator::new(DeploymentRules { min_failed: 2, min_hosts: 2 });
    for app in 0..APPS {
        aggregator.described(Arc::new(description(&service_name(app))));
    }
    let mut picture = Picture::new(Duration::from_secs(30));
    let sandboxes = Sandboxes::default();
    let address = |host: &str| host.parse().ok();
    for (what, round, of) in [
        ("all new", 0, 100),
        ("nothing new", 0, 100),
        ("1 % of the tasks new", 1, 100),
        ("nothing new", 1, 100),
    ] {
        let body = apps(round, of);
        let mib = body.len() as f64 / f64::from(1 << 20);
        let server = serve(body);
        let before = resident_mib();
        let began = clock::now();
        let bytes = get(server);
        let got = clock::now();
        let answer = Answer { begun: began, apps: Apps::read(&bytes).expect("a list") };
        let read = clock::now();
        let date = Date(1_800_000_000_000);
        let prefix = "waiter-service-";
        let sandboxes = &sandboxes;
        let means = Means { prefix, sandboxes, address: &address, date, before: None };
        let seen = picture.answered(answer, &means, read);
        let compared = clock::now();
        let told = seen.changed.len();
        aggregator.changed(Runner::Marathon, seen.changed, &seen.gone, date);
        let changed = aggregator.changes().len();
        let ended = clock::now();
        println!(
            "{APPS} apps of {TASKS} tasks, {mib:.1} MiB, {what}: {:?} in all: got {:?}, read {:?}, \
             compared {:?}, told {told}, aggregated {:?}, changed {changed}; {:.0} MiB more",
            ended - began,
            got - began,
            read - got,
            compared - read,
            ended - compared,
            resident_mib() - before,
        );
        assert!(seen.doubt.is_empty(), "{}", seen.doubt);
    }
}

fn main() {
    if std::env::args().any(|it| it == "marathon") {
        a_large_marathon();
        stay_on_one_core();
        for _ in 0..3 {
            let idle = lateness(|| thread::sleep(Duration::from_secs(2)));
            let busy = lateness(a_large_marathon);
            println!("a loop on the same core is late by {busy:?}, and by {idle:?} without polls");
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    one_change(&mut criterion);
    one_roster(&mut criterion);
    criterion.final_summary();
    a_million();
    a_large_marathon();
}

//! Full load with everything that can change changing, for a while: at the end nothing is left of it.
//!
//! In the ordinary run it is short; `loadtest/soak` lets it last (`WAITER_SOAK_SECONDS`).

mod crowd;
mod trouble;

use crate::stage::{
    Connection, Instance, PATIENCE, Request, Router, Service, fronted, now, on, until,
};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long the ordinary run lasts.
const SHORT: Duration = Duration::from_secs(10);
/// Of a soak the first part warms up: memory of later parts is compared with its most.
const WARM: f64 = 0.4;
/// By how much the router may have grown since: a twentieth, and what chance does to so many peers.
const GROWTH_MAX: u64 = 24 << 20;
/// Services that are launched, killed and deleted.
const CHURNING: usize = 3;

/// What everybody who takes part knows.
#[derive(Debug)]
struct Stage {
    address: SocketAddr,
    services: Vec<Service>,
    over: AtomicBool,
    tally: Tally,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    served: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    tunnels: AtomicU64,
    broken_off: AtomicU64,
    big: AtomicU64,
    killed: AtomicU64,
    deleted: AtomicU64,
}

impl Stage {
    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn nothing_is_left_of_a_soak_on_the_ring() {
    on(&["--io", "ring"], soak);
}

#[test]
fn nothing_is_left_of_a_soak_on_glommio() {
    on(&["--io", "glommio"], soak);
}

fn soak() {
    let seconds = std::env::var("WAITER_SOAK_SECONDS").ok();
    let seconds = seconds.map(|it| it.parse().expect("WAITER_SOAK_SECONDS is a number"));
    let time = seconds.map_or(SHORT, Duration::from_secs);
    // It is never touched, so everybody there is served.
    let rock = [Instance::start(&[])];
    let router = begin(&rock);
    let descriptors = router.descriptors();
    let (tally, memory) = play(&router, time);
    println!("{} s: {tally:?}", time.as_secs());
    for (what, counter) in [
        ("served", &tally.served),
        ("tunnels", &tally.tunnels),
        ("broken off", &tally.broken_off),
        ("big bodies", &tally.big),
        ("killed", &tally.killed),
        ("deleted", &tally.deleted),
    ] {
        assert!(counter.load(Ordering::Relaxed) > 0, "there was no {what}: {tally:?}");
    }
    memory_is_bounded(&memory);
    assert!(rock[0].count("max_in_flight") <= 64);
    end(router, descriptors);
}

/// A router that has been used.
fn begin(rock: &[Instance]) -> Router {
    let spec = fronted("rock", rock, "concurrency-level=64");
    let idle = ["--upstream-idle-timeout-ms", "500", "--eject-base-ms", "100"];
    let router = Router::start(&[&["--cores", "0,1", "--static", &spec][..], &idle].concat());
    router.ask(&Request::get("/").with("host", "rock")).expect(200);
    router
}

/// Lets everybody do his worst; returns what came of it, and the router's memory, look by look.
fn play(router: &Router, time: Duration) -> (Tally, Vec<u64>) {
    let service = |n| {
        let service = Service::new(&format!("churn{n}"), "").with("concurrency-level", "8");
        service.with("min-instances", "2").with("max-instances", "4")
    };
    let whole = Stage {
        address: router.address,
        services: (0..CHURNING).map(service).collect(),
        over: AtomicBool::new(false),
        tally: Tally::default(),
    };
    let stage = &whole;
    let memory = thread::scope(|scope| {
        for n in 0..6 {
            scope.spawn(move || crowd::asks_the_rock(stage, n));
            scope.spawn(move || crowd::asks_whoever_churns(stage, n));
        }
        for n in 0..2 {
            scope.spawn(move || crowd::breaks_off(stage, n));
            scope.spawn(move || crowd::closes_its_half(stage));
            scope.spawn(move || crowd::reads_slowly(stage));
            scope.spawn(move || crowd::tunnels(stage, n));
            scope.spawn(move || crowd::sends_much(stage, n));
        }
        scope.spawn(|| trouble::kills(stage));
        scope.spawn(|| trouble::deletes(stage));
        let (begun, mut memory) = (now(), Vec::new());
        while now() - begun < time {
            memory.push(router.resident_bytes());
            crate::stage::pause_until(now() + time / 400);
        }
        stage.over.store(true, Ordering::Relaxed);
        memory
    });
    (whole.tally, memory)
}

fn memory_is_bounded(memory: &[u64]) {
    let (warm, rest) = memory.split_at((memory.len() as f64 * WARM) as usize);
    let last = &rest[rest.len() / 2..];
    let most = |of: &[u64]| of.iter().max().copied().expect("looked");
    let tenths = memory.chunks(memory.len().div_ceil(10)).map(|it| most(it) >> 20);
    println!("MiB in each tenth: {:?}", tenths.collect::<Vec<_>>());
    let bound = most(warm) + most(warm) / 20 + GROWTH_MAX;
    assert!(most(last) <= bound, "it grew from {} to {} bytes", most(warm), most(last));
}

/// Ends the services, and counts what is left.
fn end(mut router: Router, descriptors: usize) {
    for metric in [
        "waiter_outstanding",
        "waiter_waiting",
        "waiter_queued_requests",
        "waiter_queued_bytes",
        "waiter_receive_buffers_taken",
    ] {
        until(metric, PATIENCE, || (router.metric(metric) == 0.0).then_some(()));
    }
    for metric in ["waiter_connections", "waiter_exchanges"] {
        until(metric, PATIENCE, || (router.metric(metric) <= 1.0).then_some(()));
    }
    until("slots in use are none", PATIENCE, || {
        let page =
            router.page("/state/maintainer")["state"]["service-id->my-instance->slots"].clone();
        let instances: Vec<_> =
            page.as_object()?.values().filter_map(|it| it.as_object()).collect();
        let mut slots = instances.iter().flat_map(|it| it.values());
        slots.all(|it| it["slots-used"] == 0).then_some(())
    });
    assert_eq!(router.metric("waiter_over_limit_total"), 0.0);
    for id in router.service_ids().iter().filter(|it| it.contains("churn")) {
        trouble::delete(router.address, id);
    }
    until("its instances are gone", PATIENCE, || {
        children(router.process.pid()).is_empty().then_some(())
    });
    until("descriptors", PATIENCE, || (router.descriptors() <= descriptors).then_some(()));
    println!(
        "left: {} descriptors of {descriptors}, {} starved receives, {} launched",
        router.descriptors(),
        router.metric("waiter_receives_starved_total"),
        router.metric("waiter_instances_launched_total")
    );
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    let launches = fs::read_dir(router.data_dir.path().join("launches")).expect("a directory");
    assert_eq!(launches.count(), 0);
    let said = router.process.said();
    assert!(!said.contains("panicked") && !said.contains(" ERROR "), "{said}");
}

/// Processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent.
        let behind = stat.rsplit_once(')').map(|(_, it)| it);
        behind.and_then(|it| it.split_whitespace().nth(1)) == Some(&*parent.to_string())
    })
    .collect()
}

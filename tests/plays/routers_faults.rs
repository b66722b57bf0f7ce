//! What becomes of routers while servers of ZooKeeper are killed, freeze or stay away: who is not
//! asked goes on, sessions live as long as they can, and nothing is burnt meanwhile.

use crate::stage::{
    Ensemble, Flow, Instance, PATIENCE, Request, Router, SESSION, fronted, now, pause_until, until,
    until_members, within,
};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// The longest session that servers of a tick of 500 ms grant.
const LONG_MS: &str = "10000";

/// Its length.
const LONG: Duration = Duration::from_secs(10);

/// Flags of a router with a long session and the servers given: elections on a busy machine take
/// longer than the third of a short one, after which a client is given up.
fn patient(mut flags: Vec<String>, bench: &str) -> Vec<String> {
    let at = flags.iter().position(|it| it == "--zookeeper-session-ms").expect("it is there");
    flags[at + 1] = LONG_MS.to_owned();
    flags.extend(["--scheduler", "none", "--static", bench].map(str::to_owned));
    flags
}

fn start(flags: &[String]) -> Router {
    Router::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Two of them that know each other, and which one leads.
fn two(ensemble: &Ensemble, bench: &str) -> ([Router; 2], usize) {
    let flags = patient(ensemble.flags(), bench);
    let routers = [start(&flags), start(&flags)];
    until_members(&[&routers[0], &routers[1]]);
    let led = until("somebody leads", PATIENCE, || leader(&routers));
    (routers, led)
}

fn bench(instances: &[Instance]) -> String {
    fronted("bench", instances, "concurrency-level=1")
}

fn request() -> Request {
    Request::get("/").with("host", "bench")
}

fn epoch(router: &Router) -> u64 {
    router.page("/state/cluster")["epoch"].as_u64().unwrap_or(0)
}

fn session(router: &Router) -> bool {
    router.metric("waiter_cluster_session") == 1.0
}

fn leader(routers: &[Router]) -> Option<usize> {
    routers.iter().position(|it| it.metric("waiter_cluster_leads") == 1.0)
}

/// How long it takes until this is there.
fn time<T>(what: &str, since: Instant, look: impl FnMut() -> Option<T>) -> Duration {
    until(what, PATIENCE * 2, look);
    let took = now() - since;
    println!("{what}: {took:?}");
    took
}

#[test]
fn servers_that_are_all_away_for_less_than_a_session_cost_nothing() {
    let mut ensemble = Ensemble::start(1);
    let instances = [Instance::start(&[])];
    let bench = bench(&instances);
    let (routers, _) = two(&ensemble, &bench);
    let all: Vec<&Router> = routers.iter().collect();
    let addresses: Vec<_> = routers.iter().map(|it| it.address).collect();
    let flow = Flow::begin(4, &addresses, &request());
    // What is asked of a server is given up after a third of a session: up to then it is kept.
    let short = (0..5).any(|_| {
        let before = (epoch(all[0]), leader(&routers));
        let begun = now();
        ensemble.kill(0);
        pause_until(now() + Duration::from_millis(800));
        ensemble.begin(0);
        ensemble.until_serving(0);
        let away = now() - begun;
        pause_until(now() + Duration::from_secs(4));
        until_members(&all);
        until("somebody leads", PATIENCE, || leader(&routers));
        let is_short = away < Duration::from_millis(2800);
        println!("away for {away:?}: {before:?}, then {:?}", (epoch(all[0]), leader(&routers)));
        if is_short {
            assert_eq!((epoch(all[0]), leader(&routers)), before, "nobody registered anew");
        }
        is_short
    });
    assert!(short, "on a machine as slow as this nothing is shown");
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    assert_eq!(instances[0].count("max_in_flight"), 1);
}

#[test]
fn the_lead_outlives_the_server_that_leads_or_moves_soon() {
    let mut ensemble = Ensemble::start(3);
    let instances = [Instance::start(&[])];
    let bench = bench(&instances);
    let (routers, led) = two(&ensemble, &bench);
    let all: Vec<&Router> = routers.iter().collect();
    let addresses: Vec<_> = routers.iter().map(|it| it.address).collect();
    let flow = Flow::begin(4, &addresses, &request());
    let before = epoch(all[0]);

    let server = ensemble.leader();
    let killed = now();
    ensemble.kill(server);
    // The lead lives on, or moves; nobody may have it for a while, shorter than a session.
    let mut blip = Duration::ZERO;
    let mut missed: Option<Instant> = None;
    while now() - killed < LONG * 2 {
        match (leader(&routers), missed) {
            (None, None) => missed = Some(now()),
            (Some(_), Some(since)) => {
                blip = blip.max(now() - since);
                missed = None;
            }
            _ => {}
        }
        pause_until(now() + Duration::from_millis(20));
    }
    assert!(missed.is_none(), "somebody leads");
    println!("nobody led for {blip:?}; {led} led before, {:?} does", leader(&routers));
    assert!(blip < LONG, "{blip:?}");
    assert_eq!(epoch(all[0]), before, "sessions went on at the others");
    assert_eq!(flow.end().failed, Vec::<String>::new());
}

#[test]
fn a_server_that_freezes_is_left_within_a_session() {
    let ensemble = Ensemble::start(3);
    let instances = [Instance::start(&[])];
    let bench = bench(&instances);
    // It talks to one that follows: without their leader servers would need their own time.
    let leader = ensemble.places().split(',').nth(ensemble.leader()).map(str::to_owned);
    let places = ensemble.places();
    let followers = places.split(',').filter(|it| Some(*it) != leader.as_deref());
    let flags = ensemble.flags_at(&followers.collect::<Vec<_>>().join(","));
    let router = start(&patient(flags, &bench));
    until_members(&[&router]);
    let flow = Flow::begin(4, &[router.address], &request());
    let place = || router.page("/state/cluster")["session"]["server"].as_str().map(str::to_owned);
    let soon = (0..4).filter(|_| {
        let before = epoch(&router);
        let there = place().filter(|it| !it.is_empty());
        let frozen = until("a server is talked to", PATIENCE, || there.clone());
        let hangs = ensemble.at(&frozen);
        ensemble.signal(hangs, "STOP");
        let moved = time("it talks to another", now(), || place().filter(|it| *it != frozen));
        pause_until(now() + SESSION);
        until_members(&[&router]);
        // On a machine that is too busy for that it lasts until the session has ended.
        let is_soon = moved < LONG / 2;
        if is_soon {
            assert_eq!(epoch(&router), before, "the session moved along");
        }
        ensemble.signal(hangs, "CONT");
        ensemble.until_serving(hangs);
        is_soon
    });
    assert!(soon.take(2).count() > 0, "on a machine as slow as this nothing is shown");
    assert_eq!(flow.end().failed, Vec::<String>::new());
}

/// Hundredths of a second of CPU that a process has used, on all its threads.
fn used(router: &Router) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", router.process.pid())).expect("it runs");
    let numbers: Vec<&str> =
        stat.rsplit_once(") ").map_or("", |it| it.1).split_whitespace().collect();
    [11, 12].iter().map(|at| numbers[*at].parse::<u64>().expect("a number")).sum()
}

/// Of a core, of the whole process, while nothing is asked of it. The smallest of a few stretches:
/// what is not constant is not burning.
fn burnt(router: &Router) -> f64 {
    let stretch = Duration::from_secs(4);
    let one = || {
        let before = used(router);
        pause_until(now() + stretch);
        (used(router) - before) as f64 / 100.0 / stretch.as_secs_f64()
    };
    [one(), one(), one()].into_iter().fold(f64::MAX, f64::min)
}

#[test]
fn without_zookeeper_a_router_burns_nothing() {
    let mut ensemble = Ensemble::start(3);
    let router = ensemble.routers(1, &["--scheduler", "none"]).remove(0);
    let calm = burnt(&router);
    for at in 0..3 {
        ensemble.signal(at, "STOP");
    }
    until("it is given up", PATIENCE, || (!session(&router)).then_some(()));
    let frozen = burnt(&router);
    (0..3).for_each(|at| ensemble.kill(at));
    let refused = burnt(&router);
    println!("of a core: {calm:.4} with ZooKeeper, {frozen:.4} frozen, {refused:.4} refused");
    for it in [frozen, refused] {
        assert!(it < 0.02, "{it} of a core");
    }
    (0..3).for_each(|at| ensemble.begin(at));
    (0..3).for_each(|at| ensemble.until_serving(at));
    until_members(&[&router]);
}

#[test]
fn traffic_goes_on_while_every_server_is_restarted_in_turn() {
    let mut ensemble = Ensemble::start(3);
    let instances = [Instance::start(&[]), Instance::start(&[])];
    let bench = bench(&instances);
    let routers = ensemble.routers(2, &["--scheduler", "none", "--static", &bench]);
    let all: Vec<&Router> = routers.iter().collect();
    let addresses: Vec<_> = routers.iter().map(|it| it.address).collect();
    let flow = Flow::begin(4, &addresses, &request());
    for at in 0..3 {
        ensemble.kill(at);
        pause_until(now() + Duration::from_millis(500));
        ensemble.begin(at);
        ensemble.until_serving(at);
        until_members(&all);
    }
    let told = flow.end();
    println!("{} served, the longest took {:?}", told.served, told.longest);
    assert_eq!(told.failed, Vec::<String>::new());
    for it in &instances {
        assert_eq!(it.count("max_in_flight"), 1);
    }
}

/// Sets how many descriptors a process may have open.
fn allow_descriptors(router: &Router, count: usize) {
    let pid = router.process.pid().to_string();
    let done =
        Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={count}:")]).status();
    assert!(done.is_ok_and(|it| it.success()), "prlimit is of util-linux");
}

#[test]
fn a_router_without_descriptors_loses_its_session_and_nothing_else() {
    let mut ensemble = Ensemble::start(1);
    let mut router = ensemble.routers(1, &["--scheduler", "none"]).remove(0);
    let mut early = router.connect();
    let mut has = move || {
        let page = early.ask(&Request::get("/metrics")).expect(200).text();
        page.contains("\nwaiter_cluster_session 1\n")
    };
    // Wherever on its way to a session it finds no descriptor.
    for more in 0..8 {
        ensemble.kill(0);
        until("the session is lost", PATIENCE, || (!has()).then_some(()));
        let base = router.descriptors();
        ensemble.begin(0);
        allow_descriptors(&router, base + more);
        ensemble.until_serving(0);
        let found = within(Duration::from_secs(3), || has().then_some(()));
        println!("{more} descriptors more: a session: {}", found.is_some());
        assert!(router.process.status().is_none(), "it ended: {}", router.process.said());
        allow_descriptors(&router, 1024);
        until("there is a session again", PATIENCE, || has().then_some(()));
    }
    until_members(&[&router]);
}

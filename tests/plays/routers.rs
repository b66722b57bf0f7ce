//! Several routers share instances, through real servers of ZooKeeper.

use crate::stage::{
    Connection, Ensemble, Flow, Instance, PATIENCE, Request, Router, SESSION, fronted, now,
    pause_until, until, until_members,
};
use std::thread;
use std::time::Duration;

const INSTANCES: usize = 4;

fn instances(knobs: &[&str]) -> Vec<Instance> {
    (0..INSTANCES).map(|_| Instance::start(knobs)).collect()
}

/// Three routers before instances that take one request at a time, joined by so many servers.
fn three(servers: usize) -> (Ensemble, Vec<Instance>, Vec<Router>) {
    let ensemble = Ensemble::start(servers);
    let instances = instances(&["--single", "--delay-ms", "15"]);
    let bench = fronted("bench", &instances, "concurrency-level=1");
    let routers = ensemble.routers(3, &["--scheduler", "none", "--static", &bench]);
    (ensemble, instances, routers)
}

fn request(target: &str) -> Request {
    Request::get(target).with("host", "bench")
}

fn addresses(routers: &[&Router]) -> Vec<std::net::SocketAddr> {
    routers.iter().map(|it| it.address).collect()
}

/// Nobody ever had more than its limit, and no slot is lost: all serve at the same time.
fn are_exact_and_whole(routers: &[&Router], instances: &[Instance]) {
    for it in routers {
        assert_eq!(it.metric("waiter_over_limit_total"), 0.0);
    }
    let all = || {
        let asked: Vec<_> = (0..instances.len())
            .map(|at| {
                let to = routers[at % routers.len()].address;
                thread::spawn(move || {
                    let slow = request("/?delay-ms=300");
                    Connection::open(to).ask(&slow).expect(200).instance()
                })
            })
            .collect();
        let mut used: Vec<u32> =
            asked.into_iter().map(|it| it.join().expect("an answer")).collect();
        used.sort_unstable();
        used.dedup();
        (used.len() == instances.len()).then_some(())
    };
    until("all slots are given out", PATIENCE * 2, all);
    for it in instances {
        assert_eq!(it.count("max_in_flight"), 1, "one request at a time");
    }
}

/// Every router has a session, and they are the members.
fn until_together(routers: &[&Router]) {
    until_members(routers);
    let have = || routers.iter().all(|it| it.metric("waiter_cluster_session") == 1.0);
    until("every router has a session", PATIENCE * 2, || have().then_some(()));
}

/// What the servers have of routers: sessions with ephemeral nodes, and those nodes.
fn ephemerals(ensemble: &Ensemble) -> Vec<String> {
    let said = ensemble.four(ensemble.leader(), "dump");
    let lines = said.lines().map(str::trim).filter(|it| it.starts_with("/waiter/"));
    lines.map(str::to_owned).collect()
}

#[test]
fn limits_are_exact_over_routers_whatever_zookeeper_does() {
    let (mut ensemble, instances, routers) = three(3);
    let all: Vec<&Router> = routers.iter().collect();
    let flow = Flow::begin(8, &addresses(&all), &request("/"));
    until("requests are served", PATIENCE, || (flow.served() > 100).then_some(()));

    // The server that leads is killed: sessions go on at the others.
    let leader = ensemble.leader();
    let epoch = all[0].page("/state/cluster")["epoch"].clone();
    ensemble.kill(leader);
    pause_until(now() + SESSION);
    until_together(&all);
    assert_eq!(all[0].page("/state/cluster")["epoch"], epoch, "nobody had to register again");
    ensemble.begin(leader);
    ensemble.until_serving(leader);

    // The server that a router talks to hangs: it moves to another in time.
    let place = all[0].page("/state/cluster")["session"]["server"].clone();
    let hangs = ensemble.at(place.as_str().expect("a server"));
    ensemble.signal(hangs, "STOP");
    pause_until(now() + SESSION);
    until_together(&all);
    ensemble.signal(hangs, "CONT");
    ensemble.until_serving(hangs);

    // All servers are gone for longer than a session.
    (0..ensemble.count()).for_each(|at| ensemble.kill(at));
    until("the routers notice", PATIENCE, || {
        all.iter().all(|it| it.metric("waiter_cluster_session") == 0.0).then_some(())
    });
    let served = flow.served();
    pause_until(now() + SESSION * 2);
    assert!(flow.served() > served, "requests go on");
    assert!(all.iter().all(|it| it.metric("waiter_cluster_leads") == 0.0), "nobody decides");
    (0..ensemble.count()).for_each(|at| ensemble.begin(at));
    (0..ensemble.count()).for_each(|at| ensemble.until_serving(at));
    until_together(&all);

    let told = flow.end();
    println!("{} served, the longest took {:?}", told.served, told.longest);
    assert_eq!(told.failed, Vec::<String>::new());
    are_exact_and_whole(&all, &instances);
    until("one node and one candidacy of each router", PATIENCE, || {
        let nodes = ephemerals(&ensemble);
        let of = |what: &str| nodes.iter().filter(|it| it.contains(what)).count();
        (of("/discovery-v2-v2/") == 3 && of("/leader-latch/") == 3).then_some(())
    });
}

#[test]
fn a_router_that_is_killed_gives_its_slots_back() {
    let (_ensemble, instances, mut routers) = three(1);
    let mut victim = routers.pop().expect("three");
    let living: Vec<&Router> = routers.iter().collect();
    let flow = Flow::begin(8, &addresses(&living), &request("/"));
    // It has slots of its own, and borrows more.
    let doomed = Flow::begin(4, &[victim.address], &request("/"));
    until("all are busy", PATIENCE, || (flow.served() > 100 && doomed.served() > 50).then_some(()));
    victim.process.kill();
    let killed = now();
    until_members(&living);
    are_exact_and_whole(&living, &instances);
    let took = now() - killed;
    println!("its slots were back after {took:?}");
    assert!(took < SESSION + Duration::from_secs(5), "{took:?}");
    doomed.end();
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    until("it is written off", PATIENCE, || {
        let page = living[0].page("/state/cluster");
        page["peers"].as_array().is_some_and(|it| it.len() == 1).then_some(())
    });
}

#[test]
fn a_router_that_was_stopped_starts_nothing_by_rights_it_had() {
    let (_ensemble, instances, routers) = three(1);
    let all: Vec<&Router> = routers.iter().collect();
    let leads = |it: &Router| it.metric("waiter_cluster_leads") == 1.0;
    let leader = until("somebody leads", PATIENCE, || all.iter().position(|it| leads(it)));
    let others: Vec<&Router> =
        all.iter().enumerate().filter(|(at, _)| *at != leader).map(|(_, it)| *it).collect();
    let flow = Flow::begin(8, &addresses(&others), &request("/"));
    until("requests are served", PATIENCE, || (flow.served() > 100).then_some(()));

    all[leader].process.signal("STOP");
    until("another leads", PATIENCE * 2, || others.iter().any(|it| leads(it)).then_some(()));
    until_seen_gone(&others);
    all[leader].process.signal("CONT");
    // Whenever it is asked, it does not lead beside the other.
    for _ in 0..20 {
        let both = leads(all[leader]) && others.iter().any(|it| leads(it));
        assert!(!both, "two lead");
    }
    until_together(&all);
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    are_exact_and_whole(&all, &instances);
}

fn until_seen_gone(others: &[&Router]) {
    until("it is no member", PATIENCE * 2, || {
        let gone = |it: &&Router| {
            it.page("/state/cluster")["members"].as_array().is_some_and(|it| it.len() == 2)
        };
        others.iter().all(gone).then_some(())
    });
}

#[test]
fn a_router_that_leaves_takes_everything_along() {
    let (ensemble, instances, mut routers) = three(1);
    let mut leaver = routers.pop().expect("three");
    let id = leaver.page("/state/cluster")["router-id"].as_str().expect("an id").to_owned();
    let living: Vec<&Router> = routers.iter().collect();
    let flow = Flow::begin(8, &addresses(&living), &request("/"));
    until("requests are served", PATIENCE, || (flow.served() > 100).then_some(()));
    leaver.terminate();
    assert_eq!(leaver.wait(PATIENCE), Some(0));
    until_members(&living);
    let told = flow.end();
    assert_eq!(told.failed, Vec::<String>::new());
    are_exact_and_whole(&living, &instances);
    assert!(!ephemerals(&ensemble).iter().any(|it| it.contains(&id)));
    let page = living[0].page("/state/cluster");
    assert!(!page.to_string().contains(&id), "it has not even vanished: {page}");
}

#[test]
fn zookeeper_may_come_later_and_the_secret_must_be_the_same() {
    let mut ensemble = Ensemble::start(1);
    let instances = instances(&["--single"]);
    let bench = fronted("bench", &instances, "concurrency-level=1");
    ensemble.kill(0);
    let joining = ensemble.flags();
    let flags: Vec<&str> = joining
        .iter()
        .map(String::as_str)
        .chain(["--scheduler", "none", "--static", &bench])
        .collect();
    let one = Router::start(&flags);
    let page = one.page("/state/cluster");
    assert!(page["session"]["lost-why"].as_str().is_some_and(|it| !it.is_empty()), "{page}");
    assert_eq!(page["members"].as_array().map(Vec::len), Some(0));
    let address = one.address;
    let waits = thread::spawn(move || Connection::open(address).ask(&request("/")).status);
    ensemble.begin(0);
    ensemble.until_serving(0);
    assert_eq!(waits.join().expect("an answer"), 200, "it waited until slots could be given out");
    until_members(&[&one]);

    // One that does not know the secret does not join, for it would give out the same slots.
    let other = ensemble.folder().join("other");
    std::fs::copy(ensemble.secret(), &other).expect("copied");
    std::fs::write(&other, "another secret, as long").expect("written");
    let other = other.display().to_string();
    let mut wrong: Vec<&str> = flags.clone();
    let at = wrong.iter().position(|it| *it == "--cluster-secret-file").expect("it is there");
    wrong[at + 1] = &other;
    let two = Router::start(&wrong);
    until("both say whose fault it is", PATIENCE, || {
        let told = |it: &Router| it.process.said().contains("--cluster-secret-file");
        (told(&one) || told(&two)).then_some(())
    });
    let page = one.page("/state/cluster");
    assert!(page["peers"][0]["silent-ms"].is_null(), "{page}");
    pause_until(now() + SESSION);
    until_members(&[&one]);
    let page = two.page("/state/cluster");
    assert_eq!(page["members"].as_array().map(Vec::len), Some(0), "{page}");
    assert!(page["session"]["lost-why"].to_string().contains("another secret"), "{page}");
    one.ask(&request("/")).expect(200);
}

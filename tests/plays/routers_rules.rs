//! The rules of a cluster that its flags set: how many routers it takes to decide, what is of one
//! host, when a service is idle everywhere, and what is not decided on old counters.

use crate::marathon::service;
use crate::stage::{
    Cluster, Ensemble, Flow, Hold, PATIENCE, Router, SESSION, Service, now, pause_until, until,
    until_members,
};
use std::net::TcpListener;
use std::time::Duration;

fn leads(it: &Router) -> bool {
    it.metric("waiter_cluster_leads") == 1.0
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn with_too_few_routers_nobody_leads() {
    let ensemble = Ensemble::start(1);
    let flags = ["--scheduler", "none", "--min-routers", "2"];
    let mut routers = ensemble.routers(1, &flags);
    pause_until(now() + SESSION);
    assert!(!leads(&routers[0]), "it is alone");
    let mut joining = ensemble.flags();
    joining.extend(flags.map(str::to_owned));
    routers.push(Router::start(&words(&joining)));
    until_members(&routers.iter().collect::<Vec<_>>());
    until("one of two leads", PATIENCE, || routers.iter().any(leads).then_some(()));
    let mut other = routers.pop().expect("two");
    other.terminate();
    assert_eq!(other.wait(PATIENCE), Some(0));
    until("nobody leads", PATIENCE, || (!leads(&routers[0])).then_some(()));
    until_members(&[&routers[0]]);
    pause_until(now() + SESSION);
    assert!(!leads(&routers[0]), "it is alone again");
}

#[test]
fn clusters_that_share_a_base_are_told_so() {
    let ensemble = Ensemble::start(1);
    let one = ensemble.routers(1, &["--scheduler", "none", "--cluster", "one"]);
    until("it leads", PATIENCE, || leads(&one[0]).then_some(()));
    let two = ensemble.routers(1, &["--scheduler", "none", "--cluster", "two"]);
    let complains = |it: &Router| it.process.said().contains("a --zookeeper-base each");
    until("the second says why it does not lead", PATIENCE, || complains(&two[0]).then_some(()));
    assert!(leads(&one[0]) && !leads(&two[0]) && !complains(&one[0]));
}

#[test]
fn what_the_local_scheduler_runs_is_of_its_host() {
    let ensemble = Ensemble::start(1);
    let routers = ensemble.routers(2, &[]);
    let mine = Service::new("mine", "");
    for it in &routers {
        assert!(it.process.said().contains("scope: host"), "{}", it.process.said());
        it.ask(&mine.get("/")).expect(200);
        assert_eq!(it.page("/apps")[0]["scope"], "host");
    }
    // Each has launched its own.
    let port = |it: &Router| it.active("mine")[0]["port"].as_u64().expect("a port");
    assert_ne!(port(&routers[0]), port(&routers[1]));
}

#[test]
fn a_service_that_is_idle_everywhere_is_collected_by_the_leader() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let mut flags = ensemble.flags();
    flags.extend(["--gc-interval-ms".to_owned(), "1000".to_owned()]);
    let routers: Vec<Router> = (0..2).map(|_| marathon.another(&words(&flags))).collect();
    until_members(&routers.iter().collect::<Vec<_>>());
    let leader = until("one leads", PATIENCE, || routers.iter().position(leads));
    let idle = service("idle", "").with("idle-timeout-secs", "6");
    let other = &routers[1 - leader];
    other.ask(&idle.get("/")).expect(200);
    until("the leader knows it", PATIENCE, || routers[leader].service_id("idle"));
    // Only the other is asked, for longer than the service may be idle.
    for _ in 0..8 {
        other.ask(&idle.get("/")).expect(200);
        pause_until(now() + Duration::from_secs(1));
    }
    let deletes = || marathon.writes().iter().filter(|it| it.starts_with("DELETE")).count();
    assert_eq!(deletes(), 0, "it is in use");
    until("it is collected", PATIENCE * 2, || marathon.app("idle").is_none().then_some(()));
    assert_eq!(deletes(), 1, "{:?}", marathon.writes());
    let said = routers[leader].process.said();
    assert!(said.contains("closing a service that is idle"), "the leader decided: {said}");
    // Whoever comes later starts it again.
    other.ask(&idle.get("/")).expect(200);
}

#[test]
fn the_leader_hears_at_once_that_somebody_waits_elsewhere() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let flags = ensemble.flags();
    let routers: Vec<Router> = (0..2).map(|_| marathon.another(&words(&flags))).collect();
    until_members(&routers.iter().collect::<Vec<_>>());
    let leader = until("one leads", PATIENCE, || routers.iter().position(leads));
    let other = &routers[1 - leader];
    let mut times = Vec::new();
    for n in 0..5 {
        let name = format!("urgent{n}");
        let service = service(&name, "").with("max-instances", "2");
        other.ask(&service.get("/")).expect(200);
        until("the leader knows it", PATIENCE, || {
            (routers[leader].active(&name).iter().any(|it| it["healthy?"] == true)).then_some(())
        });
        let begun = now();
        let flow = Flow::begin(3, &[other.address], &service.get("/?delay-ms=1000"));
        until("it grows", PATIENCE, || {
            (marathon.app(&name)?["instances"].as_u64()? > 1).then_some(())
        });
        times.push(now() - begun);
        assert_eq!(flow.end().failed, Vec::<String>::new());
    }
    println!("ordered after {times:?}");
    // Once a second others are told, and once a second all services are looked at: that would be
    // a second, in the middle, and half of it once in a while. A busy machine may be late thrice.
    times.sort_unstable();
    assert!(times[1] < Duration::from_millis(500), "{times:?}");
}

/// A router that is called through a way that can be held, while ZooKeeper is not.
fn behind(hold: &Hold, port: u16, ensemble: &Ensemble, marathon: &Cluster) -> Router {
    let mut flags = ensemble.flags();
    let at = flags.iter().position(|it| it == "--zookeeper-session-ms").expect("it is there");
    flags[at + 1] = "10000".to_owned();
    let listen = format!("127.0.0.1:{port}");
    for (name, value) in [("--listen", listen), ("--advertise", hold.place())] {
        flags.extend([name.to_owned(), value]);
    }
    marathon.another(&words(&flags))
}

#[test]
fn on_old_counters_a_service_grows_and_does_not_shrink() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let port = || {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("bound").port()
    };
    let ports = [port(), port()];
    let holds = ports.map(|port| Hold::start(&format!("127.0.0.1:{port}")));
    let routers: Vec<Router> =
        [0, 1].iter().map(|at| behind(&holds[*at], ports[*at], &ensemble, &marathon)).collect();
    until_members(&routers.iter().collect::<Vec<_>>());
    let leader = until("one leads", PATIENCE, || routers.iter().position(leads));
    let leader = &routers[leader];
    let service = service("frozen", "")
        .with("max-instances", "4")
        .with("scaling-policy", "classic")
        .with("scale-down-factor", "0.9");
    leader.ask(&service.get("/")).expect(200);
    let stale = || leader.page("/state/cluster")["stale-counters"].as_array().map_or(0, Vec::len);
    until("counters come in", PATIENCE, || (stale() == 0).then_some(()));
    holds.iter().for_each(Hold::hold);
    until("counters are stale", PATIENCE, || (stale() == 1).then_some(()));
    let wanted = || marathon.app("frozen").and_then(|it| it["instances"].as_u64()).unwrap_or(0);
    let before = wanted();
    let flow = Flow::begin(4, &[leader.address], &service.get("/?delay-ms=200"));
    until("it grows", PATIENCE * 2, || (wanted() > before).then_some(()));
    assert_eq!(stale(), 1, "on counters that are stale");
    drop(flow.end());
    let grown = wanted();
    pause_until(now() + Duration::from_secs(12));
    assert!(stale() == 1 && wanted() >= grown, "nothing was shrunk meanwhile");
    assert!(leads(leader));
    holds.iter().for_each(Hold::go_on);
    until("it shrinks when they come in again", PATIENCE * 3, || (wanted() < grown).then_some(()));
}

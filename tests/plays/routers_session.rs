//! What a router's session with ZooKeeper, and the shared store, bear: nodes that are no routers,
//! servers that go and come, silence; and that a Curator of the JVM sees what it should.

use crate::stage::{
    Connection, Curator, Ensemble, Flow, Hold, Instance, PATIENCE, Request, Router, SESSION, Told,
    fronted, now, pause_until, until, until_members,
};
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;
use waiter::control::cluster::zookeeper::client::Verbs;
use waiter::control::cluster::zookeeper::{Client, Mode};
use waiter::control::store::{Expect, Keys, Shared, Store, StoreError};

const DISCOVERY: &str = "/waiter/discovery-v2-v2/waiter";

fn servers(ensemble: &Ensemble) -> Vec<String> {
    ensemble.places().split(',').map(str::to_owned).collect()
}

fn store(ensemble: &Ensemble, keys: &[u8]) -> Shared {
    let keys = if keys.is_empty() { Keys::default() } else { Keys::read(keys).expect("keys") };
    Shared::new(servers(ensemble), SESSION, "/waiter", keys)
}

fn epoch(router: &Router) -> u64 {
    router.page("/state/cluster")["epoch"].as_u64().unwrap_or(0)
}

/// Threads of the router that exist for a client of ZooKeeper, and the CPU time they and its keeper
/// have used, in hundredths of a second.
fn clients(router: &Router) -> (usize, u64) {
    let tasks = fs::read_dir(format!("/proc/{}/task", router.process.pid()));
    let (mut count, mut used) = (0, 0);
    for task in tasks.expect("it runs").flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        let name = name.split_once('(').map_or("", |it| it.1);
        let numbers: Vec<&str> = rest.split_whitespace().collect();
        let is_client = name.starts_with("zk-") || name == "io" || name == "event";
        if is_client || name == "zookeeper" || name == "library" {
            count += usize::from(is_client);
            used += numbers[11].parse::<u64>().unwrap_or(0);
            used += numbers[12].parse::<u64>().unwrap_or(0);
        }
    }
    (count, used)
}

#[test]
fn nodes_that_are_no_routers_are_left_out_however_many() {
    let ensemble = Ensemble::start(1);
    let routers = ensemble.routers(1, &["--scheduler", "none", "--router-id-prefix", "zz"]);
    let mut other = Client::new(servers(&ensemble), Duration::from_secs(10));
    let large = vec![b'x'; 1_000_000];
    for (name, value) in
        [("a", &b"{\"address\":"[..]), ("b", b""), ("c", b"\xff\xfe"), ("d", &large)]
    {
        other.create(&format!("{DISCOVERY}/{name}"), value, Mode::Persistent).expect("made");
    }
    // More than there may be routers, and all of them before ours.
    for n in 0..996 {
        let path = format!("{DISCOVERY}/e{n:04}");
        other.create(&path, b"[]", Mode::Persistent).expect("made");
    }
    // One that looks like a router, and one that says again what a router has said.
    let looks = br#"{"name":"waiter","id":"f","address":"127.0.0.1","port":1,"payload":{}}"#;
    other.create(&format!("{DISCOVERY}/f"), looks, Mode::Ephemeral).expect("made");
    let page = routers[0].page("/state/cluster");
    let id = page["router-id"].as_str().expect("an id");
    let said = other.get(&format!("{DISCOVERY}/{id}")).expect("it is there").0;
    let again = String::from_utf8(said).expect("text").replace(id, "g");
    assert!(again.contains("waiter-proof"), "{again}");
    other.create(&format!("{DISCOVERY}/g"), again.as_bytes(), Mode::Ephemeral).expect("made");
    let last = other.get(DISCOVERY).expect("it is there").1.pzxid.unsigned_abs();
    until("the router has read them all", PATIENCE, || (epoch(&routers[0]) == last).then_some(()));
    pause_until(now() + SESSION);
    until_members(&[&routers[0]]);
    assert_eq!(epoch(&routers[0]), last, "it has not registered anew");
    let page = routers[0].page("/state/cluster");
    let strangers = page["strangers"].as_array().expect("a list").iter();
    assert_eq!(strangers.map(|it| &it["id"]).collect::<Vec<_>>(), ["f", "g"]);
    assert_eq!(routers[0].metric("waiter_cluster_strangers"), 2.0);
    let said = routers[0].process.said();
    assert_eq!(said.matches("is no router of this version").count(), 256, "said once of each");
    assert_eq!(said.matches("is registered again").count(), 0, "{said}");
}

#[test]
fn sessions_that_are_lost_leave_no_thread_behind_and_burn_nothing() {
    let mut ensemble = Ensemble::start(1);
    let routers = ensemble.routers(1, &["--scheduler", "none"]);
    let router = &routers[0];
    let base = (clients(router).0, router.descriptors());
    for _ in 0..3 {
        ensemble.kill(0);
        until("the client is given up", PATIENCE, || {
            (router.metric("waiter_cluster_session") == 0.0).then_some(())
        });
        until("its threads have ended", PATIENCE, || (clients(router).0 == 0).then_some(()));
        let before = clients(router).1;
        pause_until(now() + Duration::from_secs(3));
        let used = clients(router).1 - before;
        assert!(used <= 6, "{used} hundredths of a second in 3 s");
        ensemble.begin(0);
        ensemble.until_serving(0);
        until_members(&[router]);
    }
    until("as at the beginning", PATIENCE, || {
        let (threads, descriptors) = (clients(router).0, router.descriptors());
        (threads <= base.0 && descriptors <= base.1 + 2).then_some(())
    });
    let sessions = ensemble.four(0, "dump").matches(DISCOVERY).count();
    assert_eq!(sessions, 1, "one node, of one session");
}

/// Runs the test of this name again, in a process of its own, unless this is that one. Returns
/// whether it is: what it counts is then its own, and not that of tests beside it.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "WAITER_PLAY_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let ran = Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("it can be run again");
    let said = String::from_utf8_lossy(&ran.stdout);
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}{why}");
    false
}

#[test]
fn fifty_clients_given_up_leave_nothing_behind() {
    if !is_alone("routers_session::fifty_clients_given_up_leave_nothing_behind") {
        return;
    }
    let ensemble = Ensemble::start(1);
    let mut client = Client::new(servers(&ensemble), SESSION);
    let have = || {
        let threads = fs::read_dir("/proc/self/task").expect("a folder").count();
        (threads, fs::read_dir("/proc/self/fd").expect("a folder").count())
    };
    let mut life = || {
        let first = client.session().expect("granted").id;
        client.works();
        client.give_up();
        let second = client.session().expect("granted").id;
        client.works();
        assert_ne!(first, second, "a client given up is not used again");
    };
    life();
    let base = have();
    (0..50).for_each(|_| life());
    until("as at the beginning", PATIENCE * 3, || {
        let it = have();
        (it.0 <= base.0 && it.1 <= base.1).then_some(())
    });
    let sessions = ensemble.four(0, "cons").matches("sid=").count();
    assert!(sessions <= 2, "{sessions} connections");
}

#[test]
fn with_most_servers_gone_traffic_goes_on_and_nobody_decides() {
    let mut ensemble = Ensemble::start(3);
    let instance = [Instance::start(&[])];
    let bench = fronted("bench", &instance, "concurrency-level=1");
    let routers = ensemble.routers(2, &["--scheduler", "none", "--static", &bench]);
    let all: Vec<&Router> = routers.iter().collect();
    let addresses: Vec<_> = routers.iter().map(|it| it.address).collect();
    let flow = Flow::begin(4, &addresses, &Request::get("/").with("host", "bench"));
    let leader = ensemble.leader();
    let follower = (leader + 1) % 3;
    ensemble.kill(leader);
    ensemble.kill(follower);
    until("nobody has a session", PATIENCE, || {
        all.iter().all(|it| it.metric("waiter_cluster_session") == 0.0).then_some(())
    });
    let served = flow.served();
    pause_until(now() + SESSION * 2);
    assert!(flow.served() > served, "requests go on");
    for it in &all {
        assert_eq!(it.metric("waiter_cluster_leads"), 0.0);
        let page = it.page("/state/cluster");
        assert_eq!(page["members"].as_array().map(Vec::len), Some(2), "the last good view");
    }
    ensemble.begin(leader);
    ensemble.until_serving(leader);
    until_members(&all);
    until("somebody leads", PATIENCE, || {
        all.iter().any(|it| it.metric("waiter_cluster_leads") == 1.0).then_some(())
    });
    assert_eq!(flow.end().failed, Vec::<String>::new());
    assert_eq!(instance[0].count("max_in_flight"), 1);
}

#[test]
fn a_router_told_to_stop_alone_starts_nothing_without_zookeeper_until_it_is_back() {
    let mut ensemble = Ensemble::start(1);
    let instance = [Instance::start(&[])];
    let bench = fronted("bench", &instance, "");
    let flags = ["--scheduler", "none", "--static", &bench, "--isolated", "stop"];
    let routers = ensemble.routers(1, &flags);
    let request = Request::get("/").with("host", "bench");
    routers[0].ask(&request).expect(200);
    ensemble.kill(0);
    // Two thirds of a session after it last heard of ZooKeeper, at the latest.
    pause_until(now() + SESSION);
    let address = routers[0].address;
    let before = instance[0].count("requests");
    let waits = thread::spawn(move || Connection::open(address).ask(&request).status);
    until("it waits", PATIENCE, || (routers[0].metric("waiter_waiting") == 1.0).then_some(()));
    pause_until(now() + SESSION);
    assert_eq!(instance[0].count("requests"), before, "it was not started");
    ensemble.begin(0);
    ensemble.until_serving(0);
    assert_eq!(waits.join().expect("an answer"), 200, "it waited until ZooKeeper was back");
}

#[test]
fn a_node_that_was_deleted_is_made_again_and_the_lead_with_it() {
    let ensemble = Ensemble::start(1);
    let routers = ensemble.routers(1, &["--scheduler", "none"]);
    let leads = || routers[0].metric("waiter_cluster_leads") == 1.0;
    until("it leads", PATIENCE, || leads().then_some(()));
    let mut other = Client::new(servers(&ensemble), Duration::from_secs(10));
    let node = other.children(DISCOVERY).expect("listed").remove(0);
    let before = epoch(&routers[0]);
    other.delete(&format!("{DISCOVERY}/{node}"), None).expect("deleted");
    until("it is registered again", PATIENCE, || {
        (epoch(&routers[0]) > before && routers[0].process.said().contains("registered again"))
            .then_some(())
    });
    until("it leads again", PATIENCE, || leads().then_some(()));
    // It had stepped down in between.
    let said = routers[0].process.said();
    assert_eq!(said.matches("this router leads the cluster").count(), 2, "{said}");
    let candidacies = other.children("/waiter/leader-latch").expect("listed");
    assert_eq!(candidacies.len(), 1, "{candidacies:?}");
}

#[test]
fn a_session_outlives_every_server_restarted_in_turn() {
    let mut ensemble = Ensemble::start(3);
    // A client is given up after a third of a session without an answer; servers that vote on a
    // busy machine take more than a second.
    let mut flags = ensemble.flags();
    let at = flags.iter().position(|it| it == "--zookeeper-session-ms").expect("it is there");
    flags[at + 1] = "10000".to_owned();
    flags.extend(["--scheduler".to_owned(), "none".to_owned()]);
    let routers = [Router::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())];
    until_members(&[&routers[0]]);
    let before = epoch(&routers[0]);
    for at in 0..3 {
        ensemble.kill(at);
        pause_until(now() + Duration::from_millis(500));
        ensemble.begin(at);
        ensemble.until_serving(at);
    }
    pause_until(now() + SESSION);
    until_members(&[&routers[0]]);
    assert_eq!(epoch(&routers[0]), before, "nobody had to register anew");
}

#[test]
fn a_session_that_is_suddenly_far_shorter_is_kept() {
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(3));
    let mut ensemble = Ensemble::start(1);
    ensemble.kill(0);
    ensemble.bound_sessions(0, long);
    ensemble.begin(0);
    ensemble.until_serving(0);
    let mut router = Told::begin(&ensemble, "a", "the secret of the cluster", long);
    router.joins();
    assert_eq!(router.granted, [long]);
    // Right after a look: the next is due in ten seconds.
    ensemble.kill(0);
    ensemble.bound_sessions(0, short);
    ensemble.begin(0);
    ensemble.until_serving(0);
    router.seen = None;
    until("it looks again, and says how long it is", PATIENCE, || {
        assert!(router.hear().is_none(), "it registers again");
        (router.granted == [long, short] && router.seen.is_some()).then_some(())
    });
    pause_until(now() + short * 2);
    assert!(router.hear().is_none(), "it registers again");
    assert_eq!((router.lost.as_ref(), &router.granted[..]), (None, &[long, short][..]));
    router.end();
}

#[test]
fn the_store_means_the_version_it_says() {
    let ensemble = Ensemble::start(1);
    let store = store(&ensemble, b"");
    assert_eq!(store.put("k", b"1", Expect::Version(0)).expect("0 is none"), 1);
    let again = store.put("k", b"2", Expect::Version(0));
    assert!(matches!(again, Err(StoreError::Conflict(1))), "{again:?}");
    let gone = store.delete("k", Expect::Version(0));
    assert!(matches!(gone, Err(StoreError::Conflict(1))), "{gone:?}");
    let late = store.put("k", b"2", Expect::Version(7));
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    // Longer silent than its session: what it is asked next is done, and told as done.
    pause_until(now() + SESSION * 2);
    assert_eq!(store.put("k", b"2", Expect::Version(1)).expect("done"), 2);
    store.delete("k", Expect::Version(2)).expect("done");
    assert_eq!(store.get("k").expect("works"), None);
}

#[test]
fn a_value_that_no_key_opens_can_be_replaced() {
    let ensemble = Ensemble::start(1);
    let old = store(&ensemble, b"0123456789abcdef");
    old.put("^A", b"1", Expect::Absent).expect("new");
    let new = store(&ensemble, b"fedcba9876543210");
    assert!(matches!(new.get("^A"), Err(StoreError::Failed(_))));
    let late = new.put("^A", b"2", Expect::Absent);
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    assert_eq!(new.put("^A", b"2", Expect::Anything).expect("replaced"), 2);
    assert_eq!(new.get("^A").expect("works").expect("there").value, b"2");
}

#[test]
fn a_leader_that_is_cut_off_has_ended_before_curator_leads() {
    let ensemble = Ensemble::start(1);
    let hold = Hold::start(&ensemble.places());
    let joining = ensemble.flags_at(&hold.place());
    let mut flags: Vec<&str> = joining.iter().map(String::as_str).collect();
    flags.extend(["--scheduler", "none"]);
    let router = Router::start(&flags);
    until_members(&[&router]);
    let leads = || router.page("/state/cluster")["leader"]["leader?"] == true;
    until("it leads", PATIENCE, || leads().then_some(()));
    let curator = Curator::start(&ensemble.places(), "waiter");
    let id = router.page("/state/cluster")["router-id"].as_str().expect("an id").to_owned();
    curator.until("Curator sees the router", |it| it.starts_with("cache ") && it.contains(&id));
    until("the router sees Curator's", PATIENCE, || {
        let page = router.page("/state/cluster");
        page["strangers"].to_string().contains("jvm-1").then_some(())
    });
    // It does not know the secret: no slots are for it to give out.
    until_members(&[&router]);
    assert_eq!(router.metric("waiter_cluster_strangers"), 1.0);
    hold.hold();
    let mut led_last = curator.millis();
    let led = until("Curator leads", PATIENCE, || {
        if leads() {
            led_last = curator.millis();
        }
        curator.heard().find_map(|it| it.strip_prefix("leads ")?.parse::<u64>().ok())
    });
    assert!(led_last < led, "the router led at {led_last}, Curator from {led}");
    hold.go_on();
    until("the router is a member again", PATIENCE, || {
        (router.metric("waiter_cluster_session") == 1.0).then_some(())
    });
    assert!(!leads(), "Curator still does");
}

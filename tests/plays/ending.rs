//! What is left of a router that ends, and what its children hold.

use crate::stage::{Connection, PATIENCE, Request, Router, Service, exists, now, until};
use std::fs;
use std::thread;
use std::time::Duration;

#[test]
fn a_router_that_ends_leaves_no_instance() {
    let mut router = Router::start(&["--cores", "0,1"]);
    let services = ["a", "b", "c"].map(|it| Service::new(it, "").with("min-instances", "2"));
    let pids = services.map(|it| router.ask(&it.get("/")).expect(200).instance());
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    assert!(!pids.iter().any(|it| exists(*it)), "{pids:?}");
    let launches = fs::read_dir(router.data_dir.path().join("launches")).expect("a directory");
    assert_eq!(launches.count(), 0);
}

#[test]
fn an_instance_that_ignores_sigterm_is_killed() {
    let mut router = Router::start(&[]);
    let binary = env!("CARGO_BIN_EXE_waiter");
    let stubborn =
        format!("trap '' TERM; '{binary}' instance --port $PORT0 & wait; wait; sleep 60");
    let service = Service::run("stubborn", &stubborn);
    let pid = router.ask(&service.get("/")).expect(200).instance();
    let begun = now();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    assert!(now() - begun < Duration::from_secs(8), "{:?}", now() - begun);
    assert!(!exists(pid));
}

#[test]
fn what_a_killed_router_left_is_ended_by_the_next_one() {
    let binary = env!("CARGO_BIN_EXE_waiter");
    let command = format!("sleep 999 & echo $! > child; exec '{binary}' instance --port $PORT0");
    let service = Service::run("orphan", &command).with("min-instances", "2");
    let mut router = Router::start(&[]);
    router.ask(&service.get("/")).expect(200);
    let active = until("two run", PATIENCE, || {
        let page = router.service("orphan")?;
        let list = page["instances"]["active-instances"].as_array()?.clone();
        (list.len() == 2).then_some(list)
    });
    let mut pids = Vec::new();
    for instance in active {
        let leader = instance["shell-scheduler/pid"].as_u64().expect("a process");
        pids.push(u32::try_from(leader).expect("a process"));
        let path = format!("{}/child", instance["log-directory"].as_str().expect("a directory"));
        let child = until("it has a child", PATIENCE, || fs::read_to_string(&path).ok());
        pids.push(child.trim().parse().expect("a process"));
    }
    router.process.kill();
    assert!(pids.iter().all(|it| exists(*it)), "nobody was there to end them");
    let next = Router::start_on(&router.data_dir, &[]);
    let left: Vec<_> = pids.iter().filter(|it| exists(**it)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?}");
    let new = next.ask(&service.get("/")).expect(200).instance();
    assert!(!pids.contains(&new));
}

#[test]
fn requests_in_flight_and_waiting_when_the_router_ends() {
    let mut router = Router::start(&[]);
    let service = Service::new("last", "").with("max-instances", "1");
    router.ask(&service.get("/")).expect(200);
    let mut busy = router.connect();
    busy.send(&service.get("/?delay-ms=3000"));
    router.until_in_flight("last", 1);
    let mut waiting = router.connect();
    waiting.send(&service.get("/"));
    until("one waits", PATIENCE, || (router.waiting("last") == 1).then_some(()));
    router.terminate();
    busy.response().expect("a whole response").expect(200);
    let waited = waiting.response().expect("an answer").status;
    assert!(waited == 200 || waited == 503, "{waited}");
    assert_eq!(router.wait(PATIENCE), Some(0));
}

#[test]
fn who_has_connected_before_the_listeners_close_is_answered_or_told() {
    let mut router = Router::start(&["--cores", "0,1", "--accept", "plain"]);
    let service = Service::new("late", "");
    router.ask(&service.get("/")).expect(200);
    let (address, request) = (router.address, service.get("/"));
    let (connected, all_connected) = std::sync::mpsc::channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (connected, request) = (connected.clone(), request.clone());
            thread::spawn(move || {
                let ask = |_| {
                    let mut client = Connection::try_open(address).ok()?;
                    Some(client.try_send(&request).map(|()| client))
                };
                // The first half is there when the signal comes, the other comes meanwhile.
                let mut own: Vec<_> = (0..13).map_while(ask).collect();
                connected.send(()).expect("somebody waits for it");
                own.extend((0..12).map_while(ask));
                let words = own.into_iter().map(|it| it.and_then(last_word));
                words.collect::<Vec<_>>()
            })
        })
        .collect();
    for _ in 0..8 {
        all_connected.recv().expect("each connects");
    }
    router.terminate();
    let words: Vec<_> = clients.into_iter().flat_map(|it| it.join().expect("it ends")).collect();
    let answered = words.iter().filter(|it| matches!(it, Ok(200 | 503))).count();
    let closed = words.iter().filter(|it| matches!(it, Ok(0))).count();
    println!("{} connected: {answered} answered, {closed} closed", words.len());
    assert_eq!(answered + closed, words.len(), "{words:?}");
    assert!(words.len() >= 104, "{}", words.len());
    assert_eq!(router.wait(PATIENCE), Some(0));
}

/// What a client hears: a status, or 0 for a clean end before any answer.
fn last_word(mut client: Connection) -> std::io::Result<u16> {
    match client.response() {
        Ok(response) => Ok(response.status),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}

#[test]
fn an_instance_inherits_no_descriptor() {
    let router = Router::start(&["--cores", "0,0"]);
    let _clients: Vec<_> = (0..8).map(|_| router.connect()).collect();
    let binary = env!("CARGO_BIN_EXE_waiter");
    let command = format!("ls -l /proc/self/fd > fds; exec '{binary}' instance --port $PORT0");
    router.ask(&Service::run("heir", &command).get("/")).expect(200);
    let page = router.service("heir").expect("it is listed");
    let directory = page["instances"]["active-instances"][0]["log-directory"].as_str();
    let path = format!("{}/fds", directory.expect("a directory"));
    let list = fs::read_to_string(path).expect("the instance wrote it");
    let entries = list.lines().filter_map(|it| it.split(" -> ").nth(1).map(|to| (it, to)));
    // `ls` itself opens the directory that it lists.
    let open: Vec<_> = entries.filter(|(_, to)| !to.starts_with("/proc/")).collect();
    assert_eq!(open.len(), 3, "{list}");
    assert!(!list.contains("socket:") && !list.contains("anon_inode"), "{list}");
}

#[test]
fn a_child_launched_meanwhile_does_not_hold_the_socket_of_a_client() {
    let router = Router::start(&["--cores", "0,1"]);
    let mut clients: Vec<_> = (0..16).map(|_| router.connect()).collect();
    for client in &mut clients {
        client.ask(&Request::get("/status")).expect(200);
    }
    let address = router.address;
    let launches: Vec<_> = (0..4)
        .map(|n| {
            let request = Service::new("child", "").with("version", &n.to_string()).get("/");
            thread::spawn(move || Connection::open(address).ask(&request).expect(200).instance())
        })
        .collect();
    let pids: Vec<u32> = launches.into_iter().map(|it| it.join().expect("it is served")).collect();
    for mut client in clients {
        client.send(&Request::get("/status").with("connection", "close"));
        client.response().expect("a response").expect(200);
        let rest = client.rest(Duration::from_secs(2)).expect("the router's end is the only one");
        assert!(rest.is_empty());
    }
    assert!(pids.iter().all(|it| exists(*it)), "the children live");
}

#[test]
fn a_router_started_again_knows_its_services() {
    let mut router = Router::start(&[]);
    let service = Service::new("known", "");
    router.ask(&service.get("/")).expect(200);
    let id = router.service_id("known").expect("it is listed");
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    let next = Router::start_on(&router.data_dir.clone(), &[]);
    let page = next.ask(&Request::get(&format!("/apps/{id}")));
    println!("after a restart: {} {}", page.status, page.text());
    next.ask(&service.get("/")).expect(200);
    assert_eq!(next.service_id("known"), Some(id));
}

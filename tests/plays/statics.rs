//! Servers that exist by themselves.

use crate::stage::{Instance, PATIENCE, Request, Router, Service, fronted, until};
use std::time::Duration;

#[test]
fn a_static_service_is_found_by_host_and_by_token() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--cores", "0,1", "--static", &fronted("bench", &server, "")]);
    let pid = server[0].pid();
    for request in [
        Request::get("/").with("host", "bench"),
        Request::get("/").with("host", "BENCH:8080"),
        Request::get("/").with("x-waiter-token", "bench"),
        Request::get("/").with("host", "other.example").with("x-waiter-token", "Bench"),
    ] {
        assert_eq!(router.ask(&request).expect(200).instance(), pid);
    }
    let unknown = router.ask(&Request::get("/").with("x-waiter-token", "nobody")).expect(404);
    assert!(unknown.text().contains("Token not found: nobody"), "{}", unknown.text());
    router.ask(&Request::get("/").with("host", "nobody.example")).expect(400);
}

#[test]
fn two_static_services_and_a_launched_one_do_not_mix() {
    let (one, other) = ([Instance::start(&[])], [Instance::start(&[])]);
    let (a, b) = (fronted("a.example", &one, ""), fronted("b.example", &other, ""));
    let router = Router::start(&["--static", &a, "--static", &b]);
    let launched = router.ask(&Service::new("c", "").get("/")).expect(200).instance();
    for (host, pid) in [("a.example", one[0].pid()), ("b.example", other[0].pid())] {
        let answer = router.ask(&Request::get("/").with("host", host)).expect(200);
        assert_eq!(answer.instance(), pid);
        assert_ne!(launched, pid);
    }
}

#[test]
fn one_connection_serves_the_clients_of_two_cores_by_turns() {
    for io in ["auto", "glommio"] {
        let server = [Instance::start(&[])];
        let one = fronted("one", &server, "concurrency-level=1");
        let router = Router::start(&["--cores", "0,1", "--io", io, "--static", &one]);
        let mut clients = [router.connect(), router.connect()];
        let request = Request::get("/?delay-ms=3").with("host", "one");
        clients[0].ask(&request).expect(200);
        until("the clients are on two cores", PATIENCE, || {
            let page = router.ask(&Request::get("/metrics")).text();
            let has =
                |it: u8| page.contains(&format!("waiter_shard_connections{{shard=\"{it}\"}} "));
            (has(0) && has(1)).then_some(())
        });
        let before = server[0].count("connections");
        let threads = clients.map(|mut client| {
            let request = request.clone();
            std::thread::spawn(move || {
                (0..100).for_each(|_| drop(client.ask(&request).expect(200)))
            })
        });
        threads.into_iter().for_each(|it| it.join().expect("all are answered"));
        // Asking for the count is one itself.
        let connects = server[0].count("connections") - before - 1;
        println!("{io}: {connects} connects for 200 requests");
        assert!(connects <= 20, "{connects} connects for 200 requests");
        assert_eq!(server[0].count("max_in_flight"), 1);
    }
}

#[test]
fn a_dead_server_is_passed_over() {
    let mut servers = [Instance::start(&[]), Instance::start(&[])];
    let pair = fronted("pair", &servers, "concurrency-level=1");
    let router = Router::start(&["--static", &pair]);
    servers[0].kill();
    for _ in 0..10 {
        let answer = router.ask(&Request::get("/").with("host", "pair")).expect(200);
        assert_eq!(answer.instance(), servers[1].pid());
    }
}

#[test]
fn the_last_server_is_tried_again_and_again() {
    let mut servers = [Instance::start(&[])];
    let address = servers[0].address;
    let router = Router::start(&["--static", &fronted("one", &servers, "")]);
    let request = Request::get("/").with("host", "one").with("x-waiter-queue-timeout", "500");
    router.ask(&request).expect(200);
    servers[0].kill();
    for _ in 0..3 {
        let status = router.ask(&request).status;
        assert!(status == 502 || status == 503, "{status}");
    }
    let port = address.port().to_string();
    servers[0] = Instance::start_at(&port, &[]);
    until("it serves again", Duration::from_secs(5), || {
        (router.ask(&request).status == 200).then_some(())
    });
}

#[test]
fn the_503_of_a_static_server_passes_and_does_not_eject_it() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("one", &server, "concurrency-level=1")]);
    for _ in 0..5 {
        let request = Request::get("/?status=503").with("host", "one");
        assert_eq!(router.ask(&request).expect(503).instance(), server[0].pid());
    }
    router.ask(&Request::get("/").with("host", "one")).expect(200);
}

#[test]
fn a_server_with_a_check_is_not_used_until_it_passes() {
    let server = [Instance::start(&["--health-status", "500"])];
    let checked = fronted("checked", &server, "health-check-url=/status");
    let router = Router::start(&["--static", &checked]);
    until("the check fails", PATIENCE, || {
        let page = router.service("checked")?;
        (page["instances"]["active-instances"][0]["health-check-status"] == 500).then_some(())
    });
    let request = Request::get("/").with("host", "checked").with("x-waiter-queue-timeout", "300");
    router.ask(&request).expect(503);
    assert_eq!(server[0].count("requests"), 0);
}

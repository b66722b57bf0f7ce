//! A request launches the service it describes.

use crate::stage::{PATIENCE, Request, Router, Service, now, until};
use std::time::Duration;

#[test]
fn a_cold_request_launches_a_service_and_a_warm_one_finds_it() {
    let router = Router::start(&[]);
    let service = Service::new("hello", "").with("health-check-url", "/status");
    let cold = router.ask(&service.get("/some/path?size=3")).expect(200);
    assert_eq!(cold.text(), "abc");
    let begun = now();
    let warm = router.ask(&service.get("/?size=5")).expect(200);
    assert!(now() - begun < Duration::from_millis(500), "a warm request waits for nothing");
    assert_eq!((warm.text(), warm.instance()), ("abcde".to_owned(), cold.instance()));
    assert_eq!(router.service_ids().len(), 1);
}

#[test]
fn curl_with_a_python_server_works_cold_and_warm() {
    let router = Router::start(&[]);
    let curl = || {
        let output = std::process::Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["-H", "x-waiter-cmd: python3 -m http.server $PORT0"])
            .args(["-H", "x-waiter-cpus: 1", "-H", "x-waiter-mem: 128"])
            .args(["-H", "x-waiter-version: 1", "-H", "x-waiter-health-check-url: /"])
            .arg(format!("http://{}/", router.address))
            .output()
            .expect("curl is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(), "200");
    assert_eq!(curl(), "200");
}

#[test]
fn descriptions_that_differ_in_a_byte_are_two_services() {
    let router = Router::start(&["--cores", "0,1"]);
    let one = Service::new("twice", "");
    let other = one.clone().with("version", "2");
    let first = router.ask(&one.get("/")).expect(200).instance();
    let second = router.ask(&other.get("/")).expect(200).instance();
    assert_ne!(first, second);
    assert_eq!(router.service_ids().len(), 2);
    assert_eq!(router.ask(&one.get("/")).instance(), first);
}

#[test]
fn an_instance_gets_the_environment_that_was_promised() {
    let router = Router::start(&["--cluster", "playground"]);
    let service = Service::new("env", "")
        .with("env-mood", "good")
        .with("ports", "2")
        .with("concurrency-level", "3");
    let env = router.ask(&service.get("/env")).expect(200).json();
    let id = router.service_id("env").expect("it is listed");
    for (name, value) in [
        ("MOOD", "good"),
        ("WAITER_CLUSTER", "playground"),
        ("WAITER_CONCURRENCY_LEVEL", "3"),
        ("WAITER_SERVICE_ID", &*id),
        ("WAITER_USERNAME", "waiter"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    assert_ne!(env["PORT0"], env["PORT1"]);
    assert!(env.get("CARGO_MANIFEST_DIR").is_none(), "the router's own is not inherited");
}

#[test]
fn all_requests_of_a_rush_at_a_service_that_does_not_exist_are_served() {
    let router = Router::start(&["--cores", "0,0,1,1"]);
    let service = Service::new("rush", "--startup-delay-ms 200 --delay-ms 5");
    let mut connections: Vec<_> = (0..20).map(|_| router.connect()).collect();
    for connection in &mut connections {
        connection.send(&service.get("/"));
    }
    for connection in &mut connections {
        connection.response().expect("a response").expect(200);
    }
    assert_eq!(router.service_ids().len(), 1);
}

#[test]
fn without_a_scheduler_nothing_is_launched() {
    let router = Router::start(&["--scheduler", "none"]);
    let refused = router.ask(&Service::new("never", "").get("/")).expect(403);
    assert!(refused.text().contains("--scheduler none"), "{}", refused.text());
    assert_eq!(router.page("/apps").as_array().map(Vec::len), Some(0));
    router.ask(&Request::get("/status")).expect(200);
}

#[test]
fn a_slow_start_is_waited_for() {
    let router = Router::start(&[]);
    let service = Service::new("slow", "--startup-delay-ms 1500");
    let begun = now();
    router.ask(&service.get("/")).expect(200);
    assert!(now() - begun >= Duration::from_millis(1500));
    until("the service is seen running", PATIENCE, || {
        (router.service("slow")?["status"] == "Running").then_some(())
    });
}

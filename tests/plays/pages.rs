//! The router's own pages.

use crate::stage::{Instance, PATIENCE, Request, Router, Service, exists, fronted, until};

#[test]
fn status_says_ok() {
    let router = Router::start(&[]);
    let page = router.ask(&Request::get("/status")).expect(200);
    assert_eq!(page.json()["status"], "ok");
    assert_eq!(page.field("content-type"), Some("application/json"));
    assert!(page.field("x-cid").is_some() && page.field("server").is_some());
    let head = router.ask(&Request::of("HEAD", "/status")).expect(200);
    assert!(head.body.is_empty());
    router.ask(&Request::get("/no-such-page")).expect(404);
    let wrong = router.ask(&Request::post("/apps", b"{}")).expect(405);
    assert!(wrong.text().contains("Only GET supported"), "{}", wrong.text());
}

#[test]
fn apps_lists_launched_and_static_services() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("bench", &server, "concurrency-level=7")]);
    let bench = router.service("bench").expect("a static service is known from the start");
    assert_eq!(bench["service-description"]["concurrency-level"], 7);
    router.ask(&Service::new("hello", "").get("/")).expect(200);
    let mut names = router.service_ids();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let hello = until("the service is running", PATIENCE, || {
        router.service("hello").filter(|it| it["status"] == "Running")
    });
    let active = &hello["instances"]["active-instances"];
    assert_eq!(active.as_array().map(Vec::len), Some(1), "{hello}");
    assert_eq!(active[0]["healthy?"], true);
    assert_eq!(hello["service-description"]["mem"], 256);
    router.ask(&Request::get("/apps/waiter-service-none")).expect(404);
}

#[test]
fn delete_ends_a_service() {
    let router = Router::start(&[]);
    let service = Service::new("brief", "");
    let pid = router.ask(&service.get("/")).expect(200).instance();
    let id = router.service_id("brief").expect("it is listed");
    let deleted = router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200).json();
    assert_eq!((&deleted["success"], &deleted["result"]), (&true.into(), &"deleted".into()));
    until("its process is gone", PATIENCE, || (!exists(pid)).then_some(()));
    assert_eq!(router.service_id("brief"), None);
    let again = router.ask(&Request::of("DELETE", &format!("/apps/{id}")));
    again.expect(404);
    assert_ne!(router.ask(&service.get("/")).expect(200).instance(), pid);
}

#[test]
fn a_static_service_cannot_be_deleted() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("bench", &server, "")]);
    let id = router.service_id("bench").expect("it is listed");
    router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(400);
    router.ask(&Request::get("/").with("host", "bench")).expect(200);
}

#[test]
fn pages_share_a_connection_with_services() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("bench", &server, "")]);
    let mut connection = router.connect();
    for _ in 0..3 {
        connection.ask(&Request::get("/status")).expect(200);
        connection.ask(&Request::get("/").with("host", "bench")).expect(200);
        connection.ask(&Request::get("/nowhere")).expect(404);
    }
}

//! Who may launch, and what crosses the router.

use crate::stage::{Instance, Request, Router, Service, fronted};
use serde_json::Value;

/// The values of a field that an instance got, from its page `/headers`.
fn got(page: &Value, name: &str) -> Vec<String> {
    let list = page["headers"].as_array().expect("a list");
    list.iter()
        .filter(|it| it[0].as_str().is_some_and(|it| it.eq_ignore_ascii_case(name)))
        .map(|it| it[1].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn web_pages_and_strangers_launch_nothing() {
    let router = Router::start(&[]);
    let service = Service::new("guarded", "");
    let check = |request: Request, class: &str| {
        let answer = router.ask(&request.with("accept", "application/json")).expect(403).json();
        assert_eq!(answer["waiter-error"]["details"]["error-class"], class, "{answer}");
    };
    check(service.get("/").with("host", "evil.example"), "waiter.ServiceForbidden");
    check(service.get("/").with("origin", "http://evil.example"), "waiter.CorsRequestForbidden");
    check(service.get("/").with("origin", "null"), "waiter.CorsRequestForbidden");
    let preflight = Request::of("OPTIONS", "/")
        .with("origin", "http://evil.example")
        .with("access-control-request-method", "GET")
        .with("access-control-request-headers", "x-waiter-cmd");
    check(preflight, "waiter.CorsPreflightForbidden");
    let page = Request::of("DELETE", "/apps/x").with("origin", "http://evil.example");
    check(page, "waiter.CorsRequestForbidden");
    let other = service.clone().with("run-as-user", "somebody-else");
    router.ask(&other.get("/")).expect(403);
    assert_eq!(router.service_ids(), Vec::<String>::new(), "nothing was launched");
    router.ask(&service.get("/").with("host", "localhost:1")).expect(200);
}

#[test]
fn a_name_given_by_the_operator_may_launch() {
    let router = Router::start(&["--hostname", "router.example"]);
    let service = Service::new("named", "");
    router.ask(&service.get("/").with("host", "router.example")).expect(200);
    router.ask(&service.get("/").with("host", "other.example")).expect(200);
}

#[test]
fn authorization_passes_to_static_servers_only() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("bench", &server, "")]);
    let request = Request::get("/headers").with("authorization", "Bearer secret");
    let page = router.ask(&request.clone().with("host", "bench")).expect(200).json();
    assert_eq!(got(&page, "authorization"), ["Bearer secret"]);
    let page = router.ask(&Service::new("launched", "").of(request)).expect(200).json();
    assert_eq!(got(&page, "authorization"), Vec::<String>::new());
    assert_eq!(got(&page, "x-waiter-cmd"), Vec::<String>::new());
}

#[test]
fn forwarded_headers_are_replaced_unless_the_peer_is_trusted() {
    let server = [Instance::start(&[])];
    let bench = fronted("bench", &server, "");
    let forged = Request::get("/headers")
        .with("host", "bench")
        .with("x-forwarded-for", "9.9.9.9")
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-host", "forged.example")
        .with("forwarded", "for=9.9.9.9");
    let plain = Router::start(&["--static", &bench]);
    let page = plain.ask(&forged).expect(200).json();
    assert_eq!(got(&page, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(got(&page, "x-forwarded-proto"), ["http"]);
    assert_eq!(got(&page, "x-forwarded-host"), ["bench"]);
    assert_eq!(got(&page, "forwarded"), Vec::<String>::new());
    let trusting = Router::start(&["--static", &bench, "--trust-forwarded", "127.0.0.0/8"]);
    let page = trusting.ask(&forged).expect(200).json();
    assert_eq!(got(&page, "x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
    assert_eq!(got(&page, "x-forwarded-proto"), ["https"]);
    assert_eq!(got(&page, "x-forwarded-host"), ["forged.example"]);
    assert_eq!(got(&page, "forwarded"), ["for=9.9.9.9"]);
}

#[test]
fn hop_by_hop_fields_stay_and_the_rest_crosses() {
    let server = [Instance::start(&[])];
    let router = Router::start(&["--static", &fronted("bench", &server, "")]);
    let request = Request::get("/headers")
        .with("host", "bench")
        .with("connection", "x-private")
        .with("x-private", "1")
        .with("keep-alive", "timeout=5")
        .with("te", "trailers")
        .with("x-public", "2")
        .with("x-cid", "my-own")
        .with("via", "1.0 front");
    let answer = router.ask(&request).expect(200);
    assert_eq!(answer.field("x-cid"), Some("my-own"));
    assert!(answer.field("via").is_some_and(|it| it.starts_with("1.1 waiter/")));
    let page = answer.json();
    for gone in ["x-private", "keep-alive"] {
        assert_eq!(got(&page, gone), Vec::<String>::new(), "{gone}");
    }
    assert_eq!(
        (got(&page, "x-public"), got(&page, "x-cid")),
        (vec!["2".into()], vec!["my-own".into()])
    );
    assert!(got(&page, "via")[0].starts_with("1.0 front, 1.1 waiter/"), "{page}");
    assert_eq!(got(&page, "host"), ["bench"]);
}

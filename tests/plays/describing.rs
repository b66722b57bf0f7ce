//! What is said of descriptions that are wrong, and of services that cannot run.

use crate::stage::{Request, Response, Router, Service, now};
use std::time::Duration;

fn details(answer: &Response) -> serde_json::Value {
    answer.json()["waiter-error"]["details"].clone()
}

#[test]
fn what_is_wrong_with_a_description_is_said() {
    let router = Router::start(&[]);
    let good = Service::new("wrong", "");
    let lead = "Service description using waiter headers/token improperly configured\n";
    let check = |service: Service, expected: &[&str]| {
        let request = service.get("/").with("accept", "application/json");
        let answer = router.ask(&request).expect(400);
        let page = answer.json();
        let message = page["waiter-error"]["message"].as_str().expect("a message").to_owned();
        for part in expected {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert_eq!(details(&answer)["error-cause"], "service-description-error", "{page}");
        assert_eq!(details(&answer)["whose-fault"], "client");
    };
    let missing = [lead, "cmd must be a non-empty string."];
    check(good.clone().without("cmd"), &missing);
    check(
        good.clone().with("cpus", "-1").with("mem", "much"),
        &[lead, "cpus must be a positive number.", "mem must be a positive number."],
    );
    let range = "concurrency-level must be an integer in the range [1, 10000].";
    check(good.clone().with("concurrency-level", "0"), &[lead, range]);
    let order = "min-instances (5) must be less than or equal to max-instances (2)";
    check(good.clone().with("min-instances", "5").with("max-instances", "2"), &[lead, order]);
    check(good.clone().with("cmd-type", "magic"), &["Command type magic is not supported"]);
    check(good.clone().with("image", "x"), &["image is not supported"]);
    check(good.clone().with("backend-proto", "https"), &["backend-proto https is not supported"]);
    check(good.clone().with("env-1x", "y"), &[lead, "environment variable keys are invalid: 1X"]);
    check(good.clone().with("env-path0", ""), &[lead, "did not have string values: PATH0"]);
    check(good.with("metric-group", "A"), &[lead, "metric-group must be between 2 and 32"]);
    assert!(router.service_ids().is_empty(), "nothing was launched");
}

#[test]
fn a_header_given_twice_and_a_request_for_nobody_are_refused() {
    let router = Router::start(&[]);
    let twice = Service::new("twice", "").get("/").with("x-waiter-mem", "300");
    let answer = router.ask(&twice).expect(400);
    assert!(answer.text().contains("given more than once"), "{}", answer.text());
    let nobody = Request::get("/").with("x-waiter-timeout", "5");
    let answer = router.ask(&nobody.with("accept", "text/plain")).expect(400);
    assert_eq!(answer.field("content-type"), Some("text/plain"));
    let said = answer.text();
    assert!(said.contains("Unable to identify service using waiter headers/token"), "{said}");
    let answer = router.ask(&Service::new("auth", "").with("authentication", "disabled").get("/"));
    assert!(answer.expect(400).text().contains("authentication parameter is not supported"));
}

/// A service that cannot run: each request is told why, and so is the page of the service.
fn deployment_error(service: Service, expected: &str) {
    let router = Router::start(&[]);
    let service = service.with("restart-backoff-factor", "1");
    let begun = now();
    let request = service.get("/").with("accept", "application/json");
    let answer = router.ask(&request.with("x-waiter-queue-timeout", "18000")).expect(503);
    println!("{expected} after {:?}", now() - begun);
    assert_eq!(details(&answer)["error-class"], "waiter.DeploymentError", "{}", answer.text());
    let message = answer.json()["waiter-error"]["message"].as_str().unwrap_or("").to_owned();
    let text = format!("Deployment error: {expected}");
    assert!(message.contains(&text), "{message}");
    let begun = now();
    let again = router.ask(&service.get("/").with("accept", "application/json")).expect(503);
    assert_eq!(details(&again)["error-class"], "waiter.DeploymentError", "{}", again.text());
    assert!(now() - begun < Duration::from_secs(1), "the next one is told at once");
    let page = router.ask(&Request::get("/apps")).expect(200).json();
    let shown = page[0]["deployment-error-message"].as_str().unwrap_or_default();
    assert!(shown.starts_with(&text), "{page}");
}

#[test]
fn a_command_that_ends_at_once_is_a_bad_startup_command() {
    deployment_error(Service::new("ends", "--crash-on-start 3"), "Invalid startup command");
}

#[test]
fn who_does_not_listen_cannot_be_connected_to() {
    let service = Service::run("deaf", "exec sleep 1000").with("grace-period-secs", "1");
    deployment_error(service, "Unable to connect to run health checks");
}

#[test]
fn who_does_not_answer_its_checks_times_out() {
    let service = Service::new("mute", "").with("health-check-url", "/?hang=1");
    let service = service.with("grace-period-secs", "3");
    deployment_error(service, "Health check timed out");
}

#[test]
fn who_closes_without_an_answer_has_a_bad_socket() {
    let service = Service::new("shy", "").with("health-check-url", "/?crash=before");
    let service = service.with("grace-period-secs", "1");
    deployment_error(service, "Backend is closing socket without responding");
}

#[test]
fn who_fails_its_checks_gives_an_invalid_response() {
    let service = Service::new("sick", "--health-status 500").with("grace-period-secs", "1");
    deployment_error(service, "Health check returned an invalid response");
}

#[test]
fn who_asks_for_a_password_requires_authentication() {
    let service = Service::new("locked", "--health-status 401").with("grace-period-secs", "600");
    deployment_error(service, "Health check requires authentication");
}

#[test]
fn who_takes_more_memory_than_described_is_ended() {
    let service = Service::new("greedy", "--memory-mib 150 --startup-delay-ms 20000");
    let service = service.with("mem", "64").with("grace-period-secs", "600");
    deployment_error(service, "Not enough memory allocated");
}

//! How Marathon is reached: who the router is to it, through TLS, over several addresses.

use crate::marathon::service;
use crate::stage::{Cluster, PATIENCE, Router, now, until, until_view};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn who_asks_is_known_and_a_new_token_is_read() {
    let cluster = Cluster::start(&["--token", "right"]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    fs::write(&path, "wrong").expect("written");
    let flag = format!("token:{}", path.display());
    let router = cluster.router(&["--marathon-auth", &flag]);
    until_view(&router, "stale");
    assert!(why(&router).contains("401"), "{}", why(&router));
    fs::write(&path, "right\n").expect("written");
    until_view(&router, "fresh");
    router.ask(&service("known", "").get("/")).expect(200);
}

#[test]
fn a_user_with_a_password_is_known_and_the_password_is_told_to_nobody_else() {
    let cluster = Cluster::start(&["--user", "bob:sesame-7"]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    fs::write(&path, "bob:sesame-7\n").expect("written");
    let flag = format!("basic:{}", path.display());
    let router = cluster.router(&["--marathon-auth", &flag]);
    router.ask(&service("known", "").get("/")).expect(200);
    until("events too", PATIENCE, || (hints(&router) == "coming").then_some(()));
    let secret = |it: &str| it.contains("sesame-7") || it.contains("Ym9iOnNlc2FtZS03");
    let pages = ["/state/scheduler", "/settings"].map(|it| router.page(it).to_string());
    let app = cluster_app(&cluster, "known");
    for said in pages.iter().chain([&router.process.said(), &app]) {
        assert!(!secret(said), "{said}");
    }
}

#[test]
fn tls_is_spoken_and_only_to_whom_it_trusts() {
    let cluster = Cluster::start(&["--token", "right"]);
    let directory = tempfile::tempdir().expect("a directory");
    let front = Front::start(directory.path(), cluster.port());
    let url = format!("https://127.0.0.1:{}", front.port);
    let token = directory.path().join("token");
    fs::write(&token, "right").expect("written");
    let auth = format!("token:{}", token.display());
    let ca = directory.path().join("ca.pem").display().to_string();
    let flags = ["--marathon-auth", auth.as_str()];
    let router = cluster.router_at(&url, &[&flags[..], &["--marathon-ca", &ca]].concat());
    router.ask(&service("sealed", "").get("/")).expect(200);
    until("events too", PATIENCE, || (hints(&router) == "coming").then_some(()));
    drop(router);
    let before = asked(&cluster);
    let router = cluster.router_at(&url, &flags);
    until_view(&router, "stale");
    assert!(why(&router).contains("certificate"), "{}", why(&router));
    assert_eq!(asked(&cluster), before, "nothing was said to a stranger");
}

#[test]
fn a_standby_leads_the_way_to_the_events() {
    let cluster = Cluster::start(&["--standbys", "1"]);
    let router = cluster.router_at(&cluster.standbys()[0], &["--marathon-poll-ms", "60000"]);
    // By events alone; a poll would come too late.
    let begun = now();
    router.ask(&service("led", "").get("/")).expect(200);
    assert!(now() - begun < Duration::from_secs(20));
    assert_eq!(hints(&router), "coming");
    cluster.faults("POST", "/leader", &json!({"absent_ms": 500, "node": 1}));
    until("the stream is opened again, where it leads now", PATIENCE, || {
        let told = cluster.faults("GET", "/requests", &Value::Null);
        let all = told["requests"].as_array().cloned().unwrap_or_default();
        let events = all.iter().filter(|it| it["uri"] == "/v2/events").count();
        (events >= 3 && hints(&router) == "coming").then_some(())
    });
    router.ask(&service("next", "").get("/")).expect(200);
}

fn view(router: &Router) -> Value {
    router.page("/state/scheduler")["state"]["views"]["marathon"].clone()
}

fn hints(router: &Router) -> Value {
    view(router)["event-stream"].clone()
}

fn why(router: &Router) -> String {
    view(router)["why"].to_string()
}

fn cluster_app(cluster: &Cluster, name: &str) -> String {
    cluster.app(name).unwrap_or_default().to_string()
}

/// How many requests reached Marathon.
fn asked(cluster: &Cluster) -> usize {
    let told = cluster.faults("GET", "/requests", &Value::Null);
    told["requests"].as_array().map_or(0, Vec::len)
}

/// What speaks TLS before a server, with a certificate of its own authority, in `ca.pem`.
struct Front {
    child: Child,
    port: u16,
}

impl Front {
    fn start(directory: &Path, to: u16) -> Self {
        let make = "key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
            openssl req -x509 $key -keyout ca.key -out ca.pem -subj /CN=authority
            openssl req $key -keyout key.pem -out request -subj /CN=marathon
            echo subjectAltName=IP:127.0.0.1 > names
            openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile names -out cert.pem";
        let made = Command::new("sh").args(["-ec", make]).current_dir(directory).output();
        let made = made.expect("there is a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plays/tls_front.py"))
            .args(["cert.pem", "key.pem", &to.to_string()])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says its port");
        Self { port: line.trim().parse().expect("a port"), child }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

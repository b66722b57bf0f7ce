//! Plays of the whole room: threads, a made-up shard, a made-up control thread, and for pings a
//! made-up listener.

use super::fixture::{KITCHEN, Outcome, Router, call, id, outcome};
use super::logs::Look;
use super::pool::{Ask, ERRANDS_MAX, Joins, start};
use crate::base::address::SocketAddr;
use crate::base::time::Duration;
use crate::core::catalogue::{Catalogue, Demand, Done, Entry};
use crate::core::sandbox::{Item, Kind};
use crate::mesh::Bell;
use crate::wire::call::{Answer, Call};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

struct Play {
    calls: Sender<Call>,
    answers: Receiver<Answer>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    demands: Receiver<(Demand, Sender<Done>)>,
    thread: JoinHandle<()>,
}

impl Play {
    fn new(listener: Option<SocketAddr>) -> Self {
        let Router { catalogue, mut about } = Router::new();
        about.address = listener.unwrap_or(about.address);
        let (calls, given) = channel();
        let (answer, answers) = channel();
        let (demand, demands) = channel();
        let ask: Ask =
            Arc::new(move |what, done| demand.send((what, done)).expect("the play is on"));
        let catalogue = Arc::new(ArcSwap::from_pointee(catalogue));
        let look: Look = Arc::new(|runner, wanted| match wanted.folder.as_str() {
            "none" => Ok(None),
            "hidden" => Err("it may not be read".into()),
            _ => Ok(Some(vec![
                Item { name: "stdout".into(), size: 5, kind: Kind::File("file:/s".into()) },
                Item { name: runner.name().into(), size: 0, kind: Kind::Folder("a b".into()) },
            ])),
        });
        let answer = vec![(answer, Arc::new(Bell::default()))];
        let joins =
            Joins { calls: given, answers: answer, catalogue: catalogue.clone(), ask, look, about };
        let thread = start(joins).expect("threads");
        Self { calls, answers, catalogue, demands, thread }
    }

    fn send(&self, line: &str, fields: &[(&str, &str)]) {
        self.calls.send(call(line, fields)).expect("the pool is there");
    }

    fn answer(&self) -> Outcome {
        outcome(self.answers.recv_timeout(PATIENCE).expect("an answer"))
    }

    fn demand(&self) -> Sender<Done> {
        let (demand, done) = self.demands.recv_timeout(PATIENCE).expect("a demand");
        assert_eq!(demand, Demand::Delete(id("kitchen")));
        done
    }

    /// The scheduler no longer lists kitchen.
    fn publish_deletion(&self) {
        let mut catalogue = Catalogue::clone(&self.catalogue.load());
        let id = id("kitchen");
        let entry = Entry { exists: false, ..Entry::clone(&catalogue.services[&id]) };
        catalogue.services.insert(id, Arc::new(entry));
        self.catalogue.store(Arc::new(catalogue));
    }

    fn end(self) {
        drop(self.calls);
        self.thread.join().expect("it ended well");
    }
}

fn deletion(timeout: &str) -> String {
    format!("DELETE /apps/{}{timeout}", id("kitchen"))
}

#[test]
fn the_folder_of_an_instance_is_shown() {
    let play = Play::new(None);
    let service = id("kitchen");
    let logs = format!("GET /apps/{service}/logs?instance-id={service}.i20&host=127.0.0.1");
    play.send(&logs, &[]);
    let answer = play.answer();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let link =
        format!("/apps/{service}/logs?instance-id={service}.i20&host=127.0.0.1&directory=a%20b");
    let expected = json!([
        {"name": "stdout", "size": 5, "type": "file", "url": "file:/s"},
        {"name": "local", "size": 0, "type": "directory", "url": link},
    ]);
    assert_eq!(answer.json(), expected);
    for (folder, status) in [("none", 404), ("hidden", 502)] {
        play.send(&format!("{logs}&directory={folder}"), &[]);
        assert_eq!(play.answer().status, status, "{folder}");
    }
    play.send(&logs, &[("origin", "http://a.page")]);
    assert_eq!(play.answer().status, 403);
}

#[test]
fn calls_are_answered_until_the_shards_are_gone() {
    let play = Play::new(None);
    for _ in 0..20 {
        play.send("GET /status", &[]);
    }
    assert!((0..20).all(|_| play.answer().status == 200));
    play.end();
}

#[test]
fn a_deletion_is_asked_of_the_control_thread() {
    let play = Play::new(None);
    for (timeout, done, status, expected) in [
        ("", Some(Done::Deleted), 200, json!({"success": true, "result": "deleted"})),
        ("?timeout=1", Some(Done::Deleted), 200, json!({"success": true, "routers-agree": false})),
        (
            "?timeout=1",
            Some(Done::NoSuchService),
            404,
            json!({"success": false, "result": "no-such-service-exists"}),
        ),
        ("", Some(Done::Failed("why".into())), 400, json!({"success": false, "message": "why"})),
        ("", None, 500, json!({})),
    ] {
        play.send(&deletion(timeout), &[("accept", "application/json")]);
        let answers = play.demand();
        match done {
            Some(done) => answers.send(done).expect("it waits"),
            None => drop(answers),
        }
        let found = play.answer();
        assert_eq!(found.status, status, "{}", found.body);
        let found = found.json();
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(found[key], *value, "{found}");
        }
        let agrees = expected.get("routers-agree").is_some();
        assert_eq!(found.get("routers-agree").is_some(), agrees, "{found}");
    }
    play.end();
}

#[test]
fn a_deletion_may_wait_until_the_service_is_not_listed() {
    let play = Play::new(None);
    play.send(&deletion("?timeout=30000"), &[]);
    play.demand().send(Done::Deleted).expect("it waits");
    play.publish_deletion();
    assert_eq!(
        play.answer().json(),
        json!({
            "message": format!("Deleted {}", id("kitchen")),
            "result": "deleted",
            "routers-agree": true,
            "service-id": id("kitchen").as_str(),
            "success": true,
        })
    );
    play.end();
}

#[test]
fn errands_are_bounded_and_delay_no_page() {
    let play = Play::new(None);
    let mut waiting = Vec::new();
    for _ in 0..ERRANDS_MAX {
        play.send(&deletion(""), &[]);
        waiting.push(play.demand());
    }
    play.send(&deletion(""), &[]);
    assert_eq!(play.answer().status, 503);
    play.send("GET /status", &[]);
    assert_eq!(play.answer().status, 200);
    for answers in waiting {
        answers.send(Done::Deleted).expect("it waits");
        assert_eq!(play.answer().status, 200);
    }
    play.end();
}

/// A listener that takes one request, gives its bytes away, and answers with `response` or not.
fn listener(response: Option<&'static str>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (seen, requests) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a ping");
        seen.send(read_head(&mut stream)).expect("the play is on");
        match response {
            Some(response) => stream.write_all(response.as_bytes()).expect("it reads"),
            // It answers nothing for as long as the other side waits.
            None => drop(stream.read(&mut [0])),
        }
    });
    (address, requests)
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text").to_ascii_lowercase()
}

fn ping(address: SocketAddr, more: &[(&str, &str)]) -> Value {
    let play = Play::new(Some(address));
    play.send("GET /waiter-ping", &[&KITCHEN[..], more].concat());
    let found = play.answer();
    assert_eq!(found.status, 200);
    play.end();
    found.json()
}

#[test]
fn a_ping_goes_through_the_routers_own_listener() {
    let (address, requests) = listener(Some(
        "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nx-waiter-backend-id: s.i20\r\n\
         x-waiter-backend-host: 127.0.0.1\r\nx-waiter-backend-port: 10020\r\n\
         content-length: 2\r\n\r\nok",
    ));
    let found = ping(address, &[]);
    let request = requests.recv_timeout(PATIENCE).expect("a request");
    assert!(request.starts_with("get /status http/1.1\r\n"), "{request}");
    for line in [
        "host: localhost:9091",
        "x-waiter-cmd: ./kitchen -p $port0",
        "x-waiter-env-foo: bar",
        "x-waiter-debug: true",
        "x-cid: cid-1",
        "user-agent: waiter-ping/0.1.0",
        "accept: application/json;q=1.0, */*;q=0.9",
    ] {
        assert_eq!(request.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {request}");
    }
    assert_eq!(request.matches("\r\nhost:").count(), 1, "{request}");
    assert!(!request.contains("\r\norigin:"), "{request}");
    let response = &found["ping-response"];
    assert_eq!(response["result"], "received-response");
    assert_eq!((&response["status"], &response["body"]), (&json!(302), &json!("ok")));
    assert_eq!(response["headers"]["location"], "/elsewhere");
    let instance = json!({"host": "127.0.0.1", "id": "s.i20", "port": 10020});
    assert_eq!(response["instance"], instance);
    assert_eq!(found["service-description"]["name"], "kitchen");
    let id = id("kitchen");
    assert_eq!(
        found["service-state"],
        json!({"exists?": true, "healthy?": true, "service-id": id.as_str(), "status": "Running"})
    );
}

#[test]
fn a_ping_without_an_answer_ends() {
    let (address, _requests) = listener(None);
    let found = ping(address, &[("x-waiter-timeout", "50")]);
    assert_eq!(found["ping-response"], json!({"result": "timed-out"}));
    assert_eq!(found["service-state"]["status"], "Running");
}

#[test]
fn the_ping_of_one_who_may_not_launch_cannot_start_anything() {
    let (address, requests) = listener(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let found = ping(address, &[("origin", "http://evil.example")]);
    assert_eq!(found["ping-response"]["status"], 200);
    let request = requests.recv_timeout(PATIENCE).expect("a request");
    assert!(request.contains("\r\norigin: null\r\n"), "{request}");
}

#[test]
fn a_ping_that_cannot_be_sent_says_so() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let found = ping(closed, &[]);
    assert_eq!(found["ping-response"]["result"], "ping-internal-error");
}

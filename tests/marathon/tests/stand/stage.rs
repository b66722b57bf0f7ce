//! A running stand-in, and calls to it. Every answer that passes through here is held against the
//! schema of its endpoint. The stand-in ends with its input, so also when a test fails.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::schemas::{self, Generation};

/// For everything that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    pub(crate) ports: Value,
    pub(crate) generation: Generation,
    child: Child,
    stdin: Option<ChildStdin>,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
    /// Null, if it is not JSON.
    pub(crate) json: Value,
}

impl Stage {
    /// Scaled so that nothing takes long; `args` come on top.
    pub(crate) fn new(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_marathon-stand-in"))
            .args(["--until-stdin-closes", "--health-scale", "0.1", "--backoff-scale", "0.3"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the stand-in starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("is piped");
        BufReader::new(out).read_line(&mut line).expect("a line is printed");
        let ports = serde_json::from_str(&line).expect("the line is JSON");
        let old = args.contains(&"1.3");
        Self {
            ports,
            generation: if old { Generation::V1_3 } else { Generation::V1_10 },
            stdin: child.stdin.take(),
            child,
            agent: agent(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.ports["url"].as_str().expect("is printed")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls Marathon's API; null is no body.
    pub(crate) fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let answer = ask(&self.agent, method, &format!("{}{path}", self.url()), &body, &[]);
        schemas::judge(self.generation, method, path, &answer);
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, Value::Null);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json
    }

    /// Calls the fault port, which has to agree.
    pub(crate) fn fault(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.ports["faultsUrl"].as_str().expect("is printed"));
        let answer = ask(&self.agent, method, &url, &body, &[]);
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.text);
        answer.json
    }

    /// Calls any URL, with headers; judged by nobody.
    pub(crate) fn raw(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.agent, method, url, &Value::Null, headers)
    }

    /// Creates an app and waits until its deployment is over.
    pub(crate) fn run(&self, app: Value) -> Vec<Value> {
        let id = app["id"].as_str().expect("has an id").to_owned();
        let answer = self.call("POST", "/v2/apps", app);
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.settle();
        self.tasks(&id)
    }

    /// Waits until no deployment is at work.
    pub(crate) fn settle(&self) {
        self.wait("no deployment", || (self.get("/v2/deployments") == json!([])).then_some(()));
    }

    pub(crate) fn app(&self, id: &str) -> Value {
        self.get(&format!("/v2/apps/{id}"))["app"].take()
    }

    pub(crate) fn tasks(&self, id: &str) -> Vec<Value> {
        self.app(id)["tasks"].as_array().expect("are listed").clone()
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, what: &str, mut until: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(it) = until() {
                return it;
            }
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the stand-in's input and waits for its end.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("is a child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It has to end by itself, else it would leave processes behind.
        let _ = self.child.wait();
    }
}

/// The id of a task.
pub(crate) fn id(task: &Value) -> &str {
    task["id"].as_str().expect("a task has an id")
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn ask(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.body(text).expect("is a request");
    let request = agent.configure_request(request).allow_non_standard_methods(true).build();
    let mut answer = agent.run(request).unwrap_or_else(|why| panic!("{method} {url}: {why}"));
    let text = answer.body_mut().read_to_string().expect("the answer is text");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        json: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    }
}

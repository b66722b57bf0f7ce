//! The stand-in for Marathon: a process with a port for faults. It shares no code with the product.

use super::client::Connection;
use super::process::exists;
use super::request::Request;
use super::router::{Router, data_dir};
use super::wait::{PATIENCE, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::{NamedTempFile, TempDir};

/// A cluster that runs.
#[derive(Debug)]
pub(crate) struct Cluster {
    child: Child,
    told: Value,
    stderr: NamedTempFile,
    data_dir: Arc<TempDir>,
}

impl Cluster {
    /// Starts one that is quick to check and to launch again.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let stderr = NamedTempFile::new().expect("a temporary file");
        let mut child = Command::new(binary())
            .args(["--until-stdin-closes", "--agents", "2", "--health-scale", "0.05"])
            .args(["--backoff-scale", "0.3", "--heartbeat-ms", "1000", "--leader-wait-ms", "300"])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.reopen().expect("a temporary file"))
            .spawn()
            .expect("the stand-in was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let told = serde_json::from_str(&line).expect("in JSON");
        Self { child, told, stderr, data_dir: data_dir() }
    }

    /// Starts a router before it, with these flags besides.
    pub(crate) fn router(&self, flags: &[&str]) -> Router {
        self.router_at(self.url(), flags)
    }

    /// Starts another router before it, with a data directory of its own.
    pub(crate) fn another(&self, flags: &[&str]) -> Router {
        self.router_on(&data_dir(), self.url(), flags)
    }

    /// As [`router`](Self::router), told these addresses of Marathon.
    pub(crate) fn router_at(&self, urls: &str, flags: &[&str]) -> Router {
        self.router_on(&self.data_dir, urls, flags)
    }

    fn router_on(&self, data_dir: &Arc<TempDir>, urls: &str, flags: &[&str]) -> Router {
        let port = self.told["agentPort"].to_string();
        let ours = [
            ("--scheduler", "marathon"),
            ("--marathon", urls),
            ("--marathon-poll-ms", "300"),
            ("--marathon-timeout-ms", "1500"),
            ("--marathon-doubt-secs", "3"),
            ("--marathon-min-hosts", "1"),
            ("--mesos-agent-port", port.as_str()),
        ];
        let mut all: Vec<&str> = flags.to_vec();
        for (name, value) in ours {
            if !flags.contains(&name) {
                all.extend([name, value]);
            }
        }
        Router::start_on(data_dir, &all)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        self.told["url"].as_str().expect("a text")
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.told["api"].as_u64().expect("a number")).expect("a port")
    }

    /// The addresses of its standbys.
    pub(crate) fn standbys(&self) -> Vec<String> {
        let all = self.told["standbys"].as_array().expect("a list");
        all.iter().map(|it| format!("http://127.0.0.1:{it}")).collect()
    }

    /// Asks Marathon: the status, and the JSON of the answer.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        Self::ask_at(&self.told["api"], method, target, body)
    }

    /// Asks the port for faults.
    pub(crate) fn faults(&self, method: &str, target: &str, body: &Value) -> Value {
        let (status, told) = Self::ask_at(&self.told["faults"], method, target, body);
        assert!((200..300).contains(&status), "{method} {target}: {status} {told}");
        told
    }

    /// From now on this fault.
    pub(crate) fn fault(&self, fault: &Value) {
        self.faults("POST", "/faults", fault);
    }

    /// No faults from now on.
    pub(crate) fn no_faults(&self) {
        self.faults("DELETE", "/faults", &Value::Null);
    }

    fn ask_at(port: &Value, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let port = u16::try_from(port.as_u64().expect("a port")).expect("a port");
        let mut request = Request::post(target, body.to_string().as_bytes());
        if body.is_null() {
            request = Request::of(method, target);
        }
        request.method = method.to_owned();
        let request = request.with("content-type", "application/json");
        let answer = Connection::open(SocketAddr::from(([127, 0, 0, 1], port))).ask(&request);
        let told = serde_json::from_str(&answer.text()).unwrap_or_default();
        (answer.status, told)
    }

    /// The app of the service of this name, if there is one.
    pub(crate) fn app(&self, name: &str) -> Option<Value> {
        let (_, told) = self.ask("GET", "/v2/apps?embed=apps.tasks", &Value::Null);
        let apps = told["apps"].as_array().cloned().unwrap_or_default();
        let part = format!("-{name}-");
        let is_it = |it: &Value| it["id"].as_str().is_some_and(|id| id.contains(&part));
        let id = apps.iter().find(|it| is_it(it))?["id"].as_str()?.to_owned();
        let (status, app) = self.ask("GET", &format!("/v2/apps{id}"), &Value::Null);
        (status == 200).then(|| app["app"].clone())
    }

    /// The ids of its tasks.
    pub(crate) fn tasks(&self, name: &str) -> Vec<String> {
        let app = self.app(name).unwrap_or_default();
        let tasks = app["tasks"].as_array().cloned().unwrap_or_default();
        tasks.iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Ends a task in this way, and waits until its process has gone: one that dies may still take
    /// a connection, which then breaks.
    pub(crate) fn end(&self, task: &str, what: &str, body: &Value) {
        let pid = self.process(task);
        self.faults("POST", &of_task(task, what), body);
        until("its process has gone", PATIENCE, || (!exists(pid)).then_some(()));
    }

    /// The process of a task.
    pub(crate) fn process(&self, task: &str) -> u32 {
        let list = self.process_list();
        let process = list.iter().find(|it| it["task"] == task).expect("it has a process");
        pid_of(process).expect("a number")
    }

    /// Processes of tasks that are alive.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.process_list().iter().filter_map(pid_of).collect()
    }

    fn process_list(&self) -> Vec<Value> {
        let told = self.faults("GET", "/processes", &Value::Null);
        told["processes"].as_array().cloned().unwrap_or_default()
    }

    /// What was asked of Marathon so far, as `METHOD target`; those that only read left out.
    pub(crate) fn writes(&self) -> Vec<String> {
        let told = self.faults("GET", "/requests", &Value::Null);
        let all = told["requests"].as_array().cloned().unwrap_or_default();
        let line = |it: &Value| {
            format!("{} {}", it["method"].as_str().unwrap_or(""), it["uri"].as_str().unwrap_or(""))
        };
        all.iter().map(line).filter(|it| !it.starts_with("GET ")).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // then it ends, and with it all it started
        let ended = super::wait::within(PATIENCE, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.stderr.path()).unwrap_or_default();
            eprintln!("---- stderr of the stand-in\n{said}----");
        }
    }
}

fn pid_of(process: &Value) -> Option<u32> {
    u32::try_from(process["pid"].as_u64()?).ok()
}

/// How far the router believes its scheduler.
fn view(router: &Router) -> String {
    let state = router.page("/state/scheduler")["state"].clone();
    state["views"]["marathon"]["view"].as_str().unwrap_or("").to_owned()
}

/// Waits until the router believes its scheduler so far.
pub(crate) fn until_view(router: &Router, expected: &str) {
    until(expected, PATIENCE, || (view(router) == expected).then_some(()));
}

/// Beside the product's binary; built if it is not there.
fn binary() -> PathBuf {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_waiter"));
    let path = ours.with_file_name("marathon-stand-in");
    if !path.exists() {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        build.args(["build", "--quiet", "--package", "marathon-stand-in"]);
        if ours.parent().is_some_and(|it| it.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.status().is_ok_and(|it| it.success());
        assert!(built && path.exists(), "cargo build --package marathon-stand-in");
    }
    path
}

/// The id of a task, escaped for a path; and no body.
pub(crate) fn of_task(task: &str, what: &str) -> String {
    format!("/tasks/{task}/{what}")
}

/// A fault that answers so to requests with this method and path.
pub(crate) fn status(method: &str, path: &str, code: u16, body: &str) -> Value {
    json!({"do": "status", "method": method, "path": path, "code": code, "body": body})
}

//! The router's process.

use super::client::{Connection, Response};
use super::path;
use super::process::{Process, signal};
use super::request::Request;
use super::wait::{PATIENCE, until};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Ports of instances lie below those the kernel gives out by itself.
const PORTS_FROM: u32 = 20_000;
const PORTS: u32 = 12_000;
/// Ports of one router.
const PORTS_EACH: u32 = 40;

/// Routers started so far.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A router that runs.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    pub(crate) data_dir: Arc<TempDir>,
    pub(crate) process: Process,
}

impl Router {
    /// Starts one with these flags and a data directory of its own.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_on(&data_dir(), flags)
    }

    /// Starts one on this data directory.
    pub(crate) fn start_on(data_dir: &Arc<TempDir>, flags: &[&str]) -> Self {
        Self::begin(Process::start(&arguments(data_dir.path(), flags)), data_dir)
    }

    /// Starts one that may have no more than so many descriptors open.
    pub(crate) fn start_with_descriptors(count: usize, flags: &[&str]) -> Self {
        let data_dir = data_dir();
        let command = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        let arguments = arguments(data_dir.path(), flags);
        Self::begin(Process::start_through(&["sh", "-c", &command], &arguments), &data_dir)
    }

    fn begin(process: Process, data_dir: &Arc<TempDir>) -> Self {
        let line = process.line(PATIENCE).unwrap_or_else(|| {
            panic!("the router did not start: {}", process.said());
        });
        let address = line.strip_prefix("listening on ").and_then(|it| it.parse().ok());
        let data_dir = data_dir.clone();
        Self { address: address.expect("an address"), data_dir, process }
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, request: &Request) -> Response {
        self.connect().ask(request)
    }

    /// Asks one of its own pages.
    pub(crate) fn page(&self, target: &str) -> Value {
        self.ask(&Request::get(target)).expect(200).json()
    }

    /// What `/apps/<service-id>` says of the service of this name, once it is known.
    pub(crate) fn service(&self, name: &str) -> Option<Value> {
        let id = self.service_id(name)?;
        let page = self.ask(&Request::get(&format!("/apps/{id}?include=metrics")));
        (page.status == 200).then(|| page.json())
    }

    /// The id of the service of this name, once it is listed.
    pub(crate) fn service_id(&self, name: &str) -> Option<String> {
        let ids = self.service_ids();
        ids.into_iter().find(|it| it.contains(&format!("-{name}-")))
    }

    /// All services that are listed.
    pub(crate) fn service_ids(&self) -> Vec<String> {
        let list = self.page("/apps");
        let id = |it: &Value| it["service-id"].as_str().expect("an id").to_owned();
        list.as_array().expect("a list").iter().map(id).collect()
    }

    /// The active instances of the service of this name; none if it is not listed.
    pub(crate) fn active(&self, name: &str) -> Vec<Value> {
        let page = self.service(name).unwrap_or_default();
        page["instances"]["active-instances"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the only instance of the service of this name has so many requests in flight.
    pub(crate) fn until_in_flight(&self, name: &str, count: u64) {
        let service = self.service(name).expect("it is listed");
        let port = service["instances"]["active-instances"][0]["port"].as_u64();
        let port = port.and_then(|it| u16::try_from(it).ok()).expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until("requests are in flight", PATIENCE, || {
            let stats = Connection::open(address).ask(&Request::get("/stats")).json();
            (stats["in_flight"] == count).then_some(())
        });
    }

    /// How many requests wait for the service of this name.
    pub(crate) fn waiting(&self, name: &str) -> u64 {
        let service = self.service(name).unwrap_or_default();
        service["metrics"]["aggregate"]["waiting"].as_u64().unwrap_or(0)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end: the exit code.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<i32> {
        self.process.wait(patience)
    }

    /// Descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.pid());
        fs::read_dir(path).expect("it runs").count()
    }

    /// The sum of all samples of this metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric_at(self.address, name)
    }

    /// Bytes of memory it holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.process.pid());
        let text = fs::read_to_string(path).expect("it runs");
        let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
        pages.expect("a number of pages") * 4096
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.process.status().is_none() {
            // The second one says that it is not to wait for requests.
            self.process.signal("TERM");
            self.process.signal("TERM");
            if self.process.ends_within(Duration::from_secs(8)) {
                return;
            }
            self.process.kill();
        }
        end_launched(self.data_dir.path());
    }
}

/// The sum of all samples of this metric of the router at this address.
pub(crate) fn metric_at(address: SocketAddr, name: &str) -> f64 {
    let text = Connection::open(address).ask(&Request::get("/metrics")).expect(200).text();
    let is_sample =
        |it: &&str| it.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let value = |it: &str| it.rsplit(' ').next().and_then(|it| it.parse::<f64>().ok());
    text.lines().filter(is_sample).filter_map(value).sum()
}

/// Ends what a router that was killed has left.
fn end_launched(data_dir: &Path) {
    for record in fs::read_dir(data_dir.join("launches")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(record.path()).unwrap_or_default();
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(pid) = record["pid"].as_u64() {
            signal(&format!("-{pid}"), "KILL");
        }
    }
}

/// A data directory.
pub(crate) fn data_dir() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary directory"))
}

/// Starts a router that must refuse: its exit code, and what it says.
pub(crate) fn complaint(data_dir: &Path, flags: &[&str]) -> (Option<i32>, String) {
    complaint_through(&[], data_dir, flags)
}

/// The same, started through a command that becomes the router.
pub(crate) fn complaint_through(
    through: &[&str],
    data_dir: &Path,
    flags: &[&str],
) -> (Option<i32>, String) {
    let mut process = Process::start_through(through, &arguments(data_dir, flags));
    let code = process.wait(PATIENCE);
    (code, process.said())
}

/// Flags that are not given are those of a play.
fn arguments(data_dir: &Path, flags: &[&str]) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned()];
    let mut default = |name: &str, value: &str| {
        if !flags.contains(&name) {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
    };
    // Tests of one run, and of several runs at a time, get other ports.
    let unique = std::process::id() * 7 + STARTED.fetch_add(1, Ordering::SeqCst);
    let from = PORTS_FROM + unique * PORTS_EACH % (PORTS - PORTS % PORTS_EACH);
    default("--listen", "127.0.0.1:0");
    default("--data-dir", &data_dir.to_string_lossy());
    default("--ports", &format!("{from}-{}", from + PORTS_EACH - 1));
    default("--cores", "0-0");
    arguments.extend(path::flags(flags));
    arguments.extend(flags.iter().map(|it| (*it).to_owned()));
    arguments
}

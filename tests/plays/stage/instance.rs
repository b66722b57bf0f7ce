//! A server that exists by itself: `waiter instance`, started by the play.

use super::client::Connection;
use super::process::Process;
use super::request::Request;
use super::wait::PATIENCE;
use serde_json::Value;
use std::net::SocketAddr;

/// A server that is not launched by the router.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Instance {
    /// Starts one with these knobs.
    pub(crate) fn start(knobs: &[&str]) -> Self {
        Self::start_at("0", knobs)
    }

    /// Starts one on this port.
    pub(crate) fn start_at(port: &str, knobs: &[&str]) -> Self {
        let mut arguments: Vec<String> = ["instance", "--port", port].map(str::to_owned).into();
        arguments.extend(knobs.iter().map(|it| (*it).to_owned()));
        let process = Process::start(&arguments);
        let line = process.line(PATIENCE).expect("an instance says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|it| it.parse().ok());
        Self { address: address.expect("an address"), process }
    }

    /// Its counters, asked without the router.
    pub(crate) fn stats(&self) -> Value {
        Connection::open(self.address).ask(&Request::get("/stats")).json()
    }

    /// One of its counters.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.stats()[name].as_u64().expect("a counter")
    }

    /// The process id, as it stands in `x-instance`.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// The value of `--static` for these servers.
pub(crate) fn fronted(name: &str, instances: &[Instance], parameters: &str) -> String {
    let addresses: Vec<String> = instances.iter().map(|it| it.address.to_string()).collect();
    format!("{name}={};{parameters}", addresses.join(","))
}

//! The settings of a router, as they are written.

use super::io::WrittenIo;
use super::marathon::WrittenMarathon;
use super::routers::WrittenRouters;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Written {
    /// Listen here; repeatable. Port 0: any free port [default: 127.0.0.1:9091]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<String>,
    /// Cores: a number N (the first N allowed ones) or a list such as 0-3,8; 1-1 is core 1, and
    /// repeats are allowed [default: all allowed]
    #[arg(long, value_name = "N|LIST")]
    pub cores: Option<String>,
    /// Where launches, output of instances and the store are kept [default: .waiter]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What runs instances: local (processes of this host), marathon, both with a comma between
    /// (the first runs services that do not choose) or none [default: local]
    #[arg(long, value_name = "NAME,...")]
    pub scheduler: Option<String>,
    /// The Marathon scheduler.
    #[command(flatten)]
    #[serde(flatten)]
    pub marathon: WrittenMarathon,
    /// Front existing servers: NAME=ADDR:PORT,...;PARAMETER=VALUE;...; repeatable
    #[arg(long = "static", value_name = "SPEC")]
    #[serde(rename = "static")]
    pub fronted: Vec<String>,
    /// Ports for instances [default: 10000-10999]
    #[arg(long, value_name = "FROM-TO")]
    pub ports: Option<String>,
    /// Names under which this router itself is known; repeatable. Requests to other hosts are for
    /// services [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub hostname: Vec<String>,
    /// Name of the cluster of routers, told to instances too [default: waiter]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The cluster of routers.
    #[command(flatten)]
    #[serde(flatten)]
    pub routers: WrittenRouters,
    /// What the id of a launched service begins with [default: waiter-service-]
    #[arg(long, value_name = "TEXT")]
    pub service_prefix: Option<String>,
    /// Peers beyond loopback that may launch or change services; repeatable
    #[arg(long, value_name = "CIDR")]
    pub launch_from: Vec<String>,
    /// Peers whose X-Forwarded-* and Forwarded headers are believed; repeatable
    #[arg(long, value_name = "CIDR")]
    pub trust_forwarded: Vec<String>,
    /// What a client means that closes its sending side after a request: gone or allow (it still
    /// wants its answer) [default: gone]
    #[arg(long, value_name = "MEANING")]
    pub half_close: Option<String>,
    /// Which core serves a client: balanced (the one that accepted it, unless it has more than its
    /// share) or plain (always that one) [default: balanced]
    #[arg(long, value_name = "WAY")]
    pub accept: Option<String>,
    /// One JSON line per request: off, - (standard output) or a file [default: off]
    #[arg(long, value_name = "off|-|PATH")]
    pub access_log: Option<String>,
    /// Diagnostics on stderr: text, json or off [default: text]
    #[arg(long, value_name = "FORM")]
    pub log: Option<String>,
    /// Which diagnostics: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// At the end, requests at hand may take so long [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub drain_secs: Option<u64>,
    /// Time between two rounds of the garbage collectors [default: 60000]
    #[arg(long, value_name = "MS")]
    pub gc_interval_ms: Option<u64>,
    /// A service that cannot run is deleted after so long [default: 30]
    #[arg(long, value_name = "MINUTES")]
    pub broken_service_timeout_mins: Option<u64>,
    /// How sockets are driven.
    #[command(flatten)]
    #[serde(flatten)]
    pub sockets: WrittenIo,
    /// Limits of connections and messages.
    #[command(flatten)]
    #[serde(flatten)]
    pub bounds: Bounds,
}

/// Limits, as written.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Bounds {
    /// Client connections per shard [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_clients: Option<u64>,
    /// Largest head of a request or response [default: 32768]
    #[arg(long, value_name = "BYTES")]
    pub max_head_bytes: Option<u64>,
    /// Body bytes under way per direction of a request [default: 262144]
    #[arg(long, value_name = "BYTES")]
    pub window_bytes: Option<u64>,
    /// Requests that wait on this router, all services together [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<u64>,
    /// Memory of all requests that wait on this router, in MiB [default: 256]
    #[arg(long, value_name = "MIB")]
    pub queue_memory: Option<u64>,
    /// A client sends a whole head within this time [default: 10000]
    #[arg(long, value_name = "MS")]
    pub header_timeout_ms: Option<u64>,
    /// An idle client connection is kept this long [default: 75000]
    #[arg(long, value_name = "MS")]
    pub keep_alive_timeout_ms: Option<u64>,
    /// A client that is to send or take body does so at least this often [default: 30000]
    #[arg(long, value_name = "MS")]
    pub body_idle_timeout_ms: Option<u64>,
    /// An instance accepts a connection within this time [default: 5000]
    #[arg(long, value_name = "MS")]
    pub connect_timeout_ms: Option<u64>,
    /// An instance begins its response within this time, and is never silent for longer
    /// [default: 900000]
    #[arg(long, value_name = "MS")]
    pub first_byte_timeout_ms: Option<u64>,
    /// An instance takes body that is sent to it at least this often [default: 20000]
    #[arg(long, value_name = "MS")]
    pub streaming_timeout_ms: Option<u64>,
    /// A tunnel in which nothing moves is kept this long [default: 3600000]
    #[arg(long, value_name = "MS")]
    pub tunnel_idle_timeout_ms: Option<u64>,
    /// A request waits this long for a slot [default: 300000]
    #[arg(long, value_name = "MS")]
    pub queue_timeout_ms: Option<u64>,
    /// An idle connection to an instance is kept this long [default: 4000]
    #[arg(long, value_name = "MS")]
    pub upstream_idle_timeout_ms: Option<u64>,
    /// First rest of an instance that failed; doubles with each failure in a row [default: 10000]
    #[arg(long, value_name = "MS")]
    pub eject_base_ms: Option<u64>,
    /// Longest rest of an instance that failed [default: 300000]
    #[arg(long, value_name = "MS")]
    pub eject_max_ms: Option<u64>,
}

impl Written {
    /// These settings, where given, else those of `file`.
    #[must_use]
    pub fn over(self, file: Self) -> Self {
        let list = |a: Vec<String>, b: Vec<String>| if a.is_empty() { b } else { a };
        Self {
            listen: list(self.listen, file.listen),
            cores: self.cores.or(file.cores),
            data_dir: self.data_dir.or(file.data_dir),
            scheduler: self.scheduler.or(file.scheduler),
            marathon: self.marathon.over(file.marathon),
            fronted: list(self.fronted, file.fronted),
            ports: self.ports.or(file.ports),
            hostname: list(self.hostname, file.hostname),
            cluster: self.cluster.or(file.cluster),
            routers: self.routers.over(file.routers),
            service_prefix: self.service_prefix.or(file.service_prefix),
            launch_from: list(self.launch_from, file.launch_from),
            trust_forwarded: list(self.trust_forwarded, file.trust_forwarded),
            half_close: self.half_close.or(file.half_close),
            accept: self.accept.or(file.accept),
            access_log: self.access_log.or(file.access_log),
            log: self.log.or(file.log),
            log_level: self.log_level.or(file.log_level),
            drain_secs: self.drain_secs.or(file.drain_secs),
            gc_interval_ms: self.gc_interval_ms.or(file.gc_interval_ms),
            broken_service_timeout_mins: self
                .broken_service_timeout_mins
                .or(file.broken_service_timeout_mins),
            sockets: self.sockets.over(file.sockets),
            bounds: self.bounds.over(file.bounds),
        }
    }

    /// Every key there is, in the order of the flags; each is a flag too.
    pub fn keys() -> Vec<String> {
        let flags = Self::augment_args(clap::Command::new("keys"));
        flags.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned).collect()
    }

    /// The keys that are given here.
    pub(super) fn given(&self) -> BTreeSet<String> {
        // Whether it is given counts, and not every path is text.
        let named = |it: &Option<PathBuf>| it.as_ref().map(|_| PathBuf::new());
        let routers = WrittenRouters {
            cluster_secret_file: named(&self.routers.cluster_secret_file),
            store_keys_file: named(&self.routers.store_keys_file),
            ..self.routers.clone()
        };
        let data_dir = named(&self.data_dir);
        let json = serde_json::to_value(Self { data_dir, routers, ..self.clone() });
        let json = json.expect("plain values");
        let serde_json::Value::Object(json) = json else { unreachable!("a struct is a map") };
        let says = |value: &serde_json::Value| {
            !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
        };
        json.into_iter().filter(|(_, value)| says(value)).map(|(key, _)| key).collect()
    }
}

impl Bounds {
    fn over(self, file: Self) -> Self {
        Self {
            max_clients: self.max_clients.or(file.max_clients),
            max_head_bytes: self.max_head_bytes.or(file.max_head_bytes),
            window_bytes: self.window_bytes.or(file.window_bytes),
            max_waiting: self.max_waiting.or(file.max_waiting),
            queue_memory: self.queue_memory.or(file.queue_memory),
            header_timeout_ms: self.header_timeout_ms.or(file.header_timeout_ms),
            keep_alive_timeout_ms: self.keep_alive_timeout_ms.or(file.keep_alive_timeout_ms),
            body_idle_timeout_ms: self.body_idle_timeout_ms.or(file.body_idle_timeout_ms),
            connect_timeout_ms: self.connect_timeout_ms.or(file.connect_timeout_ms),
            first_byte_timeout_ms: self.first_byte_timeout_ms.or(file.first_byte_timeout_ms),
            streaming_timeout_ms: self.streaming_timeout_ms.or(file.streaming_timeout_ms),
            tunnel_idle_timeout_ms: self.tunnel_idle_timeout_ms.or(file.tunnel_idle_timeout_ms),
            queue_timeout_ms: self.queue_timeout_ms.or(file.queue_timeout_ms),
            upstream_idle_timeout_ms: self
                .upstream_idle_timeout_ms
                .or(file.upstream_idle_timeout_ms),
            eject_base_ms: self.eject_base_ms.or(file.eject_base_ms),
            eject_max_ms: self.eject_max_ms.or(file.eject_max_ms),
        }
    }
}

/// What is given and is not `none`.
pub(super) fn given(value: Option<&String>) -> Option<&String> {
    value.filter(|it| it.as_str() != "none")
}

//! The settings of a router, as resolved, and how they are shown.

use super::io::Io;
use super::marathon::Marathon;
use super::routers::Routers;
use super::written::{Bounds, Written};
use crate::base::address::SocketAddr;
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::core::fact::Runner;
use crate::core::service::{Defaults, Description};
use ipnet::IpNet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The settings of a router.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// One core per shard.
    pub cores: Vec<usize>,
    /// Where to keep things.
    pub data_dir: PathBuf,
    /// The Marathon scheduler, of use where it is among those of `defaults`.
    pub marathon: Marathon,
    /// Servers that exist.
    pub fronted: Vec<Description>,
    /// The same, as they were written.
    pub fronted_as_written: Vec<String>,
    /// Ports for instances.
    pub ports: RangeInclusive<u16>,
    /// Names of this router.
    pub hostnames: Vec<String>,
    /// Name of the cluster.
    pub cluster: String,
    /// The cluster of routers.
    pub routers: Routers,
    /// What descriptions leave out.
    pub defaults: Defaults,
    /// Who may launch beyond loopback.
    pub launch_from: Vec<IpNet>,
    /// Whose forwarding headers are believed.
    pub trust_forwarded: Vec<IpNet>,
    /// Whether a half-closed client still wants its answer.
    pub half_close_allowed: bool,
    /// Whether clients are spread over the cores.
    pub accept_balanced: bool,
    /// One line per request.
    pub access_log: AccessLog,
    /// Diagnostics.
    pub log: Log,
    /// Which diagnostics.
    pub log_level: tracing::level_filters::LevelFilter,
    /// Longest drain.
    pub drain: Duration,
    /// Between two rounds of the collectors.
    pub gc_interval: Duration,
    /// When a broken service is given up.
    pub broken_timeout: Duration,
    /// How sockets are driven.
    pub io: Io,
    /// Every bound of the data path.
    pub limits: Limits,
}

impl Config {
    /// These settings as they would be written: every key given.
    pub fn to_written(&self) -> Written {
        let limits = &self.limits;
        let millis = |it: Duration| Some(it.as_millis() as u64);
        let list = |it: &[IpNet]| it.iter().map(ToString::to_string).collect();
        let cores: Vec<String> = self.cores.iter().map(|it| format!("{it}-{it}")).collect();
        Written {
            listen: self.listen.iter().map(ToString::to_string).collect(),
            cores: Some(cores.join(",")),
            data_dir: Some(self.data_dir.clone()),
            scheduler: Some(self.scheduler()),
            marathon: self.marathon.to_written(),
            fronted: self.fronted_as_written.clone(),
            ports: Some(format!("{}-{}", self.ports.start(), self.ports.end())),
            hostname: self.hostnames.clone(),
            cluster: Some(self.cluster.clone()),
            routers: self.routers.to_written(),
            service_prefix: Some(self.defaults.service_prefix.clone()),
            launch_from: list(&self.launch_from),
            trust_forwarded: list(&self.trust_forwarded),
            half_close: Some(if self.half_close_allowed { "allow" } else { "gone" }.to_owned()),
            accept: Some(if self.accept_balanced { "balanced" } else { "plain" }.to_owned()),
            access_log: Some(match &self.access_log {
                AccessLog::Off => "off".to_owned(),
                AccessLog::Stdout => "-".to_owned(),
                AccessLog::File(path) => path.display().to_string(),
            }),
            log: Some(format!("{:?}", self.log).to_lowercase()),
            log_level: Some(self.log_level.to_string()),
            drain_secs: Some(self.drain.as_secs()),
            gc_interval_ms: millis(self.gc_interval),
            broken_service_timeout_mins: Some(self.broken_timeout.as_secs() / 60),
            sockets: self.io.to_written(),
            bounds: Bounds {
                max_clients: Some(limits.clients_per_shard as u64),
                max_head_bytes: Some(limits.head_bytes as u64),
                window_bytes: Some(limits.window_bytes.into()),
                max_waiting: Some(limits.waiting_total as u64),
                queue_memory: Some(limits.queue_bytes as u64 >> 20),
                header_timeout_ms: millis(limits.header_timeout),
                keep_alive_timeout_ms: millis(limits.keep_alive_timeout),
                body_idle_timeout_ms: millis(limits.body_idle_timeout),
                connect_timeout_ms: millis(limits.connect_timeout),
                first_byte_timeout_ms: millis(limits.first_byte_timeout),
                streaming_timeout_ms: millis(limits.streaming_timeout),
                tunnel_idle_timeout_ms: millis(limits.tunnel_idle_timeout),
                queue_timeout_ms: millis(limits.queue_timeout),
                upstream_idle_timeout_ms: millis(limits.upstream_idle_timeout),
                eject_base_ms: millis(limits.eject_base),
                eject_max_ms: millis(limits.eject_max),
            },
        }
    }

    /// These settings as a configuration file; `comment` says what a key means.
    pub fn to_toml(&self, comment: impl Fn(&str) -> String) -> String {
        let values = toml::Table::try_from(self.to_written()).expect("plain values and lists");
        let mut out =
            String::from("# Settings of a Waiter router: `waiter serve --config FILE`.\n");
        for (key, value) in &values {
            out.push('\n');
            for line in comment(key).lines() {
                out.push_str(&format!("# {line}\n"));
            }
            out.push_str(&format!("{key} = {value}\n"));
        }
        out
    }

    /// The settings in effect, as `/settings` shows them: every key of the configuration, and what
    /// the original's clients look for.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self.to_written()).expect("plain values and lists");
        json["cluster-config"] = serde_json::json!({
            "name": self.cluster,
            "service-prefix": self.defaults.service_prefix,
            "min-routers": self.routers.min_routers,
        });
        json["scheduler-config"] = self.scheduler_json();
        let interval = match self.defaults.runners.list() {
            [Runner::Marathon, ..] => self.marathon.poll.as_secs().max(1),
            _ => 5,
        };
        json["scheduler-syncer-interval-secs"] = interval.into();
        json
    }

    /// What runs instances, as it is written.
    fn scheduler(&self) -> String {
        let names: Vec<&str> = self.defaults.runners.list().iter().map(|it| it.name()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    }

    /// As the original's clients look for it.
    fn scheduler_json(&self) -> serde_json::Value {
        let one = |runner: &Runner| match runner {
            Runner::Local => {
                serde_json::json!({ "port-range": [self.ports.start(), self.ports.end()] })
            }
            Runner::Marathon => serde_json::json!({
                "url": self.marathon.urls.join(","),
                "mesos-slave-port": self.marathon.agent_port,
            }),
        };
        let runners = self.defaults.runners.list();
        let (kind, inner) = match runners {
            [] => ("none", serde_json::json!({})),
            [only] => (only.name(), one(only)),
            [first, ..] => {
                let all = runners.iter().map(|it| (it.name().to_owned(), one(it)));
                let all: serde_json::Map<_, _> = all.collect();
                let name = first.name();
                ("composite", serde_json::json!({"components": all, "default-scheduler": name}))
            }
        };
        serde_json::json!({ "kind": kind, kind: inner })
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// This file.
    File(PathBuf),
}

/// Form of the diagnostics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Log {
    /// Lines for people.
    Text,
    /// JSON lines.
    Json,
    /// Nothing.
    Off,
}

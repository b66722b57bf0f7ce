//! The settings of a router, as they are written, and what follows from them.

use super::resolved::{AccessLog, Config, Log, Scheduler};
use crate::base::address::{IpAddr, SocketAddr};
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::core::service::{Defaults, Description, parse_static};
use clap::Args;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Where a router listens if nothing is said.
const LISTEN: &str = "127.0.0.1:9091";

/// The settings of a router, as written on the command line or in a file.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
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
    /// What runs instances: local (processes of this host) or none [default: local]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
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
    /// Name of the cluster, told to instances [default: waiter]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
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
    pub max_clients: Option<usize>,
    /// Largest head of a request or response [default: 32768]
    #[arg(long, value_name = "BYTES")]
    pub max_head_bytes: Option<usize>,
    /// Body bytes under way per direction of a request [default: 262144]
    #[arg(long, value_name = "BYTES")]
    pub window_bytes: Option<u32>,
    /// Requests that wait on this router, all services together [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<usize>,
    /// Memory of all requests that wait on this router, in MiB [default: 256]
    #[arg(long, value_name = "MIB")]
    pub queue_memory: Option<usize>,
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
            fronted: list(self.fronted, file.fronted),
            ports: self.ports.or(file.ports),
            hostname: list(self.hostname, file.hostname),
            cluster: self.cluster.or(file.cluster),
            service_prefix: self.service_prefix.or(file.service_prefix),
            launch_from: list(self.launch_from, file.launch_from),
            trust_forwarded: list(self.trust_forwarded, file.trust_forwarded),
            half_close: self.half_close.or(file.half_close),
            access_log: self.access_log.or(file.access_log),
            log: self.log.or(file.log),
            log_level: self.log_level.or(file.log_level),
            drain_secs: self.drain_secs.or(file.drain_secs),
            gc_interval_ms: self.gc_interval_ms.or(file.gc_interval_ms),
            broken_service_timeout_mins: self
                .broken_service_timeout_mins
                .or(file.broken_service_timeout_mins),
            bounds: self.bounds.over(file.bounds),
        }
    }

    /// Resolves these settings on a machine that allows these cores.
    ///
    /// # Errors
    /// All mistakes, one line each.
    pub fn resolve(&self, allowed: &[usize]) -> Result<Config, Vec<String>> {
        let mut mistakes = Mistakes(Vec::new());
        let defaults = self.defaults(&mut mistakes);
        let config = Config {
            listen: self.listen(&mut mistakes),
            cores: mistakes.or_default(cores(self.cores.as_deref(), allowed)),
            data_dir: self.data_dir.clone().unwrap_or_else(|| ".waiter".into()),
            scheduler: self.scheduler(&mut mistakes),
            fronted: self.fronted(&defaults, &mut mistakes),
            fronted_as_written: self.fronted.clone(),
            ports: self.ports(&mut mistakes),
            hostnames: match &self.hostname[..] {
                [] => vec!["localhost".to_owned()],
                names => names.to_vec(),
            },
            cluster: self.cluster.clone().unwrap_or_else(|| "waiter".to_owned()),
            launch_from: networks("launch-from", &self.launch_from, &mut mistakes),
            trust_forwarded: networks("trust-forwarded", &self.trust_forwarded, &mut mistakes),
            half_close_allowed: self.half_close_allowed(&mut mistakes),
            access_log: match self.access_log.as_deref() {
                None | Some("off") => AccessLog::Off,
                Some("-") => AccessLog::Stdout,
                Some(path) => AccessLog::File(path.into()),
            },
            log: self.log(&mut mistakes),
            log_level: self.log_level(&mut mistakes),
            drain: Duration::from_secs(self.drain_secs.unwrap_or(10)),
            gc_interval: Duration::from_millis(self.gc_interval_ms.unwrap_or(60_000).max(1)),
            broken_timeout: Duration::from_secs(
                self.broken_service_timeout_mins.unwrap_or(30).saturating_mul(60),
            ),
            limits: self.bounds.limits(&mut mistakes),
            defaults,
        };
        if mistakes.0.is_empty() { Ok(config) } else { Err(mistakes.0) }
    }

    fn defaults(&self, mistakes: &mut Mistakes) -> Defaults {
        let mut defaults = Defaults::default();
        if let Some(prefix) = &self.service_prefix {
            if prefix.is_empty() || prefix.contains('.') {
                mistakes.add("service-prefix", prefix, "it must not be empty nor hold a dot");
            } else {
                defaults.service_prefix.clone_from(prefix);
            }
        }
        defaults
    }

    fn listen(&self, mistakes: &mut Mistakes) -> Vec<SocketAddr> {
        let given =
            if self.listen.is_empty() { vec![LISTEN.to_owned()] } else { self.listen.clone() };
        let mut found = Vec::new();
        for text in given {
            match text.parse::<SocketAddr>() {
                Ok(it) if it.port() != 0 && found.contains(&it) => {
                    mistakes.add("listen", &text, "it is given twice");
                }
                Ok(it) => found.push(it),
                Err(_) => mistakes.add("listen", &text, "expected ADDR:PORT, as 127.0.0.1:9091"),
            }
        }
        found
    }

    fn scheduler(&self, mistakes: &mut Mistakes) -> Scheduler {
        match self.scheduler.as_deref() {
            None | Some("local") => Scheduler::Local,
            Some("none") => Scheduler::Absent,
            Some(other) => {
                mistakes.add("scheduler", other, "expected local or none");
                Scheduler::Absent
            }
        }
    }

    fn fronted(&self, defaults: &Defaults, mistakes: &mut Mistakes) -> Vec<Description> {
        let mut found: Vec<Description> = Vec::new();
        for text in &self.fronted {
            match parse_static(text, defaults) {
                Ok(it) if found.iter().any(|other| same_name(other, &it)) => {
                    mistakes.add("static", text, "another one has this name");
                }
                Ok(it) => found.push(it),
                Err(fault) => mistakes.add("static", text, &fault.message),
            }
        }
        found
    }

    fn ports(&self, mistakes: &mut Mistakes) -> RangeInclusive<u16> {
        let Some(text) = &self.ports else { return 10_000..=10_999 };
        let range = text.split_once('-').and_then(|(from, to)| {
            let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
            (from > 0 && from <= to).then_some(from..=to)
        });
        range.unwrap_or_else(|| {
            mistakes.add("ports", text, "expected FROM-TO, as 10000-10999");
            10_000..=10_999
        })
    }

    fn half_close_allowed(&self, mistakes: &mut Mistakes) -> bool {
        match self.half_close.as_deref() {
            None | Some("gone") => false,
            Some("allow") => true,
            Some(other) => {
                mistakes.add("half-close", other, "expected gone or allow");
                false
            }
        }
    }

    fn log(&self, mistakes: &mut Mistakes) -> Log {
        match self.log.as_deref() {
            None | Some("text") => Log::Text,
            Some("json") => Log::Json,
            Some("off") => Log::Off,
            Some(other) => {
                mistakes.add("log", other, "expected text, json or off");
                Log::Off
            }
        }
    }

    fn log_level(&self, mistakes: &mut Mistakes) -> tracing::level_filters::LevelFilter {
        let text = self.log_level.as_deref().unwrap_or("info");
        text.parse().unwrap_or_else(|_| {
            mistakes.add("log-level", text, "expected error, warn, info, debug or trace");
            tracing::level_filters::LevelFilter::INFO
        })
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
            queue_timeout_ms: self.queue_timeout_ms.or(file.queue_timeout_ms),
            upstream_idle_timeout_ms: self
                .upstream_idle_timeout_ms
                .or(file.upstream_idle_timeout_ms),
            eject_base_ms: self.eject_base_ms.or(file.eject_base_ms),
            eject_max_ms: self.eject_max_ms.or(file.eject_max_ms),
        }
    }

    fn limits(&self, mistakes: &mut Mistakes) -> Limits {
        let base = Limits::PRODUCTION;
        let time = |given: Option<u64>, default: Duration| {
            given.map_or(default, |it| Duration::from_millis(it.max(1)))
        };
        let limits = Limits {
            clients_per_shard: self.max_clients.unwrap_or(base.clients_per_shard),
            head_bytes: self.max_head_bytes.unwrap_or(base.head_bytes),
            window_bytes: self.window_bytes.unwrap_or(base.window_bytes),
            waiting_total: self.max_waiting.unwrap_or(base.waiting_total),
            queue_bytes: self
                .queue_memory
                .map_or(base.queue_bytes, |it| it.saturating_mul(1 << 20)),
            header_timeout: time(self.header_timeout_ms, base.header_timeout),
            keep_alive_timeout: time(self.keep_alive_timeout_ms, base.keep_alive_timeout),
            body_idle_timeout: time(self.body_idle_timeout_ms, base.body_idle_timeout),
            connect_timeout: time(self.connect_timeout_ms, base.connect_timeout),
            first_byte_timeout: time(self.first_byte_timeout_ms, base.first_byte_timeout),
            streaming_timeout: time(self.streaming_timeout_ms, base.streaming_timeout),
            queue_timeout: time(self.queue_timeout_ms, base.queue_timeout),
            upstream_idle_timeout: time(self.upstream_idle_timeout_ms, base.upstream_idle_timeout),
            eject_base: time(self.eject_base_ms, base.eject_base),
            eject_max: time(self.eject_max_ms, base.eject_max),
            ..base
        };
        if !(512..=1 << 20).contains(&limits.head_bytes) {
            let text = limits.head_bytes.to_string();
            mistakes.add("max-head-bytes", &text, "expected 512 to 1048576");
        }
        if limits.window_bytes < 4096 {
            let text = limits.window_bytes.to_string();
            mistakes.add("window-bytes", &text, "expected at least 4096");
        }
        if limits.eject_max < limits.eject_base || limits.eject_base < Duration::from_millis(2) {
            let text = limits.eject_base.as_millis().to_string();
            mistakes.add("eject-base-ms", &text, "expected 2 to eject-max-ms");
        }
        limits
    }
}

/// Mistakes, one line each.
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, key: &str, given: &str, expected: &str) {
        self.0.push(format!("--{key} {given}: {expected}"));
    }

    fn or_default<T: Default>(&mut self, result: Result<T, String>) -> T {
        result.unwrap_or_else(|mistake| {
            self.0.push(mistake);
            T::default()
        })
    }
}

fn same_name(one: &Description, other: &Description) -> bool {
    use crate::core::service::Origin::Static;
    matches!((&one.origin, &other.origin),
        (Static { name: a, .. }, Static { name: b, .. }) if a == b)
}

fn networks(key: &str, given: &[String], mistakes: &mut Mistakes) -> Vec<IpNet> {
    let mut found = Vec::new();
    for text in given {
        let one = text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or(one) {
            Some(it) => found.push(it),
            None => mistakes.add(key, text, "expected an address block, as 10.0.0.0/8"),
        }
    }
    found
}

/// The cores of the shards, one each.
fn cores(given: Option<&str>, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let Some(text) = given else { return Ok(allowed.to_vec()) };
    if let Ok(count) = text.parse::<usize>() {
        return match allowed.get(..count) {
            Some(first) if count > 0 => Ok(first.to_vec()),
            _ => Err(format!("--cores {text}: this process may use 1 to {} cores", allowed.len())),
        };
    }
    let bad = || format!("--cores {text}: expected a number, or a list such as 0-3,8");
    let mut found = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| bad())?;
        let to: usize = to.trim().parse().map_err(|_| bad())?;
        if from > to || to - from > 4096 {
            return Err(bad());
        }
        found.extend(from..=to);
    }
    if let Some(core) = found.iter().find(|it| !allowed.contains(it)) {
        return Err(format!("--cores {text}: core {core} is not one this process may use"));
    }
    if found.len() > crate::base::ids::SHARDS_MAX {
        return Err(format!("--cores {text}: more than {} shards", crate::base::ids::SHARDS_MAX));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_number_or_a_list() {
        let allowed = [0, 1, 2, 5];
        let check = |given: Option<&str>, expected: Result<&[usize], &str>| match expected {
            Ok(list) => assert_eq!(cores(given, &allowed).as_deref(), Ok(list), "{given:?}"),
            Err(part) => {
                let error = cores(given, &allowed).expect_err("a mistake");
                assert!(error.contains(part), "{given:?}: {error}");
            }
        };
        check(None, Ok(&[0, 1, 2, 5]));
        check(Some("2"), Ok(&[0, 1]));
        check(Some("5"), Err("1 to 4 cores"));
        check(Some("0"), Err("1 to 4 cores"));
        check(Some("1-1"), Ok(&[1]));
        check(Some("0-1,5"), Ok(&[0, 1, 5]));
        check(Some("0,0,1,1"), Ok(&[0, 0, 1, 1]));
        check(Some("3-3"), Err("core 3"));
        check(Some("a"), Err("expected a number"));
        check(Some("2-1"), Err("expected a number"));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let written = Written {
            listen: vec!["nonsense".into()],
            scheduler: Some("k8s".into()),
            log: Some("xml".into()),
            fronted: vec!["a=127.0.0.1:1".into(), "a=127.0.0.1:2".into()],
            ports: Some("9-1".into()),
            launch_from: vec!["x".into()],
            ..Written::default()
        };
        let mistakes = written.resolve(&[0]).expect_err("mistakes");
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
    }

    #[test]
    fn a_file_is_read_and_the_command_line_wins() {
        let file: Written = toml::from_str("cores = '1'\nqueue-timeout-ms = 7\n").expect("toml");
        let line = Written { cores: Some("0,0".into()), ..Written::default() };
        let config = line.over(file).resolve(&[0, 1]).expect("fine");
        assert_eq!(config.cores, [0, 0]);
        assert_eq!(config.limits.queue_timeout, Duration::from_millis(7));
        let again: Written = toml::from_str(&config.to_toml(|key| key.to_owned())).expect("toml");
        let again = again.resolve(&[0, 1]).expect("what was printed is read");
        assert_eq!(
            (again.cores, again.limits.queue_timeout),
            ([0, 0].to_vec(), Duration::from_millis(7))
        );
    }
}

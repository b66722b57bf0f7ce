//! What follows from the settings as they are written: each is checked, and all mistakes are told.

use super::file::File;
use super::mistakes::Mistakes;
use super::resolved::{AccessLog, Config, Log};
use super::written::{Bounds, Written};
use crate::base::address::{IpAddr, SocketAddr};
use crate::base::ids::SHARDS_MAX;
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::core::fact::Runner;
use crate::core::service::{Defaults, Description, Origin, Runners, parse_static};
use ipnet::IpNet;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use tracing::level_filters::LevelFilter;

/// Where a router listens if nothing is said.
const LISTEN: &str = "127.0.0.1:9091";
/// Ports for instances if nothing is said.
const PORTS: RangeInclusive<u16> = 10_000..=10_999;
/// Longest prefix of the ids of services: with name and hash they stay names of directories.
const PREFIX_MAX: usize = 64;
/// Longest name of a cluster or of a host.
const NAME_MAX: usize = 253;

/// A week; what is to last longer than that is not meant.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
const TIME_MS: RangeInclusive<u64> = 1..=WEEK_MS;
/// A round of the collectors looks at every service.
const GC_INTERVAL_MS: RangeInclusive<u64> = 10..=WEEK_MS;
const BROKEN_MINS: RangeInclusive<u64> = 0..=WEEK_MS / 60_000;
const DRAIN_SECS: RangeInclusive<u64> = 0..=3600;
const HEAD_BYTES: RangeInclusive<u64> = 512..=1 << 20;
const WINDOW_BYTES: RangeInclusive<u64> = 4096..=64 << 20;
const COUNT: RangeInclusive<u64> = 1..=10_000_000;
/// From 1 MiB to 1 TiB.
const QUEUE_MIB: RangeInclusive<u64> = 1..=1 << 20;
/// The back-off doubles, so that one millisecond is none.
const EJECT_MS: RangeInclusive<u64> = 2..=WEEK_MS;

impl Written {
    /// Resolves these settings on a machine that allows these cores.
    ///
    /// # Errors
    /// All mistakes, one line each.
    pub fn resolve(self, allowed: &[usize]) -> Result<Config, Vec<String>> {
        self.resolve_over(File::default(), allowed)
    }

    /// Resolves these settings, and those of the file where these say nothing.
    ///
    /// # Errors
    /// All mistakes of both, one line each.
    pub fn resolve_over(self, file: File, allowed: &[usize]) -> Result<Config, Vec<String>> {
        let keys = file.keys.difference(&self.given()).cloned().collect();
        let mut mistakes = Mistakes::new(file.mistakes, file.path, keys);
        let config = self.over(file.written).checked(allowed, &mut mistakes);
        mistakes.end().map(|()| config)
    }

    /// The settings that follow; a mistaken one is replaced by any right one.
    fn checked(&self, allowed: &[usize], mistakes: &mut Mistakes) -> Config {
        let mut defaults = self.defaults(mistakes);
        defaults.runners = self.runners(&defaults, mistakes);
        Config {
            listen: self.listen(mistakes),
            cores: self.cores(allowed, mistakes),
            data_dir: self.data_dir(mistakes),
            marathon: self.marathon.resolve(mistakes),
            fronted: self.fronted(&defaults, mistakes),
            fronted_as_written: self.fronted.clone(),
            ports: self.ports(mistakes),
            hostnames: self.hostnames(mistakes),
            cluster: self.cluster(mistakes),
            routers: self.routers.resolve(mistakes),
            launch_from: networks("launch-from", &self.launch_from, mistakes),
            trust_forwarded: networks("trust-forwarded", &self.trust_forwarded, mistakes),
            half_close_allowed: self.half_close_allowed(mistakes),
            accept_balanced: self.accept_balanced(mistakes),
            access_log: self.access_log(mistakes),
            log: self.log(mistakes),
            log_level: self.log_level(mistakes),
            drain: Duration::from_secs(
                mistakes.within("drain-secs", self.drain_secs, &DRAIN_SECS).unwrap_or(10),
            ),
            gc_interval: mistakes
                .within("gc-interval-ms", self.gc_interval_ms, &GC_INTERVAL_MS)
                .map_or(Duration::from_secs(60), Duration::from_millis),
            broken_timeout: self.broken_timeout(mistakes),
            io: self.sockets.resolve(mistakes),
            limits: self.bounds.limits(mistakes),
            defaults,
        }
    }

    fn defaults(&self, mistakes: &mut Mistakes) -> Defaults {
        let mut defaults = Defaults::default();
        if let Some(prefix) = &self.service_prefix {
            let plain = |it: u8| it.is_ascii_graphic() && !matches!(it, b'.' | b'/');
            if (1..=PREFIX_MAX).contains(&prefix.len()) && prefix.bytes().all(plain) {
                defaults.service_prefix.clone_from(prefix);
            } else {
                let expected = "expected 1 to 64 letters, digits and signs, no dot, no slash, no \
                                white space";
                mistakes.add("service-prefix", prefix, expected);
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

    /// The cores of the shards, one each.
    fn cores(&self, allowed: &[usize], mistakes: &mut Mistakes) -> Vec<usize> {
        let Some(text) = &self.cores else { return allowed.to_vec() };
        cores(text.trim(), allowed).unwrap_or_else(|expected| {
            mistakes.add("cores", text, expected);
            Vec::new()
        })
    }

    fn data_dir(&self, mistakes: &mut Mistakes) -> std::path::PathBuf {
        let Some(path) = &self.data_dir else { return ".waiter".into() };
        if path.to_str().is_none_or(str::is_empty) {
            mistakes.add("data-dir", path.display(), "expected a directory, its name in UTF-8");
        }
        path.clone()
    }

    /// What runs instances; the first runs services that do not choose.
    fn runners(&self, defaults: &Defaults, mistakes: &mut Mistakes) -> Runners {
        let mut runners = Runners::new(Vec::new());
        let text = self.scheduler.as_deref().unwrap_or("local");
        if text == "none" {
            return runners;
        }
        for name in text.split(',').map(str::trim) {
            match Runner::parse(name) {
                Some(it) if runners.list().contains(&it) => {
                    mistakes.add("scheduler", text, format_args!("{name} is given twice"));
                }
                Some(it) => runners.add(it),
                None => {
                    mistakes.add("scheduler", name, "expected local, marathon or none");
                }
            }
        }
        if runners.list().contains(&Runner::Marathon) {
            if self.marathon.marathon.as_deref().is_none_or(|it| it == "none") {
                mistakes.add("scheduler", text, "say where Marathon is, with marathon");
            }
            let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
            let prefix = &defaults.service_prefix;
            if !prefix.bytes().all(plain) || prefix.starts_with('-') {
                let expected = "Marathon's ids are of lower-case letters, digits and dashes";
                mistakes.add("service-prefix", prefix, expected);
            }
        }
        runners
    }

    fn fronted(&self, defaults: &Defaults, mistakes: &mut Mistakes) -> Vec<Description> {
        // There may be very many.
        let (mut found, mut names) = (Vec::new(), HashSet::new());
        for text in &self.fronted {
            match parse_static(text, defaults) {
                Ok(it) if !names.insert(static_name(&it)) => {
                    mistakes.add("static", text, "another one has this name");
                }
                Ok(it) => found.push(it),
                Err(fault) => {
                    // What it is about is said there on a line of its own, here before each.
                    let about = format!("--static {text}:\n");
                    let message = fault.message.strip_prefix(&about).unwrap_or(&fault.message);
                    for line in message.lines() {
                        mistakes.add("static", text, line.trim());
                    }
                }
            }
        }
        found
    }

    fn ports(&self, mistakes: &mut Mistakes) -> RangeInclusive<u16> {
        let Some(text) = &self.ports else { return PORTS };
        let range = text.split_once('-').and_then(|(from, to)| {
            let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
            (from > 0 && from <= to).then_some(from..=to)
        });
        range.unwrap_or_else(|| {
            mistakes.add("ports", text, "expected FROM-TO, as 10000-10999");
            PORTS
        })
    }

    fn hostnames(&self, mistakes: &mut Mistakes) -> Vec<String> {
        if self.hostname.is_empty() {
            return vec!["localhost".to_owned()];
        }
        for name in &self.hostname {
            let plain = |it: u8| it.is_ascii_graphic() && it != b'/';
            let has_port = name.contains(':') && !(name.starts_with('[') && name.ends_with(']'));
            let fits = (1..=NAME_MAX).contains(&name.len());
            if !fits || has_port || !name.bytes().all(plain) {
                mistakes.add("hostname", name, "expected a name without a port, as my.example");
            }
        }
        self.hostname.clone()
    }

    fn cluster(&self, mistakes: &mut Mistakes) -> String {
        let Some(name) = &self.cluster else { return "waiter".to_owned() };
        if !(1..=NAME_MAX).contains(&name.len()) || name.contains(char::is_control) {
            let expected = "expected a name of 1 to 253 bytes without control characters";
            mistakes.add("cluster", name, expected);
        }
        name.clone()
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

    fn accept_balanced(&self, mistakes: &mut Mistakes) -> bool {
        match self.accept.as_deref() {
            None | Some("balanced") => true,
            Some("plain") => false,
            Some(other) => {
                mistakes.add("accept", other, "expected balanced or plain");
                true
            }
        }
    }

    fn access_log(&self, mistakes: &mut Mistakes) -> AccessLog {
        match self.access_log.as_deref() {
            None | Some("off") => AccessLog::Off,
            Some("-") => AccessLog::Stdout,
            Some("") => {
                mistakes.add("access-log", "", "expected off, - or the name of a file");
                AccessLog::Off
            }
            Some(path) => AccessLog::File(path.into()),
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

    fn log_level(&self, mistakes: &mut Mistakes) -> LevelFilter {
        let text = self.log_level.as_deref().unwrap_or("info");
        text.parse().unwrap_or_else(|_| {
            mistakes.add("log-level", text, "expected error, warn, info, debug or trace");
            LevelFilter::INFO
        })
    }

    fn broken_timeout(&self, mistakes: &mut Mistakes) -> Duration {
        let key = "broken-service-timeout-mins";
        let given = mistakes.within(key, self.broken_service_timeout_mins, &BROKEN_MINS);
        Duration::from_secs(given.unwrap_or(30) * 60)
    }
}

impl Bounds {
    fn limits(&self, mistakes: &mut Mistakes) -> Limits {
        let base = Limits::PRODUCTION;
        let (eject_base, eject_max) = self.ejection(mistakes);
        let mut time = |key: &str, given: Option<u64>, default: Duration| {
            mistakes.within(key, given, &TIME_MS).map_or(default, Duration::from_millis)
        };
        let limits = Limits {
            header_timeout: time("header-timeout-ms", self.header_timeout_ms, base.header_timeout),
            keep_alive_timeout: time(
                "keep-alive-timeout-ms",
                self.keep_alive_timeout_ms,
                base.keep_alive_timeout,
            ),
            body_idle_timeout: time(
                "body-idle-timeout-ms",
                self.body_idle_timeout_ms,
                base.body_idle_timeout,
            ),
            connect_timeout: time(
                "connect-timeout-ms",
                self.connect_timeout_ms,
                base.connect_timeout,
            ),
            first_byte_timeout: time(
                "first-byte-timeout-ms",
                self.first_byte_timeout_ms,
                base.first_byte_timeout,
            ),
            streaming_timeout: time(
                "streaming-timeout-ms",
                self.streaming_timeout_ms,
                base.streaming_timeout,
            ),
            tunnel_idle_timeout: time(
                "tunnel-idle-timeout-ms",
                self.tunnel_idle_timeout_ms,
                base.tunnel_idle_timeout,
            ),
            queue_timeout: time("queue-timeout-ms", self.queue_timeout_ms, base.queue_timeout),
            upstream_idle_timeout: time(
                "upstream-idle-timeout-ms",
                self.upstream_idle_timeout_ms,
                base.upstream_idle_timeout,
            ),
            eject_base,
            eject_max,
            ..base
        };
        self.sizes(limits, mistakes)
    }

    /// These limits with the counts and sizes that are given.
    fn sizes(&self, mut limits: Limits, mistakes: &mut Mistakes) -> Limits {
        if let Some(it) = mistakes.within("max-clients", self.max_clients, &COUNT) {
            limits.clients_per_shard = it as usize;
        }
        if let Some(it) = mistakes.within("max-head-bytes", self.max_head_bytes, &HEAD_BYTES) {
            limits.head_bytes = it as usize;
        }
        if let Some(it) = mistakes.within("window-bytes", self.window_bytes, &WINDOW_BYTES) {
            limits.window_bytes = it as u32;
        }
        if let Some(it) = mistakes.within("max-waiting", self.max_waiting, &COUNT) {
            limits.waiting_total = it as usize;
        }
        if let Some(it) = mistakes.within("queue-memory", self.queue_memory, &QUEUE_MIB) {
            limits.queue_bytes = (it as usize) << 20;
        }
        limits
    }

    /// First and longest rest of an instance that failed.
    fn ejection(&self, mistakes: &mut Mistakes) -> (Duration, Duration) {
        let default = Limits::PRODUCTION;
        let base = mistakes.within("eject-base-ms", self.eject_base_ms, &EJECT_MS);
        let max = mistakes.within("eject-max-ms", self.eject_max_ms, &EJECT_MS);
        let base_ms = base.unwrap_or(default.eject_base.as_millis() as u64);
        let max_ms = max.unwrap_or(default.eject_max.as_millis() as u64);
        match (base, max) {
            (_, Some(max)) if max < base_ms => {
                let expected = format!("expected at least eject-base-ms, which is {base_ms}");
                mistakes.add("eject-max-ms", max, expected);
            }
            (Some(base), None) if base > max_ms => {
                let expected = format!("expected at most eject-max-ms, which is {max_ms}");
                mistakes.add("eject-base-ms", base, expected);
            }
            _ => {}
        }
        (Duration::from_millis(base_ms), Duration::from_millis(max_ms))
    }
}

/// The name by which requests name a static service.
fn static_name(it: &Description) -> Option<String> {
    match &it.origin {
        Origin::Static { name, .. } => Some(name.to_string()),
        _ => None,
    }
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

/// The cores that are meant, or what was expected.
fn cores(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    if let Ok(count) = text.parse::<usize>() {
        return match allowed.get(..count) {
            Some(first) if count > 0 => Ok(first.to_vec()),
            _ => Err(format!("this process may use 1 to {} cores", allowed.len())),
        };
    }
    let bad = || "expected a number, or a list such as 0-3,8".to_owned();
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
        return Err(format!("core {core} is not one this process may use"));
    }
    if found.len() > SHARDS_MAX {
        return Err(format!("these are more than {SHARDS_MAX} shards"));
    }
    Ok(found)
}

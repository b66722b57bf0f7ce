//! The cluster of routers: as written, and as resolved.

use super::mistakes::Mistakes;
use super::written::given;
use crate::base::time::Duration;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;

const SESSION_MS: RangeInclusive<u64> = 1000..=600_000;
const ROUTERS: RangeInclusive<u64> = 1..=256;
/// Longest prefix of a router's id.
const PREFIX_MAX: usize = 100;

/// The cluster of routers, as written.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct WrittenRouters {
    /// Where ZooKeeper is, with commas between its servers; none: this router is alone
    /// [default: none]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub zookeeper: Option<String>,
    /// Node of ZooKeeper below which everything is kept [default: /waiter]
    #[arg(long, value_name = "PATH")]
    pub zookeeper_base: Option<String>,
    /// Session asked of ZooKeeper, which grants 2 to 20 of its ticks [default: 10000]
    #[arg(long, value_name = "MS")]
    pub zookeeper_session_ms: Option<u64>,
    /// Nobody scales or deletes what routers share while there are fewer routers [default: 1]
    #[arg(long, value_name = "N")]
    pub min_routers: Option<u64>,
    /// What this router's id begins with; `@` and `.` become `-` [default: none]
    #[arg(long, value_name = "TEXT")]
    pub router_id_prefix: Option<String>,
    /// Where other routers reach this one; none: where it listens first, or, if that is every
    /// interface, the address of this host [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub advertise: Option<String>,
    /// File with the secret by which routers know each other, 16 bytes or more, the same for all
    /// and readable by their user alone; wanted where there is a ZooKeeper [default: none]
    #[arg(long, value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// What a router does that has lost ZooKeeper and its peers: serve (on, with the slots it had)
    /// or stop (starting requests of shared services) [default: serve]
    #[arg(long, value_name = "WHAT")]
    pub isolated: Option<String>,
    /// How slots are lent: balanced (also ahead of demand) or simple (on demand)
    /// [default: balanced]
    #[arg(long, value_name = "SCHEME")]
    pub distribution: Option<String>,
    /// File with the keys by which descriptions are encrypted in ZooKeeper, one per line: the first
    /// encrypts, all decrypt; none: they are not [default: none]
    #[arg(long, value_name = "FILE")]
    pub store_keys_file: Option<PathBuf>,
}

/// The cluster of routers.
#[derive(Clone, Debug)]
pub struct Routers {
    /// Servers of ZooKeeper, each `host:port`; none: this router is alone.
    pub zookeeper: Vec<String>,
    /// The node below which everything is kept; begins with a slash and does not end with one.
    pub base: String,
    /// The session to ask for.
    pub session: Duration,
    /// Nobody leads with fewer routers.
    pub min_routers: usize,
    /// What this router's id begins with.
    pub id_prefix: Option<String>,
    /// Where others reach this one, if that is said.
    pub advertise: Option<String>,
    /// The file with the secret.
    pub secret_file: Option<PathBuf>,
    /// Whether a router that is alone gives nothing out.
    pub stops_alone: bool,
    /// Whether slots are lent ahead of demand.
    pub balanced: bool,
    /// The file with the keys of the store.
    pub keys_file: Option<PathBuf>,
}

impl WrittenRouters {
    /// These, where given, else those of `file`.
    pub(super) fn over(self, file: Self) -> Self {
        Self {
            zookeeper: self.zookeeper.or(file.zookeeper),
            zookeeper_base: self.zookeeper_base.or(file.zookeeper_base),
            zookeeper_session_ms: self.zookeeper_session_ms.or(file.zookeeper_session_ms),
            min_routers: self.min_routers.or(file.min_routers),
            router_id_prefix: self.router_id_prefix.or(file.router_id_prefix),
            advertise: self.advertise.or(file.advertise),
            cluster_secret_file: self.cluster_secret_file.or(file.cluster_secret_file),
            isolated: self.isolated.or(file.isolated),
            distribution: self.distribution.or(file.distribution),
            store_keys_file: self.store_keys_file.or(file.store_keys_file),
        }
    }

    pub(super) fn resolve(&self, mistakes: &mut Mistakes) -> Routers {
        let found = self.resolve_of(mistakes);
        if given(self.zookeeper.as_ref()).is_none() {
            alone(&found, mistakes);
        }
        found
    }

    fn resolve_of(&self, mistakes: &mut Mistakes) -> Routers {
        let zookeeper = self.servers(mistakes);
        let secret_file = path(self.cluster_secret_file.as_ref());
        if !zookeeper.is_empty() && secret_file.is_none() {
            let expected = "routers of a cluster prove themselves by a secret; name its file with \
                            --cluster-secret-file";
            mistakes.add("zookeeper", zookeeper.join(","), expected);
        }
        let session =
            mistakes.within("zookeeper-session-ms", self.zookeeper_session_ms, &SESSION_MS);
        let min_routers = mistakes.within("min-routers", self.min_routers, &ROUTERS);
        Routers {
            zookeeper,
            base: self.base(mistakes),
            session: Duration::from_millis(session.unwrap_or(10_000)),
            min_routers: min_routers.unwrap_or(1) as usize,
            id_prefix: self.prefix(mistakes),
            advertise: self.advertised(mistakes),
            secret_file,
            stops_alone: either("isolated", self.isolated.as_ref(), ["serve", "stop"], mistakes),
            balanced: !either(
                "distribution",
                self.distribution.as_ref(),
                ["balanced", "simple"],
                mistakes,
            ),
            keys_file: path(self.store_keys_file.as_ref()),
        }
    }

    fn servers(&self, mistakes: &mut Mistakes) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for text in given(self.zookeeper.as_ref()).into_iter().flat_map(|it| it.split(',')) {
            let server = text.trim();
            if !is_place(server) {
                mistakes.add("zookeeper", server, "expected HOST:PORT, as zk1.example.com:2181");
            } else if found.iter().any(|it| it == server) {
                mistakes.add("zookeeper", server, "it is given twice");
            } else {
                found.push(server.to_owned());
            }
        }
        found
    }

    fn base(&self, mistakes: &mut Mistakes) -> String {
        let Some(path) = &self.zookeeper_base else { return "/waiter".to_owned() };
        let plain = |it: &str| {
            let fits = |it: u8| it.is_ascii_graphic();
            !it.is_empty() && it != "." && it != ".." && it.bytes().all(fits)
        };
        let parts = path.strip_prefix('/').map(|it| it.split('/').all(plain));
        if parts != Some(true) || path.len() > 200 {
            let expected = "expected a path of plain names, as /waiter, without a slash at the end";
            mistakes.add("zookeeper-base", path, expected);
        }
        path.clone()
    }

    fn prefix(&self, mistakes: &mut Mistakes) -> Option<String> {
        let text = given(self.router_id_prefix.as_ref())?;
        let plain = |it: u8| it.is_ascii_graphic() && it != b'/';
        if text.is_empty() || text.len() > PREFIX_MAX || !text.bytes().all(plain) {
            let expected = "expected 1 to 100 letters, digits and signs, no slash";
            mistakes.add("router-id-prefix", text, expected);
        }
        Some(text.replace(['@', '.'], "-"))
    }

    fn advertised(&self, mistakes: &mut Mistakes) -> Option<String> {
        let text = given(self.advertise.as_ref())?;
        let address = text.parse::<std::net::SocketAddr>();
        if !address.is_ok_and(|it| !it.ip().is_unspecified() && it.port() != 0) {
            let expected = "expected ADDR:PORT, as 10.0.0.7:9091, where other routers reach this \
                            one";
            mistakes.add("advertise", text, expected);
        }
        Some(text.clone())
    }
}

impl Routers {
    /// As it would be written, every key given.
    pub(super) fn to_written(&self) -> WrittenRouters {
        let or_none = |it: Option<&String>| Some(it.map_or("none", |it| it.as_str()).to_owned());
        let path = |it: &Option<PathBuf>| Some(it.clone().unwrap_or_else(|| "none".into()));
        let servers = self.zookeeper.join(",");
        WrittenRouters {
            zookeeper: or_none(Some(&servers).filter(|it| !it.is_empty())),
            zookeeper_base: Some(self.base.clone()),
            zookeeper_session_ms: Some(self.session.as_millis() as u64),
            min_routers: Some(self.min_routers as u64),
            router_id_prefix: or_none(self.id_prefix.as_ref()),
            advertise: or_none(self.advertise.as_ref()),
            cluster_secret_file: path(&self.secret_file),
            isolated: Some(if self.stops_alone { "stop" } else { "serve" }.to_owned()),
            distribution: Some(if self.balanced { "balanced" } else { "simple" }.to_owned()),
            store_keys_file: path(&self.keys_file),
        }
    }
}

/// A router that is alone is asked for nothing that only a cluster has: it would have no effect.
fn alone(found: &Routers, mistakes: &mut Mistakes) {
    let usual = WrittenRouters::default().resolve_of(&mut Mistakes::default()).to_written();
    let asked = found.to_written();
    let number = |it: Option<u64>| it.map(|it| it.to_string());
    let file = |it: Option<PathBuf>| it.map(|it| it.display().to_string());
    let keys = [
        ("zookeeper-base", asked.zookeeper_base, usual.zookeeper_base),
        (
            "zookeeper-session-ms",
            number(asked.zookeeper_session_ms),
            number(usual.zookeeper_session_ms),
        ),
        ("min-routers", number(asked.min_routers), number(usual.min_routers)),
        ("router-id-prefix", asked.router_id_prefix, usual.router_id_prefix),
        ("advertise", asked.advertise, usual.advertise),
        ("cluster-secret-file", file(asked.cluster_secret_file), file(usual.cluster_secret_file)),
        ("isolated", asked.isolated, usual.isolated),
        ("distribution", asked.distribution, usual.distribution),
        ("store-keys-file", file(asked.store_keys_file), file(usual.store_keys_file)),
    ];
    for (key, asked, usual) in keys {
        if let Some(asked) = asked.filter(|it| Some(it) != usual.as_ref()) {
            mistakes.add(key, asked, "it is of a cluster; say where ZooKeeper is, with zookeeper");
        }
    }
}

/// Whether the second of two words is written; the first is meant if nothing is.
fn either(key: &str, text: Option<&String>, words: [&str; 2], mistakes: &mut Mistakes) -> bool {
    let Some(text) = text else { return false };
    if !words.contains(&text.as_str()) {
        mistakes.add(key, text, format_args!("expected {} or {}", words[0], words[1]));
    }
    text == words[1]
}

fn path(value: Option<&PathBuf>) -> Option<PathBuf> {
    value.filter(|it| it.as_os_str() != "none").cloned()
}

/// Whether this is a host and a port.
fn is_place(text: &str) -> bool {
    let host =
        |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic() && it != b'/');
    text.rsplit_once(':').is_some_and(|(name, port)| host(name) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn resolve(written: &WrittenRouters) -> Result<Routers, Vec<String>> {
        let mut mistakes = Mistakes::new(Vec::new(), String::new(), BTreeSet::new());
        let it = written.resolve(&mut mistakes);
        mistakes.end().map(|()| it)
    }

    #[test]
    fn nothing_said_is_a_router_alone_and_is_written_as_it_was_resolved() {
        let it = resolve(&WrittenRouters::default()).expect("defaults");
        assert!(it.zookeeper.is_empty() && it.balanced && !it.stops_alone);
        let again = resolve(&it.to_written()).expect("what was written");
        assert_eq!(format!("{it:?}"), format!("{again:?}"));
    }

    #[test]
    fn a_cluster_as_written() {
        let it = resolve(&WrittenRouters {
            zookeeper: Some("a:2181, b:2182".into()),
            cluster_secret_file: Some("secret".into()),
            router_id_prefix: Some("me@host.example".into()),
            isolated: Some("stop".into()),
            distribution: Some("simple".into()),
            ..WrittenRouters::default()
        })
        .expect("right");
        assert_eq!(it.zookeeper, ["a:2181", "b:2182"]);
        assert_eq!(it.id_prefix.as_deref(), Some("me-host-example"));
        assert!(it.stops_alone && !it.balanced);
    }

    #[test]
    fn what_only_a_cluster_has_is_refused_without_one() {
        let lone = WrittenRouters {
            zookeeper_base: Some("/x".into()),
            zookeeper_session_ms: Some(2000),
            min_routers: Some(2),
            router_id_prefix: Some("a".into()),
            advertise: Some("10.0.0.1:1".into()),
            cluster_secret_file: Some("secret".into()),
            isolated: Some("stop".into()),
            distribution: Some("simple".into()),
            store_keys_file: Some("keys".into()),
            ..WrittenRouters::default()
        };
        let told = resolve(&lone).expect_err("it is alone");
        assert_eq!(told.len(), 9, "{told:#?}");
        let cure = "it is of a cluster; say where ZooKeeper is, with zookeeper";
        assert!(told.iter().all(|it| it.ends_with(cure)), "{told:#?}");
    }

    #[test]
    fn every_mistake_is_told() {
        let wrong = WrittenRouters {
            zookeeper: Some("a:2181,nowhere,a:2181".into()),
            zookeeper_base: Some("waiter/".into()),
            zookeeper_session_ms: Some(1),
            min_routers: Some(0),
            router_id_prefix: Some("a/b".into()),
            advertise: Some("0.0.0.0:1".into()),
            isolated: Some("panic".into()),
            distribution: Some("fair".into()),
            ..WrittenRouters::default()
        };
        let told = resolve(&wrong).expect_err("all wrong");
        for key in [
            "--zookeeper nowhere",
            "--zookeeper a:2181: it is given twice",
            "--cluster-secret-file",
            "--zookeeper-base",
            "--zookeeper-session-ms",
            "--min-routers",
            "--router-id-prefix",
            "--advertise",
            "--isolated",
            "--distribution",
        ] {
            assert!(told.iter().any(|it| it.contains(key)), "{key}: {told:?}");
        }
    }
}

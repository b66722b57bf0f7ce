//! A router's part in a cluster: its name, its secret, and the threads that talk to the others.

use crate::base::ids::RouterId;
use crate::base::time::Duration;
use crate::cmd::host;
use crate::config::Config;
use crate::control::chance::random_hex;
use crate::control::cluster::links::Links;
use crate::control::cluster::{Terms, Ways};
use crate::control::store::{Keys, Library, Shared};
use crate::control::{Event, cluster, shelf};
use crate::core::peers::Isolated;
use crate::core::service::{Description, parse_static};
use crate::mesh::{Fence, clock};
use crate::wire::peer::{SECRET_BYTES_MIN, Secret};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

/// Permissions of a secret that anybody else may read.
const OTHERS: u32 = 0o077;

/// The end of the session is waited for so long, and looked for this often.
const END_PATIENCE: Duration = Duration::from_secs(2);
const END_LOOK: Duration = Duration::from_millis(5);
/// Connections of other routers at a time, proven or not.
const CALLERS_MAX: usize = 1024;

/// What a router in a cluster has.
#[derive(Debug)]
pub(super) struct Joined {
    /// For the control loop.
    pub(super) cluster: cluster::Cluster,
    /// Where shards hand over routers that call.
    pub(super) peers: Arc<Description>,
    /// Until when the schedulers may be given orders.
    pub(super) right: Fence,
    pub(super) membership: Fence,
    /// From which the passwords of shared services follow, the same on all routers.
    pub(super) password: String,
    /// The threads, as long as this lives.
    pub(super) threads: Threads,
}

/// The threads that talk to the others.
#[derive(Debug)]
pub(super) struct Threads {
    _links: Links,
    session: Option<JoinHandle<()>>,
}

impl Drop for Threads {
    /// The session is ended in ZooKeeper too, if it can be soon.
    fn drop(&mut self) {
        let end = clock::now() + END_PATIENCE;
        while self.session.as_ref().is_some_and(|it| !it.is_finished()) && clock::now() < end {
            std::thread::sleep(END_LOOK);
        }
    }
}

/// Joins the cluster, if there is one; `listening` is where this router listens first.
///
/// # Errors
/// Why it cannot, and what to do.
pub(super) fn join(
    config: &Config,
    me: &RouterId,
    listening: SocketAddr,
    events: &SyncSender<Event>,
) -> Result<Option<Joined>, String> {
    let routers = &config.routers;
    let Some(path) = routers.secret_file.as_ref().filter(|_| !routers.zookeeper.is_empty()) else {
        return Ok(None);
    };
    let secret = secret(path, &config.cluster)?;
    let password = Sha256::digest([b"waiter services ".as_slice(), &secret].concat());
    let secret = Secret::new(&secret).map_err(|_| "the secret is too short".to_owned())?;
    let address = advertised(routers.advertise.as_deref(), listening)?;
    let told = events.clone();
    let hear = Box::new(move |heard| {
        let _ = told.send(Event::Peer(heard)); // the loop has ended: so does this
    });
    let links = Links::start(me.clone(), secret.clone(), hear)
        .map_err(|error| format!("cannot start the connections to other routers: {error}"))?;
    let terms = Terms {
        name: config.cluster.as_str().into(),
        me: me.clone(),
        min_routers: routers.min_routers,
        isolated: if routers.stops_alone { Isolated::Stop } else { Isolated::Serve },
        balanced: routers.balanced,
        runners: config.defaults.runners.clone(),
        session: routers.session,
    };
    let session = super::zookeeper::start(config, me, (address, secret), events)?;
    let (way, right, status) = (links.way(), Fence::default(), links.shown());
    let membership = Fence::default();
    let ways = Ways {
        library: library(config, events)?,
        ask: session.asks,
        tell: Box::new(move |it| way.tell(it)),
        status,
        right: right.clone(),
        membership: membership.clone(),
    };
    let cluster = cluster::Cluster::new(terms, ways, (clock::now(), clock::date()));
    tracing::info!(router = %me, %address, cluster = config.cluster, "joining a cluster");
    let peers = format!("waiter-peers={};concurrency-level={CALLERS_MAX}", links.address());
    let peers = parse_static(&peers, &config.defaults).map_err(|fault| fault.message)?;
    let threads = Threads { _links: links, session: Some(session.thread) };
    let password = format!("{password:x}");
    Ok(Some(Joined { cluster, peers: Arc::new(peers), right, membership, password, threads }))
}

/// The store that the settings name, as all routers of the cluster see it.
pub(super) fn store(config: &Config) -> Result<Shared, String> {
    let routers = &config.routers;
    let keys = match &routers.keys_file {
        None => Keys::default(),
        Some(path) => private(path)
            .and_then(|text| Keys::read(&text))
            .map_err(|why| format!("cannot use the keys in {}: {why}", path.display()))?,
    };
    Ok(Shared::new(routers.zookeeper.clone(), routers.session, &routers.base, keys))
}

/// Starts the thread that keeps descriptions where all routers find them.
fn library(config: &Config, events: &SyncSender<Event>) -> Result<Library, String> {
    let (user, defaults) = (host::user(), config.defaults.clone());
    let read = move |value: &[u8]| shelf::described(value, &user, &defaults);
    let told = events.clone();
    let tell = move |service, found| {
        let _ = told.send(Event::Described(service, found)); // the loop has ended: so does this
    };
    Library::start(store(config)?, Box::new(read), Box::new(tell))
        .map_err(|error| format!("cannot start the thread of the shared store: {error}"))
}

/// The text of a file that nobody else may read.
fn private(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err("others may read or write it; chmod 600 it".to_owned());
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// A new id; no router has had it before.
pub(super) fn new_id(prefix: Option<&str>) -> Result<RouterId, String> {
    let id = random_hex(16).map_err(|error| format!("no random id for this router: {error}"))?;
    Ok(RouterId::new(&prefix.map_or_else(|| id.clone(), |it| format!("{it}-{id}"))))
}

/// The secret of the cluster of this name. Routers of another name do not know it.
fn secret(path: &Path, cluster: &str) -> Result<Vec<u8>, String> {
    let explain = |why: &dyn std::fmt::Display| {
        format!("cannot use the cluster's secret in {}: {why}", path.display())
    };
    let text = private(path).map_err(|why| explain(&why))?;
    let text = text.trim_ascii();
    if text.len() < SECRET_BYTES_MIN {
        return Err(explain(&format_args!(
            "it has {} bytes and needs {SECRET_BYTES_MIN}; openssl rand -hex 32 makes one",
            text.len()
        )));
    }
    Ok([text, b"\0", cluster.as_bytes()].concat())
}

/// Where the others reach this router.
fn advertised(given: Option<&str>, listening: SocketAddr) -> Result<SocketAddr, String> {
    if let Some(given) = given {
        return given.parse().map_err(|_| format!("--advertise {given}: expected ADDR:PORT"));
    }
    if !listening.ip().is_unspecified() {
        return Ok(listening);
    }
    // The address from which this host would talk to others; nothing is sent.
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|it| {
        it.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        it.local_addr()
    });
    match found.map(|it| it.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_loopback() && !ip.is_unspecified() => {
            Ok(SocketAddr::new(ip.into(), listening.port()))
        }
        _ => Err("this router listens everywhere, and this host has no address that others \
                  could call; name one with --advertise"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_private_and_long_enough_and_of_its_cluster() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        assert!(secret(&path, "c").unwrap_err().contains("cannot use"), "it is not there");
        for (text, mode, right) in [
            ("0123456789abcdef\n", 0o600, true),
            ("0123456789abcdef", 0o640, false),
            ("  short  ", 0o600, false),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(secret(&path, "c").is_ok(), right, "{text} {mode:o}");
        }
    }

    #[test]
    fn what_is_advertised_can_be_called() {
        let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let here = of("127.0.0.1:9091");
        assert_eq!(advertised(None, here), Ok(here));
        assert_eq!(advertised(Some("10.0.0.7:80"), here), Ok(of("10.0.0.7:80")));
        let everywhere = advertised(None, of("0.0.0.0:9091"));
        assert!(everywhere.is_err() || everywhere.is_ok_and(|it| !it.ip().is_loopback()));
    }

    #[test]
    fn ids_differ_and_begin_as_they_should() {
        let (one, two) = (new_id(Some("p")).expect("random"), new_id(None).expect("random"));
        assert!(one.as_str().starts_with("p-") && two.as_str().len() == 32);
        assert_ne!(new_id(None), new_id(None));
    }
}

//! What the API is told at its start, and what a page may look at.

use crate::base::address::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use crate::base::limits::Limits;
use crate::base::time::Date;
use crate::core::catalogue::Catalogue;
use crate::core::route::Hosts;
use crate::core::service::Defaults;
use crate::wire::call::Call;
use ipnet::IpNet;
use serde_json::Value;

/// What the API is told at its start, and never changes.
#[derive(Debug)]
pub struct About {
    /// All settings in effect, as `/settings` shows them (an object).
    pub settings: Value,
    /// When the router began.
    pub started: Date,
    /// The version of the program.
    pub version: String,
    /// Where this router listens; pings go there, to loopback if it stands for all interfaces.
    pub address: SocketAddr,
    /// Names and addresses of the router itself.
    pub hosts: Hosts,
    /// The OS user that runs the router; the requester of every request.
    pub user: String,
    /// What descriptions leave out.
    pub defaults: Defaults,
    /// Peers beyond loopback that may launch services.
    pub launch_from: Vec<IpNet>,
    /// Whether services can be launched at all.
    pub launches: bool,
    /// Every bound; of interest is how long a call may take.
    pub limits: Limits,
}

/// All that a page may look at beside its call.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    /// What is known of every service.
    pub(super) catalogue: &'a Catalogue,
    /// What never changes.
    pub(super) about: &'a About,
    /// Where the client found this router: `http://host:port`.
    pub(super) base: String,
    /// The date.
    pub(super) now: Date,
}

impl<'a> View<'a> {
    /// What the page of this call may look at.
    pub(super) fn new(catalogue: &'a Catalogue, about: &'a About, call: &Call, now: Date) -> Self {
        // Only names of this router lead to its pages, so the client's is as good as any.
        let authority = String::from_utf8_lossy(call.head.authority());
        let base = if authority.is_empty() {
            format!("http://{}", about.reachable())
        } else {
            format!("http://{authority}")
        };
        Self { catalogue, about, base, now }
    }
}

impl About {
    /// Where this machine reaches the router.
    pub(super) fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(it) if it.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(it) if it.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            it => it,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

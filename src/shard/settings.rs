//! What all shards of a router are told at their start, and never changes.

use crate::base::limits::Limits;
use crate::core::route::Hosts;
use crate::core::service::Defaults;
use ipnet::IpNet;

/// One router's settings, as its shards need them.
#[derive(Debug)]
pub struct Settings {
    /// Every bound.
    pub limits: Limits,
    /// Names and addresses of the router itself.
    pub hosts: Hosts,
    /// The OS user that runs the router; the requester of every request.
    pub user: String,
    /// What descriptions leave out.
    pub defaults: Defaults,
    /// Peers beyond loopback that may launch services.
    pub launch_from: Vec<IpNet>,
    /// Peers whose forwarding headers are believed.
    pub trust_forwarded: Vec<IpNet>,
    /// Whether services can be launched at all.
    pub launches: bool,
    /// Whether a client that has closed its sending side still wants its answer.
    pub half_close: HalfClose,
}

/// What the end of a client's input means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HalfClose {
    /// The client is gone.
    Gone,
    /// No more requests; the answers at hand are still wanted.
    Allow,
}

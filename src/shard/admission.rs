//! Where a request goes: the shell around `core::route` and the description of services.
//!
//! Routers of the cluster call like any client. Only what asks for their protocol, and for nothing
//! else, is handed over to the thread that talks to them; all who come there are strangers to it.
//!
//! A service that is described by headers is parsed once per shard: the cache is asked by the exact
//! bytes of the headers, so two requests never share an entry that differ in one.

use crate::base::address::SocketAddr;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::base::time::Duration;
use crate::core::launch::{Claim, may_launch};
use crate::core::route::{Route, route};
use crate::core::service::{ClientAbort, Description, Tuning, fingerprint, from_headers};
use crate::core::world::World;
use crate::exchange::Plan;
use crate::shard::settings::Settings;
use crate::wire::head::Head;
use crate::wire::peer::{PATH, PROTOCOL};
use std::collections::HashMap;
use std::sync::Arc;

/// Descriptions a shard remembers, and bytes of the headers that gave them; when there are more, it
/// forgets all and begins anew. Anybody can send headers, so both are bounded.
const REMEMBERED: usize = 4096;
const REMEMBERED_BYTES: usize = 4 << 20;

/// Those who talk to other routers say something ten times a second, and give up one that is silent
/// before this is over.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request goes.
#[derive(Debug)]
pub enum Admission {
    /// To the router's own pages.
    Call,
    /// To a service.
    Service(Plan),
    /// Another router calls: to those who talk to it. It is no request of any service's.
    Peer(Plan),
    /// Nowhere.
    Refused(Fault),
}

impl Admission {
    /// The service it goes to, and is counted for.
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::Service(plan) => Some(&plan.service),
            Self::Call | Self::Peer(_) | Self::Refused(_) => None,
        }
    }
}

/// What a shard remembers of descriptions.
#[derive(Debug, Default)]
pub struct Admissions {
    known: HashMap<Box<[u8]>, Arc<Description>, foldhash::fast::RandomState>,
    known_bytes: usize,
    key: Vec<u8>,
}

impl Admissions {
    /// Decides where a request goes.
    pub fn admit(
        &mut self,
        head: &Head,
        peer: SocketAddr,
        settings: &Settings,
        world: &World,
    ) -> Admission {
        if let Some(peers) = settings.peers.as_ref().filter(|_| head.path() == PATH.as_bytes()) {
            return admit_peer(peers, head, settings);
        }
        let found =
            route(head.path(), head.authority(), head.fields.iter(), &settings.hosts, |name| {
                world.named(name).cloned()
            });
        let routed = match found {
            Ok(Route::Api) => return admit_call(head, peer, settings),
            Ok(Route::Static(it)) => Ok(plan(&it.description, None, head, settings)),
            Ok(Route::Headers) => self.described(head, peer, settings, world),
            Err(fault) => Err(fault),
        };
        routed.map_or_else(Admission::Refused, Admission::Service)
    }

    fn described(
        &mut self,
        head: &Head,
        peer: SocketAddr,
        settings: &Settings,
        world: &World,
    ) -> Result<Plan, Fault> {
        let description = self.description(head, settings)?;
        let permit = if settings.launches {
            may_launch(&claim(head, peer), &settings.launch_from, &settings.hosts)
        } else {
            let text = "This router launches no services (--scheduler none)";
            Err(Fault::new(Class::ServiceForbidden, text))
        };
        // One who may not launch may still use what runs.
        let start = match permit {
            Ok(()) => Some(description.clone()),
            Err(_) if world.get(&description.id).is_some() => None,
            Err(fault) => return Err(fault),
        };
        Ok(plan(&description, start, head, settings))
    }

    fn description(&mut self, head: &Head, settings: &Settings) -> Result<Arc<Description>, Fault> {
        self.key.clear();
        fingerprint(head.fields.iter(), &mut self.key);
        if let Some(known) = self.known.get(&self.key[..]) {
            return Ok(known.clone());
        }
        let fresh = from_headers(head.fields.iter(), &settings.user, &settings.defaults)?;
        let fresh = Arc::new(fresh);
        if self.known.len() >= REMEMBERED || self.known_bytes >= REMEMBERED_BYTES {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.known_bytes += self.key.len();
        self.known.insert(self.key.as_slice().into(), fresh.clone());
        Ok(fresh)
    }
}

/// Pages that only show are for everybody; what changes something is for those who may launch.
fn admit_call(head: &Head, peer: SocketAddr, settings: &Settings) -> Admission {
    let shows = matches!(head.method, http::Method::GET | http::Method::HEAD);
    if shows {
        return Admission::Call;
    }
    match may_launch(&claim(head, peer), &settings.launch_from, &settings.hosts) {
        Ok(()) => Admission::Call,
        Err(fault) => Admission::Refused(fault),
    }
}

/// Another router asks for the protocol of routers. Its times are the router's own: no header and
/// no flag for requests may cut it off while it talks.
fn admit_peer(peers: &Description, head: &Head, settings: &Settings) -> Admission {
    let asks = |it: &[u8]| it.trim_ascii().eq_ignore_ascii_case(PROTOCOL.as_bytes());
    let is_peer = head.method == http::Method::GET
        && head.switches
        && head.fields.get(b"upgrade").is_some_and(asks);
    if !is_peer {
        let text = format!("Routers of the cluster meet here: GET with Upgrade: {PROTOCOL}");
        return Admission::Refused(Fault::new(Class::BadRequest, text));
    }
    Admission::Peer(Plan {
        service: peers.id.clone(),
        description: None,
        launched: false,
        client_abort: ClientAbort::Cut,
        tuning: Tuning {
            queue_timeout: PEER_TIMEOUT,
            first_byte_timeout: PEER_TIMEOUT,
            streaming_timeout: PEER_TIMEOUT,
            tunnel_idle_timeout: PEER_TIMEOUT,
            ..Tuning::new(&settings.limits)
        },
    })
}

fn claim(head: &Head, peer: SocketAddr) -> Claim<'_> {
    Claim {
        peer: peer.ip(),
        authority: head.authority(),
        has_origin: head.fields.get(b"origin").is_some(),
        asks_method: head.method == http::Method::OPTIONS
            && head.fields.get(b"access-control-request-method").is_some(),
    }
}

fn plan(
    description: &Arc<Description>,
    start: Option<Arc<Description>>,
    head: &Head,
    settings: &Settings,
) -> Plan {
    Plan {
        service: description.id.clone(),
        description: start,
        launched: !description.is_static(),
        client_abort: description.parameters.client_abort,
        tuning: Tuning::from_headers(head.fields.iter(), &settings.limits),
    }
}

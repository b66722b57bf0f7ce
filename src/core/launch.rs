//! Who may launch or change services. A description holds a command that runs as the router's user,
//! and nobody is authenticated: only people at this machine may give one, not the web pages they
//! look at.
//!
//! Three things keep pages out: a page cannot be at another peer than its browser (so the peer must
//! be this machine), cannot choose its `Host` (so a name that an attacker's server resolves to this
//! machine is refused), and cannot leave `Origin` away where it sends custom headers or changes
//! anything.

use crate::base::address::IpAddr;
use crate::base::fault::{Class, Fault};
use crate::core::route::{Hosts, host_of};
use ipnet::IpNet;

/// What is known of a request that would launch or change a service.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who sent it: the other end of the connection.
    pub peer: IpAddr,
    /// Its `Host`, with port.
    pub authority: &'a [u8],
    /// Whether it has an `Origin` field.
    pub has_origin: bool,
    /// Whether it is `OPTIONS` with `access-control-request-method`.
    pub asks_method: bool,
}

/// Whether the request may launch or change a service. `allowed` widens the peers beyond this
/// machine (`--launch-from`).
///
/// # Errors
/// 403 with the reason and the cure.
pub fn may_launch(claim: &Claim<'_>, allowed: &[IpNet], hosts: &Hosts) -> Result<(), Fault> {
    if claim.has_origin && claim.asks_method {
        return Err(Fault::new(
            Class::CorsPreflightForbidden,
            "Cross-origin request not allowed: web pages of other origins may not use services.",
        ));
    }
    if claim.has_origin {
        return Err(Fault::new(
            Class::CorsRequestForbidden,
            "Cross-origin request not allowed: a request with an Origin header comes from a web \
             page and may not launch or change a service. Send it without that header.",
        ));
    }
    let peer = claim.peer.to_canonical();
    if !peer.is_loopback() && !allowed.iter().any(|it| it.contains(&peer)) {
        let whole = IpNet::from(peer);
        return Err(Fault::new(
            Class::ServiceForbidden,
            format!(
                "Only requests from this machine may launch or change a service; this one came \
                 from {peer}. Start the router with --launch-from {whole} to allow it."
            ),
        )
        .with("peer", peer.to_string()));
    }
    if !hosts.contains(host_of(claim.authority)) {
        let host = String::from_utf8_lossy(host_of(claim.authority));
        return Err(Fault::new(
            Class::ServiceForbidden,
            format!(
                "A request may launch or change a service only under a name of this router; the \
                 Host of this one is {host}. Send it to localhost, or start the router with \
                 --hostname {host}."
            ),
        )
        .with("host", host));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, authority: &str, has_origin: bool, asks_method: bool) -> Option<Fault> {
        let hosts = Hosts::new(["router"], ["192.168.0.9".parse().unwrap()]);
        let allowed = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let peer = peer.parse().unwrap();
        let claim = Claim { peer, authority: authority.as_bytes(), has_origin, asks_method };
        may_launch(&claim, &allowed, &hosts).err()
    }

    #[test]
    fn only_people_at_this_machine_may_launch() {
        use Class::{CorsPreflightForbidden, CorsRequestForbidden, ServiceForbidden};
        for (peer, authority, has_origin, asks_method, expected) in [
            ("127.0.0.1", "localhost:9091", false, false, None),
            ("127.9.9.9", "127.0.0.1", false, false, None),
            ("::1", "[::1]:9091", false, false, None),
            ("::ffff:127.0.0.1", "router", false, false, None),
            ("127.0.0.1", "", false, false, None),
            ("127.0.0.1", "192.168.0.9:80", false, false, None),
            ("10.1.1.1", "router", false, false, None),
            ("::ffff:10.1.1.1", "router", false, false, None),
            ("fd00::1", "router", false, false, None),
            ("127.0.0.1", "localhost", false, true, None),
            ("11.1.1.1", "router", false, false, Some(ServiceForbidden)),
            ("fe80::1", "router", false, false, Some(ServiceForbidden)),
            ("127.0.0.1", "evil.example", false, false, Some(ServiceForbidden)),
            ("127.0.0.1", "localhost.evil.example", false, false, Some(ServiceForbidden)),
            ("127.0.0.1", "localhost", true, false, Some(CorsRequestForbidden)),
            ("127.0.0.1", "localhost", true, true, Some(CorsPreflightForbidden)),
            ("11.1.1.1", "evil.example", true, true, Some(CorsPreflightForbidden)),
        ] {
            let found = check(peer, authority, has_origin, asks_method);
            assert_eq!(found.as_ref().map(|it| it.class), expected, "{peer} {authority}");
            assert!(found.is_none_or(|it| it.class.row().status == 403));
        }
    }

    #[test]
    fn refusals_name_the_cure() {
        let text = |peer, authority| check(peer, authority, false, false).unwrap().message;
        assert_eq!(
            text("11.1.1.1", "router"),
            "Only requests from this machine may launch or change a service; this one came from \
             11.1.1.1. Start the router with --launch-from 11.1.1.1/32 to allow it."
        );
        assert_eq!(
            text("::1", "evil.example:80"),
            "A request may launch or change a service only under a name of this router; the Host \
             of this one is evil.example. Send it to localhost, or start the router with \
             --hostname evil.example."
        );
    }
}

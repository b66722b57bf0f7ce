//! The addresses of hosts: looked up once a minute each, on the thread that asks Marathon.

use crate::base::address::IpAddr;
use crate::base::time::{Duration, Instant};
use crate::mesh::clock;
use std::collections::{HashMap, HashSet};
use std::net::ToSocketAddrs;

/// An address is good for so long.
const GOOD: Duration = Duration::from_secs(60);
/// A name that is not known is asked for again after so long.
const BAD: Duration = Duration::from_secs(10);
/// One round of look-ups takes no longer than this, and then one more look-up.
const ROUND: Duration = Duration::from_secs(2);

/// What is known of hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    known: HashMap<String, (Option<IpAddr>, Instant)>,
}

impl Hosts {
    /// The address of a host, if it is known.
    pub(super) fn address(&self, host: &str) -> Option<IpAddr> {
        host.parse().ok().or_else(|| self.known.get(host)?.0)
    }

    /// Looks up those that are not known or old, and forgets those that are not named.
    pub(super) fn look_up(&mut self, named: &HashSet<&str>) {
        let begun = clock::now();
        self.known.retain(|host, _| named.contains(host.as_str()));
        for host in named {
            let now = clock::now();
            let is_old = self.known.get(*host).is_none_or(|(_, until)| *until <= now);
            if host.is_empty() || !is_old || host.parse::<IpAddr>().is_ok() {
                continue;
            }
            if now - begun > ROUND {
                return; // the others next time
            }
            let before = self.known.get(*host).and_then(|it| it.0);
            let found = resolve(host, before);
            let until = now + if found.is_some() { GOOD } else { BAD };
            if found.is_none() {
                tracing::debug!(host, "the address of a host is not known");
            }
            self.known.insert((*host).to_owned(), (found.or(before), until));
        }
    }
}

fn resolve(host: &str, before: Option<IpAddr>) -> Option<IpAddr> {
    let found: Vec<IpAddr> = (host, 0).to_socket_addrs().ok()?.map(|it| it.ip()).collect();
    one_of(&found, before)
}

/// The one there was, if it still is one: an instance that changes its address is another one. Else
/// IPv4 first.
fn one_of(found: &[IpAddr], before: Option<IpAddr>) -> Option<IpAddr> {
    let same = before.filter(|it| found.contains(it));
    same.or_else(|| found.iter().find(|it| it.is_ipv4()).or_else(|| found.first()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_several_addresses_keeps_one() {
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let v6: IpAddr = std::net::Ipv6Addr::LOCALHOST.into();
        for (found, before, expected) in [
            (vec![a, b], None, Some(a)),
            (vec![b, a], Some(a), Some(a)),
            (vec![b], Some(a), Some(b)),
            (vec![v6, b], None, Some(b)),
            (vec![v6], None, Some(v6)),
            (vec![], Some(a), None),
        ] {
            assert_eq!(one_of(&found, before), expected, "{found:?} {before:?}");
        }
    }
}

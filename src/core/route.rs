//! Where a request goes: to the router's own pages, to a service the operator named, or to a
//! service the request describes (api §0.1, control-plane §14.2).
//!
//! This runs for every request: one pass over the fields, no allocation but in a fault.

use crate::base::address::{IpAddr, Ipv6Addr};
use crate::base::fault::Fault;
use crate::core::service::headers::{self, PREFIX};
use crate::core::service::static_servers::NAME_MAX;

/// Where a request goes. `T` is what a static name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route<T> {
    /// To the router's own pages.
    Api,
    /// To a service that the operator named.
    Static(T),
    /// To the service that the request's headers describe, if they do.
    Headers,
}

/// Pages of the router at any host and with any headers.
const ALWAYS: [&[u8]; 7] = [
    b"/app-name",
    b"/service-id",
    b"/token",
    b"/.well-known/auth/expires-at",
    b"/.well-known/auth/keep-alive",
    b"/.well-known/oidc/v1/openid-enabled",
    b"/oidc/v1/callback",
];

/// Decides where a request goes: the pages that are always the router's; a static service whose
/// name is the host; the router's pages at a Waiter host without `x-waiter-*` headers other than
/// `x-waiter-debug`; a static service that `x-waiter-token` names; what the headers describe.
///
/// `path` is without query, `authority` as sent, names of fields in lower case; `find` looks a
/// static service up by its name, which it gets in lower case.
///
/// # Errors
/// Nothing names a service (400).
pub fn route<'a, T>(
    path: &[u8],
    authority: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    hosts: &Hosts,
    find: impl Fn(&str) -> Option<T>,
) -> Result<Route<T>, Fault> {
    if is_always_api(path) {
        return Ok(Route::Api);
    }
    let host = host_of(authority);
    if let Some(found) = find_lowered(host, &find) {
        return Ok(Route::Static(found));
    }
    let mut addressed = false;
    for (name, value) in fields {
        match name.strip_prefix(PREFIX) {
            None | Some(b"debug") => {}
            Some(b"token") => {
                addressed = true;
                if let Some(found) = find_lowered(value, &find) {
                    return Ok(Route::Static(found));
                }
            }
            Some(_) => addressed = true,
        }
    }
    match (addressed, hosts.contains(host)) {
        (true, _) => Ok(Route::Headers),
        (false, true) => Ok(Route::Api),
        (false, false) => Err(headers::unidentified()),
    }
}

/// Rules 1 and 2 of api §0.1.
fn is_always_api(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/waiter-") else {
        // Most paths are none of these, and the second byte says so.
        return matches!(path.get(1), Some(b'a' | b's' | b't' | b'.' | b'o'))
            && ALWAYS.contains(&path);
    };
    let begins = |words: &[&[u8]]| words.iter().any(|it| rest.starts_with(it));
    matches!(rest, b"ping" | b"peers")
        || begins(&[b"auth/", b"consent", b"interstitial"])
        || rest.strip_prefix(b"async/").is_some_and(is_async)
}

fn is_async(rest: &[u8]) -> bool {
    let step = rest.strip_prefix(b"v2/").unwrap_or(rest);
    let words: [&[u8]; 3] = [b"complete/", b"result/", b"status/"];
    words.iter().any(|it| step.starts_with(it))
}

/// Names are compared in lower case; the copy lives on the stack.
fn find_lowered<T>(name: &[u8], find: &impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut lower = [0; NAME_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    if lower.is_empty() { None } else { find(str::from_utf8(lower).ok()?) }
}

/// The host of an authority: without its port, brackets of IPv6 kept.
pub fn host_of(authority: &[u8]) -> &[u8] {
    let end = if authority.first() == Some(&b'[') {
        authority.iter().position(|it| *it == b']').map(|it| it + 1)
    } else {
        authority.iter().position(|it| *it == b':')
    };
    authority[..end.unwrap_or(authority.len())].trim_ascii()
}

/// The names of the router itself: *Waiter hosts* (api §0.1).
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<Box<[u8]>>,
}

impl Hosts {
    /// The names given (configured host names, the machine's name) and the addresses (the
    /// machine's, those listened on), beside `localhost`, `127.0.0.1` and `[::1]`. An address that
    /// stands for all interfaces names none.
    pub fn new<'a>(
        names: impl IntoIterator<Item = &'a str>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let localhost = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()];
        let text = |address: IpAddr| match address {
            IpAddr::V4(it) => it.to_string(),
            IpAddr::V6(it) => format!("[{it}]"),
        };
        let addresses = localhost.into_iter().chain(addresses).filter(|it| !it.is_unspecified());
        let named = names.into_iter().filter(|it| !it.is_empty()).map(str::to_owned);
        let mut hosts = Self { names: Vec::new() };
        for name in std::iter::once("localhost".to_owned()).chain(named).chain(addresses.map(text))
        {
            if !hosts.contains(name.as_bytes()) {
                hosts.names.push(name.into_bytes().into());
            }
        }
        hosts
    }

    /// Whether this host (without a port) is the router. A blank one is.
    pub fn contains(&self, host: &[u8]) -> bool {
        host.is_empty() || self.names.iter().any(|it| it.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::Class;

    fn check(path: &str, authority: &str, fields: &[(&str, &str)]) -> Result<Route<u8>, Class> {
        let hosts = Hosts::new(["router.example", ""], ["10.1.2.3".parse().unwrap()]);
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let find = |name: &str| match name {
            "bench" => Some(1),
            "a.example" => Some(2),
            _ => None,
        };
        route(path.as_bytes(), authority.as_bytes(), fields, &hosts, find).map_err(|it| it.class)
    }

    #[test]
    fn requests_go_where_the_table_says() {
        use Route::{Api, Headers, Static};
        let cmd = ("x-waiter-cmd", "sleep 1");
        let debug = ("x-waiter-debug", "1");
        let token = |name| ("x-waiter-token", name);
        let unknown = Err(Class::ServiceUnknown);
        for (path, authority, fields, expected) in [
            ("/token", "anything", vec![token("bench")], Ok(Api)),
            ("/app-name", "bench", vec![cmd], Ok(Api)),
            ("/waiter-ping", "a.example", vec![cmd], Ok(Api)),
            ("/waiter-pings", "localhost", vec![cmd], Ok(Headers)),
            ("/waiter-peers", "10.9.9.9:9091", vec![], Ok(Api)),
            ("/waiter-peers/", "10.9.9.9", vec![], unknown),
            ("/oidc/v1/callback", "", vec![cmd], Ok(Api)),
            ("/.well-known/auth/keep-alive", "x", vec![], Ok(Api)),
            ("/waiter-async/status/1/2", "x", vec![cmd], Ok(Api)),
            ("/waiter-async/v2/result/1", "x", vec![], Ok(Api)),
            ("/waiter-async/v3/result/1", "x", vec![], unknown),
            ("/waiter-async/complete", "x", vec![], unknown),
            ("/waiter-auth/x", "x", vec![], Ok(Api)),
            ("/waiter-auth", "localhost", vec![cmd], Ok(Headers)),
            ("/waiter-auth", "localhost", vec![], Ok(Api)),
            ("/waiter-consent", "x", vec![], Ok(Api)),
            ("/waiter-interstitial/a", "x", vec![], Ok(Api)),
            ("/apps", "localhost:9091", vec![], Ok(Api)),
            ("/apps", "localhost:9091", vec![debug], Ok(Api)),
            ("/apps", "localhost", vec![token("foo")], Ok(Headers)),
            ("/", "LOCALHOST", vec![("host", "localhost")], Ok(Api)),
            ("/", "", vec![], Ok(Api)),
            ("/", ":80", vec![], Ok(Api)),
            ("/", "127.0.0.1:80", vec![], Ok(Api)),
            ("/", "10.1.2.3", vec![], Ok(Api)),
            ("/", "[::1]:80", vec![], Ok(Api)),
            ("/", "[::1]", vec![], Ok(Api)),
            ("/", "Router.Example:80", vec![], Ok(Api)),
            ("/", "other.example", vec![], unknown),
            ("/", "other.example", vec![debug], unknown),
            ("/", "other.example", vec![cmd], Ok(Headers)),
            ("/", "localhost", vec![("x-waiter-timeout", "1")], Ok(Headers)),
            ("/", "bench", vec![], Ok(Static(1))),
            ("/", "BENCH:8080", vec![cmd], Ok(Static(1))),
            ("/", "A.example", vec![], Ok(Static(2))),
            ("/", "localhost", vec![cmd, token("Bench")], Ok(Static(1))),
            ("/", "bench", vec![token("a.example")], Ok(Static(1))),
            ("/", "other", vec![token("bench")], Ok(Static(1))),
            ("/", &"b".repeat(300), vec![], unknown),
        ] {
            assert_eq!(check(path, authority, &fields), expected, "{path} {authority} {fields:?}");
        }
    }

    #[test]
    fn hosts_are_cut_before_the_port() {
        for (authority, host) in
            [("a:1", "a"), ("[::1]:1", "[::1]"), ("[::1", "[::1"), ("", ""), (" a ", "a")]
        {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
        }
    }

    #[test]
    fn an_address_of_all_interfaces_is_no_host() {
        let hosts = Hosts::new([], ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()]);
        assert!(!hosts.contains(b"0.0.0.0") && !hosts.contains(b"[::]"));
    }
}

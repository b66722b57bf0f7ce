//! Which fields cross the router, and which are added (control-plane §14.5, RFC 9110 §7.6.3).

use crate::base::address::IpAddr;
use crate::base::time::Duration;
use crate::core::slots::Seat;
use crate::exchange::{Plan, Times, Visit};
use crate::wire::digits::number;
use crate::wire::fields::Fields;
use crate::wire::head::Head;
use std::io::Write;

/// What this router calls itself in `via` and `server`.
pub(crate) const PSEUDONYM: &str = concat!("waiter/", env!("CARGO_PKG_VERSION"));

/// What a request head was seen to hold, in one look at its fields.
#[derive(Default)]
struct Seen {
    cid: bool,
    our_cookie: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    via: bool,
}

/// Makes a client's request head the one that the instance gets; `cid` is added if the client gave
/// none. `scratch` is memory to work in; it is left empty.
pub(super) fn request(
    head: &mut Head,
    (visit, cid): (&Visit, &[u8]),
    launched: bool,
    scratch: &mut Vec<u8>,
) {
    let via = via(head.version);
    let trusted = visit.trusted;
    let mut seen = Seen::default();
    head.fields.retain(|name, value| {
        let kept = |seen: &mut bool, keep: bool| {
            *seen |= keep;
            keep
        };
        match name {
            b"authorization" => !launched,
            b"forwarded" => trusted,
            b"x-forwarded-for" => kept(&mut seen.forwarded_for, trusted),
            b"x-forwarded-proto" => kept(&mut seen.forwarded_proto, trusted),
            b"x-forwarded-host" => kept(&mut seen.forwarded_host, trusted),
            b"x-cid" => kept(&mut seen.cid, true),
            b"via" => kept(&mut seen.via, true),
            b"cookie" => {
                seen.our_cookie |= is_ours(value);
                true
            }
            _ => !name.starts_with(b"x-waiter-"),
        }
    });
    if seen.our_cookie {
        strip_cookies(&mut head.fields, scratch);
    }
    if !seen.cid {
        head.fields.push(b"x-cid", cid);
    }
    append(&mut head.fields, b"x-forwarded-for", seen.forwarded_for, scratch, |out| {
        address(visit.peer, out);
    });
    if !seen.forwarded_proto {
        head.fields.push(b"x-forwarded-proto", b"http");
    }
    if !seen.forwarded_host && !head.authority().is_empty() {
        scratch.clear();
        scratch.extend_from_slice(head.authority());
        head.fields.push(b"x-forwarded-host", scratch);
    }
    append(&mut head.fields, b"via", seen.via, scratch, |out| out.extend_from_slice(via));
    scratch.clear();
}

/// Makes an instance's response head the one that the client gets.
pub(super) fn response(head: &mut Head, cid: &[u8], scratch: &mut Vec<u8>) {
    let (mut has_via, mut has_cid) = (false, false);
    head.fields.retain(|name, value| {
        has_via |= name == b"via";
        has_cid |= name == b"x-cid";
        name != b"set-cookie" || !OUR_COOKIES.iter().any(|it| value.starts_with(it.as_bytes()))
    });
    let via = via(head.version);
    append(&mut head.fields, b"via", has_via, scratch, |out| out.extend_from_slice(via));
    scratch.clear();
    if !has_cid {
        head.fields.push(b"x-cid", cid);
    }
}

const OUR_COOKIES: [&str; 3] = ["x-waiter-auth=", "x-auth-expires-at=", "x-waiter-oidc-challenge-"];

/// Tells how a request was served, to one who asked with `x-waiter-debug` (control-plane §14.8).
pub(super) fn debug(head: &mut Head, plan: &Plan, seat: &Seat, times: &Times) {
    let instance = seat.instance();
    let seated = times.seated.unwrap_or(times.began);
    let opened = times.opened.unwrap_or(seated);
    let answered = times.answered.unwrap_or(opened);
    let millis = |it: Duration| it.as_millis().to_string();
    let tells = [
        ("x-waiter-service-id", seat.service().to_string()),
        ("x-waiter-backend-id", instance.id(seat.service()).to_string()),
        ("x-waiter-backend-host", instance.address.ip().to_string()),
        ("x-waiter-backend-port", instance.address.port().to_string()),
        ("x-waiter-backend-proto", "http".to_owned()),
        ("x-waiter-get-available-instance-ns", (seated - times.began).as_nanos().to_string()),
        ("x-waiter-backend-response-ns", (answered - opened).as_nanos().to_string()),
        ("x-waiter-queue-timeout-ms", millis(plan.tuning.queue_timeout)),
        ("x-waiter-socket-timeout-ms", millis(plan.tuning.first_byte_timeout)),
        ("x-waiter-streaming-timeout-ms", millis(plan.tuning.streaming_timeout)),
    ];
    for (name, value) in tells {
        head.fields.set(name.as_bytes(), value.as_bytes());
    }
}

/// Writes a correlation id: `<base-16 time>-<base-16 number>`.
pub(super) fn cid(visit: &Visit, out: &mut Vec<u8>) {
    number(visit.date.0, 16, out);
    out.push(b'-');
    number(visit.unique, 16, out);
}

/// Writes a client's address; an IPv4 client of an IPv6 listener is shown as what it is.
fn address(peer: IpAddr, out: &mut Vec<u8>) {
    match peer.to_canonical() {
        IpAddr::V4(peer) => {
            for (at, octet) in peer.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(octet.into(), 10, out);
            }
        }
        IpAddr::V6(peer) => write!(out, "{peer}").expect("memory takes all"),
    }
}

fn via(version: http::Version) -> &'static [u8] {
    match version {
        http::Version::HTTP_10 => concat!("1.0 waiter/", env!("CARGO_PKG_VERSION")).as_bytes(),
        http::Version::HTTP_2 => concat!("2.0 waiter/", env!("CARGO_PKG_VERSION")).as_bytes(),
        _ => concat!("1.1 waiter/", env!("CARGO_PKG_VERSION")).as_bytes(),
    }
}

/// Adds what `write` writes to a list field: one field, values joined by commas.
fn append(
    fields: &mut Fields,
    name: &[u8],
    exists: bool,
    scratch: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    scratch.clear();
    if exists {
        for old in fields.all(name) {
            scratch.extend_from_slice(old);
            scratch.extend_from_slice(b", ");
        }
        fields.remove(name);
    }
    write(scratch);
    fields.push(name, scratch);
}

fn is_ours(cookies: &[u8]) -> bool {
    // All of ours begin with an x, which few others hold.
    memchr::memchr_iter(b'x', cookies).any(|at| {
        let (before, rest) = cookies.split_at(at);
        let begins = matches!(before.trim_ascii_end().last(), None | Some(b';'));
        begins && OUR_COOKIES.iter().any(|it| rest.starts_with(it.as_bytes()))
    })
}

fn strip_cookies(fields: &mut Fields, kept: &mut Vec<u8>) {
    kept.clear();
    for value in fields.all(b"cookie") {
        for pair in value.split(|it| *it == b';').map(<[u8]>::trim_ascii) {
            if !is_ours(pair) {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    fields.remove(b"cookie");
    if !kept.is_empty() {
        fields.push(b"cookie", kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Date;

    fn visit(trusted: bool) -> Visit {
        Visit { peer: "10.1.2.3".parse().expect("address"), trusted, unique: 10, date: Date(255) }
    }

    fn rewritten(fields: &[(&str, &str)], trusted: bool, launched: bool) -> Vec<String> {
        let mut head = Head::default();
        head.set_authority(b"a:1");
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        let visit = visit(trusted);
        let mut id = Vec::new();
        cid(&visit, &mut id);
        request(&mut head, (&visit, &id), launched, &mut Vec::new());
        head.fields
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect()
    }

    #[test]
    fn our_cookies_are_found_by_their_first_letter() {
        assert!(OUR_COOKIES.iter().all(|it| it.starts_with('x')));
        for ours in
            ["x-waiter-auth=1", "a=x; x-auth-expires-at=2", "a=b;\t x-waiter-oidc-challenge-=3"]
        {
            assert!(is_ours(ours.as_bytes()), "{ours}");
        }
        for other in ["", "x=1", "ax-waiter-auth=1", "a=x-waiter-auth=1", "x-waiter-authx=1"] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_an_instance_gets() {
        let via = format!("via: 1.1 {PSEUDONYM}");
        let plain = [
            "x-cid: ff-a",
            "x-forwarded-for: 10.1.2.3",
            "x-forwarded-proto: http",
            "x-forwarded-host: a:1",
            &via,
        ];
        assert_eq!(rewritten(&[], false, true), plain);
        let forged = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Waiter-Cmd", "sh"),
            ("Authorization", "Basic x"),
            ("Cookie", "x-waiter-auth=1"),
        ];
        assert_eq!(rewritten(&forged, false, true), plain, "nothing forged crosses");
    }

    #[test]
    fn what_a_trusted_peer_may_say() {
        let said = [
            ("x-cid", "mine"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("via", "1.0 x"),
            ("authorization", "Basic x"),
            ("cookie", "a=1; x-waiter-auth=2; b=3"),
        ];
        let got = rewritten(&said, true, false);
        for expected in [
            "x-cid: mine",
            "x-forwarded-for: 1.1.1.1, 10.1.2.3",
            "x-forwarded-proto: https",
            "authorization: Basic x",
            "cookie: a=1; b=3",
        ] {
            assert!(got.iter().any(|it| it == expected), "{expected} in {got:?}");
        }
        assert!(got.iter().any(|it| it.starts_with("via: 1.0 x, 1.1 waiter/")));
    }

    #[test]
    fn addresses_are_written_as_fmt_writes_them() {
        let written = |peer| {
            let mut out = Vec::new();
            address(peer, &mut out);
            String::from_utf8(out).expect("text")
        };
        for text in ["0.0.0.0", "127.0.0.1", "255.10.100.9", "::1", "2001:db8::ff00:42:8329"] {
            let peer: IpAddr = text.parse().expect("an address");
            assert_eq!(written(peer), text);
        }
        let mapped: IpAddr = "::ffff:10.0.0.255".parse().expect("an address");
        assert_eq!(written(mapped), "10.0.0.255");
    }

    #[test]
    fn what_a_client_gets() {
        let mut head = Head::default();
        head.fields.push(b"set-cookie", b"x-waiter-auth=forged");
        head.fields.push(b"set-cookie", b"mine=1");
        response(&mut head, b"c", &mut Vec::new());
        assert_eq!(head.fields.all(b"set-cookie").count(), 1);
        assert_eq!(head.fields.get(b"x-cid"), Some(&b"c"[..]));
    }
}

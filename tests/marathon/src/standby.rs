//! A Marathon that does not lead: passes everything on to the one that does, but not the events.

use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::http::client::{Answer, ask};
use crate::http::deliver::Reply;
use crate::http::{Request, Response};

/// As Marathon's `leader_proxy_read_timeout_ms`.
const LIMIT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection, or are made anew.
const OWN: &[&str] = &["connection", "content-length", "transfer-encoding", "expect", "keep-alive"];

pub(crate) fn pass_on(leader: &str, request: &Request) -> Reply {
    if request.segments() == ["v2", "events"] {
        let location = format!("http://{leader}{}", request.uri);
        return Reply::Whole(Response::empty(302).with("Location", location));
    }
    let Some(to) = leader.to_socket_addrs().ok().and_then(|mut it| it.next()) else {
        return Reply::Whole(Response::html(502, "Could not determine the current leader"));
    };
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.uri);
    for (name, value) in request.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Via: 1.1 standby\r\nContent-Length: {}\r\n", request.body.len()));
    Reply::Whole(match ask(to, &head, &request.body, LIMIT) {
        Ok(it) => passed_back(it),
        Err(why) => Response::html(502, &format!("Connection to the leader failed: {why}")),
    })
}

fn passed_back(it: Answer) -> Response {
    let names = [
        "Content-Type",
        "Location",
        "Marathon-Deployment-Id",
        "X-Marathon-Leader",
        "WWW-Authenticate",
    ];
    let mut out = Response { body: it.body, ..Response::empty(it.status) };
    for name in names {
        let found = it.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some((_, value)) = found {
            out = out.with(name, value.clone());
        }
    }
    out.with("X-Marathon-Via", "1.1 standby")
}

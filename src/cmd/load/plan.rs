//! What to do, checked: every mistake of the arguments is told at once.

use super::LoadArgs;
use crate::base::time::Duration;
use http::Uri;
use http::header::{HeaderName, HeaderValue};
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};

const CONNECTIONS_MAX: usize = 1_000_000;
const RATE_MAX: u64 = 10_000_000;
const SECONDS_MAX: f64 = 86_400.0;
const BODY_BYTES_MAX: usize = 1 << 30;
const THREADS_MAX: usize = 1024;

/// Fields that follow from other arguments.
const OURS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// What to do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    /// The bytes of each request.
    pub(super) request: Vec<u8>,
    /// Requests per second, all threads together; 0: as fast as answers come.
    pub(super) rate: u64,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
}

/// Where to, and what for.
struct Target {
    address: SocketAddr,
    host: String,
    path: String,
}

impl Plan {
    /// The plan of these arguments.
    ///
    /// # Errors
    /// All mistakes, one line each.
    pub(super) fn of(args: &LoadArgs) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut told =
            |it: Result<(), String>| it.err().into_iter().for_each(|it| mistakes.push(it));
        told(within("--connections", args.connections, 1, CONNECTIONS_MAX));
        told(within("--threads", args.threads, 1, THREADS_MAX.min(args.connections.max(1))));
        told(within("--rate", args.rate, 0, RATE_MAX));
        told(within("--body-bytes", args.body_bytes.unwrap_or(0), 0, BODY_BYTES_MAX));
        let duration = seconds("--duration", args.duration);
        let timeout = seconds("--timeout", args.timeout);
        let target = target(&args.url);
        let fields: Vec<_> = args.header.iter().map(|it| field(it)).collect();
        told(duration.as_ref().map(drop).map_err(Clone::clone));
        told(timeout.as_ref().map(drop).map_err(Clone::clone));
        told(target.as_ref().map(drop).map_err(Clone::clone));
        fields.iter().for_each(|it| told(it.as_ref().map(drop).map_err(Clone::clone)));
        if let Some(host) = &args.host
            && (host.is_empty() || HeaderValue::from_str(host).is_err() || host.contains(' '))
        {
            told(Err(format!("--host is {host:?}, not a host name")));
        }
        match (duration, timeout, target) {
            (Ok(duration), Ok(timeout), Ok(target)) if mistakes.is_empty() => Ok(Self {
                address: target.address,
                request: request(args, &target, fields.into_iter().flatten()),
                rate: args.rate,
                connections: args.connections,
                threads: args.threads,
                duration,
                timeout,
            }),
            _ => Err(mistakes),
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    flag: &str,
    value: T,
    from: T,
    to: T,
) -> Result<(), String> {
    if value >= from && value <= to {
        return Ok(());
    }
    Err(format!("{flag} is {value}; it must be {from} to {to}"))
}

fn seconds(flag: &str, value: f64) -> Result<Duration, String> {
    if value > 0.0 && value <= SECONDS_MAX {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(format!("{flag} is {value}; it must be above 0 and at most {SECONDS_MAX} seconds"))
}

fn target(url: &str) -> Result<Target, String> {
    let bad = |why: &str| format!("--url is {url:?}: {why}; it must be http://HOST:PORT/PATH");
    let uri: Uri = url.parse().map_err(|_| bad("that is no URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(bad("only http is spoken"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("a user is not sent"));
    }
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    let address = (host, port).to_socket_addrs().ok().and_then(|mut it| it.next());
    Ok(Target {
        address: address.ok_or_else(|| bad("that host is not known"))?,
        host: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
    })
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let bad = |why: &str| format!("--header is {text:?}: {why}");
    let (name, value) = text.split_once(':').ok_or_else(|| bad("write it as NAME: VALUE"))?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| bad("that is no name of a field"))?;
    if OURS.contains(&name.as_str()) {
        return Err(bad("that field follows from --host, --url and --body-bytes"));
    }
    let value = value.trim_matches([' ', '\t']);
    let value = HeaderValue::try_from(value).map_err(|_| bad("that is no value"))?;
    Ok((name, value))
}

fn request(
    args: &LoadArgs,
    target: &Target,
    fields: impl Iterator<Item = (HeaderName, HeaderValue)>,
) -> Vec<u8> {
    let method = if args.body_bytes.is_some() { "POST" } else { "GET" };
    let host = args.host.as_deref().unwrap_or(&target.host);
    let mut bytes = format!("{method} {} HTTP/1.1\r\nhost: {host}\r\n", target.path).into_bytes();
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let size = args.body_bytes;
    if let Some(size) = size {
        write!(bytes, "content-length: {size}\r\n").expect("memory takes every byte");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.resize(bytes.len() + size.unwrap_or(0), b'x');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn plan(line: &str) -> Result<Plan, Vec<String>> {
        let words = line.split(' ').map(|it| it.replace('_', " "));
        let cli = Cli::try_parse_from(std::iter::once("load".to_owned()).chain(words));
        Plan::of(&cli.expect("clap takes it").args)
    }

    #[test]
    fn a_request_says_what_was_asked_for() {
        let it = plan("--url http://127.0.0.1:8080/a?b=c").expect("right");
        assert_eq!(it.request, b"GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n");
        assert_eq!(it.address, "127.0.0.1:8080".parse().expect("an address"));
        let it = plan("--url http://[::1]:1 --host x --header a:_b --body-bytes 3");
        let expected = b"POST / HTTP/1.1\r\nhost: x\r\na: b\r\ncontent-length: 3\r\n\r\nxxx";
        assert_eq!(it.expect("right").request, expected);
    }

    #[test]
    fn mistakes_are_told_each_and_all_at_once() {
        for (line, expected) in [
            ("--url https://127.0.0.1/", "only http is spoken"),
            ("--url /path", "only http is spoken"),
            ("--url http://", "that is no URL"),
            ("--url http://u@127.0.0.1/", "a user is not sent"),
            ("--url http://127.0.0.1/ --connections 0", "--connections is 0; it must be 1 to"),
            ("--url http://127.0.0.1/ --threads 2", "--threads is 2; it must be 1 to 1"),
            ("--url http://127.0.0.1/ --rate 99999999", "--rate is 99999999"),
            ("--url http://127.0.0.1/ --duration 0", "--duration is 0"),
            ("--url http://127.0.0.1/ --duration NaN", "--duration is NaN"),
            ("--url http://127.0.0.1/ --timeout inf", "--timeout is inf"),
            ("--url http://127.0.0.1/ --header x", "write it as NAME: VALUE"),
            ("--url http://127.0.0.1/ --header b_d:x", "no name of a field"),
            ("--url http://127.0.0.1/ --header Host:x", "follows from --host"),
            ("--url http://127.0.0.1/ --header a:b\r\nc:d", "no value"),
            ("--url http://127.0.0.1/ --header a:\r\nb:c", "no value"),
            ("--url http://127.0.0.1/ --host a_b", "not a host name"),
            ("--url http://127.0.0.1/ --body-bytes 9999999999", "--body-bytes is 9999999999"),
        ] {
            let mistakes = plan(line).expect_err(line);
            assert!(mistakes.len() == 1 && mistakes[0].contains(expected), "{line}: {mistakes:?}");
        }
        let mistakes = plan("--url x --connections 0 --duration 0 --header x").expect_err("four");
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }
}

//! A request as it was received, whole.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;

/// Longest head and body that are read; a test has no use for more.
const HEAD_BYTES: usize = 64 * 1024;
const BODY_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The target as it was sent.
    pub(crate) uri: String,
    /// Decoded, with runs of `/` made one: a client sends `/v2/apps//x`.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) peer: SocketAddr,
    /// Whether the connection may carry another request.
    pub(crate) keep: bool,
}

impl Request {
    /// Reads the next request; `None` when the connection ends before one begins.
    pub(crate) fn read(
        from: &mut impl BufRead,
        to: &mut impl Write,
        peer: SocketAddr,
    ) -> io::Result<Option<Self>> {
        let Some(first) = line(from)? else { return Ok(None) };
        let mut words = first.split(' ');
        let (Some(method), Some(uri), Some(version)) = (words.next(), words.next(), words.next())
        else {
            return Err(invalid("request line"));
        };
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let headers = read_headers(from)?;
        let mut request = Self {
            method: method.to_owned(),
            uri: uri.to_owned(),
            path: one_slash(&decode(path, Plus::Kept)),
            query: pairs(query),
            keep: version == "HTTP/1.1",
            headers,
            body: Vec::new(),
            peer,
        };
        if let Some(it) = request.header("connection") {
            request.keep = it.eq_ignore_ascii_case("keep-alive")
                || (request.keep && !it.eq_ignore_ascii_case("close"));
        }
        if request.header("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue")) {
            to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = read_body(from, &request)?;
        Ok(Some(request))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The first value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A Boolean parameter: Python's clients write `True`, an empty one counts as set.
    pub(crate) fn flag(&self, name: &str, default: Default) -> bool {
        match self.param(name) {
            None | Some("undefined") => default == Default::True,
            Some(text) => text.is_empty() || text.eq_ignore_ascii_case("true"),
        }
    }

    pub(crate) fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path between slashes, without empty ones.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|it| !it.is_empty()).collect()
    }
}

/// What a Boolean parameter means when it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Default {
    True,
    False,
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad HTTP: {what}"))
}

/// A line without its end; `None` at the end of the stream.
pub(crate) fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.take(HEAD_BYTES as u64).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(invalid("line without an end"));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map(Some).map_err(|_| invalid("line is not UTF-8"))
}

pub(crate) fn read_headers(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let text = line(from)?.ok_or_else(|| invalid("head without an end"))?;
        if text.is_empty() {
            return Ok(headers);
        }
        let (name, value) = text.split_once(':').ok_or_else(|| invalid("header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(from: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    if request.header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        return read_chunks(from);
    }
    let length = match request.header("content-length") {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| invalid("content-length"))?,
    };
    read_exactly(from, length)
}

pub(crate) fn read_exactly(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES {
        return Err(invalid("body too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

pub(crate) fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let head = line(from)?.ok_or_else(|| invalid("chunk"))?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
        if size == 0 {
            read_headers(from)?;
            return Ok(body);
        }
        if body.len() + size > BODY_BYTES {
            return Err(invalid("body too long"));
        }
        body.extend(read_exactly(from, size)?);
        line(from)?;
    }
}

fn one_slash(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for it in path.chars() {
        if it != '/' || !out.ends_with('/') {
            out.push(it);
        }
    }
    out
}

/// What `+` means where a text is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Kept,
    Space,
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|it| it.split_once('=').unwrap_or((it, "")))
        .map(|(key, value)| (decode(key, Plus::Space), decode(value, Plus::Space)))
        .collect()
}

fn decode(text: &str, plus: Plus) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let hex = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match (first, hex.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) if plus == Plus::Space => out.push(b' '),
            _ => out.push(first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Request {
        let peer = "127.0.0.1:1".parse().unwrap();
        Request::read(&mut text.as_bytes(), &mut Vec::new(), peer).unwrap().unwrap()
    }

    #[test]
    fn what_clients_really_send_is_understood() {
        let it = check(
            "PUT /v2/apps//a%2Fb?force=False&embed=x&embed=y+z HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        );
        assert_eq!((it.path.as_str(), it.body.as_slice()), ("/v2/apps/a/b", b"{}".as_slice()));
        assert_eq!(it.segments(), ["v2", "apps", "a", "b"]);
        assert_eq!(it.params("embed").collect::<Vec<_>>(), ["x", "y z"]);
        assert!(!it.flag("force", Default::True) && it.flag("none", Default::True) && it.keep);
        let it =
            check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_eq!((it.body.as_slice(), it.keep), (b"abc".as_slice(), false));
    }
}

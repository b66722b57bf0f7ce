//! One request to somebody else: health checks, and what a standby passes on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::request::{invalid, line, read_chunks, read_exactly, read_headers};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Sends `head` (request line and headers, without the empty line) and `body`; `limit` is for
/// connecting and for each read.
pub(crate) fn ask(to: SocketAddr, head: &str, body: &[u8], limit: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut from = BufReader::new(stream);
    let status = status(&mut from)?;
    let headers = read_headers(&mut from)?;
    let get = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, it)| it.as_str());
    let body = if head.starts_with("HEAD ") || status == 204 {
        Vec::new()
    } else if get("transfer-encoding").is_some() {
        read_chunks(&mut from)?
    } else if let Some(length) = get("content-length") {
        read_exactly(&mut from, length.parse().map_err(|_| invalid("content-length"))?)?
    } else {
        let mut body = Vec::new();
        from.read_to_end(&mut body)?;
        body
    };
    Ok(Answer { status, headers, body })
}

/// The status of a health check; the body is not waited for.
pub(crate) fn status_of(to: SocketAddr, path: &str, limit: Duration) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: Marathon/HealthCheck\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    status(&mut BufReader::new(stream))
}

fn status(from: &mut impl BufRead) -> io::Result<u16> {
    let first = line(from)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    first.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(|| invalid("status line"))
}

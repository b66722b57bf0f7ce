//! Requests, from bytes.

use super::plan::bad;
use std::io::{self, Read};
use std::net::TcpStream;

/// Longest head; a longer one ends the connection.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Most fields in a head.
const FIELDS_MAX: usize = 512;
/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 64 * 1024;

/// Name and value, in the order in which they came.
pub(super) type Fields = Vec<(String, String)>;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Minor version of HTTP/1.
    pub(super) minor: u8,
    pub(super) fields: Fields,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

impl Request {
    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The first field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// What the request asks of this knob: `?name=value`, else the field `x-name`.
    pub(super) fn knob(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let asked = query.split('&').find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some("1"),
        });
        asked.or_else(|| self.field(&format!("x-{name}")))
    }

    /// Whether the field is a list that holds this word.
    pub(super) fn says(&self, name: &str, word: &str) -> bool {
        let same = self.fields.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        same.flat_map(|(_, value)| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    }

    /// How its body ends (RFC 9112 §6.3).
    pub(super) fn framing(&self) -> io::Result<Framing> {
        if self.says("transfer-encoding", "chunked") {
            return Ok(Framing::Chunked);
        }
        let length = self.field("content-length").map_or(Ok(0), |it| it.trim().parse());
        length.map(Framing::Length).map_err(|_| bad("content-length is no number"))
    }

    /// Whether the client wants the connection to stay open.
    pub(super) fn keep_alive(&self) -> bool {
        let close = self.says("connection", "close");
        if self.minor == 0 { self.says("connection", "keep-alive") && !close } else { !close }
    }
}

/// The reading half of a connection, with what has been read ahead.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been used up.
    used: usize,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), used: 0 }
    }

    /// Whether there is something that was read ahead.
    pub(super) fn has_ahead(&self) -> bool {
        self.used < self.buffer.len()
    }

    /// The next request; none when the client closed between two of them.
    pub(super) fn head(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((request, length)) = parse(&self.buffer[self.used..])? {
                self.used += length;
                return Ok(Some(request));
            }
            if self.buffer.len() - self.used > HEAD_BYTES_MAX {
                return Err(bad("the head is too long"));
            }
            let between = !self.has_ahead();
            match self.fill() {
                Ok(0) if between => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a body to its end and shows each piece; returns the trailers.
    pub(super) fn body(
        &mut self,
        framing: Framing,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Fields> {
        if let Framing::Length(length) = framing {
            self.exactly(length, &mut each)?;
            return Ok(Fields::new());
        }
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or("").trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| bad("no chunk size"))?;
            if size == 0 {
                return self.trailers();
            }
            self.exactly(size, &mut each)?;
            if !self.line()?.is_empty() {
                return Err(bad("a chunk is longer than it says"));
            }
        }
    }

    /// Whatever comes next, for a connection that has become a tunnel; empty at the end.
    pub(super) fn piece(&mut self) -> io::Result<&[u8]> {
        if !self.has_ahead() {
            self.fill()?;
        }
        let from = self.used;
        self.used = self.buffer.len();
        Ok(&self.buffer[from..])
    }

    fn trailers(&mut self) -> io::Result<Fields> {
        let mut fields = Fields::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("no trailer field"))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn exactly(
        &mut self,
        mut left: u64,
        each: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while left > 0 {
            if !self.has_ahead() && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let ahead = &self.buffer[self.used..];
            let length = ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            each(&ahead[..length])?;
            self.used += length;
            left -= length as u64;
        }
        Ok(())
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<String> {
        loop {
            let ahead = &self.buffer[self.used..];
            if let Some(end) = memchr::memchr(b'\n', ahead) {
                let line = ahead[..end].strip_suffix(b"\r").unwrap_or(&ahead[..end]);
                let line = String::from_utf8_lossy(line).into_owned();
                self.used += end + 1;
                return Ok(line);
            }
            if ahead.len() > HEAD_BYTES_MAX {
                return Err(bad("a line is too long"));
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads once from the socket; 0 at its end.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// A head at the start of these bytes and its length, once it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes).map_err(|error| bad(&error.to_string()))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: head.method.unwrap_or("").to_owned(),
        target: head.path.unwrap_or("").to_owned(),
        minor: head.version.unwrap_or(1),
        fields: head.headers.iter().map(|it| (it.name.to_owned(), text(it.value))).collect(),
    };
    Ok(Some((request, length)))
}

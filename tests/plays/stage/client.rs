//! A small HTTP/1 client with code of its own, so that the product's codec is not checked against
//! itself.

use super::request::Request;
use super::wait::PATIENCE;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    to: SocketAddr,
    stream: TcpStream,
    /// Bytes that were read and not used yet.
    ahead: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Statuses of the interim responses before it.
    pub(crate) interim: Vec<u16>,
    /// Chunks it came in; 0: it was not chunked.
    pub(crate) chunks: usize,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(to: SocketAddr) -> Self {
        Self::try_open(to).expect("somebody listens there")
    }

    /// Connects, if somebody listens there.
    pub(crate) fn try_open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { to, stream, ahead: Vec::new() })
    }

    /// Sends a request and reads its response.
    pub(crate) fn ask(&mut self, request: &Request) -> Response {
        self.try_ask(request).expect("a whole response")
    }

    /// Sends a request and reads its response, if there is one.
    pub(crate) fn try_ask(&mut self, request: &Request) -> io::Result<Response> {
        self.stream.write_all(&request.bytes(self.to))?;
        self.response_to(&request.method)
    }

    /// Sends a request, if it can.
    pub(crate) fn try_send(&mut self, request: &Request) -> io::Result<()> {
        self.stream.write_all(&request.bytes(self.to))
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Request) {
        self.write(&request.bytes(self.to));
    }

    /// Sends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the other side takes bytes");
    }

    /// Reads the response to a request whose method is not `HEAD`.
    pub(crate) fn response(&mut self) -> io::Result<Response> {
        self.response_to("GET")
    }

    /// Reads the response to a request of this method.
    pub(crate) fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
            if !bodiless {
                self.body(&mut response)?;
            }
            return Ok(response);
        }
    }

    /// Reads a head only.
    pub(crate) fn head(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|it| it.parse().ok());
        let status = status.ok_or_else(|| bad(&format!("status line: {line}")))?;
        Ok(Response { status, version, fields: self.fields()?, ..Response::default() })
    }

    /// Reads exactly so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.fill()?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// What comes until the other side closes; an error if it does not in time.
    pub(crate) fn rest(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut rest = std::mem::take(&mut self.ahead);
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            _ => Ok(rest),
        }
    }

    /// Whether nothing comes for so long.
    pub(crate) fn is_silent(&self, time: Duration) -> bool {
        assert!(self.ahead.is_empty(), "something came already");
        self.stream.set_read_timeout(Some(time)).expect("a time");
        let is_timeout = |it: &io::Error| it.kind() == ErrorKind::WouldBlock;
        let silent = self.stream.peek(&mut [0]).is_err_and(|it| is_timeout(&it));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        silent
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it was open");
    }

    /// Breaks the connection: the other side gets a reset.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&self.stream).set_linger(linger).expect("an option");
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> SocketAddr {
        self.to
    }

    /// The socket, to read and write in two threads.
    pub(crate) fn socket(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is left")
    }

    fn body(&mut self, response: &mut Response) -> io::Result<()> {
        if response.field("transfer-encoding") == Some("chunked") {
            return self.chunks(response);
        }
        match response.field("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => response.body = self.bytes(length)?,
            Some(Err(_)) => return Err(bad("content-length")),
            None => response.body = self.rest(PATIENCE)?,
        }
        Ok(())
    }

    fn chunks(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| bad("chunk size"))?;
            if size == 0 {
                response.trailers = self.fields()?;
                return Ok(());
            }
            response.chunks += 1;
            let chunk = self.bytes(size)?;
            response.body.extend_from_slice(&chunk);
            if self.bytes(2)? != b"\r\n" {
                return Err(bad("end of a chunk"));
            }
        }
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("field"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|it| it == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.ahead.extend_from_slice(&buffer[..read]);
                    return Ok(());
                }
                // A read with a timeout is not begun again after the machine was suspended.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Response {
    /// The first field of this name (in lower case).
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The process that answered.
    pub(crate) fn instance(&self) -> u32 {
        let pid = self.field("x-instance").and_then(|it| it.parse().ok());
        pid.unwrap_or_else(|| panic!("no instance answered: {} {}", self.status, self.text()))
    }

    /// Asserts the status, showing the answer if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}\n{}", self.fields, self.text());
        self
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

//! A client that keeps its connection: small, blocking, and independent of the router's own codecs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection, made when it is needed.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) service: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Asks for a page.
    pub(super) fn get(
        &mut self,
        path: &str,
        headers: &[(String, String)],
    ) -> Result<Response, String> {
        let result = self.exchange(path, headers).map_err(|error| error.to_string());
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn exchange(&mut self, path: &str, headers: &[(String, String)]) -> std::io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream
            }
        };
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes())?;
        let response = read_response(&mut stream)?;
        self.stream = Some(stream);
        Ok(response)
    }
}

fn read_response(stream: &mut TcpStream) -> std::io::Result<Response> {
    let mut bytes = Vec::new();
    let (length, mut response) = loop {
        if let Some(head) = parse(&bytes)? {
            break head;
        }
        more(stream, &mut bytes)?;
    };
    let body = response.body.len();
    while bytes.len() - body < length {
        more(stream, &mut bytes)?;
    }
    response.body = bytes.split_off(body);
    Ok(response)
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend_from_slice(&buffer[..read]);
            Ok(())
        }
    }
}

/// A complete head: length of the body, and the response with as many bytes as the head has.
fn parse(bytes: &[u8]) -> std::io::Result<Option<(usize, Response)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let bad = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    let httparse::Status::Complete(end) = head.parse(bytes).map_err(|_| bad("no HTTP"))? else {
        return Ok(None);
    };
    let get = |name: &str| {
        let field = head.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let length = get("content-length").and_then(|it| it.parse().ok());
    let length = length.ok_or_else(|| bad("a response without content-length"))?;
    let service = get("x-waiter-service-id").map(str::to_owned);
    let status = head.code.unwrap_or_default();
    Ok(Some((length, Response { status, service, body: vec![0; end] })))
}

//! One connection: request after request, until one side has had enough.

use super::plan::{Crash, Plan};
use super::request::{Fields, Framing, Incoming, Request};
use super::response::{Content, Next, Response, head};
use super::{Shared, Turn};
use crate::mesh::clock;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// An orderly close reads on for so long, so that no reset overtakes the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection until it is closed.
pub(super) fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let idle = shared.args.idle_close_ms.map(|it| Duration::from_millis(it.max(1)));
    let mut incoming = Incoming::new(stream);
    let mut out = BufWriter::with_capacity(32 * 1024, stream);
    loop {
        stream.set_read_timeout(idle)?;
        let request = match incoming.head() {
            Ok(Some(request)) => request,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse(stream, &mut out, &error);
            }
            Ok(None) | Err(_) => return Ok(()),
        };
        stream.set_read_timeout(None)?;
        let mut exchange = match Exchange::new(request, shared) {
            Ok(exchange) => exchange,
            Err(error) => return refuse(stream, &mut out, &error),
        };
        match exchange.run(stream, &mut incoming, &mut out) {
            Ok(Next::Stay) => {}
            Ok(Next::Close) => return close(stream),
            Ok(Next::Drop) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse(stream, &mut out, &error);
            }
            Err(error) => {
                exchange.turn.abort();
                return Err(error);
            }
        }
    }
}

/// One request and its response.
#[derive(Debug)]
struct Exchange<'a> {
    request: Request,
    plan: Plan,
    turn: Turn<'a>,
    shared: &'a Shared,
    /// The body, where the answer needs it.
    body: Vec<u8>,
    body_bytes: u64,
    trailers: Fields,
}

impl<'a> Exchange<'a> {
    fn new(request: Request, shared: &'a Shared) -> io::Result<Self> {
        let (turn, plan) = match request.path() {
            "/stats" => (Turn::uncounted(shared), Plan::plain(200)),
            path if path == shared.args.health_path => {
                (Turn::uncounted(shared), Plan::plain(shared.args.health_status))
            }
            _ => {
                let turn = Turn::begin(shared);
                (turn, Plan::of(&request, &shared.args)?)
            }
        };
        let (body, trailers) = (Vec::new(), Fields::new());
        Ok(Self { request, plan, turn, shared, body, body_bytes: 0, trailers })
    }

    fn run(
        &mut self,
        stream: &TcpStream,
        incoming: &mut Incoming<'_>,
        out: &mut impl Write,
    ) -> io::Result<Next> {
        let framing = self.request.framing()?;
        let expects = self.request.says("expect", "100-continue");
        if self.plan.crash == Crash::Exit {
            std::process::exit(1);
        }
        if self.request.path() == "/upgrade" {
            return self.tunnel(incoming, out);
        }
        if !self.plan.early {
            if expects {
                out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                out.flush()?;
            }
            if self.plan.stream {
                return self.stream_back(framing, incoming, out);
            }
            self.read_body(framing, incoming)?;
        }
        let delay = if self.plan.hang { Duration::MAX } else { self.plan.delay };
        if pause(delay, stream, incoming)? == Peer::Gone {
            self.turn.abort();
            return Ok(Next::Drop);
        }
        if self.plan.crash == Crash::BeforeHead {
            return Ok(Next::Drop);
        }
        let response = Response {
            plan: &self.plan,
            fields: self.fields(),
            content: self.content()?,
            with_body: self.request.method != "HEAD",
            chunks_understood: self.request.minor > 0,
            // Whoever waited for `100 Continue` and got an answer may leave the body out.
            keep_alive: self.request.keep_alive() && !(self.plan.early && expects),
        };
        let next = response.write(&mut self.turn, out)?;
        if self.plan.early && next == Next::Stay {
            self.read_body(framing, incoming)?;
        }
        Ok(next)
    }

    fn read_body(&mut self, framing: Framing, incoming: &mut Incoming<'_>) -> io::Result<()> {
        let keep = self.request.path() == "/echo";
        let Self { body, body_bytes, trailers, .. } = self;
        *trailers = incoming.body(framing, |piece| {
            *body_bytes += piece.len() as u64;
            if keep {
                body.extend_from_slice(piece);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Sends the body back while it comes, one chunk per piece.
    fn stream_back(
        &mut self,
        framing: Framing,
        incoming: &mut Incoming<'_>,
        out: &mut impl Write,
    ) -> io::Result<Next> {
        let mut head = head(&self.plan, &self.fields());
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        out.write_all(head.as_bytes())?;
        out.flush()?;
        let trailers = incoming.body(framing, |piece| {
            write!(out, "{:x}\r\n", piece.len())?;
            out.write_all(piece)?;
            out.write_all(b"\r\n")?;
            out.flush()
        })?;
        self.turn.end();
        out.write_all(b"0\r\n")?;
        for (name, value) in trailers {
            write!(out, "{name}: {value}\r\n")?;
        }
        out.write_all(b"\r\n")?;
        out.flush()?;
        Ok(if self.request.keep_alive() { Next::Stay } else { Next::Close })
    }

    /// Switches protocols; from then on every byte comes back.
    fn tunnel(&mut self, incoming: &mut Incoming<'_>, out: &mut impl Write) -> io::Result<Next> {
        let protocol = self.request.field("upgrade").unwrap_or("echo").to_owned();
        let mut fields = self.fields();
        fields.push(("Upgrade".to_owned(), protocol));
        fields.push(("Connection".to_owned(), "Upgrade".to_owned()));
        let mut head = head(&Plan::plain(101), &fields);
        head.push_str("\r\n");
        out.write_all(head.as_bytes())?;
        out.flush()?;
        loop {
            let piece = incoming.piece()?;
            if piece.is_empty() {
                return Ok(Next::Close);
            }
            out.write_all(piece)?;
            out.flush()?;
        }
    }

    /// Fields every response carries.
    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("x-instance".to_owned(), std::process::id().to_string()),
            ("x-sequence".to_owned(), self.turn.sequence.to_string()),
            ("x-began-ns".to_owned(), self.turn.began_ns.to_string()),
            ("x-request-bytes".to_owned(), self.body_bytes.to_string()),
        ];
        for (name, value) in &self.trailers {
            fields.push((format!("x-trailer-{name}"), value.clone()));
        }
        fields
    }

    fn content(&self) -> io::Result<Content> {
        if let Some(size) = self.plan.size {
            return Ok(Content::Alphabet(size));
        }
        let json = match self.request.path() {
            "/echo" => return Ok(Content::Bytes(self.body.clone())),
            "/stats" => self.stats(),
            "/env" => std::env::vars_os()
                .map(|(name, value)| {
                    let text = |it: std::ffi::OsString| it.to_string_lossy().into_owned();
                    (text(name), serde_json::Value::from(text(value)))
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
            "/headers" => serde_json::json!({
                "method": self.request.method,
                "target": self.request.target,
                "version": format!("1.{}", self.request.minor),
                "headers": self.request.fields,
                "body_bytes": self.body_bytes,
            }),
            _ => return Ok(Content::Bytes(format!("{}\n", self.turn.sequence).into_bytes())),
        };
        Ok(Content::Bytes(serde_json::to_vec(&json)?))
    }

    fn stats(&self) -> serde_json::Value {
        let shared = self.shared;
        serde_json::json!({
            "requests": shared.requests.load(Ordering::SeqCst),
            "in_flight": shared.in_flight.load(Ordering::SeqCst),
            "max_in_flight": shared.max_in_flight.load(Ordering::SeqCst),
            "aborted": shared.aborted.load(Ordering::SeqCst),
            "connections": shared.connections.load(Ordering::SeqCst),
            "open_connections": shared.open_connections.load(Ordering::SeqCst),
        })
    }
}

/// What became of the other side meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    There,
    Gone,
}

/// Waits, and notices when the other side closes.
fn pause(delay: Duration, stream: &TcpStream, incoming: &Incoming<'_>) -> io::Result<Peer> {
    let begun = clock::now();
    let mut blind = incoming.has_ahead();
    loop {
        let left = delay.saturating_sub(clock::now() - begun);
        if left.is_zero() {
            stream.set_read_timeout(None)?;
            return Ok(Peer::There);
        }
        if blind {
            // A pipelined request hides the end of the connection.
            thread::sleep(left);
            continue;
        }
        stream.set_read_timeout(Some(left.min(Duration::from_secs(3600))))?;
        match stream.peek(&mut [0]) {
            Ok(0) => return Ok(Peer::Gone),
            Ok(_) => blind = true,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells the client what it did wrong, and closes.
fn refuse(stream: &TcpStream, out: &mut impl Write, error: &io::Error) -> io::Result<()> {
    let text = format!("{error}\n");
    write!(
        out,
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    out.flush()?;
    close(stream)
}

/// Closes in an orderly way: says that nothing follows, then reads what is still under way.
fn close(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER))?;
    let begun = clock::now();
    let mut sink = [0; 16 * 1024];
    while clock::now() - begun < LINGER && stream.read(&mut sink)? > 0 {}
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

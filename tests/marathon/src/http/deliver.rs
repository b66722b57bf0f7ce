//! How an answer reaches the client: whole, or as a fault wants it.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::Response;

/// What the connection does next.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole(Response),
    /// So many bytes of the body, then the connection ends although more was announced.
    Cut(Response, usize),
    /// The body at so many bytes a second.
    Drip(Response, u32),
    /// The event stream.
    Stream(Stream),
    /// The connection is reset without an answer.
    Reset,
}

/// Frames for one subscriber of the events.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) frames: Receiver<Arc<str>>,
    pub(crate) heartbeat: Duration,
    /// Set while a fault keeps the stream half-open.
    pub(crate) silent: Arc<AtomicBool>,
}

/// Whether the connection may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Keep,
    Close,
}

/// Sends a reply on the connection of a request that asked to `keep` it.
pub(crate) fn deliver(
    reply: Reply,
    to: &mut TcpStream,
    keep: bool,
    head: bool,
) -> io::Result<Next> {
    match reply {
        Reply::Whole(it) => {
            let mut bytes = it.head(keep);
            if !head {
                bytes.extend_from_slice(&it.body);
            }
            to.write_all(&bytes)?;
            return Ok(if keep { Next::Keep } else { Next::Close });
        }
        Reply::Cut(it, bytes) => {
            to.write_all(&it.head(keep))?;
            to.write_all(&it.body[..bytes.min(it.body.len())])?;
        }
        Reply::Drip(it, per_second) => {
            to.write_all(&it.head(keep))?;
            drip(&it.body, per_second, to)?;
            return Ok(if keep { Next::Keep } else { Next::Close });
        }
        Reply::Stream(it) => stream(&it, to)?,
        Reply::Reset => set_socket_linger(&*to, Some(Duration::ZERO))?,
    }
    Ok(Next::Close)
}

fn drip(body: &[u8], per_second: u32, to: &mut TcpStream) -> io::Result<()> {
    let pause = Duration::from_secs(1) / per_second.max(1);
    for byte in body {
        to.write_all(std::slice::from_ref(byte))?;
        thread::sleep(pause);
    }
    Ok(())
}

/// As Jetty does it: no length, `Connection: close`, a bare line end as heartbeat. Ends when the
/// hub lets go of this subscriber.
fn stream(it: &Stream, to: &mut TcpStream) -> io::Result<()> {
    let mut head =
        String::from("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\n");
    for (name, value) in &it.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    to.write_all(head.as_bytes())?;
    loop {
        match it.frames.recv_timeout(it.heartbeat) {
            Ok(frame) => to.write_all(frame.as_bytes())?,
            Err(RecvTimeoutError::Timeout) if it.silent.load(Ordering::Relaxed) => {}
            Err(RecvTimeoutError::Timeout) => to.write_all(b"\r\n")?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

//! Responses, to bytes.

use super::Turn;
use super::plan::{Crash, Plan};
use super::request::Fields;
use std::io::{self, Write};
use std::thread;

/// Largest piece written at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A body.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// So many bytes of the alphabet, again and again.
    Alphabet(u64),
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Alphabet(length) => *length,
        }
    }

    /// Writes the bytes from `from` up to `to`.
    fn write(&self, from: u64, to: u64, out: &mut impl Write) -> io::Result<()> {
        let index = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
        match self {
            Self::Bytes(bytes) => out.write_all(&bytes[index(from)..index(to)]),
            Self::Alphabet(_) => {
                let mut at = from;
                while at < to {
                    let end = to.min(at + PIECE_BYTES as u64);
                    let piece: Vec<u8> = (at..end).map(|it| b'a' + (it % 26) as u8).collect();
                    out.write_all(&piece)?;
                    at = end;
                }
                Ok(())
            }
        }
    }
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// It serves the next request.
    Stay,
    /// It is closed in an orderly way.
    Close,
    /// It is dropped.
    Drop,
}

/// A response, ready to be written.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fields: Fields,
    pub(super) content: Content,
    /// Whether a body follows; not so for HEAD.
    pub(super) with_body: bool,
    /// Whether the client reads chunks; HTTP/1.0 does not.
    pub(super) chunks_understood: bool,
    pub(super) keep_alive: bool,
}

impl Response<'_> {
    /// Writes it all. `turn` ends just before the last byte.
    pub(super) fn write(&self, turn: &mut Turn<'_>, out: &mut impl Write) -> io::Result<Next> {
        let plan = self.plan;
        let until_close = plan.http10 || (plan.chunks.is_some() && !self.chunks_understood);
        let keep_alive = self.keep_alive && !plan.close && !until_close;
        let mut head = head(plan, &self.fields);
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        let bodiless = matches!(plan.status, 100..=199 | 204 | 304);
        if !until_close && !bodiless {
            match plan.chunks {
                Some(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
                None => head.push_str(&format!("Content-Length: {}\r\n", self.content.length())),
            }
        }
        head.push_str("\r\n");
        out.write_all(head.as_bytes())?;
        if plan.crash == Crash::AfterHead {
            out.flush()?;
            return Ok(Next::Drop);
        }
        if self.with_body && !bodiless {
            match plan.chunks {
                Some(chunks) => self.write_chunks(chunks, until_close, turn, out)?,
                None => self.write_plain(turn, out)?,
            }
        }
        turn.end();
        out.flush()?;
        if plan.crash == Crash::InBody {
            return Ok(Next::Drop);
        }
        Ok(if keep_alive { Next::Stay } else { Next::Close })
    }

    fn write_plain(&self, turn: &mut Turn<'_>, out: &mut impl Write) -> io::Result<()> {
        let length = self.content.length();
        if self.plan.crash == Crash::InBody {
            return self.content.write(0, length / 2, out);
        }
        let last = length.saturating_sub(PIECE_BYTES as u64);
        self.content.write(0, last, out)?;
        turn.end();
        self.content.write(last, length, out)
    }

    fn write_chunks(
        &self,
        chunks: u64,
        bare: bool,
        turn: &mut Turn<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let length = self.content.length();
        for n in 0..chunks {
            if self.plan.crash == Crash::InBody && n >= chunks.div_ceil(2) {
                return Ok(());
            }
            if !self.plan.chunk_delay.is_zero() {
                out.flush()?;
                thread::sleep(self.plan.chunk_delay);
            }
            let (from, to) = (part(length, n, chunks), part(length, n + 1, chunks));
            if bare {
                self.content.write(from, to, out)?;
            } else if to > from {
                write!(out, "{:x}\r\n", to - from)?;
                self.content.write(from, to, out)?;
                out.write_all(b"\r\n")?;
            }
        }
        if bare || self.plan.crash == Crash::InBody {
            return Ok(());
        }
        turn.end();
        match self.plan.trailers {
            true => write!(out, "0\r\nX-Body-Bytes: {length}\r\n\r\n"),
            false => out.write_all(b"0\r\n\r\n"),
        }
    }
}

/// Status line and fields; neither framing nor the empty line.
pub(super) fn head(plan: &Plan, fields: &Fields) -> String {
    let status = http::StatusCode::from_u16(plan.status).ok();
    let reason = status.and_then(|it| it.canonical_reason()).unwrap_or("Unknown");
    let version = if plan.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{version} {} {reason}\r\n", plan.status);
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if plan.trailers {
        head.push_str("Trailer: X-Body-Bytes\r\n");
    }
    head
}

/// Where part `n` of `parts` begins.
fn part(length: u64, n: u64, parts: u64) -> u64 {
    let at = u128::from(length) * u128::from(n) / u128::from(parts);
    u64::try_from(at).expect("not above length")
}

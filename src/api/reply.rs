//! What a page replies: status, fields and a body in pieces.

use crate::base::fault::{Class, Fault};
use crate::base::time::Date;
use crate::wire::call::{Answer, Call};
use crate::wire::error_body::{self, Facts};
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode};
use serde::Serialize;
use std::io::{self, Write};

/// Longest piece of a body, in bytes: a shard never has to send on more at a time.
pub(super) const PIECE_MAX: usize = 64 * 1024;

/// The reply to one call.
#[derive(Debug)]
pub(super) struct Reply {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// `content-type`; none: the body is plain (api §2.9).
    pub(super) kind: Option<&'static str>,
    /// Fields beside `content-type`.
    pub(super) fields: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: Pieces,
}

/// A body being written, in pieces of at most [`PIECE_MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Vec<u8>>);

impl Reply {
    /// JSON with this status.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = Pieces::default();
        body.json(value);
        body.text("\n");
        Self { status, kind: Some("application/json"), fields: Vec::new(), body }
    }

    /// JSON with status 200.
    pub(super) fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// Text with status 200.
    pub(super) fn text(text: &str) -> Self {
        Self { kind: Some("text/plain"), ..Self::plain(StatusCode::OK, text) }
    }

    /// A body of no declared type.
    pub(super) fn plain(status: StatusCode, text: &str) -> Self {
        let mut body = Pieces::default();
        body.text(text);
        Self { status, kind: None, fields: Vec::new(), body }
    }

    /// What is said of a fault, in the form the client wants.
    pub(super) fn fault(fault: &Fault, call: &Call, now: Date) -> Self {
        let facts =
            Facts { head: &call.head, cid: &call.cid, service: None, instance: None, date: now };
        let (mut head, mut text) = (Head::default(), Vec::new());
        error_body::write(fault, &facts, &mut head, &mut text);
        let json = head.fields.get(b"content-type") == Some(b"application/json");
        let kind = if json { "application/json" } else { "text/plain" };
        let mut body = Pieces::default();
        body.bytes(&text);
        Self { status: head.status, kind: Some(kind), fields: Vec::new(), body }
    }

    /// No such page (api §0.1).
    pub(super) fn not_found(call: &Call, now: Date) -> Self {
        Self::fault(&Fault::new(Class::NotFound, "Not found"), call, now)
    }

    /// As it goes back to the shard. HEAD gets the head alone.
    pub(super) fn into_answer(self, call: &Call) -> Answer {
        let mut head = Head::default();
        head.status = self.status;
        if let Some(kind) = self.kind {
            head.fields.push(b"content-type", kind.as_bytes());
        }
        for (name, value) in &self.fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head.length = Length::Exact(self.body.len());
        let pieces = if call.head.method == Method::HEAD { Vec::new() } else { self.body.0 };
        Answer { ticket: call.ticket, head, pieces }
    }
}

impl Pieces {
    /// Appends text.
    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends a value as JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) {
        serde_json::to_writer(self, value).expect("pieces take every byte, keys are strings");
    }

    /// Appends bytes.
    pub(super) fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.0.last().is_none_or(|it| it.len() == PIECE_MAX) {
                self.0.push(Vec::new());
            }
            let piece = self.0.last_mut().expect("just made sure");
            let part = bytes.len().min(PIECE_MAX - piece.len());
            piece.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
        }
    }

    /// All of it as text.
    pub(super) fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0.concat()).into_owned()
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|it| it.len() as u64).sum()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

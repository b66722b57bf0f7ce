//! The sending half of a connection: heads, and bodies in their framing.
//!
//! Holds always: what is written is one well-formed message or its beginning. A body that is
//! shorter or longer than its head declared cannot be mended; the outlet says so and the connection
//! must go, so that the peer sees it.

use super::parse;
use crate::wire::digits::number;
use crate::wire::fields::Fields;
use crate::wire::head::{Head, Length};
use http::StatusCode;

/// How the body at hand is framed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Outlet {
    /// No message is being written.
    #[default]
    Shut,
    /// There is no body, whatever is said: a response to HEAD, a 304, a 204.
    Mute,
    /// So many bytes are still to come.
    Exact(u64),
    Chunked,
    /// A body that the end of the connection ends, or this side of a tunnel.
    UntilClose,
}

/// Whether what was written keeps what the head had declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum Kept {
    Yes,
    No,
}

impl Outlet {
    /// Writes a piece of the body. What is longer than declared is left out.
    pub(super) fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Kept {
        match self {
            Self::Shut | Self::Mute => {}
            Self::UntilClose => out.extend_from_slice(bytes),
            Self::Chunked => chunk(bytes, out),
            Self::Exact(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let fits = &bytes[..bytes.len().min(most)];
                out.extend_from_slice(fits);
                *left -= fits.len() as u64;
                if fits.len() < bytes.len() {
                    return Kept::No;
                }
            }
        }
        Kept::Yes
    }

    /// Ends the message.
    pub(super) fn end(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) -> Kept {
        let was = std::mem::take(self);
        if was == Self::Chunked {
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
                if parse::may_trail(name) {
                    field(name, value, out);
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        match was {
            Self::Exact(1..) => Kept::No,
            _ => Kept::Yes,
        }
    }
}

/// Writes the status line and the fields of a response, not the empty line. Where the protocol is
/// switched, Connection says so.
pub(super) fn response(head: &Head, out: &mut Vec<u8>) {
    if head.status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    fields(head, out);
}

/// Writes the request line, Host and the fields of a request, not the empty line. Where the
/// protocol is to be switched, Connection says so.
pub(super) fn request(head: &Head, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    fields(head, out);
}

/// Writes what frames a body of this length, if anything does.
pub(super) fn framing(length: Length, out: &mut Vec<u8>) {
    match length {
        Length::Absent => {}
        Length::Exact(length) => {
            out.extend_from_slice(b"content-length: ");
            number(length, 10, out);
            out.extend_from_slice(b"\r\n");
        }
        Length::Unknown => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

fn fields(head: &Head, out: &mut Vec<u8>) {
    for lines in head.fields.lines() {
        out.extend_from_slice(lines);
    }
    if head.switches {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// An empty chunk would end the body: nothing is written for it.
fn chunk(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    out.reserve(bytes.len() + 20);
    number(bytes.len() as u64, 16, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

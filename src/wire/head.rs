//! The head of a request or a response, the same for every protocol.
//!
//! A head can be stored while its request waits and sent again on another connection. It holds no
//! framing and no hop-by-hop field: those belong to one connection, and its codec takes and adds
//! them. `content-length` is such a field; what it said is [`Head::length`]. The one exception is
//! `upgrade`, which stands among the fields where [`Head::switches`] says so.

use crate::wire::fields::Fields;
use http::{Method, StatusCode, Version};

/// What the head says about the body that follows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Length {
    /// Nothing said, and nothing follows.
    #[default]
    Absent,
    /// So many bytes (also the length a response to HEAD, or a 304, declares without a body).
    Exact(u64),
    /// A body of unknown length, ended by its protocol.
    Unknown,
}

/// A request's or a response's head. One is reused for many messages: see [`Head::clear`].
#[derive(Debug)]
pub struct Head {
    /// Request method. Meaningless in a response.
    pub method: Method,
    /// Response status. Meaningless in a request.
    pub status: StatusCode,
    /// The protocol version in which the head came.
    pub version: Version,
    /// What follows.
    pub length: Length,
    /// Another protocol is to follow, or follows, this message: those that `upgrade` lists.
    pub switches: bool,
    /// Header fields without hop-by-hop and framing fields, and without `host` in a request.
    pub fields: Fields,
    target: Vec<u8>,
    authority: Vec<u8>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            method: Method::GET,
            status: StatusCode::OK,
            version: Version::HTTP_11,
            length: Length::Absent,
            switches: false,
            fields: Fields::default(),
            target: Vec::new(),
            authority: Vec::new(),
        }
    }
}

impl Head {
    /// Makes it an empty head again; keeps the memory.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.status = StatusCode::OK;
        self.version = Version::HTTP_11;
        self.length = Length::Absent;
        self.switches = false;
        self.fields.clear();
        self.target.clear();
        self.authority.clear();
    }

    /// Origin-form of a request's target: path and query, or `*`.
    pub fn target(&self) -> &[u8] {
        &self.target
    }

    /// Target without its query.
    pub fn path(&self) -> &[u8] {
        self.target.split(|it| *it == b'?').next().unwrap_or_default()
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&[u8]> {
        memchr::memchr(b'?', &self.target).map(|at| &self.target[at + 1..])
    }

    /// The authority a request is for: `host[:port]`, from an absolute target or the Host field;
    /// empty if HTTP/1.0 gave none.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// Bytes of memory it holds.
    pub fn memory(&self) -> usize {
        self.fields.memory() + self.target.capacity() + self.authority.capacity()
    }

    /// Becomes an empty head that holds no more memory than this.
    pub fn rest(&mut self, most: usize) {
        if self.memory() > most {
            *self = Self::default();
        } else {
            self.clear();
        }
    }

    /// Sets a request's target (origin-form).
    pub fn set_target(&mut self, target: &[u8]) {
        self.target.clear();
        self.target.extend_from_slice(target);
    }

    /// Sets the authority a request is for.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority.clear();
        self.authority.extend_from_slice(authority);
    }
}

impl Clone for Head {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.clone_from(self);
        copy
    }

    fn clone_from(&mut self, source: &Self) {
        self.method.clone_from(&source.method);
        self.status = source.status;
        self.version = source.version;
        self.length = source.length;
        self.switches = source.switches;
        self.fields.clone_from(&source.fields);
        self.target.clone_from(&source.target);
        self.authority.clone_from(&source.authority);
    }
}

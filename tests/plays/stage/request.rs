//! A request, built by name.

use std::net::SocketAddr;

/// A request; sent as it is, so that it may also be wrong.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    pub(crate) fn of(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, fields: Vec::new(), body: None }
    }

    /// `GET`.
    pub(crate) fn get(target: &str) -> Self {
        Self::of("GET", target)
    }

    /// `POST` with this body.
    pub(crate) fn post(target: &str, body: &[u8]) -> Self {
        Self { body: Some(body.to_vec()), ..Self::of("POST", target) }
    }

    /// With one more field.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As bytes. `Host` is the address it goes to, unless given.
    pub(crate) fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {to}\r\n"));
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

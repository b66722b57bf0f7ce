//! Bytes and messages: what a protocol's machine yields and takes, and the machines themselves.
//!
//! A codec sits between the bytes of one connection and the messages of its streams. It decides
//! framing, keep-alive and pipelining, and nothing else: it knows no socket, no exchange, no route.

pub mod call;
pub mod codec;
pub mod digits;
pub mod error_body;
pub mod escape;
pub mod fields;
pub mod head;
pub mod http1;
pub mod marathon;
pub mod peer;

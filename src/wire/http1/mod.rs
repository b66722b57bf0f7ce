//! HTTP/1.1 and 1.0 (RFC 9112): one machine per connection, [`Server`] towards clients and
//! [`Client`] towards instances.
//!
//! Both are made of the same parts: an *inlet* finds heads and bodies in the bytes that came
//! (`lines` and `body` are its machines, `stash` what it keeps), `parse` reads a found head by the
//! rules of `grammar`, an *outlet* writes. What is ambiguous is refused, never repaired: two
//! readers that repair differently are how requests are smuggled.

mod body;
mod client;
mod grammar;
mod inlet;
mod lines;
mod outlet;
mod parse;
mod server;
mod stash;
#[cfg(test)]
mod tests;

/// Memory for a head that a connection keeps from one message to the next: ordinary ones fit, and
/// one that was large does not stay with an idle connection.
const HEAD_BYTES_KEPT: usize = 4096;

// Most connections are idle most of the time: their machines are small.
const _: () = assert!(size_of::<Server>() <= 352 && size_of::<Client>() <= 352);

pub use client::Client;
pub use server::Server;

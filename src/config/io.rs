//! How a shard's sockets are driven: as written, and as resolved.

use super::mistakes::Mistakes;
use crate::base::time::Duration;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

const DEPTH: RangeInclusive<u64> = 64..=32_768;
const BUFFERS: RangeInclusive<u64> = 16..=32_768;
const BUFFER_BYTES: RangeInclusive<u64> = 4096..=1 << 20;
const SPIN_US: RangeInclusive<u64> = 0..=10_000;
const BACKLOG: RangeInclusive<u64> = 1..=65_535;

/// What `--ring-without` can name.
pub const RING_FEATURES: [&str; 5] =
    ["defer-taskrun", "multishot-accept", "multishot-receive", "message-ring", "splice"];

/// How sockets are driven, as written.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct WrittenIo {
    /// What drives the sockets: ring (an own io_uring per shard, least CPU), glommio (its streams,
    /// for older kernels) or auto (ring where the kernel can) [default: auto]
    #[arg(long, value_name = "DRIVER")]
    pub io: Option<String>,
    /// Operations one turn of a shard can ask for with one system call; a power of two. More
    /// costs memory, fewer cost calls when very many connections are busy [default: 1024]
    #[arg(long, value_name = "N")]
    pub ring_depth: Option<u64>,
    /// Do not use this feature of the kernel's io_uring: defer-taskrun, multishot-accept,
    /// multishot-receive, message-ring or splice; repeatable
    #[arg(long, value_name = "FEATURE")]
    pub ring_without: Vec<String>,
    /// Buffers of a shard for heads and small bodies; a power of two. Fewer stay in the cache,
    /// more let more messages arrive in one turn [default: 256]
    #[arg(long, value_name = "N")]
    pub receive_buffers: Option<u64>,
    /// Bytes in each of them: what arrives in one piece costs least [default: 16384]
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer_bytes: Option<u64>,
    /// Buffers of a shard for bodies that stream; a power of two. More let more streams be read in
    /// one turn, fewer cost less memory [default: 32]
    #[arg(long, value_name = "N")]
    pub body_buffers: Option<u64>,
    /// Bytes in each of them: larger ones cost fewer calls for large bodies, and memory
    /// [default: 131072]
    #[arg(long, value_name = "BYTES")]
    pub body_buffer_bytes: Option<u64>,
    /// Look for work so long before sleeping: less latency for more CPU [default: 0]
    #[arg(long, value_name = "US")]
    pub spin_us: Option<u64>,
    /// Connections the kernel completes for each listener before they are accepted: more survive a
    /// burst, and wait unseen; with fewer the kernel drops clients, who try again a second later.
    /// It takes no more than net.core.somaxconn [default: 4096]
    #[arg(long, value_name = "N")]
    pub backlog: Option<u64>,
}

/// What drives the sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// The best that works here.
    Auto,
    /// A ring of its own for each shard.
    Ring,
    /// glommio's streams.
    Glommio,
}

/// How sockets are driven.
#[derive(Clone, Debug)]
pub struct Io {
    /// By what.
    pub driver: Driver,
    /// Operations per turn; a power of two.
    pub ring_depth: u32,
    /// Features of the kernel that are not used.
    pub ring_without: Vec<String>,
    /// Small buffers per shard; a power of two.
    pub receive_buffers: u16,
    /// Bytes in each.
    pub receive_buffer_bytes: usize,
    /// Large buffers per shard; a power of two.
    pub body_buffers: u16,
    /// Bytes in each.
    pub body_buffer_bytes: usize,
    /// Busy wait before sleeping.
    pub spin: Duration,
    /// Connections not accepted yet, per listener.
    pub backlog: i32,
}

impl Driver {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ring => "ring",
            Self::Glommio => "glommio",
        }
    }
}

impl WrittenIo {
    /// These, where given, else those of `file`.
    pub(super) fn over(self, file: Self) -> Self {
        let without = self.ring_without;
        Self {
            io: self.io.or(file.io),
            ring_depth: self.ring_depth.or(file.ring_depth),
            ring_without: if without.is_empty() { file.ring_without } else { without },
            receive_buffers: self.receive_buffers.or(file.receive_buffers),
            receive_buffer_bytes: self.receive_buffer_bytes.or(file.receive_buffer_bytes),
            body_buffers: self.body_buffers.or(file.body_buffers),
            body_buffer_bytes: self.body_buffer_bytes.or(file.body_buffer_bytes),
            spin_us: self.spin_us.or(file.spin_us),
            backlog: self.backlog.or(file.backlog),
        }
    }

    pub(super) fn resolve(&self, mistakes: &mut Mistakes) -> Io {
        for name in &self.ring_without {
            if !RING_FEATURES.contains(&name.as_str()) {
                let expected = format!("expected one of {}", RING_FEATURES.join(", "));
                mistakes.add("ring-without", name, expected);
            }
        }
        let within = |key: &str, given, range, default, mistakes: &mut Mistakes| {
            mistakes.within(key, given, range).unwrap_or(default)
        };
        let bytes = |key: &str, given, default, mistakes: &mut Mistakes| {
            within(key, given, &BUFFER_BYTES, default, mistakes) as usize
        };
        let small = bytes("receive-buffer-bytes", self.receive_buffer_bytes, 16 << 10, mistakes);
        let large = bytes("body-buffer-bytes", self.body_buffer_bytes, 128 << 10, mistakes);
        if large < small {
            let expected = "expected at least receive-buffer-bytes";
            mistakes.add("body-buffer-bytes", large, expected);
        }
        let spin_us = within("spin-us", self.spin_us, &SPIN_US, 0, mistakes);
        let backlog = within("backlog", self.backlog, &BACKLOG, 4096, mistakes);
        Io {
            driver: self.driver(mistakes),
            ring_depth: power("ring-depth", self.ring_depth, (&DEPTH, 1024), mistakes) as u32,
            ring_without: self.ring_without.clone(),
            receive_buffers: power(
                "receive-buffers",
                self.receive_buffers,
                (&BUFFERS, 256),
                mistakes,
            ) as u16,
            receive_buffer_bytes: small,
            body_buffers: power("body-buffers", self.body_buffers, (&BUFFERS, 32), mistakes) as u16,
            body_buffer_bytes: large,
            spin: Duration::from_micros(spin_us),
            backlog: backlog as i32,
        }
    }

    fn driver(&self, mistakes: &mut Mistakes) -> Driver {
        match self.io.as_deref() {
            None | Some("auto") => Driver::Auto,
            Some("ring") => Driver::Ring,
            Some("glommio") => Driver::Glommio,
            Some(other) => {
                mistakes.add("io", other, "expected auto, ring or glommio");
                Driver::Auto
            }
        }
    }
}

/// A number that must be a power of two.
fn power(
    key: &str,
    given: Option<u64>,
    (range, default): (&RangeInclusive<u64>, u64),
    mistakes: &mut Mistakes,
) -> u64 {
    let found = mistakes.within(key, given, range).unwrap_or(default);
    if !found.is_power_of_two() {
        mistakes.add(key, found, "expected a power of two");
    }
    found
}

impl Io {
    /// As it would be written, every key given.
    pub(super) fn to_written(&self) -> WrittenIo {
        WrittenIo {
            io: Some(self.driver.name().to_owned()),
            ring_depth: Some(self.ring_depth.into()),
            ring_without: self.ring_without.clone(),
            receive_buffers: Some(self.receive_buffers.into()),
            receive_buffer_bytes: Some(self.receive_buffer_bytes as u64),
            body_buffers: Some(self.body_buffers.into()),
            body_buffer_bytes: Some(self.body_buffer_bytes as u64),
            spin_us: Some(self.spin.as_micros() as u64),
            backlog: u64::try_from(self.backlog).ok(),
        }
    }
}

//! Every bound in the product, by name. Handed down as a value, so that tests can reach each one.

use crate::base::time::Duration;

/// Bounds of the data path. Sizes in bytes, times as `Duration`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request head, and longest response head.
    pub head_bytes: usize,
    /// Most fields in a head.
    pub head_fields: usize,
    /// Longest trailer section.
    pub trailer_bytes: usize,
    /// Bytes read ahead behind a request that is not finished (pipelining).
    pub ahead_bytes: usize,
    /// Body bytes under way in one direction of one exchange.
    pub window_bytes: u32,
    /// Connections one shard accepts.
    pub clients_per_shard: usize,
    /// Client connections of all shards; what the limit of descriptors leaves for them.
    pub clients_total: usize,
    /// A client has this long to send a whole head, from its first byte.
    pub header_timeout: Duration,
    /// A client connection without a request is kept this long.
    pub keep_alive_timeout: Duration,
    /// A client that is to send body, or take response, moves a byte at least this often.
    pub body_idle_timeout: Duration,
    /// An instance accepts a connection within this time.
    pub connect_timeout: Duration,
    /// An instance sends the first byte of its response, and each further one, within this time.
    pub first_byte_timeout: Duration,
    /// An instance takes the next byte of a request's body within this time.
    pub streaming_timeout: Duration,
    /// A tunnel in which no byte moves is kept this long.
    pub tunnel_idle_timeout: Duration,
    /// A request waits this long for a slot.
    pub queue_timeout: Duration,
    /// An idle connection to an instance is kept this long (common servers close after 5 s).
    pub upstream_idle_timeout: Duration,
    /// After the last byte was sent, a closing connection is read this long, so that no reset
    /// overtakes the answer.
    pub linger_timeout: Duration,
    /// Largest body of a call to the API.
    pub call_bytes: u32,
    /// The API answers within this time.
    pub call_timeout: Duration,
    /// Requests that wait on one router, all services together.
    pub waiting_total: usize,
    /// Memory of all requests that wait on one router.
    pub queue_bytes: usize,
    /// First ejection of an instance that failed; doubles with each failure in a row.
    pub eject_base: Duration,
    /// Longest ejection.
    pub eject_max: Duration,
    /// Largest answer of a scheduler that is asked over the network: the list of all apps of a
    /// large cluster has tens of megabytes.
    pub scheduler_answer_bytes: u64,
}

impl Limits {
    /// What the product runs with, unless flags say otherwise.
    pub const PRODUCTION: Self = Self {
        head_bytes: 32 * 1024,
        head_fields: 128,
        trailer_bytes: 8 * 1024,
        ahead_bytes: 16 * 1024,
        window_bytes: 256 * 1024,
        clients_per_shard: 100_000,
        clients_total: usize::MAX,
        header_timeout: Duration::from_secs(10),
        keep_alive_timeout: Duration::from_secs(75),
        body_idle_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        first_byte_timeout: Duration::from_secs(900),
        streaming_timeout: Duration::from_secs(20),
        tunnel_idle_timeout: Duration::from_secs(3600),
        queue_timeout: Duration::from_secs(300),
        upstream_idle_timeout: Duration::from_secs(4),
        linger_timeout: Duration::from_secs(1),
        call_bytes: 1024 * 1024,
        call_timeout: Duration::from_secs(60),
        waiting_total: 100_000,
        queue_bytes: 256 << 20,
        eject_base: Duration::from_secs(10),
        eject_max: Duration::from_secs(300),
        scheduler_answer_bytes: 256 << 20,
    };

    /// Small bounds: a simulator or a fuzzer reaches every one of them.
    pub const TINY: Self = Self {
        head_bytes: 256,
        head_fields: 8,
        trailer_bytes: 64,
        ahead_bytes: 64,
        window_bytes: 64,
        clients_per_shard: 4,
        clients_total: usize::MAX,
        waiting_total: 4,
        ..Self::PRODUCTION
    };
}

const _: () =
    assert!(Limits::PRODUCTION.eject_base.as_nanos() < Limits::PRODUCTION.eject_max.as_nanos());
const _: () = assert!(Limits::PRODUCTION.upstream_idle_timeout.as_secs() < 5);

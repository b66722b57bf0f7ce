//! What the kernel's io_uring can do, found out by trying it.
//!
//! A ring driver needs provided buffers and bounded waits (Linux 5.19). Whatever else is missing is
//! replaced by the next simpler operation.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// A feature that is used if the kernel has it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Feature {
    /// Completions wait until the shard asks for them (6.1); else they are signalled
    /// cooperatively.
    DeferTaskrun,
    /// One accept for many clients (5.19); else one each.
    MultishotAccept,
    /// One receive for many messages (6.0); else one each.
    MultishotReceive,
    /// Another shard is woken through its ring (5.18); else through a socket.
    MessageRing,
    /// Large bodies pass from socket to socket through a pipe; else they are copied.
    Splice,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DeferTaskrun,
        Self::MultishotAccept,
        Self::MultishotReceive,
        Self::MessageRing,
        Self::Splice,
    ];

    /// Its name, as it is written in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "defer-taskrun",
            Self::MultishotAccept => "multishot-accept",
            Self::MultishotReceive => "multishot-receive",
            Self::MessageRing => "message-ring",
            Self::Splice => "splice",
        }
    }

    /// The feature of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features(u8);

impl Features {
    /// With one more.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | bit(feature))
    }

    /// Without one.
    #[must_use]
    pub fn without(self, feature: Feature) -> Self {
        Self(self.0 & !bit(feature))
    }

    /// Whether it is in.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & bit(feature) != 0
    }
}

fn bit(feature: Feature) -> u8 {
    1 << feature as u8
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Feature::ALL.iter().filter(|it| self.has(**it)).map(|it| it.name());
        f.write_str(names.next().unwrap_or("no optional feature"))?;
        names.try_for_each(|it| write!(f, ", {it}"))
    }
}

/// Room for the few things that are tried.
const ENTRIES: u32 = 8;
/// Buffers handed to the kernel: none; what is tried never receives a byte.
const GROUP: u16 = 0;
/// Completions that are recognised.
const TRIED: u64 = 1;

/// Tries everything.
///
/// # Errors
/// A ring driver cannot work here; why.
pub fn probe() -> io::Result<Features> {
    let ring = IoUring::new(ENTRIES)?;
    if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
        return Err(io::Error::other("the kernel's io_uring cannot wait for a bounded time"));
    }
    super::buffers::Buffers::new(&ring.submitter(), GROUP, 2, 64)?;
    drop(ring);
    let mut found = Features::default();
    if deferring().build(ENTRIES).is_ok() {
        found = found.with(Feature::DeferTaskrun);
    }
    if accepts_many()? {
        found = found.with(Feature::MultishotAccept);
    }
    if receives_many()? {
        found = found.with(Feature::MultishotReceive);
    }
    if messages()? {
        found = found.with(Feature::MessageRing);
    }
    if super::passing::works() {
        found = found.with(Feature::Splice);
    }
    Ok(found)
}

/// The set-up of a ring whose completions wait for the shard.
pub(super) fn deferring() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
    builder
}

/// The set-up of a ring on older kernels.
pub(super) fn cooperative() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_coop_taskrun();
    builder
}

fn accepts_many() -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
    Ok(is_begun(&mut IoUring::new(ENTRIES)?, accept))
}

fn receives_many() -> io::Result<bool> {
    let mut ring = IoUring::new(ENTRIES)?;
    let _buffers = super::buffers::Buffers::new(&ring.submitter(), GROUP, 2, 64)?;
    let (end, _other) = UnixStream::pair()?;
    let receive = opcode::RecvMulti::new(types::Fd(end.as_raw_fd()), GROUP).build();
    Ok(is_begun(&mut ring, receive))
}

fn messages() -> io::Result<bool> {
    let mut ring = IoUring::new(ENTRIES)?;
    let target = IoUring::new(ENTRIES)?;
    let letter = opcode::MsgRingData::new(types::Fd(target.as_raw_fd()), 0, 0, None).build();
    Ok(submit(&mut ring, letter).is_some_and(|done| done.result() >= 0))
}

/// Whether an operation that can only wait does wait, and is not refused.
fn is_begun(ring: &mut IoUring, entry: squeue::Entry) -> bool {
    submit(ring, entry).is_none()
}

#[expect(unsafe_code, reason = "the kernel is asked by entries that could refer to memory")]
fn submit(ring: &mut IoUring, entry: squeue::Entry) -> Option<cqueue::Entry> {
    // SAFETY: none of the operations tried refers to memory; their descriptors outlive the ring.
    let pushed = unsafe { ring.submission().push(&entry.user_data(TRIED)) };
    pushed.ok()?;
    ring.submit().ok()?;
    ring.completion().find(|it| it.user_data() == TRIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_features() {
        for feature in Feature::ALL {
            assert_eq!(Feature::named(feature.name()), Some(feature));
        }
        assert_eq!(Feature::named("telepathy"), None);
    }

    #[test]
    fn sets_say_what_they_hold() {
        let some = Features::default().with(Feature::MessageRing).with(Feature::MultishotAccept);
        assert!(some.has(Feature::MessageRing) && !some.has(Feature::DeferTaskrun));
        assert_eq!(some.to_string(), "multishot-accept, message-ring");
        let none = some.without(Feature::MessageRing).without(Feature::MultishotAccept);
        assert_eq!(none.to_string(), "no optional feature");
    }

    #[test]
    fn this_kernel_can_be_probed() {
        probe().expect("tests run where io_uring is allowed");
    }
}

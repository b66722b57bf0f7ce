//! The operations a ring driver asks of the kernel, and the tags by which it knows them again.

#![expect(unsafe_code, reason = "what the kernel is asked refers to memory")]

use super::queue::Queue;
use crate::shard::engine::Link;
use io_uring::{opcode, squeue, types};
use slotmap::{Key, KeyData};
use socket2::SockAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// What an operation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Op {
    /// Nothing is to be done when it has ended.
    Ignored,
    Accept,
    Connect,
    ReceiveOnce,
    ReceiveMany,
    Send,
    /// Somebody has rung the bell.
    Bell,
    /// Another shard was told to wake up, in vain: its number is in the tag.
    Knock,
    /// The longest sleep in glommio is over.
    Tick,
    /// A socket has bytes, or takes some.
    Poll,
}

/// The kernel hands it back with each completion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tag(pub(super) u64);

const OP_BITS: u32 = 8;
const INDEX_BITS: u32 = 24;

impl Tag {
    pub(super) fn of_link(op: Op, link: Link) -> Self {
        let key = link.data().as_ffi();
        let (version, index) = (key >> 32, key & u64::from(u32::MAX));
        assert!(index < 1 << INDEX_BITS, "fewer than 16 million connections on a shard");
        Self(version << 32 | index << OP_BITS | op as u64)
    }

    pub(super) fn numbered(op: Op, number: usize) -> Self {
        Self((number as u64) << OP_BITS | op as u64)
    }

    pub(super) fn op(self) -> Op {
        match self.0 & ((1 << OP_BITS) - 1) {
            1 => Op::Accept,
            2 => Op::Connect,
            3 => Op::ReceiveOnce,
            4 => Op::ReceiveMany,
            5 => Op::Send,
            6 => Op::Bell,
            7 => Op::Knock,
            8 => Op::Tick,
            9 => Op::Poll,
            _ => Op::Ignored,
        }
    }

    pub(super) fn link(self) -> Link {
        let index = self.0 >> OP_BITS & ((1 << INDEX_BITS) - 1);
        Link::from(KeyData::from_ffi(self.0 >> 32 << 32 | index))
    }

    pub(super) fn number(self) -> usize {
        usize::try_from(self.0 >> OP_BITS).unwrap_or(usize::MAX)
    }
}

fn fd(of: BorrowedFd<'_>) -> types::Fd {
    types::Fd(of.as_raw_fd())
}

impl Queue {
    /// Accepts clients: many, or one.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, many: bool, tag: Tag) {
        let listener = fd(listener);
        let entry = if many {
            opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(listener, nowhere, nowhere.cast()).flags(libc::SOCK_CLOEXEC).build()
        };
        self.push_plain(entry, tag);
    }

    /// Receives whatever comes, for good, into buffers of the group.
    pub(super) fn receive_many(&mut self, socket: BorrowedFd<'_>, group: u16, tag: Tag) {
        self.push_plain(opcode::RecvMulti::new(fd(socket), group).build(), tag);
    }

    /// Receives once, at most so many bytes, into a buffer of the group. Where something has only
    /// just been asked for (`later`), the kernel need not look before it waits.
    pub(super) fn receive_once(
        &mut self,
        socket: BorrowedFd<'_>,
        (group, bytes): (u16, u32),
        later: bool,
        tag: Tag,
    ) {
        /// `IORING_RECVSEND_POLL_FIRST` (Linux 5.19).
        const POLL_FIRST: u16 = 1;
        let entry = opcode::Recv::new(fd(socket), std::ptr::null_mut(), bytes)
            .ioprio(if later { POLL_FIRST } else { 0 })
            .buf_group(group)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push_plain(entry, tag);
    }

    /// Completes when a socket is so (`poll`'s events), or broken.
    pub(super) fn poll(&mut self, socket: BorrowedFd<'_>, events: i16, tag: Tag) {
        let events = u32::from(events.cast_unsigned());
        self.push_plain(opcode::PollAdd::new(fd(socket), events).build(), tag);
    }

    /// Ends operations with this tag.
    pub(super) fn cancel(&mut self, tag: Tag) {
        self.push_plain(opcode::AsyncCancel::new(tag.0).build(), Tag::numbered(Op::Ignored, 0));
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, socket: OwnedFd) {
        let entry = opcode::Close::new(types::Fd(socket.into_raw_fd())).build();
        self.push_plain(entry, Tag::numbered(Op::Ignored, 0));
    }

    /// Wakes whoever waits on another ring.
    pub(super) fn knock(&mut self, ring: RawFd, shard: usize) {
        let heard = Tag::numbered(Op::Ignored, 0).0;
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, heard, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push_plain(entry, Tag::numbered(Op::Knock, shard));
    }

    /// Queues an operation that refers to no memory.
    fn push_plain(&mut self, entry: squeue::Entry, tag: Tag) {
        // SAFETY: its callers build operations without a pointer; the memory that receives use is
        // that of provided buffers, which lives for good.
        unsafe { self.push(entry.user_data(tag.0)) }
    }

    /// Sends bytes.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until the completion has been seen.
    pub(super) unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], tag: Tag) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(fd(socket), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(tag.0);
        // SAFETY: the caller's.
        unsafe { self.push(entry) }
    }

    /// Connects, within a time.
    ///
    /// # Safety
    /// The address and the time stay where they are until the completion has been seen.
    pub(super) unsafe fn connect(
        &mut self,
        socket: BorrowedFd<'_>,
        address: &SockAddr,
        within: &types::Timespec,
        tag: Tag,
    ) {
        let connect = opcode::Connect::new(fd(socket), address.as_ptr().cast(), address.len())
            .build()
            .flags(squeue::Flags::IO_LINK)
            .user_data(tag.0);
        let deadline = opcode::LinkTimeout::new(within).build();
        let deadline = deadline.user_data(Tag::numbered(Op::Ignored, 0).0);
        // SAFETY: the caller's, for both.
        unsafe { self.push_pair([connect, deadline]) }
    }

    /// Reads what those write who ring the bell.
    ///
    /// # Safety
    /// The word stays where it is until the completion has been seen.
    pub(super) unsafe fn read_bell(&mut self, bell: BorrowedFd<'_>, word: *mut u64) {
        let length = u32::try_from(size_of::<u64>()).expect("eight");
        let entry = opcode::Read::new(fd(bell), word.cast(), length).build();
        // SAFETY: the caller's.
        unsafe { self.push(entry.user_data(Tag::numbered(Op::Bell, 0).0)) }
    }

    /// Completes after a time.
    ///
    /// # Safety
    /// The time stays where it is until the completion has been seen.
    pub(super) unsafe fn tick(&mut self, after: &types::Timespec) {
        let entry = opcode::Timeout::new(after).build();
        // SAFETY: the caller's.
        unsafe { self.push(entry.user_data(Tag::numbered(Op::Tick, 0).0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn tags_lead_back_to_links() {
        let mut links: SlotMap<Link, u8> = SlotMap::with_key();
        let first = links.insert(0);
        links.remove(first);
        for _ in 0..300 {
            let link = links.insert(0);
            let tag = Tag::of_link(Op::Send, link);
            assert_eq!((tag.op(), tag.link()), (Op::Send, link));
        }
        let tag = Tag::numbered(Op::Knock, 63);
        assert_eq!((tag.op(), tag.number()), (Op::Knock, 63));
    }
}

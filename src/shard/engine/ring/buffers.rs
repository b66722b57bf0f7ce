//! Buffers provided to the kernel, from which it takes one for each receive that has bytes.
//!
//! Must hold: a buffer belongs either to the kernel or to one [`Lent`]; it is given back once; the
//! kernel sees what was given back when `publish` is called. The memory lives until the process
//! ends, as rings do, so that nothing can complete into freed memory.

#![expect(unsafe_code, reason = "memory is shared with the kernel")]

use io_uring::{Submitter, types::BufRingEntry};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Asks the kernel how far it has got in a group.
const REGISTER_PBUF_STATUS: libc::c_uint = 26;

/// `struct io_uring_buf_status`.
#[repr(C)]
struct Status {
    group: u32,
    head: u32,
    reserved: [u32; 8],
}

/// One group of buffers of one size.
#[derive(Debug)]
pub(super) struct Buffers {
    group: u16,
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    size: usize,
    tail: u16,
    /// Given back and not published.
    unseen: bool,
    lent: u16,
}

/// One buffer with what was received into it.
#[derive(Debug)]
pub struct Lent {
    start: NonNull<u8>,
    length: usize,
    id: u16,
    group: u16,
}

impl Lent {
    /// What was received.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is mapped for good, is `length` bytes long at least, and the kernel
        // has handed this buffer to this value alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Forgets all but the first bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }
}

impl Buffers {
    /// Registers `count` (a power of two) buffers of `size` bytes.
    ///
    /// # Errors
    /// There is no memory for them, or the kernel does not know of such.
    pub(super) fn new(
        ring: &Submitter<'_>,
        group: u16,
        count: u16,
        size: usize,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes a power of two");
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(count) * size)?;
        // SAFETY: the entries are mapped for good, page-aligned, and `count` of them long.
        unsafe {
            ring.register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)?;
        }
        let mut new =
            Self { group, entries, memory, count, size, tail: 0, unseen: false, lent: count };
        for id in 0..count {
            new.put(id);
        }
        new.publish();
        Ok(new)
    }

    /// Bytes in each buffer.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes what the kernel has put into one of the buffers.
    pub(super) fn take(&mut self, id: u16, length: usize) -> Lent {
        assert!(id < self.count && length <= self.size, "the kernel names its own buffers");
        self.lent += 1;
        // SAFETY: `id` is below `count`, so this is inside the mapping.
        let start = unsafe { self.memory.add(usize::from(id) * self.size) };
        Lent { start, length, id, group: self.group }
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&mut self, lent: Lent) {
        assert!(lent.group == self.group, "a buffer returns to its own group");
        self.put(lent.id);
    }

    fn put(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: `at` is below `count`; the kernel does not read an entry before the tail is
        // published, and has read the one that was there, for it had been taken.
        let entry = unsafe { self.entries.add(at).as_mut() };
        // SAFETY: `id` is below `count`, as it came from `take` or from `new`.
        let start = unsafe { self.memory.add(usize::from(id) * self.size) };
        entry.set_addr(start.as_ptr() as u64);
        entry.set_len(u32::try_from(self.size).expect("buffers are small"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.unseen = true;
        self.lent -= 1;
    }

    /// Lets the kernel see what was given back.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.unseen) {
            return;
        }
        // SAFETY: the tail lies inside the mapping, is aligned, and is only ever read by the
        // kernel, atomically.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Buffers the kernel has filled that are not given back: lent ones, and those whose completion
    /// has not been read. The kernel says so since Linux 6.8; before, only lent ones are known.
    pub(super) fn taken(&self, ring: RawFd) -> u16 {
        let mut status = Status { group: self.group.into(), head: 0, reserved: [0; 8] };
        // SAFETY: the kernel writes one status, of the layout it has for it, while the call lasts.
        let told = unsafe {
            let at = std::ptr::from_mut(&mut status);
            libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_PBUF_STATUS, at, 1)
        };
        if told < 0 {
            return self.lent;
        }
        let head = u16::try_from(status.head & u32::from(u16::MAX)).expect("masked");
        self.count - self.tail.wrapping_sub(head)
    }

    /// Buffers that are lent now.
    pub(super) fn lent(&self) -> u16 {
        self.lent
    }
}

/// Maps memory for good.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that is.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("memory was mapped at zero"))
}

//! What a listener is told before it closes.

use std::net::TcpListener;

/// The instruction of a packet filter that ends it; with 0, nothing of the packet is let through.
const FILTER_RETURN: u16 = 0x06;

/// Lets nobody connect any more; who has connected can still be accepted. Without it, whoever
/// connects between the last look at the queue and the close would be reset.
pub(super) fn take_nobody_new(listener: &TcpListener) {
    let nothing = [socket2::SockFilter::new(FILTER_RETURN, 0, 0, 0)];
    if let Err(error) = socket2::SockRef::from(listener).attach_filter(&nothing) {
        tracing::debug!(%error, "a listener cannot be told to take nobody new");
    }
}

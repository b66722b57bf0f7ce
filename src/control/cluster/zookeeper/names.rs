//! Where a server is, by its name: asked of the system, which may take its time over that, by
//! threads that nobody waits for too long.

use crate::base::time::Duration;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

/// Questions that the system may be busy with at a time; more are not asked.
const ASKING_MAX: usize = 8;
/// Those it is busy with, of the whole process: each is a thread that cannot be ended.
static ASKING: AtomicUsize = AtomicUsize::new(0);

/// The addresses of `host:port`; none if they are not known within this time.
pub(super) fn addresses(place: &str, within: Duration) -> Vec<SocketAddr> {
    if let Ok(address) = place.parse() {
        return vec![address];
    }
    if ASKING.fetch_add(1, Ordering::AcqRel) >= ASKING_MAX {
        ASKING.fetch_sub(1, Ordering::AcqRel);
        return Vec::new();
    }
    let (tell, told) = sync_channel(1);
    let name = place.to_owned();
    let ask = move || {
        let found = name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        ASKING.fetch_sub(1, Ordering::AcqRel);
        let _ = tell.send(found.unwrap_or_default()); // who asked may have given up
    };
    if Builder::new().name("zk-names".into()).spawn(ask).is_err() {
        ASKING.fetch_sub(1, Ordering::AcqRel);
        return Vec::new();
    }
    told.recv_timeout(within).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_question_and_what_is_no_name_has_no_address() {
        let soon = Duration::from_secs(5);
        let here = "127.0.0.1:7".parse().expect("an address");
        assert_eq!(addresses("127.0.0.1:7", Duration::ZERO), [here]);
        assert!(addresses("localhost:7", soon).iter().all(|it| it.port() == 7));
        assert!(addresses("no port", soon).is_empty());
        assert_eq!(ASKING.load(Ordering::Acquire), 0, "each question has ended");
    }
}

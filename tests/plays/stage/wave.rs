//! Demand that one instance cannot meet.

use super::{Connection, Request, Router, Service, now};
use std::collections::HashSet;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Eight clients ask a service for six seconds; the instances that served them.
///
/// # Panics
/// A request was not served.
pub(crate) fn wave(router: &Router, service: &Service) -> HashSet<u32> {
    let address = router.address;
    let begun = now();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let request = service.get("/");
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let mut seen = HashSet::new();
                while now() - begun < Duration::from_secs(6) {
                    seen.insert(connection.ask(&request).expect(200).instance());
                }
                seen
            })
        })
        .collect();
    let mut seen = HashSet::new();
    for client in clients {
        seen.extend(client.join().expect("every request is served"));
    }
    seen
}

/// So many requests at one time; each ends with the instance that has served it.
pub(crate) fn at_once(router: &Router, count: usize, request: &Request) -> Vec<JoinHandle<u32>> {
    let ask = |_| {
        let (address, request) = (router.address, request.clone());
        thread::spawn(move || Connection::open(address).ask(&request).expect(200).instance())
    };
    (0..count).map(ask).collect()
}

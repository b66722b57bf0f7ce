//! The demo's load: so many clients, each asking again as soon as it is answered.

use super::client::Client;
use crate::base::time::Duration;
use crate::mesh::clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) served: u64,
    pub(super) lost: u64,
    /// Sorted.
    pub(super) latencies: Vec<Duration>,
}

/// The clients.
#[derive(Debug)]
pub(super) struct Load {
    address: SocketAddr,
    headers: Arc<Vec<(String, String)>>,
    wanted: Arc<AtomicUsize>,
    running: usize,
    told: Receiver<Result<Duration, String>>,
    tell: Sender<Result<Duration, String>>,
    total: Tally,
    service: String,
}

impl Load {
    pub(super) fn new(address: SocketAddr, headers: Vec<(String, String)>) -> Self {
        let (tell, told) = channel();
        let service = Client::new(address)
            .get("/service-id", &headers)
            .map(|it| String::from_utf8_lossy(&it.body).trim().to_owned())
            .unwrap_or_default();
        Self {
            address,
            headers: Arc::new(headers),
            wanted: Arc::new(AtomicUsize::new(0)),
            running: 0,
            told,
            tell,
            total: Tally::default(),
            service,
        }
    }

    /// The id of the service.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Sets how many clients there are. Those too many end after their request.
    pub(super) fn set(&mut self, clients: usize) {
        self.wanted.store(clients, Ordering::SeqCst);
        self.running = self.running.min(clients);
        while self.running < clients {
            let number = self.running;
            self.running += 1;
            let (address, headers) = (self.address, self.headers.clone());
            let (wanted, tell) = (self.wanted.clone(), self.tell.clone());
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                while number < wanted.load(Ordering::SeqCst) {
                    let began = clock::now();
                    let answer = client.get("/", &headers).and_then(|it| match it.status {
                        200 => Ok(clock::now() - began),
                        status => Err(format!("status {status} ({:?})", it.service)),
                    });
                    if tell.send(answer).is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// What was seen since the last call.
    pub(super) fn tally(&mut self) -> Tally {
        let mut tally = Tally::default();
        for answer in self.told.try_iter() {
            match answer {
                Ok(latency) => {
                    tally.served += 1;
                    tally.latencies.push(latency);
                }
                Err(_) => tally.lost += 1,
            }
        }
        tally.latencies.sort_unstable();
        self.total.served += tally.served;
        self.total.lost += tally.lost;
        self.total.latencies.extend(&tally.latencies);
        tally
    }

    /// What was seen in all.
    pub(super) fn total(&mut self) -> Tally {
        self.tally();
        self.total.latencies.sort_unstable();
        self.total.clone()
    }
}

impl Tally {
    /// The latency that this share of the requests did not exceed; zero without requests.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let at = (self.latencies.len() as f64 * share) as usize;
        self.latencies
            .get(at.min(self.latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

//! Clients that take more than they should, and those beside them.

use crate::bulk::bounded;
use crate::stage::{Connection, Instance, Request, Router, fronted, now};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

fn stage() -> ([Instance; 1], Router) {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "concurrency-level=20");
    let router = Router::start(&["--cores", "0-0", "--scheduler", "none", "--static", &one]);
    router.ask(&Request::get("/?size=1000000").with("host", "one")).expect(200);
    (server, router)
}

/// The median of how long an ordinary request takes.
fn ordinary(address: SocketAddr) -> Duration {
    let mut connection = Connection::open(address);
    let mut times: Vec<Duration> = (0..41)
        .map(|_| {
            let begun = now();
            connection.ask(&Request::get("/").with("host", "one")).expect(200);
            now() - begun
        })
        .collect();
    times.sort();
    times[20]
}

/// Others are served nearly as if nobody else were there. The margin is for a busy machine: who
/// has to wait for one that is slow waits for longer than this.
fn others_are_fast(address: SocketAddr, alone: Duration) {
    let beside = ordinary(address);
    println!("alone {alone:?}, beside it {beside:?}");
    assert!(beside < alone * 10 + Duration::from_millis(10), "alone {alone:?}, now {beside:?}");
}

#[test]
pub(crate) fn one_who_pipelines_and_never_reads_costs_little_and_nobody_else_anything() {
    let (_server, router) = stage();
    let address = router.address;
    let alone = ordinary(address);
    bounded(&router, move || {
        let greedy: Vec<_> = (0..4).map(|_| Connection::open(address)).collect();
        let request = Request::get("/?size=1000000").with("host", "one").bytes(address);
        for connection in &greedy {
            let mut socket = connection.socket();
            socket.set_write_timeout(Some(Duration::from_millis(100))).expect("a time");
            let piece = request.repeat(1000);
            let taken = (0..1000).take_while(|_| socket.write_all(&piece).is_ok()).count();
            assert!(taken < 1000, "a pipeline has an end");
        }
        others_are_fast(address, alone);
    });
}

#[test]
pub(crate) fn slow_readers_of_much_do_not_slow_others_down() {
    let (_server, router) = stage();
    let address = router.address;
    let alone = ordinary(address);
    bounded(&router, move || {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = Connection::open(address);
                let target = format!("/?size={}", 100 * MIB);
                reader.send(&Request::get(&target).with("host", "one"));
                thread::spawn(move || {
                    let mut socket = reader.socket();
                    let mut buffer = vec![0; 64 * 1024];
                    for _ in 0..60 {
                        assert!(socket.read(&mut buffer).expect("it goes on") > 0);
                        crate::stage::pause_until(now() + Duration::from_millis(10));
                    }
                })
            })
            .collect();
        others_are_fast(address, alone);
        for reader in readers {
            reader.join().expect("it goes on");
        }
    });
}

//! How clients are spread over shards.

use crate::stage::{PATIENCE, Request, Router, until};

const SHARDS: usize = 8;

/// Clients of each shard, once all of so many are served.
fn spread(accept: &str, io: &str, clients: usize) -> Vec<usize> {
    let flags = ["--cores", "0,0,0,0,0,0,0,0", "--scheduler", "none", "--accept", accept];
    let router = Router::start(&[&flags[..], &["--io", io]].concat());
    let mut all: Vec<_> = (0..clients).map(|_| router.connect()).collect();
    for client in &mut all {
        client.ask(&Request::get("/status")).expect(200);
    }
    let counts = until("all are counted", PATIENCE, || {
        let text = all[0].ask(&Request::get("/metrics")).expect(200).text();
        let of = |shard| {
            let name = format!("waiter_shard_connections{{shard=\"{shard}\"}} ");
            let line = text.lines().find_map(|it| it.strip_prefix(&name))?;
            line.parse::<usize>().ok()
        };
        let counts: Vec<usize> = (0..SHARDS).filter_map(of).collect();
        (counts.iter().sum::<usize>() == clients).then_some(counts)
    });
    let ratio = *counts.iter().max().expect("eight") as f64 * SHARDS as f64 / clients as f64;
    println!("{accept}, {io}, {clients} clients: busiest / mean {ratio:.2}, {counts:?}");
    counts
}

#[test]
fn no_shard_has_more_than_its_share_unless_told_so() {
    for clients in [16, 64] {
        for io in ["ring", "glommio"] {
            let counts = spread("balanced", io, clients);
            let most = *counts.iter().max().expect("eight");
            // A tenth above the mean, and one.
            let share = 11 * clients / (10 * SHARDS);
            assert!(most <= share + 1, "{counts:?}");
        }
        spread("plain", "ring", clients);
    }
}

//! Large bodies in little memory.

use super::world::{Habit, Id, World};
use crate::base::limits::Limits;
use crate::shard::engine::Happening;

const TOTAL: usize = 100 * 1024 * 1024;
const PIECE: usize = 64 * 1024;
/// Beyond the window: a head, and the framing of chunks.
const SLACK: usize = 16 * 1024;

/// Sends so much from a remote; what the other got is counted and thrown away.
fn stream(world: &mut World, (from, to): (Id, Id), total: usize) {
    let (mut sent, mut came) = (0, 0);
    let piece = vec![b'x'; PIECE];
    world.remote(to).got.clear();
    for _ in 0..total * 4 / PIECE {
        let (link, now) = (world.remote(from).link, world.now);
        let room = world.shards[0].engine.wire(link).room.min(PIECE).min(total - sent);
        if room > 0 {
            let mut piece = piece[..room].to_vec();
            world.shards[0].happened(Happening::Received(link, &mut piece), now);
            sent += room;
        }
        // The reader is the slower one: it takes a little less than comes.
        world.sip = PIECE - 4096;
        world.settle_once();
        let got = &mut world.remote(to).got;
        came += got.iter().filter(|it| **it == b'x').count();
        got.clear();
        if came == total {
            break;
        }
    }
    world.sip = usize::MAX;
    assert_eq!((sent, came), (total, total), "every byte once");
    let most = world.queued_most;
    assert!(most <= Limits::PRODUCTION.window_bytes as usize + SLACK, "{most} bytes were queued");
    assert!(most > PIECE, "there was something to hold back");
}

#[test]
fn a_hundred_mebibytes_cross_in_a_window_each_way() {
    for framing in ["content-length: 104857600", "transfer-encoding: chunked"] {
        let mut world = World::usual(Habit::Manual);
        let client = world.client(0);
        world.send(client, format!("POST / HTTP/1.1\r\nhost: bench\r\n{framing}\r\n\r\n"));
        let is_chunked = framing.starts_with("transfer");
        if is_chunked {
            world.send(client, format!("{TOTAL:x}\r\n"));
        }
        let instance = world.asked()[0];
        world.take(instance);
        stream(&mut world, (client, instance), TOTAL);
        if is_chunked {
            world.send(client, "\r\n0\r\n\r\n");
        }
        world.answer(instance, format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        if is_chunked {
            world.send(instance, format!("{TOTAL:x}\r\n"));
        }
        world.take(client);
        stream(&mut world, (instance, client), TOTAL);
        if is_chunked {
            world.send(instance, "\r\n0\r\n\r\n");
        }
        assert!(!world.is_closed(client) && !world.is_closed(instance));
        world.end_of_play();
    }
}

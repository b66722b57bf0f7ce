//! How bytes come from a remote to its shard, or pass it.

use super::world::Remote;
use crate::base::time::Instant;
use crate::shard::engine::memory::Memory;
use crate::shard::engine::{Happening, Passed};
use crate::shard::state::Shard;

/// Moves what passes on past the shard: first into the pipe, then out of it.
fn pass(shard: &mut Shard<Memory>, remote: &mut Remote, sip: usize, now: Instant) -> bool {
    let wire = shard.engine.wire(remote.link);
    let Some((to, left)) = wire.passes else { return false };
    let mut passed = Passed::default();
    if wire.pipe.is_empty() {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let taken = most.min(sip).min(remote.send.len());
        wire.pipe.extend(remote.send.drain(..taken));
        wire.passes = Some((to, left - taken as u64));
        passed.taken = taken as u32;
    } else {
        let mut bytes = std::mem::take(&mut wire.pipe);
        let target = shard.engine.wire(to);
        assert!(target.shut.is_none(), "who is closed gets nothing");
        if target.output.is_empty() {
            passed.given = bytes.len() as u32;
            target.output.append(&mut bytes);
        }
        let wire = shard.engine.wire(remote.link);
        wire.pipe = bytes;
        if passed.given > 0 && left == 0 {
            wire.passes = None;
            passed.surplus = !remote.send.is_empty() || remote.fin;
        }
    }
    let moves = passed != Passed::default();
    if moves {
        shard.happened(Happening::Passed(remote.link, passed), now);
    }
    moves
}

/// Gives a shard what a remote sends, no more than it takes.
pub(super) fn give(
    shard: &mut Shard<Memory>,
    remote: &mut Remote,
    sip: usize,
    now: Instant,
) -> bool {
    let (link, room) = (remote.link, shard.engine.wire(remote.link).room);
    if pass(shard, remote, sip, now) {
        return true;
    }
    let ends = remote.fin && shard.engine.wire(link).passes.is_some();
    if !remote.opened || room == 0 && !ends {
        return false;
    }
    let given = room.min(sip).min(remote.send.len());
    if given > 0 {
        let mut piece: Vec<u8> = remote.send.drain(..given).collect();
        shard.happened(Happening::Received(link, &mut piece), now);
    } else if remote.send.is_empty() && std::mem::take(&mut remote.fin) {
        shard.engine.wire(link).ended = true;
        shard.happened(Happening::Ended(link), now);
    } else {
        return false;
    }
    true
}

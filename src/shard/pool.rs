//! Connections of this shard to instances, and which of them are idle.
//!
//! Most recently used first: those at the bottom grow old and are closed. Over all shards an
//! instance never has more connections than slots for longer than one hop: who opens one too many
//! asks the others to close an idle one, and a crowded instance's connections are not kept. One
//! that leaves with a seat is no longer here, and is counted by its instance all the same.

use crate::base::ids::ShardId;
use crate::core::slots::{Gate, Instance};
use crate::shard::engine::Link;
use std::collections::HashMap;
use std::sync::Arc;

/// This shard's connections to instances.
#[derive(Debug)]
pub struct Pool {
    shard: ShardId,
    instances: HashMap<usize, Kept, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Kept {
    instance: Arc<Instance>,
    open: usize,
    idle: Vec<Link>,
}

impl Pool {
    /// No connections.
    pub fn new(shard: ShardId) -> Self {
        Self { shard, instances: HashMap::default() }
    }

    /// A connection is being opened. Returns whether the instance is now crowded.
    pub fn opening(&mut self, instance: &Arc<Instance>) -> bool {
        self.add(instance);
        instance.connection_opened(self.shard)
    }

    /// A connection was closed, whatever it was doing.
    pub fn closed(&mut self, link: Link, instance: &Arc<Instance>) {
        let last = self.remove(link, instance);
        instance.connection_closed(self.shard, last);
    }

    /// A connection goes to another shard.
    pub fn left(&mut self, link: Link, instance: &Arc<Instance>) {
        let last = self.remove(link, instance);
        instance.connection_left(self.shard, last);
    }

    /// A connection came from another shard, for a request that is about to take it.
    pub fn joined(&mut self, link: Link, instance: &Arc<Instance>) {
        self.add(instance).idle.push(link);
        instance.connection_joined(self.shard);
    }

    fn add(&mut self, instance: &Arc<Instance>) -> &mut Kept {
        let kept = self.instances.entry(key(instance)).or_insert_with(|| Kept {
            instance: instance.clone(),
            open: 0,
            idle: Vec::new(),
        });
        kept.open += 1;
        kept
    }

    /// Forgets a connection; whether it was the last to its instance.
    fn remove(&mut self, link: Link, instance: &Arc<Instance>) -> bool {
        let kept = self.instances.get_mut(&key(instance)).expect("it was opened");
        kept.idle.retain(|it| *it != link);
        kept.open -= 1;
        let last = kept.open == 0;
        if last {
            self.instances.remove(&key(instance));
        }
        last
    }

    /// The idle connection that was used last.
    pub fn newest(&self, instance: &Arc<Instance>) -> Option<Link> {
        self.instances.get(&key(instance))?.idle.last().copied()
    }

    /// Takes the idle connection that was used last.
    pub fn take(&mut self, instance: &Arc<Instance>) -> Option<Link> {
        self.instances.get_mut(&key(instance))?.idle.pop()
    }

    /// Keeps a connection; whether it may be kept.
    pub fn keep(&mut self, link: Link, instance: &Arc<Instance>) -> bool {
        if instance.is_crowded()
            || instance.word.is(Gate::Retired)
            || instance.word.is(Gate::Locked)
        {
            return false;
        }
        let kept = self.instances.get_mut(&key(instance)).expect("it was opened");
        kept.idle.push(link);
        true
    }

    /// An idle connection that must go because the instance has more than slots: the oldest.
    pub fn surplus(&mut self, instance: &Arc<Instance>) -> Option<Link> {
        if !instance.is_crowded() {
            return None;
        }
        self.instances.get(&key(instance))?.idle.first().copied()
    }

    /// All idle connections.
    pub fn idle(&self) -> impl Iterator<Item = Link> {
        self.instances.values().flat_map(|it| it.idle.iter().copied())
    }

    /// Idle connections to instances that no longer exist.
    pub fn orphans(&self) -> impl Iterator<Item = Link> {
        self.instances
            .values()
            .filter(|it| it.instance.word.is(Gate::Retired))
            .flat_map(|it| it.idle.iter().copied())
    }
}

fn key(instance: &Arc<Instance>) -> usize {
    Arc::as_ptr(instance).addr()
}

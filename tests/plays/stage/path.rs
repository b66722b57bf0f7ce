//! What drives the router's sockets in a play: whatever the product chooses, what the environment
//! asks for, or what the play itself is about.
//!
//! `WAITER_PLAYS_FLAGS` holds flags for every router that a run starts, as they would be written
//! after `waiter serve`: `WAITER_PLAYS_FLAGS='--io glommio' cargo test --test plays`. A flag that a
//! play gives itself wins.

use std::cell::Cell;

/// Flags in pairs of name and value.
pub(crate) type Path = &'static [&'static str];

thread_local! {
    static PATH: Cell<Option<Path>> = const { Cell::new(None) };
}

/// Tells a story whose routers take this path. They must be started on this thread.
pub(crate) fn on(path: Path, story: impl FnOnce()) {
    PATH.set(Some(path));
    story();
    PATH.set(None);
}

/// Flags of the path that routers take now, without those that are given.
pub(super) fn flags(given: &[&str]) -> Vec<String> {
    let words: Vec<String> = match PATH.get() {
        Some(path) => path.iter().map(|it| (*it).to_owned()).collect(),
        None => std::env::var("WAITER_PLAYS_FLAGS")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    };
    assert!(words.len().is_multiple_of(2), "flags come with a value each: {words:?}");
    let pairs = words.chunks_exact(2);
    pairs.filter(|it| !given.contains(&it[0].as_str())).flatten().cloned().collect()
}

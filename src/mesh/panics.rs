//! Which panics may be survived: those of one exchange or one codec, which touch nothing but their
//! own state, and those of the client crate for ZooKeeper on its own threads, of which only it has
//! something. Any other aborts the process: a router with a missing shard is worse than none.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Threads of the client crate for ZooKeeper; none of the router's own is named so. A client whose
/// threads are gone is silent, and given up by whoever waits for its answers.
const CRATE_THREADS: [&str; 2] = ["event", "io"];

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panic is survived.
///
/// # Errors
/// It panicked.
pub fn guarded<T>(act: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    GUARDED.set(before);
    result
}

/// From now on a panic that is not guarded ends the process, on whatever thread.
pub fn abort_on_others() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        let thread = std::thread::current();
        let of_crate = thread.name().is_some_and(|it| CRATE_THREADS.contains(&it));
        if !GUARDED.get() && !of_crate {
            std::process::abort();
        }
    }));
}

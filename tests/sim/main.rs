//! Worlds of slots in one thread (being written).
#[test]
fn nothing_yet() {}

//! What joins the cores: mailboxes, the bell that wakes their owners, and the clock.

pub mod clock;
pub mod mailbox;
pub mod panics;

pub use mailbox::{Bell, ControlPost, Fence, Lane, Notices, ShardPost, join, lane};

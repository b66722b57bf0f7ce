//! What cores and threads share: the clock.

pub mod clock;

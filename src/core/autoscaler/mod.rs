//! How many instances each service should have (control-plane §10, design §6).
//!
//! [`desired()`] is the original's arithmetic for one service, with a floor and a cap; [`act`]
//! turns its result into one order; [`Prompt`] takes floor and cap from what is seen;
//! [`Autoscaler`] holds what is remembered of each service and runs them all once a second.

mod desired;
mod executor;
mod machine;
mod prompt;
mod reason;

#[cfg(test)]
mod kpa;
#[cfg(test)]
mod model;

pub use desired::{Config, Decision, Quanta, State, desired, quanta, smoothing};
pub use executor::{Action, Rules, Task, act};
pub use machine::{Autoscaler, Before, Input, Scaling, Standing, Trend, orchestrate};
pub use prompt::{Demand, Envelope, Prompt};
pub use reason::Reason;

//! What is known of each service's instances, united from all who say something about them: the
//! scheduler's listings, health checks, kill notices (control-plane §2, §11.2, §11.3).
//!
//! The control loop owns the one [`Aggregator`], tells it what happened, and publishes the
//! [`State`] of the services it names as changed.

mod deployment;
mod health;
mod machine;
mod service;
mod state;

#[cfg(test)]
mod tests;

pub use deployment::{DeploymentError, DeploymentRules, deployment_error};
pub use health::{CheckError, Outcome};
pub use machine::Aggregator;
pub use state::{Counts, Instability, Instance, State, Status};

//! What a service is: its parameters, its description, its id, and how requests and the operator
//! give them.

pub mod check;
pub mod description;
pub mod headers;
mod identity;
pub mod parameters;
mod runners;
pub mod static_servers;
pub mod table;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tuning;
mod validate;

pub use description::{Constraints, Defaults, Description, Origin, from_core};
pub use headers::{fingerprint, from_headers};
pub use parameters::{ClientAbort, CmdType, DistributionScheme, LoadBalancing};
pub use parameters::{Parameters, Proto, ScalingPolicy};
pub use runners::Runners;
pub use static_servers::{parse_static, static_instance_id};
pub use tuning::Tuning;

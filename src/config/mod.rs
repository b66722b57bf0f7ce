//! Every flag and every key of the configuration file: as written, and as resolved.
//!
//! A flag and a key have one definition, [`Written`]. The command line overrides the file, the file
//! overrides the defaults; unknown keys are refused, and all mistakes are reported at once.

mod file;
mod io;
mod marathon;
mod mistakes;
mod resolve;
mod resolved;
mod routers;
#[cfg(test)]
mod tests;
mod written;

pub use file::File;
pub use io::{Driver, Io, RING_FEATURES, WrittenIo};
pub use marathon::{Auth, Marathon, WrittenMarathon};
pub use resolved::{AccessLog, Config, Log};
pub use routers::{Routers, WrittenRouters};
pub use written::{Bounds, Written};

//! What the program can be asked to do, one file per subcommand.

mod cluster;
pub mod demo;
mod host;
pub mod instance;
mod listeners;
pub mod load;
mod schedulers;
pub mod serve;
mod sockets;
pub mod status;
pub mod store;
mod zookeeper;

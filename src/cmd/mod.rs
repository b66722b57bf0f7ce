//! What the program can be asked to do, one file per subcommand.

pub mod demo;
pub mod instance;
pub mod serve;

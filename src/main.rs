//! The program: picks the subcommand.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use waiter::cmd::instance::{self, InstanceArgs};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A test instance with knobs.
    #[command(hide = true)]
    Instance(InstanceArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Instance(args) => instance::run(args),
    }
}

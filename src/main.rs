//! The program: picks the subcommand.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use waiter::cmd::demo::{self, DemoArgs};
use waiter::cmd::instance::{self, InstanceArgs};
use waiter::cmd::load::{self, LoadArgs};
use waiter::cmd::serve::{self, ServeArgs};
use waiter::cmd::status::{self, ClusterArgs};
use waiter::cmd::store::{self, StoreArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Routes HTTP requests to services, and runs the services behind it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a router.
    Serve(Box<ServeArgs>),
    /// Show the whole loop in under a minute.
    Demo(DemoArgs),
    /// Send requests at a constant rate and tell how long the answers took.
    Load(LoadArgs),
    /// Look at a cluster of routers.
    Cluster(ClusterArgs),
    /// Move what is stored between a data directory and ZooKeeper.
    Store(StoreArgs),
    /// A test instance with knobs.
    #[command(hide = true)]
    Instance(InstanceArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Cluster(args) => status::run(args),
        Command::Store(args) => store::run(args),
        Command::Instance(args) => instance::run(args),
    }
}

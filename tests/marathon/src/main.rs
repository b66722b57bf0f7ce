//! Stands in for Marathon in tests. See README.md for what it can do, and how it differs.
//!
//! Doors (Marathon, its standbys, agents, the fault port) answer from one [`plant::Plant`], which
//! holds the [`world::World`] and what lies outside of it.

mod agent;
mod api;
mod checks;
mod clock;
mod fault;
mod http;
mod options;
mod outside;
mod plant;
mod record;
mod standby;
mod sweeper;
mod throne;
mod world;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fs, thread};

use clap::Parser;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::http::serve::Door;
use crate::options::Options;
use crate::plant::Plant;
use crate::sweeper::Sweeper;
use crate::throne::Throne;
use crate::world::{Agent, World};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(dir) = &options.sweep {
        sweeper::sweep(dir, options.sweep_folder);
        return ExitCode::SUCCESS;
    }
    let signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(it) => it,
        Err(why) => return failed("cannot handle signals", &why),
    };
    if let Some(leader) = options.standby_of.clone() {
        return stand_by(&options, leader, signals);
    }
    match Play::begin(options) {
        Ok(play) => play.until_the_end(signals),
        Err(why) => failed("cannot start", &why),
    }
}

/// A running stand-in: its plant, and the folder to be removed at the end.
struct Play {
    plant: Arc<Plant>,
    own_dir: Option<PathBuf>,
    sweeper: Sweeper,
    until_stdin_closes: bool,
}

impl Play {
    fn begin(options: Options) -> io::Result<Self> {
        let own_dir = options.work_dir.is_none().then(own_dir);
        let work_dir = options.work_dir.clone().or_else(|| own_dir.clone()).unwrap_or_default();
        fs::create_dir_all(&work_dir)?;
        let work_dir = fs::canonicalize(work_dir)?;
        let sweeper = Sweeper::start(&work_dir, own_dir.is_some())?;
        let agents = (0..options.agents).map(|at| agent_of(at, &work_dir)).collect();
        let (until_stdin_closes, count) = (options.until_stdin_closes, options.agents);
        let (listen, standbys, faults) = (options.listen, options.standbys, options.faults);
        let plant = Plant::new(World::new(options, agents), Throne::default(), work_dir);
        end_with_a_panic(&plant);
        let agent_port = open_agents(&plant, count)?;
        let agents: Vec<String> = (1..=count).map(|at| format!("127.0.0.{at}")).collect();
        let mut doors = vec![open_marathon(&plant, 0, listen)?];
        for node in 1..=usize::from(standbys) {
            doors.push(open_marathon(&plant, node, SocketAddr::new(listen.ip(), 0))?);
        }
        let (of, to) = (Arc::clone(&plant), doors.clone());
        let desk = Door::open(faults, move |request| fault::rest::answer(&of, &to, request))?;
        Arc::clone(&plant).run();
        let api = doors[0].address;
        let standbys: Vec<u16> = doors[1..].iter().map(|it| it.address.port()).collect();
        print_line(&json!({
            "api": api.port(), "faults": desk.address.port(), "standbys": standbys,
            "agents": agents, "agentPort": agent_port,
            "agentDir": plant.work_dir.join("slaves").display().to_string(),
            "url": format!("http://{api}"), "faultsUrl": format!("http://{}", desk.address),
            "workDir": plant.work_dir.display().to_string(), "pid": std::process::id(),
        }))?;
        Ok(Self { plant, own_dir, sweeper, until_stdin_closes })
    }

    fn until_the_end(self, signals: Signals) -> ExitCode {
        wait(signals, self.until_stdin_closes);
        self.plant.outside.end_all(&self.plant.work_dir);
        if let Some(dir) = self.own_dir {
            // What cannot be removed is in the system's temporary folder.
            let _ = fs::remove_dir_all(dir);
        }
        self.sweeper.end();
        ExitCode::SUCCESS
    }
}

/// Only passes requests on to a leader elsewhere.
fn stand_by(options: &Options, leader: String, signals: Signals) -> ExitCode {
    let door = Door::open(options.listen, move |request| standby::pass_on(&leader, request));
    let printed = door.and_then(|it| {
        let url = format!("http://{}", it.address);
        print_line(&json!({ "api": it.address.port(), "url": url, "pid": std::process::id() }))
    });
    if let Err(why) = printed {
        return failed("cannot start", &why);
    }
    wait(signals, options.until_stdin_closes);
    ExitCode::SUCCESS
}

fn own_dir() -> PathBuf {
    env::temp_dir().join(format!("marathon-stand-in-{}", uuid::Uuid::new_v4()))
}

fn agent_of(at: u8, work_dir: &std::path::Path) -> Agent {
    Agent {
        host: format!("127.0.0.{}", at + 1),
        slave_id: format!("{}-S{at}", uuid::Uuid::new_v4()),
        port: 0,
        work_dir: work_dir.join("slaves"),
    }
}

/// All at one port, as agents of one cluster are: clients know one number for all of them.
fn open_agents(plant: &Arc<Plant>, count: u8) -> io::Result<u16> {
    let mut tries = 20;
    loop {
        match open_agents_at(plant, count) {
            // The port that the first one found may be taken at another address.
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            done => return done,
        }
    }
}

fn open_agents_at(plant: &Arc<Plant>, count: u8) -> io::Result<u16> {
    let mut port = 0;
    for at in 0..count {
        let of = Arc::clone(plant);
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, at + 1)), port);
        let door =
            Door::open(address, move |request| agent::answer(&of, usize::from(at), request))?;
        port = door.address.port();
        plant.change(|world, _, _| world.agents[usize::from(at)].port = port);
    }
    Ok(port)
}

fn open_marathon(plant: &Arc<Plant>, node: usize, address: SocketAddr) -> io::Result<Arc<Door>> {
    let of = Arc::clone(plant);
    let door = Door::open(address, move |request| api::answer(&of, node, request))?;
    plant.throne.add(door.address.to_string());
    Ok(door)
}

/// A thread that panics must not leave a half-dead Marathon behind, nor its processes.
fn end_with_a_panic(plant: &Arc<Plant>) {
    let (plant, print) = (Arc::clone(plant), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        plant.outside.end_all(&plant.work_dir);
        std::process::exit(101);
    }));
}

fn print_line(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Returns at SIGTERM or SIGINT, or when the standard input ends if that is asked for.
fn wait(mut signals: Signals, until_stdin_closes: bool) {
    let (ended, wait_end) = std::sync::mpsc::channel();
    if until_stdin_closes {
        let ended = ended.clone();
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = ended.send(());
        });
    }
    thread::spawn(move || {
        signals.forever().next();
        let _ = ended.send(());
    });
    let _ = wait_end.recv();
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("marathon-stand-in: {what}: {why}");
    ExitCode::FAILURE
}

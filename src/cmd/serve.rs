//! `waiter serve`: starts a router, and ends it in order.

use crate::api::{self, About};
use crate::base::time::Duration;
use crate::cmd::listeners::{self, Bound};
use crate::cmd::{cluster, host, schedulers, sockets};
use crate::config::{AccessLog, Config, File, Log, Written};
use crate::control::access_log::{self, Destination};
use crate::control::data_dir::DataDir;
use crate::control::prober::Prober;
use crate::control::publisher::Publisher;
use crate::control::shelf::{Kept, Shelf};
use crate::control::store::{Embedded, Keeper};
use crate::control::{Ended, Event, Plane, Terms};
use crate::core::aggregator::DeploymentRules;
use crate::core::catalogue::Catalogue;
use crate::core::fact::Runner;
use crate::core::gc::{Collector, Failures, LastUse};
use crate::core::letter::Notice;
use crate::core::route::Hosts;
use crate::core::service::Description;
use crate::core::world::World;
use crate::mesh::{self, Bell, Notices, clock};
use crate::shard::access;
use crate::shard::settings::{Clients, Queues};
use crate::shard::{self, Accept, HalfClose, Joins, Settings, Start};
use crate::wire::call::{Answer, Call};
use arc_swap::ArcSwap;
use clap::Args;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

/// Events that wait for the control loop before their senders keep them.
const EVENTS: usize = 64 * 1024;
/// Calls that wait for the API.
const CALLS: usize = 1024;
/// Exit codes: refused to start, misused, drain cut short.
const REFUSED: u8 = 1;
const MISUSED: u8 = 2;
const CUT_SHORT: u8 = 3;

/// Arguments of `waiter serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Read settings from this TOML file; each flag is a key, and flags win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings in effect as a commented configuration file, with what would drive the
    /// sockets here, and end
    #[arg(long)]
    pub print_config: bool,
    /// The settings.
    #[command(flatten)]
    pub written: Written,
}

/// A router that runs.
#[derive(Debug)]
pub struct Router {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    events: SyncSender<Event>,
    control: JoinHandle<Ended>,
    writer: Option<access_log::Writer>,
    _threads: Option<cluster::Threads>,
    _data_dir: DataDir,
}

/// Runs a router until it is told to end.
pub fn run(args: ServeArgs) -> ExitCode {
    let shows = args.print_config;
    let config = match configure(args) {
        Ok(config) => config,
        Err(mistakes) => {
            complain(&mistakes);
            return ExitCode::from(MISUSED);
        }
    };
    if shows {
        return print(&config);
    }
    diagnose(&config);
    mesh::panics::abort_on_others();
    match Router::start(config) {
        Ok(router) => {
            // Signals first: whoever reads the announcement may send one at once.
            router.end_on_signals();
            announce(&router.addresses);
            ExitCode::from(router.wait())
        }
        Err(reason) => {
            complain(&[reason]);
            ExitCode::from(REFUSED)
        }
    }
}

/// Asks the host whether a router can run on it, and chooses what drives its sockets: how, and in
/// words.
fn drive(config: &Config) -> Result<(shard::Io, String), String> {
    host::check(config)?;
    sockets::choose(&config.io)
}

fn print(config: &Config) -> ExitCode {
    let path = match drive(config) {
        Ok((_, path)) => format!("In use here: {path}"),
        Err(reason) => format!("In use here: nothing; {reason}"),
    };
    let command = Written::augment_args(clap::Command::new("serve"));
    let text = config.to_toml(|key| {
        let id = key.replace('-', "_");
        let names = |arg: &&clap::Arg| arg.get_long() == Some(key) || arg.get_id() == id.as_str();
        let help = command.get_arguments().find(names).and_then(clap::Arg::get_help);
        let help = help.map(ToString::to_string).unwrap_or_default();
        if key == "io" { format!("{help}\n{path}") } else { help }
    });
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(REFUSED),
    }
}

/// Resolves file and flags.
///
/// # Errors
/// All mistakes, one line each.
pub fn configure(args: ServeArgs) -> Result<Config, Vec<String>> {
    let file = args.config.as_deref().map(File::read).unwrap_or_default();
    args.written.resolve_over(file, &host::allowed_cores())
}

impl Router {
    /// Starts everything, in order: what can refuse first, the listeners last.
    ///
    /// # Errors
    /// Why it cannot start, and what to do.
    pub fn start(mut config: Config) -> Result<Self, String> {
        let (io, path) = drive(&config)?;
        config.limits.clients_total = host::clients_max(config.cores.len());
        tracing::info!("sockets: {path}");
        let data_dir = DataDir::open(&config.data_dir).map_err(|error| error.to_string())?;
        let listeners = listeners::listen(&config)?;
        let addresses = listeners.iter().map(|it| it.address).collect();
        let (events, happens) = sync_channel(EVENTS);
        let (calls, called) = sync_channel(CALLS);
        let worlds = Arc::new(ArcSwap::from_pointee(World::default()));
        let catalogue = Arc::new(ArcSwap::from_pointee(Catalogue::default()));
        let (posts, post) = mesh::join(config.cores.len(), || notices(&events));
        let prober = Prober::start(events.clone()).map_err(rings)?;
        let me = cluster::new_id(config.routers.id_prefix.as_deref())?;
        let joined = cluster::join(&config, &me, listeners[0].address, &events)?;
        let runners = schedulers::start(&config, &data_dir, joined.as_ref(), &events)?;
        let router_id: Arc<str> = me.as_str().into();
        let kept = open_store(&config, &data_dir, &catalogue, &router_id)?;
        let mut plane = Plane::new(
            terms(&config, router_id),
            post,
            runners,
            prober,
            Publisher::new(worlds.clone()),
            kept,
        );
        let peers = joined.as_ref().map(|it| it.peers.clone());
        let threads = joined.map(|it| {
            say_scope(&config);
            plane.join(it.cluster, &it.peers);
            it.threads
        });
        let control = start_control(plane, &config, happens)?;
        let ways = posts.iter().map(|it| it.bell().clone()).collect();
        let settings = Arc::new(settings(&config, &listeners, peers));
        let about = about(&config, &settings, &listeners, &path);
        let answers =
            start_api(ways, called, (&catalogue, about, schedulers::look(&config)), &events)?;
        let writer = start_access_log(&config)?;
        let mut shards = Vec::new();
        for ((post, answers), core) in posts.into_iter().zip(answers).zip(&config.cores) {
            let joins = Joins {
                post,
                worlds: worlds.clone(),
                calls: calls.clone(),
                answers,
                settings: settings.clone(),
                access: access::AccessLog::new(writer.as_ref().map(|it| it.buffers.clone())),
            };
            shards.push((*core, joins));
        }
        start_shards(shards, listeners, io)?;
        Ok(Self { addresses, events, control, writer, _threads: threads, _data_dir: data_dir })
    }

    /// Ends the router on SIGTERM and SIGINT; a second one does not wait for requests.
    pub(super) fn end_on_signals(&self) {
        let events = self.events.clone();
        let signals = [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT];
        match signal_hook::iterator::Signals::new(signals) {
            Ok(mut signals) => {
                let _ = std::thread::Builder::new().name("signals".into()).spawn(move || {
                    for _ in signals.forever() {
                        let _ = events.send(Event::End);
                    }
                });
            }
            Err(error) => tracing::error!(%error, "signals cannot be caught"),
        }
    }

    /// Begins to end.
    pub fn end(&self) {
        let _ = self.events.send(Event::End);
    }

    /// Waits for the end: the exit code.
    pub fn wait(self) -> u8 {
        let ended = self.control.join().unwrap_or(Ended::CutShort);
        if let Some(writer) = &self.writer {
            writer.flush();
        }
        match ended {
            Ended::Drained => 0,
            Ended::CutShort => CUT_SHORT,
        }
    }
}

fn notices(events: &SyncSender<Event>) -> Notices {
    let events = events.clone();
    Box::new(move |notice: Notice| match events.try_send(Event::Shard(notice)) {
        Err(TrySendError::Full(Event::Shard(notice))) => Err(notice),
        // Without a control thread the process is ending, and nobody reads this.
        _ => Ok(()),
    })
}

/// Opens the store and reads what an earlier run left there.
fn open_store(
    config: &Config,
    data_dir: &DataDir,
    catalogue: &Arc<ArcSwap<Catalogue>>,
    router_id: &Arc<str>,
) -> Result<(Shelf, Collector<LastUse>, Collector<Failures>), String> {
    let path = data_dir.path().join("store.redb");
    let explain = |error: &dyn std::fmt::Display| {
        format!("cannot use the store {}: {error}; move it away to begin anew", path.display())
    };
    let store = Embedded::open(&path).map_err(|error| explain(&error))?;
    let kept =
        Kept::read(&store, &host::user(), &config.defaults).map_err(|error| explain(&error))?;
    let keeper = Keeper::start(store).map_err(|error| explain(&error))?;
    let shelf = Shelf::new(catalogue.clone(), router_id.clone(), keeper, kept.descriptions);
    Ok((shelf, kept.idle, kept.broken))
}

fn terms(config: &Config, router_id: Arc<str>) -> Terms {
    Terms {
        router_id,
        gc_interval: config.gc_interval,
        broken_timeout: config.broken_timeout,
        // Of what runs on this host alone, one host is enough to conclude from.
        deployment: DeploymentRules { min_failed: 2, min_hosts: config.marathon.min_hosts },
        drain: config.drain,
    }
}

fn start_control(
    mut plane: Plane,
    config: &Config,
    happens: Receiver<Event>,
) -> Result<JoinHandle<Ended>, String> {
    for description in &config.fronted {
        plane.front(&Arc::new(description.clone()));
    }
    let (ready, is_ready) = channel();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            plane.begin();
            let _ = ready.send(());
            plane.run(&happens)
        })
        .map_err(|error| format!("cannot start the control thread: {error}"))?;
    let _ = is_ready.recv();
    Ok(thread)
}

/// Starts the API's threads; returns where each shard gets its answers.
fn start_api(
    bells: Vec<Arc<Bell>>,
    called: Receiver<Call>,
    (catalogue, about, look): (&Arc<ArcSwap<Catalogue>>, About, api::Look),
    events: &SyncSender<Event>,
) -> Result<Vec<Receiver<Answer>>, String> {
    let (senders, answers): (Vec<Sender<Answer>>, Vec<_>) = bells.iter().map(|_| channel()).unzip();
    let events = events.clone();
    api::start(api::Joins {
        calls: called,
        answers: senders.into_iter().zip(bells).collect(),
        catalogue: catalogue.clone(),
        ask: Arc::new(move |demand, reply| {
            let _ = events.send(Event::Demand(demand, reply));
        }),
        look,
        about,
    })
    .map_err(|error| format!("cannot start the API's threads: {error}"))?;
    Ok(answers)
}

fn start_access_log(config: &Config) -> Result<Option<access_log::Writer>, String> {
    let destination = match &config.access_log {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => Destination::Stdout,
        AccessLog::File(path) => Destination::File(path.clone()),
    };
    access_log::start(destination)
        .map(Some)
        .map_err(|error| format!("cannot write the access log: {error}; look at --access-log"))
}

fn about(config: &Config, settings: &Settings, listeners: &[Bound], path: &str) -> About {
    let mut json = config.to_json();
    json["io-path"] = path.into();
    About {
        settings: json,
        started: clock::date(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: listeners[0].address,
        hosts: hosts(config, listeners),
        user: settings.user.clone(),
        defaults: config.defaults.clone(),
        launch_from: config.launch_from.clone(),
        launches: settings.launches,
        limits: config.limits.clone(),
    }
}

/// What runs on one host counts there alone, and its owner should know.
fn say_scope(config: &Config) {
    if config.defaults.runners.list().contains(&Runner::Local) {
        tracing::info!(
            "services of the local scheduler are of this host alone (scope: host): each router \
             launches and scales its own; servers of --static and Marathon's are shared"
        );
    }
}

fn settings(config: &Config, listeners: &[Bound], peers: Option<Arc<Description>>) -> Settings {
    Settings {
        limits: config.limits.clone(),
        hosts: hosts(config, listeners),
        user: host::user(),
        defaults: config.defaults.clone(),
        launch_from: config.launch_from.clone(),
        trust_forwarded: config.trust_forwarded.clone(),
        launches: !config.defaults.runners.list().is_empty(),
        peers,
        queues: Queues::new(&config.limits),
        clients: Clients::new(
            config.cores.len(),
            if config.accept_balanced { Accept::Balanced } else { Accept::Plain },
        ),
        half_close: if config.half_close_allowed { HalfClose::Allow } else { HalfClose::Gone },
    }
}

/// Names and addresses of this router itself.
fn hosts(config: &Config, listeners: &[Bound]) -> Hosts {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names = config.hostnames.iter().map(String::as_str).chain([machine.trim()]);
    let addresses = listeners.iter().map(|it| it.address.ip());
    Hosts::new(names, addresses)
}

fn start_shards(
    shards: Vec<(usize, Joins)>,
    listeners: Vec<Bound>,
    io: shard::Io,
) -> Result<(), String> {
    let (ready, is_ready) = channel();
    let count = shards.len();
    let mut sockets: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for bound in listeners {
        for (mine, socket) in sockets.iter_mut().zip(bound.sockets) {
            mine.push(socket);
        }
    }
    let seed = clock::date().0;
    for ((core, joins), listeners) in shards.into_iter().zip(sockets) {
        let unique = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (core as u64) << 48;
        let start = Start { core, joins, listeners, unique, io, ready: ready.clone() };
        shard::start(start).map_err(rings)?;
    }
    drop(ready);
    for _ in 0..count {
        match is_ready.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(rings(error)),
            Err(_) => return Err("a shard did not start; see the messages above".to_owned()),
        }
    }
    Ok(())
}

fn rings(error: io::Error) -> String {
    format!("cannot start an io_uring executor: {error}; raise the memlock limit (ulimit -l)")
}

fn diagnose(config: &Config) {
    use tracing_subscriber::{EnvFilter, fmt};
    // The client crate for ZooKeeper tells thousands of lines a second while no server is there;
    // what matters of it is told by src/control/cluster/zookeeper.
    const LOUD: &str = "zookeeper=off,mio=off,mio_extras=off";
    let base = fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(format!("{},{LOUD}", config.log_level)));
    match config.log {
        Log::Text => base.with_target(false).init(),
        Log::Json => base.json().init(),
        Log::Off => {}
    }
}

fn announce(addresses: &[SocketAddr]) {
    let mut out = io::stdout().lock();
    for address in addresses {
        let _ = writeln!(out, "listening on {address}");
    }
    let _ = out.flush();
}

/// Says on stderr what is wrong.
pub(super) fn complain(mistakes: &[String]) {
    let mut err = io::stderr().lock();
    for mistake in mistakes {
        let _ = writeln!(err, "waiter: {mistake}");
    }
}

//! The local scheduler: instances are processes of this host, children of this process.
//!
//! One plain thread owns them all. It takes orders, looks after its children ten times a second
//! while there are any, has the [`Ledger`] decide, and carries out what it decides. Nothing it does
//! waits, except for the disk. It must be started from a thread that is not pinned to a core: the
//! instances inherit that.

use super::census::Census;
use super::environment::{Place, environment};
use super::ledger::{Effect, Ledger, Loss};
use super::output::Output;
use super::ports::Ports;
use super::process::{Launch, Process, Signal, collect_orphan, page_bytes, signal_process};
use super::records::Records;
use crate::base::address::{IpAddr, Ipv4Addr, SocketAddr};
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::control::chance::random_hex;
use crate::control::data_dir::DataDir;
use crate::core::fact::{InstanceFact, Order, Report, Runner, Undone};
use crate::core::service::Description;
use crate::mesh::clock;
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::DirBuilder;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};

/// Time between two looks at the children.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two looks at their memory.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two listings when nothing changes.
const LISTING_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two complaints that instances of one service cannot be launched.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Directories of ended instances that are kept, per service.
const DIRECTORIES_KEPT: usize = 20;

/// What the local scheduler is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Absolute path of the data directory.
    pub data_dir: PathBuf,
    /// From which the passwords of services follow.
    pub secret: String,
    /// Ports for instances. Others may use some of them too.
    pub ports: RangeInclusive<u16>,
    /// Name of the cluster.
    pub cluster: String,
    /// User of the instances whose description names none.
    pub user: String,
    /// Most bytes of `stdout` and `stderr` of an instance, each.
    pub output_bytes_max: u64,
}

impl Settings {
    /// The defaults: ports 10000 to 10999, 8 MiB of output.
    pub fn new(data_dir: &DataDir, cluster: &str, user: &str) -> Self {
        Self {
            data_dir: data_dir.path().to_owned(),
            secret: data_dir.secret().to_owned(),
            ports: 10_000..=10_999,
            cluster: cluster.to_owned(),
            user: user.to_owned(),
            output_bytes_max: 8 << 20,
        }
    }
}

/// The scheduler as its thread has it.
#[derive(Debug)]
pub struct LocalScheduler<R> {
    settings: Settings,
    orders: Receiver<Order>,
    reports: R,
    ledger: Ledger,
    ports: Ports,
    records: Records,
    running: BTreeMap<InstanceId, Running>,
    /// Directories of ended instances, oldest first.
    kept: BTreeMap<ServiceId, VecDeque<PathBuf>>,
    /// Services whose launches failed, and when that was last said.
    complaints: BTreeMap<ServiceId, Instant>,
    /// Takes directories to be removed.
    sweeper: mpsc::Sender<PathBuf>,
    memory_at: Instant,
    listing_at: Instant,
    /// Effects under way; empty between two turns.
    effects: Vec<Effect>,
}

/// An instance that is not gone yet.
#[derive(Debug)]
struct Running {
    process: Process,
    output: Output,
    ports: Vec<u16>,
    /// Once its group is gone: processes that had left it and were still there at the last look.
    strays: Vec<u32>,
}

impl<R: Fn(Report) + Send + 'static> LocalScheduler<R> {
    /// Ends what an earlier run left behind, then starts the thread. It returns after
    /// [`Order::End`] or [`Order::EndNow`], or when nobody can give orders any more, once all
    /// instances are gone.
    pub fn start(
        settings: Settings,
        orders: Receiver<Order>,
        reports: R,
    ) -> io::Result<JoinHandle<()>> {
        let records = Records::open(&settings.data_dir)?;
        let offset = u16::from_str_radix(&random_hex(2)?, 16).expect("four digits");
        let (sweeper, directories) = mpsc::channel();
        let scheduler = Self {
            ports: Ports::new(settings.ports.clone(), offset),
            settings,
            orders,
            reports,
            ledger: Ledger::default(),
            records,
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            complaints: BTreeMap::new(),
            sweeper,
            memory_at: Instant(0),
            listing_at: Instant(0),
            effects: Vec::new(),
        };
        thread::Builder::new().name("sweeper".to_owned()).spawn(move || sweep(&directories))?;
        thread::Builder::new().name("scheduler".to_owned()).spawn(move || scheduler.run())
    }

    fn run(mut self) {
        while !(self.ledger.is_closed() && self.running.is_empty()) {
            self.take_orders();
            let now = clock::now();
            self.look_after_children(now);
            self.look_at_memory(now);
            self.ledger.tick(now, &mut self.effects);
            self.carry_out();
            if self.listing_at <= now {
                self.listing_at = now + LISTING_INTERVAL;
                (self.reports)(Report::Listing(Runner::Local, self.ledger.listing()));
            }
        }
        self.end_leftovers();
        tracing::info!("all instances have ended");
        (self.reports)(Report::Listing(Runner::Local, self.ledger.listing()));
    }

    /// Waits for an order, or until there is something else to do; takes all that have come.
    fn take_orders(&mut self) {
        let mut order = match self.orders.recv_timeout(self.patience(clock::now())) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Answers at once from now on; the pace is kept by hand.
                thread::sleep(LOOK_INTERVAL);
                self.order(&Order::End).expect("the end is always taken");
                None
            }
        };
        while let Some(taken) = order {
            let done = self.order(&taken);
            self.listing_at = clock::now();
            if let Order::Delete(id) = &taken {
                self.forget_directories(id);
            }
            (self.reports)(Report::Done(taken, done.map_err(Undone::NotNow)));
            order = self.orders.try_recv().ok();
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), String> {
        let was_closing = self.ledger.is_closing();
        let done = self.ledger.order(order, clock::now(), &mut self.effects);
        self.carry_out();
        if !was_closing && self.ledger.is_closing() && !self.running.is_empty() {
            tracing::info!("waiting for {} instances to end", self.running.len());
        }
        done
    }

    /// How long nothing is to be done, unless an order comes.
    fn patience(&self, now: Instant) -> Duration {
        let mut until = self.listing_at;
        if !self.running.is_empty() {
            until = until.min(now + LOOK_INTERVAL);
        }
        until = self.ledger.wakeup().map_or(until, |it| it.min(until));
        until - now
    }

    /// Sees who has ended and who is gone, and cuts what has been written.
    fn look_after_children(&mut self, now: Instant) {
        let mut draining = Vec::new();
        for (id, running) in &mut self.running {
            if let Err(error) = running.output.tick(now) {
                tracing::warn!(instance = %id, %error, "output cannot be kept small");
            }
            if !running.process.has_ended()
                && let Some(exit_code) = running.process.try_wait()
            {
                let loss = self.ledger.ended(id, exit_code, now, &mut self.effects);
                if let Some(Loss { lived, message }) = loss {
                    tracing::warn!(instance = %id, exit_code, ?lived, message, "an instance ended");
                }
                self.listing_at = now;
            }
            if running.process.has_ended() && self.ledger.is_ending(id) {
                draining.push(id.clone());
            }
        }
        // Before it is seen who is gone, so that what outlives its leader gets its signal first.
        self.carry_out();
        if !draining.is_empty() {
            self.drain(&draining, now);
        }
    }

    /// Sees what is left of ending instances whose first process has ended. One look at all
    /// processes serves all of them.
    fn drain(&mut self, ids: &[InstanceId], now: Instant) {
        // Asked before that look, so that it sees whatever has left a group that is gone.
        let existing: BTreeSet<u32> = ids
            .iter()
            .map(|id| &self.running[id].process)
            .filter(|it| it.group_exists())
            .map(Process::pid)
            .collect();
        let Ok(census) = Census::take() else {
            return; // Next time; the look at the memory complains.
        };
        let lives = |id: &InstanceId| {
            let group = self.running[id].process.pid();
            existing.contains(&group) && census.group_lives(group)
        };
        let groupless: Vec<&InstanceId> = ids.iter().filter(|id| !lives(id)).collect();
        if groupless.is_empty() {
            return;
        }
        let sandboxed = self.records.sandboxed(&census);
        for id in groupless {
            let directory = self.records.directory(id);
            let strays = sandboxed.iter().filter(|(_, it)| it.starts_with(&directory));
            let strays: Vec<u32> = strays.map(|(pid, _)| *pid).collect();
            if strays.is_empty() {
                self.gone(id, now);
            } else {
                self.outlived(id, strays, now);
            }
        }
        self.carry_out();
    }

    /// The group of an instance is gone, but these processes, which had left it, are not.
    fn outlived(&mut self, id: &InstanceId, strays: Vec<u32>, now: Instant) {
        let running = self.running.get_mut(id).expect("who is outlived is not gone");
        if running.strays.is_empty() {
            tracing::info!(instance = %id, ?strays, "what had left its group is ended too");
        }
        running.collect_strays();
        running.strays = strays;
        self.ledger.outlived(id, now, &mut self.effects);
    }

    fn look_at_memory(&mut self, now: Instant) {
        if now < self.memory_at || self.running.is_empty() {
            return;
        }
        self.memory_at = now + MEMORY_INTERVAL;
        let census = match Census::take() {
            Ok(census) => census,
            Err(error) => {
                tracing::warn!(%error, "memory cannot be watched");
                return;
            }
        };
        for (id, running) in self.running.iter().filter(|(_, it)| !it.process.has_ended()) {
            let bytes = census.resident_pages(running.process.pid()) * page_bytes();
            let used_mib = bytes as f64 / f64::from(1 << 20);
            let loss = self.ledger.uses_memory(id, used_mib, now, &mut self.effects);
            if let Some(Loss { lived, message }) = loss {
                tracing::warn!(instance = %id, ?lived, message, "an instance is killed");
                self.listing_at = now;
            }
        }
    }

    /// Does what the ledger decided.
    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Launch(description) => self.launch(&description),
                Effect::Terminate(id) => self.signal(&id, Signal::Terminate),
                Effect::Kill(id) => self.signal(&id, Signal::Kill),
            }
        }
    }

    fn signal(&self, id: &InstanceId, signal: Signal) {
        let running = self.running.get(id).expect("who is signalled is not gone");
        if running.strays.is_empty() {
            running.process.signal_group(signal);
        }
        for pid in &running.strays {
            signal_process(*pid, signal);
        }
    }

    fn launch(&mut self, description: &Description) {
        let now = clock::now();
        if !self.ledger.may_launch(&description.id, now) {
            return; // One of the same turn could not be launched; this one would not fare better.
        }
        self.listing_at = now;
        let mut fact = new_fact(description, &self.records);
        match self.spawn(description, &fact.id, now) {
            Ok(running) => {
                fact.pid = Some(running.process.pid());
                fact.ports.clone_from(&running.ports);
                let (pid, port) = (running.process.pid(), running.ports.first());
                tracing::debug!(instance = %fact.id, pid, port, "an instance was launched");
                self.running.insert(fact.id.clone(), running);
                self.ledger.launched(fact, now);
            }
            Err(error) => {
                fact.message = format!("cannot be launched: {error}");
                self.complain(&description.id, &fact.message, now);
                if self.records.directory(&fact.id).is_dir() {
                    self.keep_directory(&fact.id);
                }
                self.ledger.launch_failed(fact, now);
            }
        }
    }

    /// Says why instances of a service cannot be launched, unless it was said lately.
    fn complain(&mut self, service: &ServiceId, message: &str, now: Instant) {
        self.complaints.retain(|_, at| now - *at < COMPLAINT_INTERVAL);
        self.complaints.entry(service.clone()).or_insert_with(|| {
            tracing::warn!(%service, message, "an instance failed");
            now
        });
    }

    /// Starts the processes of an instance; on error nothing is left but its directory.
    fn spawn(
        &mut self,
        description: &Description,
        id: &InstanceId,
        now: Instant,
    ) -> io::Result<Running> {
        let directory = self.records.directory(id);
        create_directory(id, &directory)?;
        let (output, [stdout, stderr]) =
            Output::create(&directory, self.settings.output_bytes_max)?;
        let count = usize::from(description.parameters.ports);
        let ports = self.ports.take(count, is_unbound, now);
        let ports = ports.ok_or_else(|| io::Error::other("not enough free ports"))?;
        let environment = environment(
            description,
            &Place {
                cluster: &self.settings.cluster,
                user: &self.settings.user,
                secret: &self.settings.secret,
                directory: &directory.to_string_lossy(),
                ports: &ports,
            },
            |name| std::env::var(name).ok(),
        );
        let launch = Launch {
            cmd: &description.parameters.cmd,
            directory: &directory,
            environment: &environment,
            stdout,
            stderr,
        };
        let started = Process::spawn(launch).and_then(|process| {
            // What is not recorded would outlive a crash, so it does not run.
            match self.records.add(id, process.pid()) {
                Ok(()) => Ok(process),
                Err(error) => {
                    process.kill_and_wait();
                    Err(error)
                }
            }
        });
        match started {
            Ok(process) => Ok(Running { process, output, ports, strays: Vec::new() }),
            Err(error) => {
                self.ports.release(&ports, now);
                Err(error)
            }
        }
    }

    /// Nothing of an instance is left.
    fn gone(&mut self, id: &InstanceId, now: Instant) {
        let mut running = self.running.remove(id).expect("who is gone was there");
        running.collect_strays();
        self.ports.release(&running.ports, now);
        self.ledger.gone(id);
        if let Err(error) = self.records.remove(id) {
            tracing::warn!(instance = %id, %error, "the record of a launch cannot be removed");
        }
        self.keep_directory(id);
    }

    /// Keeps the directory of an ended instance for a while, if its service still exists.
    fn keep_directory(&mut self, id: &InstanceId) {
        let service = ServiceId::new(id.service());
        let directory = self.records.directory(id);
        if !self.ledger.has(&service) {
            self.remove_directory(directory);
            return;
        }
        let kept = self.kept.entry(service).or_default();
        kept.push_back(directory);
        if kept.len() > DIRECTORIES_KEPT
            && let Some(oldest) = kept.pop_front()
        {
            self.remove_directory(oldest);
        }
    }

    fn forget_directories(&mut self, id: &ServiceId) {
        for directory in self.kept.remove(id).into_iter().flatten() {
            self.remove_directory(directory);
        }
    }

    fn remove_directory(&self, directory: PathBuf) {
        // The sweeper ends after this thread; if it could not, the next start removes the rest.
        let _ = self.sweeper.send(directory);
    }

    /// Ends what the end of its own instance has missed: what was forked at that very moment.
    fn end_leftovers(&self) {
        let is_hurried = || matches!(self.orders.try_recv(), Ok(Order::EndNow));
        match self.records.end_leftovers(self.ledger.closing_grace(), is_hurried) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "processes left of instances were ended"),
            Err(error) => tracing::warn!(%error, "what is left of instances cannot be seen"),
        }
    }
}

impl Running {
    fn collect_strays(&mut self) {
        self.strays.drain(..).for_each(collect_orphan);
    }
}

/// Creates the directory of an instance, below that of its service.
fn create_directory(id: &InstanceId, directory: &Path) -> io::Result<()> {
    if id.as_str().contains('/') {
        return Err(io::Error::other("the id of the service holds a slash"));
    }
    let create = || DirBuilder::new().recursive(true).mode(0o700).create(directory);
    // The sweeper may remove that of the service, as empty, in between.
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(),
        done => done,
    }
}

/// Removes directories of instances, which may take long, and that of their service when it has
/// become empty, until the scheduler has ended.
fn sweep(directories: &Receiver<PathBuf>) {
    for directory in directories {
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %directory.display(), %error, "cannot be removed");
            }
            _ => {}
        }
        if let Some(service) = directory.parent() {
            // The error most often seen says that it is not empty.
            let _ = std::fs::remove_dir(service);
        }
    }
}

/// A new instance, before it has ports and a process.
fn new_fact(description: &Description, records: &Records) -> InstanceFact {
    let started_at = clock::date();
    // The date, in the digits below it what the clock counts, and chance: no id comes twice, also
    // not after a restart, and ids sort by age.
    let nanos = u128::from(started_at.0) * 1_000_000 + u128::from(clock::now().0 % 1_000_000);
    let chance = random_hex(4).unwrap_or_else(|_| format!("{:08x}", std::process::id()));
    let id = InstanceId::new(&description.id, &format!("{nanos:x}-{chance}"));
    InstanceFact {
        log_directory: records.directory(&id).to_string_lossy().into_owned(),
        ..InstanceFact::new(id, IpAddr::V4(Ipv4Addr::LOCALHOST), Vec::new(), started_at)
    }
}

/// Whether nobody is bound to this port, neither on the loopback address nor on all.
///
/// Without SO_REUSEADDR, so that a port is also refused while old connections to it linger: not
/// every server sets that option.
fn is_unbound(port: u16) -> bool {
    [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED].into_iter().all(|host| {
        let address = SocketAddr::from((host, port)).into();
        Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|it| it.bind(&address)).is_ok()
    })
}

#[cfg(test)]
pub(super) mod tests;

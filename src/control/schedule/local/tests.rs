//! Plays with real processes.

use super::*;
use crate::base::time::Date;
use crate::control::schedule::census;
use crate::core::fact::{Flags, ServiceFact};
use crate::core::service::{Origin, Parameters};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A service that runs this command, with small numbers everywhere.
pub(in crate::control::schedule) fn description(id: &str, cmd: &str) -> Description {
    let parameters = Parameters {
        cmd: cmd.to_owned(),
        cpus: 0.5,
        mem: 64.0,
        version: "1".to_owned(),
        health_check_interval: Duration::from_secs(1),
        max_instances: 10,
        scale_down_factor: 0.1,
        instance_expiry: None,
        idle_timeout: None,
        max_queue_length: 10,
        ..Parameters::default()
    };
    let id = ServiceId::new(id);
    Description { id, core: BTreeMap::new(), parameters, origin: Origin::Launched }
}

/// A scheduler with a data directory of its own. Dropped, it ends all its processes.
struct Play {
    orders: Option<Sender<Order>>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
    directory: TempDir,
}

impl Play {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(directory: TempDir) -> Self {
        let settings = Settings {
            data_dir: fs::canonicalize(directory.path()).unwrap(),
            secret: "s".to_owned(),
            ports: 20_000..=24_999,
            cluster: "c".to_owned(),
            user: "nobody".to_owned(),
            output_bytes_max: 64 * 1024,
        };
        let (orders, taken) = mpsc::channel();
        let (said, reports) = mpsc::channel();
        let thread = LocalScheduler::start(settings, taken, move |report| {
            let _ = said.send(report);
        });
        Self { orders: Some(orders), reports, thread: Some(thread.unwrap()), directory }
    }

    fn order(&self, order: Order) {
        self.orders.as_ref().unwrap().send(order).unwrap();
    }

    /// Runs this command in so many instances of service `s`.
    fn create(&self, cmd: &str, instances: u32) {
        self.order(Order::Create(Arc::new(description("s", cmd)), instances));
    }

    /// The first listing from now on in which service `s` is as wanted.
    fn until(&self, what: &str, holds: impl Fn(&ServiceFact) -> bool) -> ServiceFact {
        let service = ServiceId::new("s");
        let found = |services: Vec<ServiceFact>| services.into_iter().find(|it| it.id == service);
        self.listing(what, |it| found(it).filter(&holds))
    }

    fn listing<T>(&self, what: &str, mut find: impl FnMut(Vec<ServiceFact>) -> Option<T>) -> T {
        let begun = clock::now();
        let mut last = String::new();
        loop {
            let left = PATIENCE.saturating_sub(clock::now() - begun);
            match self.reports.recv_timeout(left) {
                Ok(Report::Listing(_, services)) => {
                    last = format!("{services:#?}");
                    if let Some(found) = find(services) {
                        return found;
                    }
                }
                Ok(Report::Done(order, done)) => assert_eq!(done, Ok(()), "{order:?}"),
                Ok(Report::Changes(..) | Report::View(..)) => {}
                Err(_) => panic!("not seen in time: {what}; last seen: {last}"),
            }
        }
    }

    fn until_active(&self, instances: usize) -> Vec<InstanceFact> {
        self.until("active instances", |it| it.active.len() == instances).active
    }

    fn until_failed(&self, instances: usize) -> Vec<InstanceFact> {
        self.until("failed instances", |it| it.failed.len() >= instances).failed
    }

    fn until_deleted(&self) {
        self.order(Order::Delete(ServiceId::new("s")));
        self.listing("nothing left", |it| it.is_empty().then_some(()));
    }

    /// Launches that are not gone.
    fn records(&self) -> usize {
        fs::read_dir(self.directory.path().join("launches")).unwrap().count()
    }

    /// Ends the scheduler and waits for it.
    fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the scheduler panicked");
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks until it holds. For what no report tells: what processes do inside.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = clock::now();
    while !holds() {
        assert!(clock::now() - begun < PATIENCE, "not in time: {what}");
        thread::yield_now();
    }
}

/// What the instance has written to this file, once it has written a whole line.
fn line_of(fact: &InstanceFact, file: &str) -> String {
    let path = format!("{}/{file}", fact.log_directory);
    let read = || fs::read_to_string(&path).unwrap_or_default();
    eventually(&path, || read().ends_with('\n'));
    read()
}

/// A process that has left the group of its instance. Dropped, it is killed, whoever failed to.
struct Stray(u32);

impl Stray {
    /// The one whose process id the instance has written.
    fn of(fact: &InstanceFact) -> Self {
        let stray = Self(line_of(fact, "pid").trim().parse().unwrap());
        let has_left = || census::look(stray.0).is_some_and(|it| it.session == stray.0);
        eventually("the group was left", has_left);
        stray
    }

    fn is_running(&self) -> bool {
        is_running(self.0)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        if self.is_running() {
            signal_process(self.0, Signal::Kill);
        }
    }
}

fn is_running(pid: u32) -> bool {
    census::look(pid).is_some_and(|it| !it.is_zombie)
}

#[test]
fn an_instance_is_launched_and_killed_with_all_it_started() {
    let mut play = Play::new();
    play.create("sleep 100 & echo $! $PORT0; wait", 2);
    let active = play.until_active(2);
    let grandchildren: Vec<u32> = active
        .iter()
        .map(|fact| {
            let line = line_of(fact, "stdout");
            let (pid, port) = line.trim().split_once(' ').unwrap();
            assert_eq!(port, fact.ports[0].to_string());
            pid.parse().unwrap()
        })
        .collect();
    assert_ne!(active[0].ports, active[1].ports);
    assert!(active[0].started_at > Date(0) && active[0].host.is_loopback());
    play.order(Order::Kill(active[0].id.clone()));
    let left = play.until("one less wanted", |it| it.requested == 1);
    assert_eq!((left.active.as_slice(), left.failed.len()), (&active[1..], 0));
    eventually("grandchild gone", || !is_running(grandchildren[0]));
    assert!(is_running(grandchildren[1]));
    let records = play.directory.path().join("launches");
    eventually("its record gone", || fs::read_dir(&records).unwrap().count() == 1);
    play.end();
    assert!(!is_running(grandchildren[1]));
    assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let play = Play::new();
    play.create("trap '' TERM; echo ready; while :; do sleep 1; done", 1);
    let fact = play.until_active(1).remove(0);
    line_of(&fact, "stdout");
    let begun = clock::now();
    play.order(Order::Kill(fact.id.clone()));
    play.until_active(0);
    eventually("killed", || !is_running(fact.pid.unwrap()));
    assert!(clock::now() - begun >= Duration::from_secs(2));
}

#[test]
fn exit_codes_are_told_and_restarts_become_slower() {
    let play = Play::new();
    play.create("exit 7", 1);
    let failed = play.until_failed(4);
    for fact in &failed {
        assert_eq!((fact.exit_code, fact.message.as_str()), (Some(7), "exited with code 7"));
    }
    let started: Vec<Date> = failed.iter().map(|it| it.started_at).collect();
    for (pair, least_ms) in started.windows(2).zip([200, 400, 800]) {
        // 5 ms: the date is another clock than the one the pause is measured by.
        assert!(pair[1].since(pair[0]) >= Duration::from_millis(least_ms - 5), "{started:?}");
    }
}

#[test]
fn a_signal_is_told_and_so_is_code_zero() {
    let play = Play::new();
    play.create("test -e ../../../once && kill -9 $$; touch ../../../once; exit 0", 1);
    let failed = play.until_failed(2);
    let told = |it: &InstanceFact| (it.exit_code, it.message.clone());
    let foreground = "ended with code 0; the command must stay in the foreground";
    assert_eq!(told(&failed[0]), (Some(0), foreground.to_owned()));
    assert_eq!(told(&failed[1]), (Some(-9), "ended by signal 9".to_owned()));
}

#[test]
fn what_outlives_its_leader_is_ended() {
    let play = Play::new();
    play.create("sleep 100 & echo $!; exit 1", 1);
    let failed = play.until_failed(1).remove(0);
    let grandchild: u32 = line_of(&failed, "stdout").trim().parse().unwrap();
    eventually("grandchild gone", || !is_running(grandchild));
}

/// Runs a process that leaves the group, and stays itself.
const LEAVER: &str = "setsid sleep 100 & echo $! > pid; exec sleep 100";
/// The same; who left ignores SIGTERM.
const STUBBORN: &str = "setsid bash -c \
    'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' & exec sleep 100";

#[test]
fn what_left_the_group_is_ended_with_its_instance() {
    let mut play = Play::new();
    play.create(LEAVER, 3);
    let active = play.until_active(3);
    let strays: Vec<Stray> = active.iter().map(Stray::of).collect();
    play.order(Order::Kill(active[0].id.clone()));
    eventually("killed with it", || !strays[0].is_running());
    eventually("its record gone", || play.records() == 2);
    assert!(strays[1].is_running() && strays[2].is_running());
    play.end();
    assert!(!strays[1].is_running() && !strays[2].is_running());
    assert_eq!(play.records(), 0);
}

#[test]
fn what_left_the_group_and_ignores_sigterm_is_killed_before_its_instance_is_gone() {
    let play = Play::new();
    play.create(STUBBORN, 1);
    let fact = play.until_active(1).remove(0);
    let stray = Stray::of(&fact);
    let begun = clock::now();
    play.until_deleted();
    eventually("the group is gone", || !is_running(fact.pid.unwrap()));
    eventually("gone", || {
        // Read first: the record goes after the process.
        let records = play.records();
        assert!(records == 1 || !stray.is_running(), "its ports are free while it runs");
        records == 0
    });
    assert!(clock::now() - begun >= Duration::from_secs(2));
}

#[test]
fn what_no_instance_knows_of_is_ended_at_the_end() {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut play = Play::new();
    let root = fs::canonicalize(play.directory.path()).unwrap();
    let sleep = |place: &str| {
        let sandbox = root.join(place);
        let mut command = Command::new("sleep");
        Killed(command.arg("100").env("WAITER_SANDBOX", sandbox).spawn().unwrap())
    };
    let (lost, stranger) = (sleep("instances/s/1"), sleep("elsewhere/s/1"));
    play.end();
    assert!(!is_running(lost.0.id()) && is_running(stranger.0.id()));
}

#[test]
fn an_end_under_way_can_be_cut_short() {
    let mut play = Play::new();
    let mut description = description("s", &format!("trap '' TERM; {STUBBORN}"));
    description.parameters.termination_grace_period = Duration::from_secs(300);
    play.order(Order::Create(Arc::new(description), 1));
    let fact = play.until_active(1).remove(0);
    let stray = Stray::of(&fact);
    play.order(Order::End);
    play.listing("ending", |it| it.is_empty().then_some(()));
    assert!(is_running(fact.pid.unwrap()));
    let begun = clock::now();
    play.order(Order::EndNow);
    play.end();
    assert!(clock::now() - begun < PATIENCE);
    assert!(!is_running(fact.pid.unwrap()) && !stray.is_running());
}

#[test]
fn nothing_of_the_router_is_inherited() {
    // Without CLOEXEC, and another far above.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Socket::from(listener.try_clone().unwrap());
    socket.set_cloexec(false).unwrap();
    let play = Play::new();
    let cmd = "env > env; grep Sig /proc/self/status > signals; ls /proc/self/fd | tr '\\n' ' '; \
               readlink /proc/self/fd/0 >&2; echo; sleep 100";
    let mut description = description("s", cmd);
    description.parameters.ports = 3;
    description.parameters.env.insert("MINE".to_owned(), "a b".to_owned());
    play.order(Order::Create(Arc::new(description), 1));
    let fact = play.until_active(1).remove(0);
    // 3 is the directory that `ls` itself has open.
    assert_eq!(line_of(&fact, "stdout").trim(), "0 1 2 3");
    assert_eq!(line_of(&fact, "stderr"), "/dev/null\n");
    let read = |name: &str| fs::read_to_string(format!("{}/{name}", fact.log_directory)).unwrap();
    let signals = read("signals");
    for set in ["SigBlk:\t", "SigIgn:\t"] {
        let line = signals.lines().find_map(|it| it.strip_prefix(set)).unwrap();
        // Signals 32 and 33 belong to the C library, which lets nobody touch them.
        let set = u64::from_str_radix(line, 16).unwrap() & !(0b11 << 31);
        assert_eq!(set, 0, "{signals}");
    }
    let environment = read("env");
    let mut names: Vec<&str> =
        environment.lines().map(|it| it.split_once('=').unwrap().0).collect();
    // The shell adds some of its own.
    names.retain(|it| !["PWD", "SHLVL", "_", "OLDPWD", "LANG"].contains(it));
    names.sort_unstable();
    let expected = "HOME LOGNAME MESOS_SANDBOX MINE PATH PORT0 PORT1 PORT2 USER WAITER_CLUSTER \
                    WAITER_CONCURRENCY_LEVEL WAITER_CPUS WAITER_MEM_MB WAITER_PASSWORD \
                    WAITER_SANDBOX WAITER_SERVICE_ID WAITER_USERNAME";
    assert_eq!(names.join(" "), expected);
    assert!(environment.contains(&format!("PORT2={}\n", fact.ports[2])));
    assert!(environment.contains("MINE=a b\n"));
}

#[test]
fn too_much_memory_ends_an_instance() {
    let play = Play::new();
    // In a child, so that the sum over the tree is what counts: a line of 100 MB held by `tail`.
    play.create("(head -c 100000000 /dev/zero | cat; sleep 100) | tail -c 90000000 & wait", 1);
    let failed = play.until_failed(1).remove(0);
    assert!(failed.flags.has(Flags::MEMORY_LIMIT_EXCEEDED), "{failed:?}");
    assert!(failed.message.ends_with("MiB of memory, above its 64"), "{failed:?}");
    assert_eq!(failed.exit_code, None);
    eventually("killed", || !is_running(failed.pid.unwrap()));
}

#[test]
fn an_instance_that_will_not_do_is_replaced() {
    let play = Play::new();
    play.create("sleep 100", 1);
    let fact = play.until_active(1).remove(0);
    let flags = Flags::NEVER_PASSED_HEALTH_CHECKS;
    play.order(Order::Fail(fact.id.clone(), flags, "never healthy".to_owned()));
    let failed = play.until_failed(1).remove(0);
    assert_eq!(
        (&failed.id, failed.flags, failed.message.as_str()),
        (&fact.id, flags, "never healthy")
    );
    let next = play.until_active(1).remove(0);
    assert_ne!(next.id, fact.id);
    assert!(!next.ports.contains(&fact.ports[0]), "a port was given again at once");
}

#[test]
fn a_port_on_which_somebody_listens_is_not_given() {
    for host in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let Ok(listener) = TcpListener::bind(host) else {
            assert_eq!(host, "[::]:0", "not every host has IPv6");
            continue;
        };
        assert!(!is_unbound(listener.local_addr().unwrap().port()), "{host}");
    }
}

#[test]
fn a_service_that_cannot_be_launched_says_why() {
    let play = Play::new();
    play.create("a\0b", 5);
    let service = play.until("failed", |it| !it.failed.is_empty());
    assert_eq!(service.failed.len(), 1, "one says it all");
    let failed = &service.failed[0];
    assert!(failed.message.starts_with("cannot be launched: "), "{failed:?}");
}

#[test]
fn an_id_that_is_no_name_of_a_directory_is_a_failed_launch() {
    let play = Play::new();
    for (id, why) in [("a/b".to_owned(), "holds a slash"), ("x".repeat(300), "name too long")] {
        play.order(Order::Create(Arc::new(description(&id, "sleep 100")), 1));
        let failed = play.listing("failed", |services| {
            let service = services.into_iter().find(|it| it.id.as_str() == id);
            service.and_then(|it| it.failed.first().cloned())
        });
        assert!(failed.message.contains(why), "{failed:?}");
        assert_eq!(failed.exit_code, None);
    }
    let instances = play.directory.path().join("instances");
    assert_eq!(fs::read_dir(instances).unwrap().count(), 0);
}

#[test]
fn a_deleted_service_is_forgotten_with_its_directories() {
    let play = Play::new();
    play.create("sleep 100", 2);
    let active = play.until_active(2);
    let instances = play.directory.path().join("instances");
    assert!(instances.join("s").is_dir());
    play.until_deleted();
    for fact in active {
        eventually("killed", || !is_running(fact.pid.unwrap()));
        eventually("removed", || !Path::new(&fact.log_directory).exists());
    }
    eventually("the folder of the service too", || !instances.join("s").exists());
    // And so do those kept of instances that had ended before.
    play.create("exit 3", 1);
    play.until_failed(2);
    eventually("kept", || play.records() == 0 && instances.join("s").is_dir());
    play.until_deleted();
    eventually("all removed", || fs::read_dir(&instances).unwrap().count() == 0);
}

#[test]
fn output_is_kept_small_while_the_instance_writes_on() {
    let play = Play::new();
    play.create("yes; echo ended >&2", 1);
    let fact = play.until_active(1).remove(0);
    let kept = format!("{}/stdout.1", fact.log_directory);
    eventually("cut", || fs::metadata(&kept).is_ok_and(|it| it.len() == 32 * 1024));
    eventually("cut again", || {
        let length = fs::metadata(format!("{}/stdout", fact.log_directory)).unwrap().len();
        (1..64 * 1024 * 1024).contains(&length)
    });
    assert!(is_running(fact.pid.unwrap()));
}

//! Processes and health checks: what happens outside of the world, and comes back to it as an exit
//! or a result. Every process leads a group of its own. A group is signalled only while its leader
//! has not been reaped, so that its number cannot have gone to somebody else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};

pub(crate) use rustix::process::Signal;

use crate::checks;
use crate::clock::{Ms, now};
use crate::plant::Plant;
use crate::world::HealthCheck;

/// What to run.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: PathBuf,
    pub(crate) user: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// A health check to be made.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) task: String,
    /// Which of the app's checks.
    pub(crate) at: usize,
    pub(crate) check: HealthCheck,
    pub(crate) host: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: PathBuf,
    pub(crate) begun_at: Ms,
}

#[derive(Debug, Default)]
pub(crate) struct Outside {
    plant: OnceLock<Weak<Plant>>,
    /// Locked while a process is started, signalled and reaped.
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    /// Those that have not been reaped.
    leaders: BTreeSet<i32>,
    /// Nothing is started any more.
    ended: bool,
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or(0)), Self::Code)
    }

    /// In the words of Mesos' executor.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Code(code) => format!("Command exited with status {code}"),
            Self::Signal(signal) => format!("Command terminated with signal {}", name_of(signal)),
        }
    }
}

impl Outside {
    /// Where exits and results go.
    pub(crate) fn belongs_to(&self, plant: Weak<Plant>) {
        let _ = self.plant.set(plant);
    }

    /// Begins the process of a task, with stdout and stderr in its sandbox.
    pub(crate) fn spawn(&self, task: &str, command: &Command) -> io::Result<i32> {
        let (program, args) = command
            .argv
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "nothing to execute"))?;
        let mut run = std::process::Command::new(program);
        run.args(args)
            .envs(command.env.iter().cloned())
            .current_dir(&command.dir)
            .stdin(Stdio::null())
            .stdout(File::create(command.dir.join("stdout"))?)
            .stderr(File::create(command.dir.join("stderr"))?)
            .process_group(0);
        if let Some(user) = &command.user {
            become_user(&mut run, user, &command.dir)?;
        }
        let mut child = self.start(&mut run)?;
        let pid = pid_of(&child);
        let (plant, task) = (self.plant.get().cloned(), task.to_owned());
        thread::spawn(move || {
            let Some(plant) = plant.and_then(|it| it.upgrade()) else { return };
            let exit = plant.outside.reap(&mut child);
            plant.change(|world, _, now| world.on_exit(&task, exit, now));
        });
        Ok(pid)
    }

    /// Signals the whole group.
    pub(crate) fn signal(&self, pid: i32, signal: Signal) {
        let groups = self.groups();
        if groups.leaders.contains(&pid)
            && let Some(pid) = Pid::from_raw(pid)
        {
            // The leader is there; that a member has just gone is no fault.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Makes a check in a thread of its own.
    pub(crate) fn check(&self, order: Order) {
        let plant = self.plant.get().cloned();
        thread::spawn(move || {
            let Some(plant) = plant.and_then(|it| it.upgrade()) else { return };
            let result = checks::make(&order, &plant.outside);
            plant.change(|world, outside, now| world.on_check(&order, result, outside, now));
        });
    }

    /// Waits for the leader, ends what is left of its group, then lets its number go.
    pub(crate) fn reap(&self, child: &mut Child) -> Exit {
        let raw = pid_of(child);
        if let Some(pid) = Pid::from_raw(raw) {
            while let Err(rustix::io::Errno::INTR) =
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {
            }
            self.signal(raw, Signal::KILL);
        }
        self.groups().leaders.remove(&raw);
        child.wait().map_or(Exit::Signal(0), Exit::of)
    }

    /// Starts a process that is ended with the others. Whoever calls waits for it.
    ///
    /// # Errors
    /// It cannot be started; or everything ends, and it would be left behind.
    pub(crate) fn start(&self, run: &mut std::process::Command) -> io::Result<Child> {
        let mut groups = self.groups();
        if groups.ended {
            return Err(io::Error::other("the stand-in ends"));
        }
        let child = run.spawn()?;
        groups.leaders.insert(pid_of(&child));
        Ok(child)
    }

    pub(crate) fn process_ids(&self) -> Vec<i32> {
        self.groups().leaders.iter().copied().collect()
    }

    /// Ends every group, and what has left its group but still has a sandbox under `work_dir` in
    /// its environment. From then on nothing is started: the world goes on, and would replace them.
    pub(crate) fn end_all(&self, work_dir: &Path) {
        self.groups().ended = true;
        for pid in self.process_ids() {
            self.signal(pid, Signal::KILL);
        }
        // Reapers let numbers go as the processes do; two seconds are plenty for that.
        let until = now() + 2_000;
        while (kill_marked(work_dir) || !self.groups().leaders.is_empty()) && now() < until {
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("Linux has no larger ones")
}

/// Ends every process with a sandbox under `work_dir` in its environment; true, if there was one.
pub(crate) fn kill_marked(work_dir: &Path) -> bool {
    let mark = format!("MESOS_SANDBOX={}/", work_dir.display());
    let mut found = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|it| it.parse().ok()).and_then(Pid::from_raw);
        let env = fs::read(entry.path().join("environ")).unwrap_or_default();
        if let Some(pid) = pid
            && env.split(|it| *it == 0).any(|it| it.starts_with(mark.as_bytes()))
        {
            found = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    found
}

/// Runs as another user, if this is root and the user is another.
fn become_user(run: &mut std::process::Command, user: &str, sandbox: &Path) -> io::Result<()> {
    let missing = || io::Error::other(format!("user '{user}' does not exist"));
    let passwd = fs::read_to_string("/etc/passwd")?;
    let row: Vec<&str> = passwd
        .lines()
        .map(|it| it.split(':').collect::<Vec<_>>())
        .find(|it| it.first() == Some(&user))
        .ok_or_else(missing)?;
    let id = |at: usize| row.get(at).and_then(|it| it.parse::<u32>().ok()).ok_or_else(missing);
    let (uid, gid) = (id(2)?, id(3)?);
    if rustix::process::geteuid().is_root() && uid != 0 {
        for path in [sandbox, &sandbox.join("stdout"), &sandbox.join("stderr")] {
            chown(path, Some(uid), Some(gid))?;
        }
        run.uid(uid).gid(gid);
    }
    Ok(())
}

/// As strsignal(3) puts it.
fn name_of(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        11 => "Segmentation fault",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        other => return format!("Unknown signal {other}"),
    };
    name.to_owned()
}

/// Memory of each process group in MiB, from /proc.
pub(crate) fn memory_by_group() -> std::collections::BTreeMap<i32, f64> {
    let page = rustix::param::page_size() as f64 / (1024.0 * 1024.0);
    let mut groups = std::collections::BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; state, parent and group follow it.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok());
        if let (Some(group), Some(pages)) = (field(2), field(21)) {
            *groups.entry(group as i32).or_insert(0.0) += pages * page;
        }
    }
    groups
}

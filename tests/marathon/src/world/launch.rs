//! From a missing task to a running one: an agent, ports, an environment, a sandbox, a process.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;

use uuid::Uuid;

use super::health::Health;
use super::spec::{PortWish, Spec};
use super::task::{Task, TaskState, name_of};
use super::{Agent, World};
use crate::clock::{Ms, iso};
use crate::options::Generation;
use crate::outside::{Command, Exit, Outside};

impl World {
    pub(crate) fn launch_missing(&mut self, outside: &Outside, now: Ms) {
        for app in self.apps.keys().cloned().collect::<Vec<_>>() {
            let missing = self.missing(&app);
            let Some(it) = self.apps.get_mut(&app) else { continue };
            it.queued_since = (missing > 0).then(|| it.queued_since.unwrap_or(now));
            let configured = it.configured_at;
            if let Some(vacant) = self.vacancies.get_mut(&app) {
                vacant.truncate(missing);
            }
            let held = self.is_held(&app) || self.no_offers;
            if held || self.delays.until(&app, configured, now) > now {
                continue;
            }
            for _ in 0..self.room_to_launch(&app) {
                self.launch(&app, outside, now);
            }
        }
    }

    /// Launches one task, in the place of an instance that ended if there is one.
    fn launch(&mut self, app: &str, outside: &Outside, now: Ms) {
        let Some(it) = self.apps.get(app).cloned() else { return };
        let agent = self.agent_for(app);
        let taken = self.tasks.values().flat_map(|it| it.ports.iter().copied()).collect();
        let ports = host_ports(&it.spec, self.options.ports, taken, self.tasks_made);
        let vacancy = self.vacancies.get_mut(app).and_then(Vec::pop);
        let (instance_id, incarnation) = vacancy.unwrap_or_else(|| (self.new_instance_id(app), 1));
        let id = match self.options.generation {
            Generation::V1_3 => instance_id.clone(),
            Generation::V1_10 => format!("{instance_id}._app.{incarnation}"),
        };
        self.tasks_made += 1;
        let sandbox = self.sandbox(&self.agents[agent], &id);
        let mut task = Task {
            id: id.clone(),
            instance_id,
            incarnation,
            number: self.tasks_made,
            app_id: app.to_owned(),
            agent,
            ports,
            state: TaskState::Staging,
            staged_at: now,
            started_at: None,
            version: it.version,
            configured_at: it.configured_at,
            health: vec![Health::default(); it.spec.health_checks().len()],
            kill: None,
            memory_exceeded: None,
            pid: None,
            env: Vec::new(),
            kill_grace_s: it.spec.kill_grace_s(),
            sandbox,
        };
        task.env = environment(&task, &it.spec, &self.agents[agent]);
        self.tell_status(&task, "TASK_STAGING", "", now);
        let begun = begin(&task, &it.spec, outside);
        match begun {
            Ok(pid) => task.pid = Some(pid),
            Err(ref why) => {
                let _ =
                    fs::write(task.sandbox.join("stderr"), format!("Failed to launch: {why}\n"));
            }
        }
        self.tasks.insert(id.clone(), task);
        if begun.is_err() {
            self.on_exit(&id, Exit::Code(1), now);
        }
    }

    /// Staged tasks run after a while.
    pub(crate) fn staged_tasks_run(&mut self, now: Ms) {
        let half = self.options.staging_ms / 2;
        let due: Vec<(String, TaskState)> = self
            .tasks
            .values()
            .filter_map(|it| match it.state {
                TaskState::Staging if now - it.staged_at >= half => {
                    Some((it.id.clone(), TaskState::Starting))
                }
                TaskState::Starting if now - it.staged_at >= 2 * half => {
                    Some((it.id.clone(), TaskState::Running))
                }
                _ => None,
            })
            .collect();
        for (id, state) in due {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.state = state;
            if state == TaskState::Running {
                task.started_at = Some(now);
            }
            let task = task.clone();
            if state == TaskState::Running || self.options.generation == Generation::V1_10 {
                self.tell_status(&task, state.name(self.options.generation), "", now);
            }
            if state == TaskState::Running {
                self.schedule_checks(&id, now);
            }
        }
    }

    fn new_instance_id(&self, app: &str) -> String {
        let name = name_of(app);
        match self.options.generation {
            Generation::V1_3 => format!("{name}.{}", Uuid::new_v4()),
            Generation::V1_10 => format!("{name}.instance-{}", Uuid::new_v4()),
        }
    }

    /// The agent with the fewest tasks of the app, then with the fewest at all.
    fn agent_for(&self, app: &str) -> usize {
        let load = |agent: usize| {
            let here = || self.tasks.values().filter(|it| it.agent == agent);
            (here().filter(|it| it.app_id == app).count(), here().count(), agent)
        };
        (0..self.agents.len()).min_by_key(|agent| load(*agent)).unwrap_or(0)
    }

    /// Where Mesos would put it: the client builds the same path from the parts.
    fn sandbox(&self, agent: &Agent, task: &str) -> PathBuf {
        let path = format!(
            "{}/frameworks/{}/executors/{task}/runs/latest",
            agent.slave_id, self.framework_id
        );
        agent.work_dir.join(path)
    }
}

fn begin(task: &Task, spec: &Spec, outside: &Outside) -> io::Result<i32> {
    fs::create_dir_all(&task.sandbox)?;
    let args: Vec<String> =
        spec.list("args").iter().filter_map(|it| it.as_str()).map(str::to_owned).collect();
    let argv = match spec.text("cmd") {
        Some(cmd) => vec!["/bin/sh".to_owned(), "-c".to_owned(), cmd.to_owned()],
        None => args,
    };
    let command = Command {
        argv,
        env: task.env.clone(),
        dir: task.sandbox.clone(),
        user: spec.text("user").map(str::to_owned),
    };
    outside.spawn(&task.id, &command)
}

/// Free ports, one per wish; the very port wished for if the app requires it.
fn host_ports(spec: &Spec, range: (u16, u16), mut taken: BTreeSet<u16>, salt: u64) -> Vec<u16> {
    let required = spec.0.get("requirePorts").and_then(|it| it.as_bool()) == Some(true);
    let span = u64::from(range.1 - range.0) + 1;
    // Several stand-ins run at once: each begins at a place of its own.
    let mut at = (u64::from(std::process::id()) * 97 + salt * 7) % span;
    let mut next = || {
        for _ in 0..span {
            at = (at + 1) % span;
            let port = range.0 + u16::try_from(at).unwrap_or(0);
            if !taken.contains(&port) && TcpListener::bind(("0.0.0.0", port)).is_ok() {
                taken.insert(port);
                return port;
            }
        }
        range.0
    };
    spec.ports().iter().map(|it| if required && it.port != 0 { it.port } else { next() }).collect()
}

/// What the task finds in its environment. What the app sets itself comes last and wins.
fn environment(task: &Task, spec: &Spec, agent: &Agent) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| env.push((key.to_owned(), value));
    set("MESOS_TASK_ID", task.id.clone());
    set("MESOS_SANDBOX", task.sandbox.display().to_string());
    set("MARATHON_APP_ID", task.app_id.clone());
    set("MARATHON_APP_VERSION", iso(task.version));
    for (key, name) in [("CPUS", "cpus"), ("MEM", "mem"), ("DISK", "disk")] {
        set(&format!("MARATHON_APP_RESOURCE_{key}"), format!("{:?}", spec.number(name)));
    }
    set("MARATHON_APP_RESOURCE_GPUS", spec.count("gpus").to_string());
    let labels = spec.texts("labels");
    let names: Vec<String> = labels.iter().map(|(key, _)| variable(key)).collect();
    set("MARATHON_APP_LABELS", names.join(" "));
    for (name, (_, value)) in names.iter().zip(&labels) {
        set(&format!("MARATHON_APP_LABEL_{name}"), value.clone());
    }
    set("HOST", agent.host.clone());
    for (at, (port, wish)) in task.ports.iter().zip(spec.ports()).enumerate() {
        set_port(&mut set, at, *port, &wish);
    }
    let list: Vec<String> = task.ports.iter().map(u16::to_string).collect();
    set("PORTS", list.join(","));
    env.extend(spec.texts("env"));
    env
}

fn set_port(set: &mut impl FnMut(&str, String), at: usize, port: u16, wish: &PortWish) {
    if at == 0 {
        set("PORT", port.to_string());
    }
    set(&format!("PORT{at}"), port.to_string());
    let wished = if wish.port == 0 { port } else { wish.port };
    set(&format!("PORT_{wished}"), port.to_string());
    if let Some(name) = &wish.name {
        set(&format!("PORT_{}", variable(name)), port.to_string());
    }
}

fn variable(name: &str) -> String {
    let fit = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
    name.chars().map(fit).collect()
}

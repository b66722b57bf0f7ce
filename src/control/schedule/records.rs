//! What was launched, on disk, so that a router that starts after a crash ends what its predecessor
//! left running.
//!
//! One file per launch, removed when the instance is gone. A number alone does not name a process:
//! numbers are used again. Number, start time and boot of the host do. Besides, every process whose
//! environment names a directory of ours is ours: that finds those launched in the instant of the
//! crash, those that outlived their leader, and, also without a crash, those that left its group;
//! the records find those that have overwritten their environment, as some servers do to show a
//! title.

use super::census::{self, Census, Entry};
use super::process::{Signal, signal_process};
use crate::base::ids::InstanceId;
use crate::base::time::Duration;
use crate::mesh::clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;

/// A killed process is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks whether it is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// One launch.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Record {
    instance: String,
    pid: u32,
    /// Clock ticks from the start of the host.
    start_time: u64,
    boot_id: String,
}

/// The records of one data directory.
#[derive(Debug)]
pub(super) struct Records {
    launches: PathBuf,
    instances: PathBuf,
    boot_id: String,
}

impl Records {
    /// Opens the records, ends all processes that are left from earlier, and removes their
    /// directories. `data_dir` is absolute and without symbolic links.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let records = Self {
            launches: data_dir.join("launches"),
            instances: data_dir.join("instances"),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        };
        let count = records.end_leftovers(Duration::ZERO, || false)?;
        if count > 0 {
            tracing::info!(count, "processes that an earlier run had left were ended");
        }
        for directory in [&records.launches, &records.instances] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        Ok(records)
    }

    /// The directory of an instance; it is not created.
    pub(super) fn directory(&self, id: &InstanceId) -> PathBuf {
        self.instances.join(id.service()).join(id.suffix())
    }

    /// Notes a launch.
    pub(super) fn add(&self, id: &InstanceId, pid: u32) -> io::Result<()> {
        let process = census::look(pid).ok_or(io::ErrorKind::NotFound)?;
        let record = Record {
            instance: id.to_string(),
            pid,
            start_time: process.start_time,
            boot_id: self.boot_id.clone(),
        };
        // Renamed into place whole. Not synced: after a crash of the host nothing runs any more.
        let draft = self.launches.join("draft");
        fs::write(&draft, serde_json::to_vec(&record)?)?;
        fs::rename(&draft, self.launches.join(id.as_str()))
    }

    /// Forgets a launch: nothing of it is left.
    pub(super) fn remove(&self, id: &InstanceId) -> io::Result<()> {
        match fs::remove_file(self.launches.join(id.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Living processes whose environment names a directory of ours or below one, with what it
    /// names.
    pub(super) fn sandboxed(&self, census: &Census) -> Vec<(u32, PathBuf)> {
        let named = |entry: &Entry| {
            let named = PathBuf::from(census::variable(entry.pid, "WAITER_SANDBOX")?);
            named.starts_with(&self.instances).then_some((entry.pid, named))
        };
        others(census).filter_map(named).collect()
    }

    /// Ends whatever runs of any instance: SIGTERM, then SIGKILL after this grace or as soon as
    /// there is a hurry, until nothing is left; gives up on what cannot be killed. Returns how many
    /// processes there were. Waits meanwhile.
    pub(super) fn end_leftovers(
        &self,
        grace: Duration,
        mut is_hurried: impl FnMut() -> bool,
    ) -> io::Result<usize> {
        let leaders = self.leaders();
        // Remembered from one look to the next: a group may outlive its leader.
        let mut groups = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let begun = clock::now();
        let mut kill_at = begun + grace;
        loop {
            let census = Census::take()?;
            groups.extend(groups_led(&census, &leaders));
            let left = self.leftovers(&census, &groups);
            if left.is_empty() {
                return Ok(seen.len());
            }
            let now = clock::now();
            if now - begun > grace + PATIENCE {
                tracing::warn!(?left, "processes of instances cannot be killed");
                return Ok(seen.len());
            }
            if is_hurried() {
                kill_at = kill_at.min(now);
            }
            for pid in left {
                let is_new = seen.insert(pid);
                if now >= kill_at {
                    signal_process(pid, Signal::Kill);
                } else if is_new {
                    signal_process(pid, Signal::Terminate);
                }
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The processes recorded that are still the same.
    fn leaders(&self) -> Vec<Record> {
        let items = fs::read_dir(&self.launches).into_iter().flatten().flatten();
        let records = items.filter_map(|it| read(&it.path()));
        records.filter(|it| it.boot_id == self.boot_id).collect()
    }

    /// All processes of these groups and of any instance, whoever their parent is.
    fn leftovers(&self, census: &Census, groups: &BTreeSet<u32>) -> BTreeSet<u32> {
        let members = others(census).filter(|it| groups.contains(&it.group)).map(|it| it.pid);
        members.chain(self.sandboxed(census).into_iter().map(|(pid, _)| pid)).collect()
    }
}

/// Living processes, without this one and the first of the host or container: neither is ever to
/// be ended.
fn others(census: &Census) -> impl Iterator<Item = &Entry> {
    let spared = [1, std::process::id()];
    census.entries().iter().filter(move |it| !spared.contains(&it.pid) && !it.is_zombie)
}

/// The groups whose leader is one of those recorded, and not just of the same number.
fn groups_led(census: &Census, leaders: &[Record]) -> impl Iterator<Item = u32> {
    let is_leader = |entry: &Entry| {
        let is_same = |it: &Record| it.pid == entry.pid && it.start_time == entry.start_time;
        entry.group == entry.pid && leaders.iter().any(is_same)
    };
    census.entries().iter().filter(move |it| is_leader(it)).map(|it| it.group)
}

/// Reads a record; one that cannot be read is of no use to anybody.
fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ServiceId;
    use crate::control::schedule::process::{Launch, Process, Signal};
    use std::collections::BTreeMap;
    use std::fs::File;

    /// A process of an instance. Dropped, it is killed.
    struct Left(Process);

    impl Left {
        fn launch(cmd: &str, directory: &Path) -> Self {
            fs::create_dir_all(directory).unwrap();
            let sandbox = directory.to_str().unwrap().to_owned();
            let environment = BTreeMap::from([("WAITER_SANDBOX".to_owned(), sandbox)]);
            let open = |name: &str| File::create(directory.join(name)).unwrap();
            let (stdout, stderr) = (open("stdout"), open("stderr"));
            let environment = &environment;
            let launch = Launch { cmd, directory, environment, stdout, stderr };
            Self(Process::spawn(launch).unwrap())
        }

        fn is_running(&self) -> bool {
            is_running(self.0.pid())
        }
    }

    impl Drop for Left {
        fn drop(&mut self) {
            self.0.signal_group(Signal::Kill);
            while self.0.try_wait().is_none() {
                thread::yield_now();
            }
        }
    }

    fn is_running(pid: u32) -> bool {
        census::look(pid).is_some_and(|it| !it.is_zombie)
    }

    fn eventually(mut holds: impl FnMut() -> bool) {
        let begun = clock::now();
        while !holds() {
            assert!(clock::now() - begun < PATIENCE, "not in time");
            thread::yield_now();
        }
    }

    #[test]
    fn what_a_crashed_router_left_is_ended() {
        let temporary = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(temporary.path()).unwrap();
        let records = Records::open(&path).unwrap();
        let id = |suffix: &str| InstanceId::new(&ServiceId::new("s"), suffix);
        // Found by its record, with its group: their environment says nothing.
        let cmd = "env -i /bin/sleep 100 & exec env -i /bin/sleep 100";
        let recorded = Left::launch(cmd, &records.directory(&id("1")));
        records.add(&id("1"), recorded.0.pid()).unwrap();
        eventually(|| census::variable(recorded.0.pid(), "WAITER_SANDBOX").is_none());
        // Found by the environment: what has left its group, and what was not recorded.
        let directory = records.directory(&id("2"));
        let unrecorded = Left::launch("setsid sleep 100 & echo $! > pid; wait", &directory);
        let escaped = || fs::read_to_string(directory.join("pid")).ok()?.trim().parse().ok();
        eventually(|| escaped().is_some_and(is_running));
        let escaped = escaped().unwrap();
        // Not ours: of another directory; and records of another boot, of a number given again,
        // and one that was not written to its end.
        let stranger = Left::launch("sleep 100", &path.join("instances2/s/1"));
        let add = |name: &str, start_time: u64, boot_id: &str| {
            let (instance, boot_id) = (format!("s.{name}"), boot_id.to_owned());
            let record = Record { instance, pid: stranger.0.pid(), start_time, boot_id };
            let text = serde_json::to_vec(&record).unwrap();
            fs::write(records.launches.join(format!("s.{name}")), text).unwrap();
        };
        let start_time = census::look(stranger.0.pid()).unwrap().start_time;
        add("3", start_time, "another boot");
        add("4", start_time + 1, &records.boot_id);
        fs::write(records.launches.join("s.5"), "{\"inst").unwrap();
        assert!(recorded.is_running() && unrecorded.is_running() && stranger.is_running());

        let records = Records::open(&path).unwrap();
        assert!(!recorded.is_running() && !unrecorded.is_running() && !is_running(escaped));
        let groups = [recorded.0.pid(), unrecorded.0.pid()];
        let census = Census::take().unwrap();
        assert_eq!(groups.map(|it| census.group_lives(it)), [false, false]);
        assert!(stranger.is_running());
        assert!(!records.directory(&id("1")).exists());
        assert_eq!(fs::read_dir(&records.launches).unwrap().count(), 0);
    }
}

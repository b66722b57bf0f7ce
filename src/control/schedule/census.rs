//! All processes of the host at one moment, from /proc (proc(5)).

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// One process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// Ended; only its parent has not taken note yet.
    pub(super) is_zombie: bool,
    /// Clock ticks from the start of the host to that of the process.
    pub(super) start_time: u64,
    pub(super) resident_pages: u64,
}

/// All processes of the host at one moment.
#[derive(Debug)]
pub(super) struct Census(Vec<Entry>);

impl Census {
    /// Looks at all processes. One that ends meanwhile may be missing.
    pub(super) fn take() -> io::Result<Self> {
        let mut entries = Vec::new();
        for item in fs::read_dir("/proc")? {
            let name = item?.file_name();
            let pid = name.to_str().and_then(|it| it.parse().ok());
            entries.extend(pid.and_then(look));
        }
        Ok(Self(entries))
    }

    /// All processes.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether the group has a member that has not ended.
    pub(super) fn group_lives(&self, group: u32) -> bool {
        self.0.iter().any(|it| it.group == group && !it.is_zombie)
    }

    /// Pages resident in the session of this leader and in all its descendants, whatever session
    /// they are in.
    pub(super) fn resident_pages(&self, leader: u32) -> u64 {
        let of_session = self.0.iter().filter(|it| it.session == leader).map(|it| it.pid);
        let mut members: BTreeSet<u32> = of_session.collect();
        members.insert(leader);
        loop {
            let known = members.len();
            let children = self.0.iter().filter(|it| members.contains(&it.parent));
            let children: Vec<u32> = children.map(|it| it.pid).collect();
            members.extend(children);
            if members.len() == known {
                break;
            }
        }
        let of_members = self.0.iter().filter(|it| members.contains(&it.pid));
        of_members.map(|it| it.resident_pages).sum()
    }
}

/// Looks at one process; none if there is no such process.
pub(super) fn look(pid: u32) -> Option<Entry> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The value of a variable in the environment with which a process was started, as far as this
/// process may see it and the other has not overwritten it.
pub(super) fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut lines = environment.split(|byte| *byte == 0);
    let value = lines.find_map(|it| it.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A line of /proc/<pid>/stat. The name, in parentheses, may hold anything, also parentheses.
fn parse(line: &str) -> Option<Entry> {
    let (before, after) = line.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // Counted as in proc(5), where the pid is 1 and the state, first behind the name, is 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let id = |field: usize| u32::try_from(number(field)?).ok();
    Some(Entry {
        pid: before.split(' ').next()?.parse().ok()?,
        parent: id(4)?,
        group: id(5)?,
        session: id(6)?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        start_time: number(22)?,
        resident_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, parent: u32, session: u32, resident_pages: u64) -> Entry {
        let is_zombie = resident_pages == 0;
        Entry { pid, parent, group: session, session, is_zombie, start_time: 0, resident_pages }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line =
            "42 (a) Z (b) S 7 40 41 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 5555 99 33 18446 1";
        let expected = Entry {
            pid: 42,
            parent: 7,
            group: 40,
            session: 41,
            is_zombie: false,
            start_time: 5555,
            resident_pages: 33,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("42 (x) S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn memory_is_that_of_the_session_and_of_all_descendants() {
        let census = Census(vec![
            entry(10, 1, 10, 1),
            entry(13, 12, 13, 2), // of a session of its own, but a grandchild
            entry(12, 10, 10, 4),
            entry(11, 1, 10, 8), // orphan of the session
            entry(20, 1, 20, 16),
            entry(21, 20, 30, 0),
        ]);
        let seen = [10, 20, 99].map(|it| census.resident_pages(it));
        assert_eq!(seen, [15, 16, 0]);
        assert_eq!([10, 30, 99].map(|it| census.group_lives(it)), [true, false, false]);
    }

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        let census = Census::take().unwrap();
        let seen = census.entries().iter().find(|it| it.pid == me).unwrap();
        assert_eq!(seen.start_time, look(me).unwrap().start_time);
        assert!(seen.resident_pages > 0);
        assert_eq!(variable(me, "PATH"), std::env::var("PATH").ok());
    }
}

//! A router of the JVM beside ours: real Curator, as a process.

use super::process::Process;
use super::wait::{PATIENCE, until};
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Curator's classes are in, on Debian.
const CLASSES: [&str; 13] = [
    "curator-client",
    "curator-framework",
    "curator-recipes",
    "curator-x-discovery",
    "zookeeper",
    "guava",
    "failureaccess",
    "jackson-databind",
    "jackson-core",
    "jackson-annotations",
    "metrics-core",
    "slf4j-api",
    "slf4j-nop",
];
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plays/stage/Contender.java");

/// A Curator that runs: registered, looking for others, and a candidate.
#[derive(Debug)]
pub(crate) struct Curator {
    process: Process,
    heard: RefCell<Vec<String>>,
}

impl Curator {
    /// Starts one in this cluster.
    pub(crate) fn start(places: &str, cluster: &str) -> Self {
        let jars = CLASSES.map(|it| format!("/usr/share/java/{it}.jar")).join(":");
        let words = ["java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", &jars, SOURCE];
        let process = Process::start_program(&words, &[places.to_owned(), cluster.to_owned()]);
        Self { process, heard: RefCell::default() }
    }

    /// All lines it wrote so far.
    pub(crate) fn heard(&self) -> impl Iterator<Item = String> {
        let mut heard = self.heard.borrow_mut();
        while let Some(line) = self.process.line(Duration::ZERO) {
            heard.push(line);
        }
        heard.clone().into_iter()
    }

    /// Waits until it has written such a line.
    pub(crate) fn until(&self, what: &str, is_it: impl Fn(&str) -> bool) {
        until(what, PATIENCE * 2, || self.heard().any(|it| is_it(&it)).then_some(()));
    }

    /// The time by the clock that it writes times by, in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "the clock of another process is compared")]
    pub(crate) fn millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::try_from(since.as_millis()).expect("for a while yet")
    }
}

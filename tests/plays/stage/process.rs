//! A process that a play started. It ends with the value, also when the play panics.

use super::wait::{until, within};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tempfile::NamedTempFile;

/// A process, what it writes to stdout by line, and what it wrote to stderr.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    stderr: NamedTempFile,
}

impl Process {
    /// Starts the product's binary with these arguments.
    pub(crate) fn start(arguments: &[String]) -> Self {
        Self::start_through(&[], arguments)
    }

    /// Starts it through a command that becomes what it is followed by.
    pub(crate) fn start_through(through: &[&str], arguments: &[String]) -> Self {
        let words: Vec<&str> =
            through.iter().copied().chain([env!("CARGO_BIN_EXE_waiter")]).collect();
        Self::start_program(&words, arguments)
    }

    /// Starts another program: its words, then the arguments.
    pub(crate) fn start_program(words: &[&str], arguments: &[String]) -> Self {
        let stderr = NamedTempFile::new().expect("a temporary file");
        let mut words = words.iter();
        let mut child = Command::new(words.next().expect("a program"))
            .args(words)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.reopen().expect("a temporary file"))
            .spawn()
            .expect("the binary was built with the tests, or is installed");
        let stdout = child.stdout.take().expect("it was piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line); // nobody may be listening any more
            }
        });
        Self { child, lines, stderr }
    }

    /// The next line it writes to stdout.
    pub(crate) fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.stderr.path()).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.pid().to_string(), name);
    }

    /// Its exit status, once it has ended.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end; returns its exit code.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<i32> {
        until("the end of a process", patience, || self.status()).code()
    }

    /// Whether it ended in time.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        within(patience, || self.status()).is_some()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("---- stderr of process {}\n{}----", self.pid(), self.said());
        }
    }
}

/// Sends a signal to a process, or to a group (`-pid`).
pub(crate) fn signal(target: &str, name: &str) {
    // A target that is gone is no fault.
    let _ = Command::new("kill").args(["-s", name, "--", target]).stderr(Stdio::null()).status();
}

/// Ends a process that the router launched, as a crash would.
pub(crate) fn end_at_once(pid: u32) {
    signal(&pid.to_string(), "KILL");
}

/// Whether this process exists and has not ended. Its first thread may have, before the others do;
/// until then its sockets are open.
pub(crate) fn exists(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ended = status.contains("State:\tZ") && status.contains("Threads:\t1\n");
    !status.is_empty() && !ended
}

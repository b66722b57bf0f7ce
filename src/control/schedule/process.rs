//! Starting and signalling processes: the only place of the control plane with `unsafe`.
//!
//! A process is launched as the leader of a session and group of its own, with descriptors 0, 1 and
//! 2 and no other, no blocked and no ignored signal. Whatever it starts stays in its group unless
//! it asks for another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Shells a command may be run by; the first that exists is taken.
const SHELLS: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/bin/sh"];
/// First descriptor that a process does not get.
const DESCRIPTORS: libc::c_int = 3;
/// Where the search for descriptors ends on a kernel without close_range(2).
const DESCRIPTORS_MAX: libc::c_int = 65_536;

/// What is launched.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) cmd: &'a str,
    pub(super) directory: &'a Path,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) stdout: File,
    pub(super) stderr: File,
}

/// A signal by which a group is ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Terminate,
    Kill,
}

/// A process that was launched, and the group it leads.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    has_ended: bool,
}

impl Process {
    /// Starts a process. It inherits the affinity of the calling thread, which must not be pinned.
    pub(super) fn spawn(launch: Launch<'_>) -> io::Result<Self> {
        let shell = SHELLS.into_iter().find(|it| Path::new(it).exists()).unwrap_or("/bin/sh");
        let mut command = Command::new(shell);
        command.args(["-c", launch.cmd]).current_dir(launch.directory);
        command.env_clear().envs(launch.environment);
        command.stdin(Stdio::null()).stdout(launch.stdout).stderr(launch.stderr);
        prepare(&mut command);
        Ok(Self { child: command.spawn()?, has_ended: false })
    }

    /// Its process id, and the number of its group and session.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether [`try_wait`](Self::try_wait) has seen it end.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Exit code, once it has ended; negative: the number of the signal that ended it.
    pub(super) fn try_wait(&mut self) -> Option<i32> {
        let status = match self.child.try_wait() {
            Ok(status) => status?,
            Err(error) => {
                // Somebody else has taken note of its end: the code is lost, not the fact.
                tracing::warn!(pid = self.pid(), %error, "cannot wait for a process");
                self.has_ended = true;
                return Some(-1);
            }
        };
        self.has_ended = true;
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(1)))
    }

    /// Sends a signal to all of its group. That nobody is left is no error.
    ///
    /// After the leader has ended, its number stays taken while the group has a member; and a
    /// number that has become free is not given out again before all others were. So no stranger is
    /// hit.
    pub(super) fn signal_group(&self, signal: Signal) {
        send(-self.group(), signal);
    }

    /// Kills all of its group, and waits for the leader.
    pub(super) fn kill_and_wait(mut self) {
        self.signal_group(Signal::Kill);
        // The one error there is says that nobody is to be waited for.
        let _ = self.child.wait();
    }

    /// Whether the group may have members; also those count that have ended without their parent
    /// taking note.
    pub(super) fn group_exists(&self) -> bool {
        collect_orphans(-self.group());
        exists(self.group())
    }

    fn group(&self) -> libc::pid_t {
        as_pid(self.pid())
    }
}

/// Sends a signal to one process. That it is gone is no error.
pub(super) fn signal_process(pid: u32, signal: Signal) {
    send(as_pid(pid), signal);
}

/// Takes note of the end of a process that is no [`Process`], in case it has become our own child.
pub(super) fn collect_orphan(pid: u32) {
    collect_orphans(as_pid(pid));
}

/// Bytes of a page of memory.
pub(super) fn page_bytes() -> u64 {
    #[expect(unsafe_code, reason = "the standard library does not tell the page size")]
    // SAFETY: sysconf(3) takes a number and touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).expect("Linux has pages")
}

fn as_pid(number: u32) -> libc::pid_t {
    libc::pid_t::try_from(number).expect("Linux has fewer than 2^22 processes")
}

/// Sends a signal to a process, or, if the number is negative, to a group.
fn send(target: libc::pid_t, signal: Signal) {
    assert!(target.abs() > 1, "neither all processes nor the first nor our own group");
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    #[expect(unsafe_code, reason = "the standard library signals children only")]
    // SAFETY: kill(2) takes numbers and touches no memory of ours.
    let _ = unsafe { libc::kill(target, number) };
}

fn exists(group: libc::pid_t) -> bool {
    assert!(group > 1, "neither all processes nor our own group");
    #[expect(unsafe_code, reason = "the standard library signals no groups")]
    // SAFETY: kill(2) takes numbers and touches no memory of ours; 0 sends nothing.
    let answer = unsafe { libc::kill(-group, 0) };
    // What exists but is not ours to signal (EPERM) exists.
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Takes note of the end of a process or, if the number is negative, of the ended members of a
/// group that have become our own children: when this process is the first of its container,
/// orphans are given to it and nobody else will.
fn collect_orphans(target: libc::pid_t) {
    assert!(target.abs() > 1, "neither any child nor our own group");
    loop {
        #[expect(unsafe_code, reason = "the standard library waits for its own children only")]
        // SAFETY: waitpid(2) with a null pointer writes nothing. The target is no `Child` or the
        // group of one that has been waited for, so none loses its status to this call.
        let pid = unsafe { libc::waitpid(target, std::ptr::null_mut(), libc::WNOHANG) };
        if pid <= 0 {
            return;
        }
    }
}

/// Has the child become a leader and let go of what is ours before it runs the shell.
#[expect(unsafe_code, reason = "the child side of the spawn")]
fn prepare(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe functions may be called, and nothing may
    // allocate: other threads may have held the allocator's lock at the fork. `become_leader` makes
    // system calls only; an error is made of a number.
    unsafe {
        command.pre_exec(become_leader);
    }
}

#[expect(unsafe_code, reason = "the child side of the spawn")]
fn become_leader() -> io::Result<()> {
    // SAFETY: system calls without pointers, except for the signal set, which is a local value that
    // sigemptyset initialises.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        // exec resets handlers, but what is ignored stays ignored; SIGPIPE is, in Rust programs.
        for number in 1..=libc::SIGRTMAX() {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Closed at exec, not now: the standard library reports a failed exec by one of them.
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, DESCRIPTORS, libc::c_uint::MAX, flags) != 0 {
            for descriptor in DESCRIPTORS..DESCRIPTORS_MAX {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}

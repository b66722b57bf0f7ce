//! A second process, which outlives the stand-in and ends what that leaves behind: whoever is ended
//! by SIGKILL can end nothing any more.
//!
//! It waits for the end of its input. The other end is held by the stand-in alone: a process that is
//! being started holds it until it has become its program, and is marked by its environment then.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::clock::{Ms, now};
use crate::outside::kill_marked;

/// What starts others while it is ended may need several rounds.
const PATIENCE_MS: Ms = 10_000;
const PAUSE: Duration = Duration::from_millis(20);

/// The sweeper, as the stand-in has it.
#[derive(Debug)]
pub(crate) struct Sweeper(Child);

impl Sweeper {
    /// Starts one for this folder of sandboxes. It takes part in nothing: signals to the stand-in's
    /// group do not reach it, and whoever reads the stand-in's output does not wait for it.
    pub(crate) fn start(work_dir: &Path, removes_folder: bool) -> io::Result<Self> {
        let mut run = Command::new("/proc/self/exe");
        run.arg("--sweep").arg(work_dir).process_group(0);
        if removes_folder {
            run.arg("--sweep-folder");
        }
        run.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        run.spawn().map(Self)
    }

    /// There is nothing left to sweep.
    pub(crate) fn end(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What the second process does.
pub(crate) fn sweep(work_dir: &Path, removes_folder: bool) {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let (mut clean, until) = (0, now() + PATIENCE_MS);
    while clean < 2 && now() < until {
        clean = if kill_marked(work_dir) { 0 } else { clean + 1 };
        thread::sleep(PAUSE);
    }
    if removes_folder {
        // It has been removed by the stand-in, if that came to its proper end.
        let _ = std::fs::remove_dir_all(work_dir);
    }
}

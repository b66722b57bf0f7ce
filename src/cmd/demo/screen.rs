//! What the demo shows: a table that grows line by line, coloured on a terminal and plain
//! elsewhere.

use super::Seen;
use super::load::Tally;
use crate::base::time::Duration;
use std::io::{IsTerminal, Write};

/// Where the demo writes.
#[derive(Debug)]
pub(super) struct Screen {
    coloured: bool,
    headed: bool,
    reason: String,
}

/// One look.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) age: Duration,
    pub(super) phase: &'a str,
    pub(super) tally: &'a Tally,
    pub(super) span: Duration,
    pub(super) seen: &'a Seen,
}

impl Screen {
    pub(super) fn new() -> Self {
        let coloured = std::io::stdout().is_terminal();
        Self { coloured, headed: false, reason: String::new() }
    }

    /// Says something.
    pub(super) fn say(&mut self, text: &str) {
        self.write(text, "1");
    }

    /// Shows one look; a scale decision that is new gets a line of its own.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        if !self.headed {
            self.headed = true;
            let text = "   time phase    req/s    p50 ms    p99 ms  queue  slots  wanted  healthy";
            self.write(text, "4");
        }
        let seen = line.seen;
        if !seen.reason.is_empty() && seen.reason != self.reason {
            self.reason.clone_from(&seen.reason);
            self.write(&format!("        scale to {}: {}", seen.wanted, seen.reason), "36");
        }
        let rate = line.tally.served as f64 / line.span.as_secs_f64();
        let millis = |share| line.tally.quantile(share).as_secs_f64() * 1e3;
        let bar: String = "#".repeat(usize::try_from(seen.healthy).unwrap_or(0).min(40));
        let text = format!(
            "{:>6.1}s {:<7} {:>6.0} {:>9.1} {:>9.1} {:>6} {:>6} {:>7} {:>8} {bar}",
            line.age.as_secs_f64(),
            line.phase,
            rate,
            millis(0.5),
            millis(0.99),
            seen.waiting,
            format!("{}/{}", seen.outstanding.saturating_sub(seen.waiting), seen.healthy),
            seen.wanted.max(seen.instances),
            seen.healthy,
        );
        self.write(&text, "0");
    }

    /// Sums up.
    pub(super) fn end(&mut self, total: &Tally) {
        let millis = |share| total.quantile(share).as_secs_f64() * 1e3;
        self.write(
            &format!(
                "{} requests served, {} lost; p50 {:.1} ms, p99 {:.1} ms",
                total.served,
                total.lost,
                millis(0.5),
                millis(0.99)
            ),
            "1",
        );
    }

    fn write(&self, text: &str, style: &str) {
        let mut out = std::io::stdout().lock();
        let _ = if self.coloured && style != "0" {
            writeln!(out, "\x1b[{style}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
        let _ = out.flush();
    }
}

//! What came of the requests.

use crate::base::time::Duration;
use hdrhistogram::Histogram;
use std::fmt::Write;

/// Latencies are kept in nanoseconds up to an hour, to three digits.
const LONGEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// How a request can fail to get an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// No connection came about. No request was sent, so none is counted as lost.
    Connect,
    /// The connection ended before the answer did.
    Reset,
    /// It was given up after `--timeout`.
    Timeout,
    /// What came is no answer.
    Malformed,
    /// At the end it had no answer, or had not even been sent.
    Unanswered,
}

const FAILURES: [(Failure, &str); 5] = [
    (Failure::Connect, "connect"),
    (Failure::Reset, "reset"),
    (Failure::Timeout, "timeout"),
    (Failure::Malformed, "malformed"),
    (Failure::Unanswered, "unanswered"),
];

/// Counts of one thread, or of all.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    sent: u64,
    answered: u64,
    bytes: u64,
    reconnects: u64,
    /// By the first digit of the status.
    statuses: [u64; 10],
    failures: [u64; FAILURES.len()],
    /// From due to answered, or to given up.
    latency: Histogram<u64>,
    /// From due to sent.
    lateness: Histogram<u64>,
}

/// The whole run.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) tally: Tally,
    pub(super) asked_rate: u64,
    /// From the first due time to the last answer.
    pub(super) elapsed: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("sane bounds");
        Self {
            sent: 0,
            answered: 0,
            bytes: 0,
            reconnects: 0,
            statuses: [0; 10],
            failures: [0; FAILURES.len()],
            latency: histogram(),
            lateness: histogram(),
        }
    }
}

impl Tally {
    /// A request was sent, so long after it was due.
    pub(super) fn sent(&mut self, late: Duration) {
        self.sent += 1;
        self.lateness.saturating_record(nanos(late));
    }

    /// These bytes came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A request was answered with this status, so long after it was due.
    pub(super) fn answered(&mut self, status: u16, age: Duration) {
        self.answered += 1;
        self.statuses[usize::from(status / 100).min(9)] += 1;
        self.latency.saturating_record(nanos(age));
    }

    /// A request of this age was given up. It would have taken at least as long.
    pub(super) fn given_up(&mut self, failure: Failure, age: Duration) {
        self.failed(failure);
        self.latency.saturating_record(nanos(age));
    }

    /// A request failed. How long that took says nothing of how long answers take.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    /// A connection is made anew.
    pub(super) fn reconnected(&mut self) {
        self.reconnects += 1;
    }

    /// Adds those of another thread.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.bytes += other.bytes;
        self.reconnects += other.reconnects;
        let pairs = self.statuses.iter_mut().zip(other.statuses);
        pairs.chain(self.failures.iter_mut().zip(other.failures)).for_each(|(to, it)| *to += it);
        self.latency.add(&other.latency).expect("equal bounds");
        self.lateness.add(&other.lateness).expect("equal bounds");
    }

    /// Whether every request was answered, and none with a refusal.
    pub(super) fn all_served(&self) -> bool {
        self.answered > 0
            && self.failures.iter().sum::<u64>() == 0
            && self.statuses[4..].iter().sum::<u64>() == 0
    }
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let it = &self.tally;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(out, "{name:<12} {value}").expect("memory takes every byte");
        };
        let asked = match self.asked_rate {
            0 => "as fast as answers came".to_owned(),
            rate => format!("{rate} asked for"),
        };
        line("requests/s", format!("{:.1} ({asked}), {:.3} s", self.rate(), self.seconds()));
        line("requests", format!("{} sent, {} answered", it.sent, it.answered));
        let statuses = it.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
        let statuses: Vec<_> = statuses.map(|(at, it)| format!("{at}xx {it}")).collect();
        line("statuses", or_none(&statuses));
        let failures = FAILURES.iter().map(|(at, name)| (name, it.failures[*at as usize]));
        let failures = failures.filter(|(_, count)| *count > 0);
        let failures: Vec<_> = failures.map(|(name, it)| format!("{name} {it}")).collect();
        line("errors", or_none(&failures));
        line("bytes", format!("{} received, {} connections made anew", it.bytes, it.reconnects));
        line("latency", percentiles(&it.latency));
        line("sent late", percentiles(&it.lateness));
        out
    }

    /// The same as one JSON object, on one line.
    pub(super) fn json(&self) -> String {
        let it = &self.tally;
        let failures = FAILURES.iter().map(|(at, name)| {
            ((*name).to_owned(), serde_json::Value::from(it.failures[*at as usize]))
        });
        let statuses = (1..6).map(|at| (format!("{at}xx"), it.statuses[at].into()));
        serde_json::json!({
            "requests_per_second": self.rate(),
            "asked_rate": self.asked_rate,
            "seconds": self.seconds(),
            "sent": it.sent,
            "answered": it.answered,
            "statuses": statuses.collect::<serde_json::Map<_, _>>(),
            "errors": failures.collect::<serde_json::Map<_, _>>(),
            "bytes": it.bytes,
            "reconnects": it.reconnects,
            "latency_us": micros_of(&it.latency),
            "sent_late_us": micros_of(&it.lateness),
        })
        .to_string()
    }

    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }

    /// Answers per second.
    fn rate(&self) -> f64 {
        self.tally.answered as f64 / self.seconds().max(1e-9)
    }
}

fn nanos(it: Duration) -> u64 {
    u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

fn or_none(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

fn percentiles(of: &Histogram<u64>) -> String {
    let mut out = String::new();
    for (name, q) in PERCENTILES {
        let value = micros(of.value_at_quantile(q / 100.0));
        write!(out, "{name} {value} us, ").expect("memory takes every byte");
    }
    out + &format!("max {} us", micros(of.max()))
}

fn micros_of(of: &Histogram<u64>) -> serde_json::Value {
    let quantiles = PERCENTILES
        .iter()
        .map(|(name, q)| ((*name).to_owned(), micros(of.value_at_quantile(q / 100.0)).into()));
    let ends = [("max".to_owned(), micros(of.max()).into()), ("count".to_owned(), of.len().into())];
    quantiles.chain(ends).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_under_their_names() {
        for (at, (failure, _)) in FAILURES.iter().enumerate() {
            assert_eq!(*failure as usize, at);
        }
    }

    #[test]
    fn a_request_that_was_given_up_counts_with_its_age_and_a_reset_one_does_not() {
        let mut it = Tally::default();
        (0..998).for_each(|_| it.answered(200, Duration::from_micros(100)));
        assert!(it.all_served());
        it.failed(Failure::Reset);
        it.given_up(Failure::Unanswered, Duration::from_secs(2));
        it.given_up(Failure::Timeout, Duration::from_secs(2));
        assert!(!it.all_served());
        let report = Report { tally: it, asked_rate: 500, elapsed: Duration::from_secs(2) };
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["latency_us"]["count"], 1000);
        assert_eq!(json["errors"]["reset"], 1);
        assert_eq!(json["errors"]["unanswered"], 1);
        assert_eq!(json["requests_per_second"], 499.0);
        let tail = json["latency_us"]["p99.9"].as_f64().expect("a number");
        assert!((tail / 2e6 - 1.0).abs() < 0.01, "{tail}");
        let text = report.text();
        assert!(text.contains("reset 1, timeout 1, unanswered 1"), "{text}");
    }

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.sent(Duration::ZERO);
        one.answered(200, Duration::from_micros(1));
        other.sent(Duration::from_micros(3));
        other.answered(503, Duration::from_micros(5));
        other.received(7);
        one.add(&other);
        let report = Report { tally: one, asked_rate: 0, elapsed: Duration::from_secs(1) };
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(
            (&json["sent"], &json["answered"], &json["bytes"]),
            (&2.into(), &2.into(), &7.into())
        );
        assert_eq!((&json["statuses"]["2xx"], &json["statuses"]["5xx"]), (&1.into(), &1.into()));
        assert_eq!(json["sent_late_us"]["max"], 3.0);
    }
}

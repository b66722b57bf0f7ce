//! `/metrics`: numbers in the text format of Prometheus (exposition format 0.0.4).
//!
//! Services are labels, and labels cost the one who collects them. So the busiest have one each,
//! by requests since the router began, and the rest are summed under [`REST`]. A service that
//! becomes one of the busiest takes its sums with it; collectors see that as a restart of the rest.

mod cluster;
mod histograms;

use super::about;
use super::reply::{Pieces, Reply};
use crate::base::ids::ServiceId;
use crate::base::time::Date;
use crate::core::aggregator::Status;
use crate::core::catalogue::{Catalogue, Entry};
use crate::core::fact::{Sight, View};
use http::StatusCode;
use std::cmp::Reverse;
use std::fmt::{Display, Write};
use std::sync::Arc;

/// Services with a label of their own.
const LABELS_MAX: usize = 1000;

/// The label of all others together. No id is like it: ids begin with their prefix.
const REST: &str = "other";

const STATES: [&str; 5] = ["healthy", "unhealthy", "starting", "expired", "ejected"];

/// One service's numbers, or the sum of many.
#[derive(Clone, Debug, Default)]
struct Row {
    requests: u64,
    completions: u64,
    failures: u64,
    seconds: f64,
    outstanding: u64,
    waiting: u64,
    oldest: f64,
    instances: [u64; 5],
    requested: u64,
    target: f64,
}

/// A service and what is known of it; in lists of them the busiest is first.
type Ranked<'a> = (&'a ServiceId, &'a Arc<Entry>);

/// A family of numbers that each service has.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Row) -> f64,
}

const fn family(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Row) -> f64,
) -> Family {
    Family { name, kind, help, value }
}

/// Sums and levels. As floats they are exact up to 2⁵³.
const FAMILIES: [Family; 9] = [
    family("waiter_requests_total", "counter", "Requests that arrived.", |it| it.requests as f64),
    family(
        "waiter_completions_total",
        "counter",
        "Requests that ended after they had been served.",
        |it| it.completions as f64,
    ),
    family("waiter_failures_total", "counter", "Requests that ended in any other way.", |it| {
        it.failures as f64
    }),
    family(
        "waiter_service_seconds_total",
        "counter",
        "Time from slot to end of the completed requests.",
        |it| it.seconds,
    ),
    family("waiter_outstanding", "gauge", "Requests that wait or are served.", |it| {
        it.outstanding as f64
    }),
    family("waiter_waiting", "gauge", "Requests that wait for a slot.", |it| it.waiting as f64),
    family(
        "waiter_oldest_waiting_seconds",
        "gauge",
        "Age of the request that waits longest.",
        |it| it.oldest,
    ),
    family("waiter_instances_requested", "gauge", "Instances asked of the scheduler.", |it| {
        it.requested as f64
    }),
    family("waiter_instances_target", "gauge", "Instances the autoscaler wants, smoothed.", |it| {
        it.target
    }),
];

const HISTOGRAMS: [histograms::Family; 2] = [
    histograms::Family {
        name: "waiter_queue_seconds",
        help: "Time from arrival to slot of the completed requests.",
        of: |it| &it.queue,
    },
    histograms::Family {
        name: "waiter_request_seconds",
        help: "Time from arrival to end of the completed requests.",
        of: |it| &it.total,
    },
];

/// All numbers.
pub(super) fn page(view: &about::View<'_>) -> Reply {
    let ranked = ranked(view);
    let rows = rows(&ranked);
    let mut body = Pieces::default();
    router(view, &mut body);
    for family in &FAMILIES {
        head(&mut body, family.name, family.kind, family.help);
        for (id, row) in &rows {
            let label = [("service_id", *id)];
            sample(&mut body, family.name, &label, (family.value)(row));
        }
    }
    instances(&rows, &mut body);
    histograms::write(&HISTOGRAMS, &ranked, &mut body);
    Reply {
        status: StatusCode::OK,
        kind: Some("text/plain; version=0.0.4"),
        fields: Vec::new(),
        body,
    }
}

/// Each service that exists or was used, by requests.
fn ranked<'a>(view: &about::View<'a>) -> Vec<Ranked<'a>> {
    let told = |(_, it): &Ranked<'_>| it.exists || it.traffic.requests > 0;
    let mut all: Vec<_> = view.catalogue.services.iter().filter(told).collect();
    all.sort_by_key(|(id, it)| (Reverse(it.traffic.requests), *id));
    all
}

/// The busiest, then the rest in one.
fn rows<'a>(ranked: &[Ranked<'a>]) -> Vec<(&'a str, Row)> {
    let (named, others) = ranked.split_at(ranked.len().min(LABELS_MAX));
    let mut rows: Vec<_> = named.iter().map(|(id, it)| (id.as_str(), Row::of(it))).collect();
    if !others.is_empty() {
        let mut rest = Row::default();
        others.iter().for_each(|(_, it)| rest.add(&Row::of(it)));
        rows.push((REST, rest));
    }
    rows
}

impl Row {
    fn of(entry: &Entry) -> Self {
        let (traffic, state) = (&entry.traffic, &entry.state);
        let lists = [&state.healthy, &state.unhealthy, &state.starting, &state.expired];
        let [healthy, unhealthy, starting, expired] = lists.map(|it| it.len() as u64);
        Self {
            requests: traffic.requests,
            completions: traffic.completions,
            failures: traffic.failures,
            seconds: traffic.service_time.as_secs_f64(),
            outstanding: traffic.outstanding.into(),
            waiting: traffic.waiting.into(),
            oldest: traffic.oldest_waiting.as_secs_f64(),
            instances: [healthy, unhealthy, starting, expired, entry.ejected.len() as u64],
            requested: state.counts.requested.into(),
            target: entry.scaling.target,
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.completions += other.completions;
        self.failures += other.failures;
        self.seconds += other.seconds;
        self.outstanding += other.outstanding;
        self.waiting += other.waiting;
        self.oldest = self.oldest.max(other.oldest);
        for (sum, count) in self.instances.iter_mut().zip(other.instances) {
            *sum += count;
        }
        self.requested += other.requested;
        self.target += other.target;
    }
}

/// Of the router as a whole.
fn router(view: &about::View<'_>, body: &mut Pieces) {
    let catalogue = view.catalogue;
    head(body, "waiter_info", "gauge", "What runs here; always 1.");
    let labels = [("version", view.about.version.as_str()), ("router_id", &*catalogue.router_id)];
    sample(body, "waiter_info", &labels, 1);
    let load = &catalogue.load;
    let mut one = |name: &str, help: &str, value: f64| {
        head(body, name, "gauge", help);
        sample(body, name, &[], value);
    };
    one("waiter_start_time_seconds", "When the router began.", seconds(view.about.started));
    one("waiter_connections", "Client connections.", load.connections.into());
    one("waiter_exchanges", "Requests at hand.", load.exchanges.into());
    one("waiter_queued_requests", "Requests that wait, of all services.", load.queued as f64);
    one(
        "waiter_receive_buffers_taken",
        "Receive buffers that are filled and not free again.",
        load.buffers_taken.into(),
    );
    one("waiter_queued_bytes", "Memory of the requests that wait.", load.queued_bytes as f64);
    one(
        "waiter_draining",
        "1 while the router takes no new requests.",
        u8::from(catalogue.draining).into(),
    );
    one("waiter_catalogue_time_seconds", "Date of these numbers.", seconds(catalogue.time));
    if let Some(heard) = catalogue.scheduler_heard {
        one("waiter_scheduler_heard_seconds", "When the scheduler was heard.", seconds(heard));
    }
    let (existing, described): (Vec<_>, Vec<_>) =
        catalogue.services.values().partition(|it| it.exists);
    let help = "Services that are described and do not exist now.";
    one("waiter_services_described", help, described.len() as f64);
    head(body, "waiter_services", "gauge", "Services that exist, by status.");
    for status in [Status::Failing, Status::Inactive, Status::Starting, Status::Running] {
        let of = existing.iter().filter(|it| it.state.status() == status);
        sample(body, "waiter_services", &[("status", status.label())], of.count());
    }
    let name = "waiter_shard_connections";
    head(body, name, "gauge", "Client connections of each core.");
    for (shard, clients) in catalogue.clients.iter().enumerate() {
        sample(body, name, &[("shard", &shard.to_string())], clients);
    }
    views(catalogue, body);
    cluster::cluster(view, body);
    counters(catalogue, body);
}

/// How far those schedulers are believed that can be in doubt.
fn views(catalogue: &Catalogue, body: &mut Pieces) {
    if catalogue.views.is_empty() {
        return;
    }
    let name = "waiter_scheduler_view";
    head(body, name, "gauge", "How far a scheduler is believed: 1 at the state it is in.");
    for (runner, view) in &catalogue.views {
        for sight in [Sight::Unseen, Sight::Fresh, Sight::Stale, Sight::Doubted] {
            let labels = [("scheduler", runner.name()), ("state", sight.name())];
            sample(body, name, &labels, u8::from(view.sight == sight));
        }
    }
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&View) -> f64| {
        head(body, name, kind, help);
        for (runner, view) in &catalogue.views {
            sample(body, name, &[("scheduler", runner.name())], value(view));
        }
    };
    each("waiter_scheduler_view_since_seconds", "gauge", "Since when that is so.", |it| {
        seconds(it.since)
    });
    each("waiter_scheduler_poll_seconds", "gauge", "How long the last poll took.", |it| {
        it.poll_time.as_secs_f64()
    });
    each("waiter_scheduler_polls_total", "counter", "Polls of a scheduler.", |it| it.polls as f64);
    each("waiter_scheduler_polls_failed_total", "counter", "Polls without an answer.", |it| {
        it.polls_failed as f64
    });
    each(
        "waiter_scheduler_answers_doubted_total",
        "counter",
        "Answers of which something was doubted.",
        |it| it.answers_doubted as f64,
    );
    let name = "waiter_services_doubted";
    head(body, name, "gauge", "Services of which the last answer is not believed yet.");
    let doubted = |it: &&Arc<Entry>| it.exists && !it.state.doubt.is_empty();
    sample(body, name, &[], catalogue.services.values().filter(doubted).count());
}

/// Sums of the router as a whole, since it began.
fn counters(catalogue: &Catalogue, body: &mut Pieces) {
    let (load, launches) = (&catalogue.load, &catalogue.launches);
    let mut one = |name: &str, help: &str, value: u64| {
        head(body, name, "counter", help);
        sample(body, name, &[], value);
    };
    one("waiter_over_limit_total", "Slots got above an instance's limit.", load.over_limit);
    one("waiter_letters_total", "Letters between shards.", load.letters);
    one(
        "waiter_receives_starved_total",
        "Receives that found no buffer free and were begun again.",
        load.receives_starved,
    );
    one(
        "waiter_access_log_dropped_total",
        "Lines of the access log that were dropped.",
        load.lines_dropped,
    );
    one("waiter_instances_launched_total", "Instances that began.", launches.launched);
    one("waiter_instances_failed_total", "Instances that ended by themselves.", launches.failed);
    one("waiter_instances_killed_total", "Instances ended one by one.", launches.killed);
    one(
        "waiter_orders_failed_total",
        "Orders that the scheduler did not carry out.",
        launches.orders_failed,
    );
}

fn instances(rows: &[(&str, Row)], body: &mut Pieces) {
    let name = "waiter_instances";
    head(body, name, "gauge", "Instances; those that start or expired are among the others too.");
    for (id, row) in rows {
        for (state, count) in STATES.iter().zip(row.instances) {
            sample(body, name, &[("service_id", id), ("state", state)], count);
        }
    }
}

fn head(body: &mut Pieces, name: &str, kind: &str, help: &str) {
    body.text(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn sample(body: &mut Pieces, name: &str, labels: &[(&str, &str)], value: impl Display) {
    let mut line = name.to_owned();
    for (at, (label, text)) in labels.iter().enumerate() {
        line.push(if at == 0 { '{' } else { ',' });
        let _ = write!(line, "{label}=\"{}\"", escaped(text));
    }
    if !labels.is_empty() {
        line.push('}');
    }
    let _ = writeln!(line, " {value}");
    body.text(&line);
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(date: Date) -> f64 {
    date.0 as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::{self, Router, id};
    use crate::core::catalogue::Traffic;
    use std::collections::BTreeMap;

    type Samples = BTreeMap<String, f64>;

    /// Reads the text format: every sample belongs to the family announced last, and none is told
    /// twice.
    fn parse(text: &str) -> Samples {
        let mut samples = Samples::new();
        let (mut helped, mut family) = (String::new(), String::new());
        let mut parts: &[&str] = &[];
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped = rest.split_once(' ').expect("a text").0.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert_eq!(name, helped);
                family = name.to_owned();
                parts = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            } else {
                let (series, value) = line.rsplit_once(' ').expect("name and value");
                let name = series.split('{').next().expect("a name");
                let part = name.strip_prefix(family.as_str()).expect("of the family");
                assert!(parts.contains(&part), "{line}");
                check_labels(&series[name.len()..]);
                let value = value.parse().expect("a number");
                assert!(samples.insert(series.to_owned(), value).is_none(), "{line}");
            }
        }
        assert!(text.ends_with('\n'));
        samples
    }

    /// `{name="text",…}` or nothing.
    fn check_labels(text: &str) {
        let Some(mut rest) = text.strip_prefix('{') else { return assert_eq!(text, "") };
        loop {
            let (name, after) = rest.split_once("=\"").expect("a label");
            assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{text}");
            let escaped =
                |at: usize| after[..at].bytes().rev().take_while(|it| *it == b'\\').count();
            let (end, _) = after
                .match_indices('"')
                .find(|(at, _)| escaped(*at) % 2 == 0)
                .expect("an end of the label");
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return assert_eq!(rest, "}"),
            }
        }
    }

    fn samples(router: &Router) -> Samples {
        let found = router.ask("GET /metrics", &[]);
        assert_eq!(found.kind.as_deref(), Some("text/plain; version=0.0.4"));
        parse(&found.body)
    }

    #[test]
    fn numbers_are_those_of_the_catalogue() {
        let mut router = Router::new();
        router.catalogue.router_id = "a\"b\\c\nd".into();
        let found = samples(&router);
        let kitchen = id("kitchen");
        for (series, expected) in [
            (format!("waiter_requests_total{{service_id=\"{kitchen}\"}}"), 5e9),
            (format!("waiter_completions_total{{service_id=\"{kitchen}\"}}"), 4_999_999_990.0),
            (format!("waiter_failures_total{{service_id=\"{kitchen}\"}}"), 7.0),
            (format!("waiter_service_seconds_total{{service_id=\"{kitchen}\"}}"), 12.5),
            (format!("waiter_outstanding{{service_id=\"{kitchen}\"}}"), 3.0),
            (format!("waiter_waiting{{service_id=\"{kitchen}\"}}"), 1.0),
            (format!("waiter_oldest_waiting_seconds{{service_id=\"{kitchen}\"}}"), 0.25),
            (format!("waiter_instances_target{{service_id=\"{kitchen}\"}}"), 2.5),
            (format!("waiter_instances{{service_id=\"{kitchen}\",state=\"healthy\"}}"), 1.0),
            (format!("waiter_instances{{service_id=\"{kitchen}\",state=\"ejected\"}}"), 1.0),
            (format!("waiter_instances{{service_id=\"{}\",state=\"healthy\"}}", id("bench")), 2.0),
            ("waiter_services{status=\"Running\"}".into(), 2.0),
            ("waiter_services{status=\"Inactive\"}".into(), 0.0),
            ("waiter_services_described".into(), 1.0),
            ("waiter_queued_requests".into(), 3.0),
            ("waiter_queued_bytes".into(), 3000.0),
            ("waiter_over_limit_total".into(), 1.0),
            ("waiter_letters_total".into(), 99.0),
            ("waiter_access_log_dropped_total".into(), 8.0),
            ("waiter_instances_launched_total".into(), 6.0),
            ("waiter_instances_failed_total".into(), 12.0),
            ("waiter_instances_killed_total".into(), 2.0),
            ("waiter_orders_failed_total".into(), 5.0),
            ("waiter_connections".into(), 4.0),
            ("waiter_shard_connections{shard=\"0\"}".into(), 3.0),
            ("waiter_shard_connections{shard=\"1\"}".into(), 1.0),
            ("waiter_exchanges".into(), 2.0),
            ("waiter_start_time_seconds".into(), 1_704_164_585.678),
            ("waiter_info{version=\"0.1.0\",router_id=\"a\\\"b\\\\c\\nd\"}".into(), 1.0),
        ] {
            assert_eq!(found.get(&series), Some(&expected), "{series}");
        }
        for (series, expected) in [
            ("queue_seconds_bucket", "le=\"0.00002\"", 1.0),
            ("queue_seconds_bucket", "le=\"+Inf\"", 2.0),
            ("queue_seconds_sum", "", 0.003),
            ("request_seconds_bucket", "le=\"0.00002\"", 0.0),
            ("request_seconds_bucket", "le=\"0.005629488\"", 1.0),
            ("request_seconds_bucket", "le=\"+Inf\"", 2.0),
            ("request_seconds_sum", "", 0.105),
            ("request_seconds_count", "", 2.0),
        ]
        .map(|(name, le, value)| {
            let comma = if le.is_empty() { "" } else { "," };
            (format!("waiter_{name}{{service_id=\"{kitchen}\"{comma}{le}}}"), value)
        }) {
            assert_eq!(found.get(&series), Some(&expected), "{series}");
        }
        let stored = format!("waiter_requests_total{{service_id=\"{}\"}}", id("stored"));
        assert!(!found.contains_key(&stored), "neither exists nor was used");
    }

    #[test]
    fn fewer_have_histograms() {
        let mut router = Router::new();
        router.catalogue.services.clear();
        for number in 1..=histograms::LABELS_MAX as u64 + 3 {
            let state = fixture::empty(&format!("s{number}"));
            let traffic = Traffic { requests: number, ..Traffic::default() };
            let latency = Some(Arc::new(fixture::latency()));
            let entry = Entry::new(Arc::new(state), true, Arc::default());
            router.put(Entry { traffic, latency, ..entry });
        }
        let found = samples(&router);
        let of = |id: &str| {
            found.get(&format!("waiter_request_seconds_count{{service_id=\"{id}\"}}")).copied()
        };
        assert_eq!(of(REST), Some(6.0), "two each of s1, s2, s3");
        assert_eq!((of(id("s3").as_str()), of(id("s4").as_str())), (None, Some(2.0)));
    }

    #[test]
    fn only_the_busiest_have_a_label() {
        let mut router = Router::new();
        router.catalogue.services.clear();
        let count = LABELS_MAX as u64 + 3;
        for number in 1..=count {
            let state = fixture::empty(&format!("s{number}"));
            let traffic = Traffic { requests: number, ..Traffic::default() };
            let entry = Entry::new(Arc::new(state), true, Arc::default());
            router.put(Entry { traffic, ..entry });
        }
        let found = samples(&router);
        let of =
            |id: &str| found.get(&format!("waiter_requests_total{{service_id=\"{id}\"}}")).copied();
        assert_eq!(of(REST), Some(6.0), "1 + 2 + 3");
        assert_eq!((of(id("s3").as_str()), of(id("s4").as_str())), (None, Some(4.0)));
        let total: f64 = found
            .iter()
            .filter(|(series, _)| series.starts_with("waiter_requests_total"))
            .map(|(_, value)| value)
            .sum();
        assert_eq!(total, (count * (count + 1) / 2) as f64);
    }
}

//! Golden values of the original's reservation, replayed (`spec/golden/reservation-golden.json`):
//! which instance serves, which is killed, and how long a failing one rests.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use waiter::base::ids::ShardId;
use waiter::base::time::Date;
use waiter::core::outcome::eject_millis;
use waiter::core::service::LoadBalancing;
use waiter::core::slots::selection::{Candidate, Circumstances, choose_for_kill};
use waiter::core::slots::{Gate, Instance, Roster, ServiceSlots};

/// The golden file; it lies beside the project unless `WAITER_SHARED` says where.
fn golden() -> Value {
    let shared = std::env::var("WAITER_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = format!("{shared}/spec/golden/reservation-golden.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("golden data missing: {path}: {error}; set WAITER_SHARED to the folder with spec/")
    });
    serde_json::from_str(&text).expect("golden data is JSON")
}

/// One instance of a case.
#[derive(Debug)]
struct Slot {
    id: String,
    started_at: Date,
    assigned: u16,
    used: u16,
    tags: Vec<String>,
    ages_ms: Vec<u64>,
}

/// A case: a service at one moment.
#[derive(Debug)]
struct Case {
    id: String,
    balancing: LoadBalancing,
    exclude: Vec<String>,
    slots: Vec<Slot>,
    /// In order of preference; others do not serve.
    sorted: Vec<String>,
    lingering_ms: u64,
}

impl Slot {
    fn is(&self, tag: &str) -> bool {
        self.tags.iter().any(|it| it == tag)
    }

    /// Control-plane §5.1: which instances may serve at all. The product's roster is made of them.
    fn serveable(&self) -> bool {
        self.is("healthy") && self.tags.iter().all(|it| it == "healthy" || it == "expired")
    }

    fn candidate(&self, lingering_ms: u64) -> Candidate<'_> {
        Candidate {
            id: &self.id,
            started_at: self.started_at,
            used: u32::from(self.used),
            lingering: self.ages_ms.iter().all(|it| *it > lingering_ms),
            healthy: self.is("healthy"),
            unhealthy: self.is("unhealthy"),
            expired: self.is("expired"),
            starting: self.is("starting"),
            ejected: self.is("ejected"),
            locked: self.is("locked") || self.is("killed"),
        }
    }

    /// The instance with its slots in use and its gates.
    fn instance(&self) -> Arc<Instance> {
        let address = "127.0.0.1:1".parse().expect("an address");
        let limit = self.assigned.max(self.used);
        let instance = Instance::new(&self.id, address, self.started_at, limit);
        for _ in 0..self.used {
            assert!(instance.word.take());
        }
        instance.word.set_limit(self.assigned);
        let gates =
            [("ejected", Gate::Ejected), ("locked", Gate::Locked), ("killed", Gate::Locked)];
        for (_, gate) in gates.into_iter().filter(|(tag, _)| self.is(tag)) {
            instance.word.close(gate);
        }
        Arc::new(instance)
    }
}

impl Case {
    fn read(case: &Value, lingering_ms: u64) -> Self {
        let known: BTreeMap<String, u64> = from(&case["known-instances"]);
        let balancing = match case["load-balancing"].as_str() {
            Some("oldest") => LoadBalancing::Oldest,
            Some("youngest") => LoadBalancing::Youngest,
            other => panic!("a kind of balancing: {other:?}"),
        };
        let state = case["state"].as_object().expect("by id");
        let slot = |(id, it): (&String, &Value)| {
            Some(Slot {
                id: id.clone(),
                started_at: Date(*known.get(id)?),
                assigned: from(&it["assigned"]),
                used: from(&it["used"]),
                tags: from(&it["tags"]),
                ages_ms: match &case["request-age-ms"][id] {
                    Value::Null => Vec::new(),
                    ages => from(ages),
                },
            })
        };
        Self {
            id: from(&case["id"]),
            balancing,
            exclude: from(&case["exclude"]),
            slots: state.iter().filter_map(slot).collect(),
            sorted: match &case["sorted-instance-ids"] {
                Value::Null => from(&case["expect"]["sorted"]),
                // One case has a null among them, of an instance that is not known.
                ids => from::<Vec<Option<String>>>(ids).into_iter().flatten().collect(),
            },
            lingering_ms,
        }
    }

    /// The roster the control thread would publish: live ones from the oldest, then expired ones
    /// from the youngest.
    fn roster(&self) -> ServiceSlots {
        let listed = |it: &&Slot| it.serveable() && self.sorted.contains(&it.id);
        let mut serving: Vec<&Slot> = self.slots.iter().filter(listed).collect();
        serving.sort_by_key(|it| {
            let start = i128::from(it.started_at.0);
            (it.is("expired"), if it.is("expired") { -start } else { start }, &it.id)
        });
        let mut order: Vec<_> = self.sorted.iter().collect();
        order.retain(|id| serving.iter().any(|it| it.id == **id));
        assert!(serving.iter().map(|it| &it.id).eq(order), "the same order: {self:#?}");
        let live = serving.iter().filter(|it| !it.is("expired")).count();
        let instances = serving.into_iter().map(Slot::instance).collect();
        let slots = ServiceSlots::default();
        slots.publish(Arc::new(Roster::new(instances, live, self.balancing)));
        slots
    }

    fn serve(&self) -> Option<String> {
        let slots = self.roster();
        let roster = slots.roster();
        let excluded = |it: &&Arc<Instance>| self.exclude.iter().any(|no| no == it.suffix());
        let not: Vec<_> = roster.instances().iter().filter(excluded).cloned().collect();
        slots.take(ShardId(0), &not, 0).map(|it| it.suffix().to_owned())
    }

    fn kill(&self) -> Option<String> {
        let seen = Circumstances {
            any_expired: self.slots.iter().any(|it| it.is("expired")),
            any_starting: self.slots.iter().any(|it| it.is("starting")),
            youngest_serve: self.balancing == LoadBalancing::Youngest,
        };
        let free = self.slots.iter().filter(|it| !self.exclude.contains(&it.id));
        let candidates: Vec<_> = free.map(|it| it.candidate(self.lingering_ms)).collect();
        choose_for_kill(&candidates, seen).map(|it| it.id.to_owned())
    }

    /// Why the product serves another one than the original, if it does so on purpose.
    fn reason_to_deviate(&self, wanted: Option<&str>, got: Option<&str>) -> Option<&'static str> {
        let slot = |id: &str| self.slots.iter().find(|it| it.id == id);
        let (wanted, got) = (wanted.and_then(slot), got.and_then(slot));
        let excluded = |it: &Slot| self.exclude.contains(&it.id);
        if let (None, Some(got)) = (wanted, got)
            && excluded(got)
            && self.slots.iter().filter(|it| it.serveable()).all(excluded)
        {
            return Some(
                "what alone serves is not avoided: better a second failure than a timeout",
            );
        }
        if let (Some(wanted), Some(got)) = (wanted, got)
            && self.balancing == LoadBalancing::Youngest
            && (wanted.is("expired"), got.is("expired")) == (true, false)
        {
            return Some("Q4: youngest prefers live instances to expired ones");
        }
        None
    }
}

fn from<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// Replays a group of cases and says how many agreed and how many differ on purpose.
#[derive(Default)]
struct Tally {
    same: usize,
    on_purpose: BTreeMap<&'static str, Vec<String>>,
}

impl Tally {
    fn serve(&mut self, case: &Case, wanted: &Value) {
        let (wanted, got) = (wanted.as_str(), case.serve());
        if wanted == got.as_deref() {
            self.same += 1;
            return;
        }
        let why = case.reason_to_deviate(wanted, got.as_deref());
        let why = why.unwrap_or_else(|| panic!("serve: wanted {wanted:?}, got {got:?}: {case:#?}"));
        self.on_purpose.entry(why).or_default().push(case.id.clone());
    }

    fn kill(&mut self, case: &Case, wanted: &Value) {
        assert_eq!(wanted.as_str(), case.kill().as_deref(), "kill: {case:#?}");
        self.same += 1;
    }

    #[expect(clippy::print_stdout, reason = "a test says how much it replayed")]
    fn print(&self, group: &str) {
        println!("{group}: {} choices as the original", self.same);
        for (why, cases) in &self.on_purpose {
            println!("{group}: {} differ: {why}: {}", cases.len(), cases.join(" "));
        }
    }

    fn differ(&self) -> usize {
        self.on_purpose.values().map(Vec::len).sum()
    }
}

#[test]
fn selections_are_those_of_the_original() {
    let golden = golden();
    let lingering_ms = from(&golden["lingering_request_threshold_ms"]);
    let mut tally = Tally::default();
    for value in golden["selection"].as_array().expect("a list") {
        let case = Case::read(value, lingering_ms);
        match value["reason"].as_str() {
            Some("serve-request") => tally.serve(&case, &value["expect"]),
            Some("kill-instance") => tally.kill(&case, &value["expect"]),
            other => panic!("a reason: {other:?}"),
        }
    }
    tally.print("selection");
    assert_eq!((tally.same, tally.differ()), (39, 2));
}

#[test]
fn derived_choices_and_slots_are_those_of_the_original() {
    let golden = golden();
    let lingering_ms = from(&golden["lingering_request_threshold_ms"]);
    let mut tally = Tally::default();
    for value in golden["derived"].as_array().expect("a list") {
        let (case, expect) = (Case::read(value, lingering_ms), &value["expect"]);
        tally.serve(&case, &expect["serve"]);
        tally.kill(&case, &expect["kill"]);
        let free: u16 = case.slots.iter().map(|it| free_slots(&it.instance())).sum();
        assert_eq!(from::<u16>(&expect["slots-available"]), free, "{case:#?}");
    }
    tally.print("derived");
    assert_eq!(tally.same + tally.differ(), 2 * 160);
}

/// Slots the word would give, one after the other.
fn free_slots(instance: &Instance) -> u16 {
    (0..).take_while(|_| instance.word.take()).count().try_into().expect("few")
}

#[test]
fn rests_after_failures_are_those_of_the_original() {
    let golden = golden();
    let mut count = 0;
    for value in golden["eject_backoff"].as_array().expect("a list") {
        let (base, max): (u64, u64) = (from(&value["base-ms"]), from(&value["max-ms"]));
        let wanted: Vec<u64> = from(&value["eject-ms-by-consecutive-failures"]);
        let got: Vec<u64> =
            (1..).map(|it| eject_millis(it, base, max)).take(wanted.len()).collect();
        assert_eq!(wanted, got, "base {base} max {max}");
        count += wanted.len();
    }
    println!("eject_backoff: {count} rests as the original");
    assert_eq!(count, 24);
}

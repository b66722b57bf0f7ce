//! Golden values of the original's distribution, replayed (`spec/golden/distribution-golden.json`):
//! hashes, ranks, allocations, and both schemes.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use waiter as _;
use waiter::core::distribution::{Shares, allocate, balanced, owner, rank, rank_of, simple};

type Slots = BTreeMap<String, u32>;

/// The golden file; it lies beside the project unless `WAITER_SHARED` says where.
fn golden() -> Value {
    let shared = std::env::var("WAITER_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = format!("{shared}/spec/golden/distribution-golden.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("golden data missing: {path}: {error}; set WAITER_SHARED to the folder with spec/")
    });
    serde_json::from_str(&text).expect("golden data is JSON")
}

/// A value of a case; what is null is empty.
fn from<T: DeserializeOwned + Default>(value: &Value) -> T {
    let read: Option<T> = serde_json::from_value(value.clone()).expect("as the file says");
    read.unwrap_or_default()
}

fn cases(golden: &Value, group: &str) -> Vec<Value> {
    golden[group].as_array().expect("a list").clone()
}

/// Shares by name, as the file has them.
fn named(routers: &[String], instances: &[String], shares: &Shares) -> BTreeMap<String, Slots> {
    let slots = |share: &Vec<(usize, u32)>| {
        share.iter().map(|(place, count)| (instances[*place].clone(), *count)).collect()
    };
    routers.iter().cloned().zip(shares.iter().map(slots)).collect()
}

#[test]
fn hashes_are_those_of_the_original() {
    for case in cases(&golden(), "md5") {
        let [router, instance, hex] = ["router", "instance", "md5hex"].map(|it| &case[it]);
        let got = rank_of(&from::<String>(router), &from::<String>(instance));
        let text: String = got.iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(text, from::<String>(hex), "{case}");
    }
}

#[test]
fn ranks_are_those_of_the_original() {
    for case in cases(&golden(), "ranks") {
        let (routers, instances): (Vec<String>, Vec<String>) =
            (from(&case["routers"]), from(&case["instances"]));
        let wanted: BTreeMap<String, Vec<Vec<String>>> = from(&case["router->ranked"]);
        let got = rank(&routers, &instances);
        for (router, lists) in routers.iter().zip(&got) {
            let names: Vec<Vec<String>> = lists
                .iter()
                .map(|list| list.iter().map(|it| instances[*it].clone()).collect())
                .collect();
            assert_eq!(wanted[router], names, "{case}");
        }
    }
}

#[test]
fn allocations_are_those_of_the_original() {
    let cases = cases(&golden(), "allocate");
    for case in &cases {
        let (available, preference): (Slots, Vec<String>) =
            (from(&case["available"]), from(&case["preference"]));
        let names: Vec<&String> = available.keys().collect();
        let counts: Vec<u32> = available.values().copied().collect();
        let place = |name: &String| names.iter().position(|it| *it == name).expect("it is one");
        let order: Vec<usize> = preference.iter().map(place).collect();
        let got = allocate(from(&case["target-slots"]), &counts, &order);
        let got: Slots =
            names.iter().map(|it| (*it).clone()).zip(got).filter(|(_, it)| *it > 0).collect();
        assert_eq!(got, from::<Slots>(&case["expect"]), "{case}");
    }
    println!("allocate: {} as the original", cases.len());
    assert_eq!(cases.len(), 23);
}

#[test]
fn distributions_of_given_ranks_are_those_of_the_original() {
    let cases = cases(&golden(), "ranked");
    for case in &cases {
        let instances: Vec<String> = from(&case["instances"]);
        let given: BTreeMap<String, Vec<Vec<String>>> = from(&case["router->ranked-instance-ids"]);
        let place = |name: &String| instances.iter().position(|it| it == name).expect("it is one");
        let routers: Vec<String> = given.keys().cloned().collect();
        let ranked: Vec<Vec<Vec<usize>>> = given
            .values()
            .map(|lists| lists.iter().map(|list| list.iter().map(place).collect()).collect())
            .collect();
        let slots = match &case["concurrency-level"] {
            Value::Null => 1, // the default
            some => from(some),
        };
        let got = named(&routers, &instances, &simple(&ranked, slots));
        assert_eq!(got, from(&case["expect"]["simple"]), "{case}");
        let shares = balanced(&routers, &ranked, instances.len(), slots);
        let got = named(&routers, &instances, &shares);
        assert_eq!(got, from(&case["expect"]["balanced"]), "{case}");
    }
    println!("ranked: {} as the original", cases.len());
    assert_eq!(cases.len(), 20);
}

#[test]
fn whole_distributions_are_those_of_the_original() {
    let cases = cases(&golden(), "end_to_end");
    for case in &cases {
        let (routers, instances): (Vec<String>, Vec<String>) =
            (from(&case["routers"]), from(&case["instances"]));
        let slots = from(&case["concurrency-level"]);
        let ranked = rank(&routers, &instances);
        let own = simple(&ranked, slots);
        assert_eq!(named(&routers, &instances, &own), from(&case["simple"]), "{case}");
        for (place, instance) in instances.iter().enumerate() {
            let it = owner(&routers, instance).expect("there are routers");
            assert!(own[it].iter().any(|(at, _)| *at == place), "the owner has it: {case}");
        }
        let shares = balanced(&routers, &ranked, instances.len(), slots);
        assert_eq!(named(&routers, &instances, &shares), from(&case["balanced"]), "{case}");
    }
    println!("end_to_end: {} as the original", cases.len());
    assert_eq!(cases.len(), 136);
}

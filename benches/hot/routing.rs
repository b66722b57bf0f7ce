//! Routing: by a name, by headers that were seen before, by headers that are new.

use super::{Rule, service};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use waiter::base::ids::ServiceId;
use waiter::core::route::{Hosts, Route, route};
use waiter::core::service::{Defaults, Description, fingerprint, from_headers};
use waiter::core::world::World;
use waiter::wire::fields::Fields;

/// A request goes to one of 1000 services that have a name.
pub(crate) fn by_name() -> Rule {
    let (world, hosts, fields) = (world(), hosts(), plain());
    Box::new(move || {
        let find = |name: &str| world.named(name).cloned();
        let found = route(b"/", b"n77:80", black_box(&fields).iter(), &hosts, find);
        assert!(matches!(found, Ok(Route::Static(_))));
    })
}

/// A request goes where its headers say, which were seen before.
pub(crate) fn by_headers() -> Rule {
    let (world, hosts, fields) = (world(), hosts(), described());
    let description = from_headers(fields.iter(), "me", &Defaults::default()).expect("it is one");
    let mut key = Vec::new();
    fingerprint(fields.iter(), &mut key);
    let known: HashMap<Vec<u8>, Arc<Description>, foldhash::fast::FixedState> =
        HashMap::from_iter([(key.clone(), Arc::new(description))]);
    Box::new(move || {
        let find = |name: &str| world.named(name).cloned();
        let found = route(b"/", b"localhost", black_box(&fields).iter(), &hosts, find);
        assert!(matches!(found, Ok(Route::Headers)));
        key.clear();
        fingerprint(fields.iter(), &mut key);
        assert!(known.contains_key(&key));
    })
}

/// Headers that were not seen before are read, checked and hashed into a service id.
pub(crate) fn described_anew() -> Rule {
    let (fields, defaults) = (described(), Defaults::default());
    Box::new(move || {
        let fields = black_box(&fields).iter();
        black_box(from_headers(fields, "me", &defaults).expect("a description"));
    })
}

fn world() -> World {
    let mut world = World::default();
    for it in 0..1000 {
        world.insert(service(&format!("s{it}"), &[]));
    }
    let names = (0..1000).map(|it| (format!("n{it}").into(), ServiceId::new(&format!("s{it}"))));
    world.names = Arc::new(names.collect());
    world
}

fn hosts() -> Hosts {
    Hosts::new(["localhost"], [])
}

fn plain() -> Fields {
    let mut fields = Fields::default();
    for (name, value) in [("user-agent", "curl/7.88.1"), ("accept", "*/*"), ("x-cid", "1-2")] {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn described() -> Fields {
    let mut fields = plain();
    for (name, value) in [
        ("x-waiter-cmd", "python3 -m http.server $PORT0"),
        ("x-waiter-cpus", "1"),
        ("x-waiter-mem", "128"),
        ("x-waiter-version", "1"),
        ("x-waiter-health-check-url", "/"),
    ] {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

//! What routers share in ZooKeeper is moved by `waiter store`, and seen by others who know it.

use crate::stage::{Ensemble, PATIENCE, until_members};

#[test]
fn a_router_is_where_curator_looks_for_it() {
    let ensemble = Ensemble::start(1);
    let routers = ensemble.routers(1, &["--scheduler", "none", "--cluster", "kitchen"]);
    until_members(&[&routers[0]]);
    let id = routers[0].page("/state/cluster")["router-id"].as_str().expect("an id").to_owned();
    let said = ensemble.four(0, "dump");
    assert!(said.contains(&format!("/waiter/discovery-v2-v2/kitchen/{id}")), "{said}");
    assert!(said.contains("/waiter/leader-latch/_c_") && said.contains("-latch-0000000000"));
    let _ = PATIENCE;
}

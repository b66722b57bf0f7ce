//! The numbers of a cluster: this router in it, and each of the others.

use super::{head, sample};
use crate::api::about::View;
use crate::api::reply::Pieces;
use crate::core::catalogue::{Cluster, Peer};

/// The other routers, where there are some.
pub(super) fn cluster(view: &View<'_>, body: &mut Pieces) {
    let catalogue = view.catalogue;
    let Some(it) = &catalogue.cluster else { return };
    let now = catalogue.time;
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        head(body, name, kind, help);
        sample(body, name, &[], value);
    };
    let level = |it: bool| f64::from(u8::from(it));
    one(
        "waiter_cluster_members",
        "gauge",
        "Routers by whom slots are divided.",
        it.members.len() as f64,
    );
    one(
        "waiter_cluster_strangers",
        "gauge",
        "Nodes among theirs that are not proved to be of routers of this cluster.",
        it.strangers.len() as f64,
    );
    one("waiter_cluster_epoch", "counter", "Number of that membership.", it.epoch as f64);
    one(
        "waiter_cluster_leads",
        "gauge",
        "1 while this router leads.",
        level(it.leads_still(now, view.now)),
    );
    one(
        "waiter_cluster_session",
        "gauge",
        "1 while there is a session with ZooKeeper.",
        level(it.session.is_some()),
    );
    let age = it.seen.map_or(-1.0, |at| now.since(at).as_secs_f64());
    one(
        "waiter_cluster_view_age_seconds",
        "gauge",
        "Age of the last good round trip to ZooKeeper; -1: none.",
        age,
    );
    one(
        "waiter_cluster_away",
        "gauge",
        "1 while nothing starts after a stop of the process.",
        level(it.away),
    );
    one("waiter_cluster_slots_lent", "gauge", "Slots lent to other routers.", it.lent as f64);
    one(
        "waiter_cluster_slots_borrowed",
        "gauge",
        "Slots borrowed of other routers.",
        it.borrowed as f64,
    );
    one(
        "waiter_cluster_unproven_total",
        "counter",
        "Members taken to owe nothing because they were silent.",
        it.unproven as f64,
    );
    let name = "waiter_peer_connections_refused_total";
    head(body, name, "counter", "Connections closed for what the other said, by cause.");
    for (cause, count) in &it.refused {
        sample(body, name, &[("cause", cause)], count);
    }
    peers(it, body);
}

/// Each other router.
fn peers(it: &Cluster, body: &mut Pieces) {
    let mut each = |name: &str, help: &str, value: fn(&Peer) -> f64| {
        head(body, name, "gauge", help);
        for peer in &it.peers {
            sample(body, name, &[("peer", peer.status.router.as_str())], value(peer));
        }
    };
    each("waiter_peer_silent_seconds", "Since a router's last document; -1: none came.", |it| {
        it.status.silent.map_or(-1.0, |it| it.as_secs_f64())
    });
    each(
        "waiter_peer_counters_lag_seconds",
        "Since a router's last counters; -1: none came.",
        |it| it.lag.map_or(-1.0, |it| it.as_secs_f64()),
    );
    each("waiter_peer_connected", "1 while there is a proven connection to a router.", |it| {
        f64::from(u8::from(it.connected.is_some()))
    });
    each("waiter_peer_received_bytes", "Bytes that came by that connection.", |it| {
        it.bytes.0 as f64
    });
    each("waiter_peer_sent_bytes", "Bytes that left by that connection.", |it| it.bytes.1 as f64);
    each("waiter_peer_slots_lent", "Slots lent to a router.", |it| it.status.lent as f64);
    each("waiter_peer_slots_borrowed", "Slots borrowed of a router.", |it| {
        it.status.borrowed as f64
    });
}

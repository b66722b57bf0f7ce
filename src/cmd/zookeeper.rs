//! The session with ZooKeeper, as the settings say.

use crate::base::ids::RouterId;
use crate::config::Config;
use crate::control::Event;
use crate::control::cluster::zookeeper::{Session, Settings};
use crate::core::peers::Member;
use crate::mesh::clock;
use crate::wire::peer::Secret;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;

/// Starts it for this router, which others reach at this address and who know the secret.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    config: &Config,
    me: &RouterId,
    (address, secret): (SocketAddr, Secret),
    events: &SyncSender<Event>,
) -> Result<Session, String> {
    let routers = &config.routers;
    let settings = Settings {
        servers: routers.zookeeper.clone(),
        session: routers.session,
        base: routers.base.clone(),
        cluster: config.cluster.clone(),
        secret,
    };
    let me = Member { id: me.clone(), address: address.to_string(), since: clock::date().0 };
    let told = events.clone();
    let say = Box::new(move |said| {
        let _ = told.send(Event::ZooKeeper(said)); // the loop has ended: so does this
    });
    Session::start(settings, me, say)
        .map_err(|error| format!("cannot start the session with ZooKeeper: {error}"))
}

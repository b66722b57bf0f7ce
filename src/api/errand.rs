//! What takes time: asking the control thread for the end of a service, and pings.
//!
//! An errand runs on a thread of its own. It may wait, and nobody waits behind it.

use super::about::{About, View};
use super::app;
use super::cluster;
use super::logs::{self, Logs, Look};
use super::ping::{self, Ping};
use super::pool::Ask;
use super::reply::Reply;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::catalogue::{Catalogue, Demand, Done, PATIENCE};
use crate::mesh::clock;
use crate::wire::call::Call;
use arc_swap::ArcSwap;
use std::sync::mpsc::channel;

/// Time between two looks at the catalogue.
const LOOK: Duration = Duration::from_millis(50);

/// Kept back from the time a call may take, for the answer's way home.
const WAY_HOME: Duration = Duration::from_secs(2);

/// Something that takes time.
#[derive(Debug)]
pub(super) enum Errand {
    /// End all instances of a service; then wait until it is no longer listed, if a time is given.
    Delete {
        /// Which.
        service: ServiceId,
        /// Longest wait after the deletion; zero: none.
        timeout: Duration,
    },
    /// Send a health check to a service.
    Ping(Ping),
    /// Look into the folder of an instance.
    Logs(Logs),
    /// Say who gives the slots of a service out.
    Distribution(ServiceId),
}

/// What an errand works with.
pub(super) struct Tools<'a> {
    /// What never changes.
    pub(super) about: &'a About,
    /// What is known of every service.
    pub(super) catalogue: &'a ArcSwap<Catalogue>,
    /// How to ask the control thread.
    pub(super) ask: &'a Ask,
    /// How to look into folders.
    pub(super) look: &'a Look,
}

/// Carries an errand out.
pub(super) fn carry_out(errand: Errand, call: &Call, tools: &Tools<'_>) -> Reply {
    let end = clock::now() + tools.about.limits.call_timeout.saturating_sub(WAY_HOME);
    match errand {
        Errand::Delete { service, timeout } => delete(&service, timeout, call, tools, end),
        Errand::Ping(ping) => ping::carry_out(&ping, call, tools, end),
        Errand::Distribution(service) => {
            let demand = Demand::Distribution(service.clone());
            let done = match ask(demand, tools, end) {
                Ok(done) => done,
                Err(fault) => return Reply::fault(&fault, call, clock::date()),
            };
            let catalogue = tools.catalogue.load();
            let view = View::new(&catalogue, tools.about, call, clock::date());
            cluster::distribution(&service, &done, call, &view)
        }
        Errand::Logs(logs) => {
            let catalogue = tools.catalogue.load();
            let view = View::new(&catalogue, tools.about, call, clock::date());
            logs::carry_out(&logs, call, tools.look, &view)
        }
    }
}

fn delete(
    service: &ServiceId,
    timeout: Duration,
    call: &Call,
    tools: &Tools<'_>,
    end: Instant,
) -> Reply {
    let done = match ask(Demand::Delete(service.clone()), tools, end) {
        Ok(done) => done,
        Err(fault) => return Reply::fault(&fault, call, clock::date()),
    };
    let agree = (done == Done::Deleted && !timeout.is_zero()).then(|| {
        let gone = |it: &Catalogue| it.services.get(service).is_none_or(|it| !it.exists);
        wait_until(tools.catalogue, (clock::now() + timeout).min(end), gone)
    });
    app::deleted(service, &done, agree)
}

/// Asks the control thread.
fn ask(demand: Demand, tools: &Tools<'_>, end: Instant) -> Result<Done, Fault> {
    let (answers, answer) = channel();
    (tools.ask)(demand, answers);
    let patience = PATIENCE.min(end - clock::now());
    answer.recv_timeout(patience).map_err(|_| {
        let left = patience.as_secs();
        Fault::new(
            Class::Internal,
            format!("The control thread gave no answer ({left} s were left)"),
        )
    })
}

/// Looks again and again at the newest catalogue, until it is as wanted or the time is over.
pub(super) fn wait_until(
    catalogue: &ArcSwap<Catalogue>,
    end: Instant,
    wanted: impl Fn(&Catalogue) -> bool,
) -> bool {
    loop {
        if wanted(&catalogue.load()) {
            return true;
        }
        let left = end - clock::now();
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(LOOK.min(left));
    }
}

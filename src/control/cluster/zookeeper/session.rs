//! The thread that keeps this router registered, and looks who else is.
//!
//! ```text
//!   <base>/discovery-v2-v2/<cluster>/<router>    ephemeral, as Curator's service discovery has it
//!   <base>/roster/<cluster>/<router>             stays until the router has left or is written off
//!   <base>/leader-latch/_c_<id>-latch-<number>   ephemeral; the lowest number is first
//! ```
//! What stands there counts if the cluster's secret proves it, on the session with which the node
//! goes: nobody can register another, nor again what a router once said. Nodes that are not proved,
//! those of Curator among them, are shown and get no slots. The latch has no place for clusters, as
//! in the original, so clusters that share a base would lead each other: each needs a base.
//!
//! Every sixth of a session there is a round: a write, so that no server which lags behind can
//! answer; then the members, until the number of their last change is the same before and after;
//! then the roster, then the candidates. What a round has seen goes to the control loop.
//!
//! Must hold: the roster has this router before it registers; the control loop has been told before
//! it registers, for the first time or again, and before its session or its candidacy is ended, by
//! which it may lead; a round that is told was made on one session, and began when it says.

use super::bar::{Bar, Stay};
use super::client::{Client, Error, Granted, Mode, Verbs, make_way};
use super::curator;
use super::lookout::{Found, Lookout, Places, candidacy, router_id};
use crate::base::ids::RouterId;
use crate::base::time::Duration;
use crate::control::cluster::{Ask, Said, Seen};
use crate::core::peers::{Member, View};
use crate::mesh::clock;
use crate::wire::peer::Secret;
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The control loop answers within this time, or registration waits for the next round.
const LOOP_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a round that failed or must be repeated, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Within this time it is noticed that the session has another length.
const SLICE: Duration = Duration::from_secs(1);

/// What the session is kept by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Servers, each `host:port`.
    pub servers: Vec<String>,
    /// The session to ask for.
    pub session: Duration,
    /// The node below which everything is.
    pub base: String,
    /// Name of the cluster.
    pub cluster: String,
    /// What its routers know.
    pub secret: Secret,
}

/// This router, as it registers.
pub type Registration = Member;

/// The thread and the way to it.
#[derive(Debug)]
pub struct Session {
    /// What it is asked.
    pub asks: Sender<Ask>,
    /// It ends after [`Ask::End`], or when nobody can ask any more.
    pub thread: JoinHandle<()>,
}

/// What is said goes there.
pub type Say = Box<dyn Fn(Said) + Send>;

impl Session {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(settings: Settings, me: Registration, say: Say) -> io::Result<Self> {
        let (asks, asked) = channel();
        let keeper = Keeper::new(&settings, me, say);
        let thread = Builder::new().name("zookeeper".into()).spawn(move || keeper.run(&asked))?;
        Ok(Self { asks, thread })
    }
}

struct Keeper {
    client: Client,
    say: Say,
    me: Registration,
    cluster: String,
    secret: Secret,
    lookout: Lookout,
    /// What the names of this router's candidacies begin with.
    candidacy: String,
    granted: Option<Granted>,
    /// As the control loop was told.
    told: Option<Granted>,
    is_registered: bool,
    /// It was registered once and found to be among its own, so it knows the secret of the others.
    has_belonged: bool,
    /// It was refused.
    bar: Option<Bar>,
    /// The control loop was told that there is no session, or none for it; why.
    lost: Option<String>,
    is_leaving: bool,
    has_left: bool,
    burials: BTreeSet<RouterId>,
}

impl Keeper {
    fn new(settings: &Settings, me: Registration, say: Say) -> Self {
        let Settings { servers, session, base, cluster, secret } = settings.clone();
        let at = Places {
            discovery: format!("{base}/discovery-v2-v2/{cluster}"),
            roster: format!("{base}/roster/{cluster}"),
            latch: format!("{base}/leader-latch"),
        };
        Self {
            client: Client::new(servers, session),
            say,
            lookout: Lookout::new(at, me.clone(), secret.clone()),
            candidacy: candidacy(&me.id),
            me,
            cluster,
            secret,
            granted: None,
            told: None,
            is_registered: false,
            has_belonged: false,
            bar: None,
            lost: None,
            is_leaving: false,
            has_left: false,
            burials: BTreeSet::new(),
        }
    }

    fn run(mut self, asked: &Receiver<Ask>) {
        let mut next = clock::now();
        loop {
            match asked.recv_timeout((next - clock::now()).min(SLICE)) {
                Ok(Ask::Bury(router)) => {
                    self.burials.insert(router);
                }
                Ok(Ask::Leave) => {
                    self.is_leaving = true;
                    next = clock::now();
                }
                Ok(Ask::End) => return self.end(),
                Err(RecvTimeoutError::Disconnected) => return self.client.close(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let began = clock::now();
            // A session that is far shorter now would be over before the next round.
            let is_other = self.granted.is_some() && self.client.granted() != self.granted;
            if began < next && !is_other {
                continue;
            }
            next = match self.round() {
                Ok(true) => began + self.pause(),
                Ok(false) => clock::now() + PAUSE,
                Err(Error::Strangers(why)) => {
                    self.stays_out(why);
                    began + self.pause()
                }
                Err(why) => {
                    self.lost(why.to_string());
                    clock::now() + self.client.nap().max(PAUSE)
                }
            };
        }
    }

    /// From the beginning of a round to that of the next.
    fn pause(&self) -> Duration {
        self.granted.map_or(PAUSE, |it| it.length / 6)
    }

    /// One look around; `false` if it must be repeated soon.
    fn round(&mut self) -> Result<bool, Error> {
        let granted = self.client.session()?;
        let before = self.granted.replace(granted);
        if before.is_none_or(|it| it.id != granted.id) {
            self.lookout.begin();
            self.is_registered = false;
            self.lost = None;
        }
        if self.is_leaving && !self.has_left {
            self.leave()?;
        }
        if self.is_leaving && !self.has_belonged {
            return Ok(true); // nobody counted on it, so there is nothing to look after
        }
        if !self.is_leaving && !self.is_registered {
            if !self.may_register(granted)? {
                return Ok(false);
            }
            self.tell_granted(granted);
            self.register(granted)?;
        }
        self.tell_granted(granted);
        let began = clock::now();
        self.write_roster()?;
        let Some(found) = self.lookout.members(&mut self.client)? else { return Ok(false) };
        let own = found.own.filter(|it| it.owner == granted.id);
        match own {
            _ if self.is_leaving => {}
            None => {
                tracing::warn!("this router's node in ZooKeeper is gone; it is registered again");
                self.is_registered = false;
                return Ok(false);
            }
            // Whoever began at the same time is registered by now, or comes later.
            Some(it) if !self.has_belonged => {
                self.is_among_its_own(&found, it.created)?;
                (self.has_belonged, self.bar) = (true, None);
                self.stand()?;
            }
            Some(_) => {}
        }
        let roster = self.lookout.roster(&mut self.client)?;
        let first = self.first(granted)?;
        self.bury()?;
        self.lookout.complain_of_outsider(first.as_ref());
        if self.client.granted() != Some(granted) {
            return Ok(false); // by the length that it had it proves nothing
        }
        let Found { epoch, members, strangers, .. } = found;
        let view = View { epoch, members, roster };
        let seen = Seen { view, strangers, began, first, server: self.client.server() };
        (self.say)(Said::Seen(Box::new(seen)));
        self.client.works();
        Ok(true)
    }

    /// The control loop hears of the session when there is use for it: before this router
    /// registers, and whenever it has another length. What was proved by the former is void then,
    /// also of the same session.
    fn tell_granted(&mut self, granted: Granted) {
        if self.told.replace(granted) != Some(granted) {
            (self.say)(Said::Granted(granted.length));
        }
    }

    /// The session is let go, but not before the control loop leads by it no more: either it has
    /// heard, or its lease is over, which is shorter than the session.
    fn lost(&mut self, why: String) {
        let lease = self.granted.take().map(|it| it.length);
        self.is_registered = false;
        self.client.give_up();
        if let Some(bar) = &mut self.bar {
            bar.missed();
        }
        if lease.is_some() || self.lost.is_none() {
            self.say_lost(why, lease);
        }
    }

    /// It keeps the session, to look again and again whether it may register.
    fn stays_out(&mut self, why: String) {
        self.client.works();
        if self.lost.as_ref() != Some(&why) {
            self.say_lost(why, self.granted.map(|it| it.length));
        }
    }

    fn say_lost(&mut self, why: String, lease: Option<Duration>) {
        let (heard, wait) = sync_channel(1);
        (self.say)(Said::Lost(why.clone(), heard));
        (self.lost, self.told) = (Some(why), None);
        if let Some(lease) = lease {
            let _ = wait.recv_timeout(lease); // a loop that has ended leads nobody
        }
    }

    /// Whether it may register; `false` if nobody can tell yet.
    fn may_register(&mut self, granted: Granted) -> Result<bool, Error> {
        for path in [&self.lookout.at.discovery, &self.lookout.at.roster, &self.lookout.at.latch] {
            make_way(&mut self.client, path)?;
        }
        if self.has_belonged {
            return Ok(true);
        }
        let Some(found) = self.lookout.members(&mut self.client)? else { return Ok(false) };
        self.is_among_its_own(&found, i64::MAX)?; // so that nobody is disturbed
        let Some(bar) = &mut self.bar else { return Ok(true) };
        if self.lookout.has_company(&mut self.client, &found)? {
            return Ok(true);
        }
        let roster = &self.lookout.at.roster;
        let names = self.client.children(roster)?;
        let patience = granted.length * 2;
        match bar.looked(&names, patience, clock::now()) {
            None => Ok(true),
            Some(Stay::For(router)) => Err(Error::Strangers(format!(
                "router {router}, which proves another secret than this one's, is not registered \
                 now but may come back, so this router stays out; if that one has ended for good, \
                 delete {roster}/{router}"
            ))),
            Some(Stay::Alone) => Err(Error::Strangers(format!(
                "the routers that prove another secret than this one's have left; this router \
                 registers if none has come back within {patience:?}"
            ))),
        }
    }

    /// This router's node, and its candidacy once it is known to be among its own.
    fn register(&mut self, granted: Granted) -> Result<(), Error> {
        self.write_roster()?;
        let (may, wait) = sync_channel(1);
        (self.say)(Said::Registering(may));
        if wait.recv_timeout(LOOP_PATIENCE).is_err() {
            return Err(Error::Trouble("the control loop does not answer".to_owned()));
        }
        let path = format!("{}/{}", self.lookout.at.discovery, self.me.id.as_str());
        let Member { id, address, .. } = &self.me;
        let proof = self.secret.vouch(id.as_str(), address, granted.id);
        let value = curator::write(&self.me, &self.cluster, &proof);
        while let Err(error) = self.client.create(&path, &value, Mode::Ephemeral) {
            if error != Error::NodeExists {
                return Err(error);
            }
            match self.client.get(&path) {
                Ok((_, stat)) if stat.owner == granted.id => break,
                Ok(_) => tolerate(self.client.delete(&path, None), &Error::NoNode)?,
                Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        self.is_registered = true;
        if self.has_belonged { self.stand() } else { Ok(()) }
    }

    /// Its candidacy, behind all others.
    fn stand(&mut self) -> Result<(), Error> {
        self.withdraw()?;
        let path = format!("{}/{}", self.lookout.at.latch, self.candidacy);
        let id = self.me.id.as_str().as_bytes().to_vec();
        self.client.create(&path, &id, Mode::Sequential).map(drop)
    }

    /// A router that knows another secret than those that were registered before it would give out
    /// the same slots as they do, so it does not join them, and leaves no trace. Of two that begin
    /// together the server has made the node of one first. Later it is others who would be wrong.
    fn is_among_its_own(&mut self, found: &Found, made: i64) -> Result<(), Error> {
        let strangers = self.lookout.strangers_before(&mut self.client, found, made)?;
        if strangers.is_empty() {
            return Ok(());
        }
        self.bar.get_or_insert_default().refused(strangers);
        let places = [&self.lookout.at.discovery, &self.lookout.at.roster];
        for path in places.map(|it| format!("{it}/{}", self.me.id.as_str())) {
            tolerate(self.client.delete(&path, None), &Error::NoNode)?;
        }
        self.is_registered = false;
        Err(Error::Strangers(format!(
            "the routers registered in {} before this one prove another secret than this one's, so \
             it stays out: compare --cluster-secret-file of both; to change the secret, stop all \
             routers first",
            self.lookout.at.discovery
        )))
    }

    /// Removes what this router's candidacies are, of whatever session.
    fn withdraw(&mut self) -> Result<(), Error> {
        for name in self.client.children(&self.lookout.at.latch)? {
            if name.starts_with(&self.candidacy) {
                let path = format!("{}/{name}", self.lookout.at.latch);
                tolerate(self.client.delete(&path, None), &Error::NoNode)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        // Also what an earlier session may have left.
        tolerate(self.withdraw(), &Error::NoNode)?;
        let path = format!("{}/{}", self.lookout.at.discovery, self.me.id.as_str());
        tolerate(self.client.delete(&path, None), &Error::NoNode)?;
        self.is_registered = false;
        self.has_left = true;
        (self.say)(Said::Left);
        Ok(())
    }

    /// It owes nothing: nothing of it is left.
    fn end(mut self) {
        let path = format!("{}/{}", self.lookout.at.roster, self.me.id.as_str());
        if self.granted.is_some()
            && let Err(error) = tolerate(self.client.delete(&path, None), &Error::NoNode)
        {
            tracing::warn!(%error, "this router cannot be removed from the roster");
        }
        self.client.close();
    }

    /// The write of a round, on a node of this router that nobody watches.
    fn write_roster(&mut self) -> Result<(), Error> {
        let path = format!("{}/{}", self.lookout.at.roster, self.me.id.as_str());
        let Member { id, address, since } = &self.me;
        let proof = curator::hex(&self.secret.vouch(id.as_str(), address, 0));
        let value = json!({"address": address, "since": since, "proof": proof}).to_string();
        match self.client.set(&path, value.as_bytes(), None) {
            Ok(_) => Ok(()),
            Err(Error::NoNode) => {
                let made = self.client.create(&path, value.as_bytes(), Mode::Persistent);
                tolerate(made.map(drop), &Error::NodeExists)
            }
            Err(error) => Err(error),
        }
    }

    /// The router whose candidacy is the oldest. If its own is gone, this router makes another.
    fn first(&mut self, granted: Granted) -> Result<Option<RouterId>, Error> {
        let names = self.client.children(&self.lookout.at.latch)?;
        let mut candidates: Vec<(u64, &String)> =
            names.iter().filter_map(|it| Some((number(it)?, it))).collect();
        candidates.sort();
        if !self.is_leaving && !names.iter().any(|it| it.starts_with(&self.candidacy)) {
            self.register(granted)?;
        }
        for (_, name) in candidates {
            match self.client.get(&format!("{}/{name}", self.lookout.at.latch)) {
                // What an earlier session of this router left proves nothing of this one.
                Ok((_, stat)) if name.starts_with(&self.candidacy) && stat.owner != granted.id => {
                    let path = format!("{}/{name}", self.lookout.at.latch);
                    tolerate(self.client.delete(&path, None), &Error::NoNode)?;
                }
                Ok((value, _)) => {
                    let text = String::from_utf8_lossy(&value).into_owned();
                    return Ok(router_id(&text));
                }
                Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes those from the roster who were written off and have not come back.
    fn bury(&mut self) -> Result<(), Error> {
        while let Some(router) = self.burials.first().cloned() {
            // Its node is what counts, whether it can be understood or not.
            match self.client.get(&format!("{}/{}", self.lookout.at.discovery, router.as_str())) {
                Ok(_) => {}
                Err(Error::NoNode) => {
                    let path = format!("{}/{}", self.lookout.at.roster, router.as_str());
                    tolerate(self.client.delete(&path, None), &Error::NoNode)?;
                    tracing::info!(%router, "a router that has ended is written off");
                }
                Err(error) => return Err(error),
            }
            self.burials.remove(&router);
        }
        Ok(())
    }
}

fn tolerate(done: Result<(), Error>, but: &Error) -> Result<(), Error> {
    match done {
        Err(error) if error == *but => Ok(()),
        done => done,
    }
}

/// The number at the end of a candidacy's name.
fn number(name: &str) -> Option<u64> {
    let digits = name.get(name.len().checked_sub(10)?..)?;
    if digits.bytes().all(|it| it.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidacies_are_ordered_by_number_alone() {
        assert_eq!(number("_c_ffff-latch-0000000007"), Some(7));
        assert_eq!(number("_c_aaaa-latch-000000000x"), None);
        assert_eq!(number("short"), None);
        assert_eq!(number("äöüäöüäöü0000000001"), Some(1));
    }
}

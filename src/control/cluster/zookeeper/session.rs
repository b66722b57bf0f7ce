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

use super::client::{Client, Error, Granted, Mode, Verbs, make_way};
use super::curator;
use crate::base::ids::{ID_BYTES_MAX, RouterId, fixed_hash};
use crate::base::time::Duration;
use crate::control::cluster::{Ask, Said, Seen};
use crate::core::peers::document::ROUTERS_MAX;
use crate::core::peers::{Member, View};
use crate::mesh::clock;
use crate::wire::peer::Secret;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The control loop answers within this time, or registration waits for the next round.
const LOOP_PATIENCE: Duration = Duration::from_secs(10);
/// Looks at the members until they stay the same while they are read.
const LOOKS_MAX: usize = 8;
/// Pause after a round that failed or must be repeated, at least.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Where things are.
#[derive(Debug)]
struct Places {
    discovery: String,
    roster: String,
    latch: String,
}

struct Keeper {
    client: Client,
    say: Say,
    me: Registration,
    cluster: String,
    secret: Secret,
    at: Places,
    /// What the names of this router's candidacies begin with.
    candidacy: String,
    granted: Option<Granted>,
    is_registered: bool,
    /// It was registered once, so it knows the secret of the others.
    has_belonged: bool,
    is_lost: bool,
    is_leaving: bool,
    has_left: bool,
    burials: BTreeSet<RouterId>,
    /// The members, as they were read on this session.
    found: Found,
    /// Routers of the roster, as they were read.
    known: HashMap<String, Member>,
    /// Nodes that were complained of.
    strange: HashSet<String>,
    /// The first candidate, if it is no member.
    outsider: Option<RouterId>,
}

/// The members as a round found them. Whoever joins or leaves makes another epoch; so while the
/// epoch is the same they are not read again.
#[derive(Clone, Default)]
struct Found {
    epoch: u64,
    members: Vec<Member>,
    /// Who is registered and is not proved to be a router of this cluster; of some, what should
    /// prove it does not.
    strangers: Vec<Member>,
    refuted: usize,
    /// The session with which this router's node goes.
    own: Option<i64>,
}

impl Keeper {
    fn new(settings: &Settings, me: Registration, say: Say) -> Self {
        let Settings { servers, session, base, cluster, secret } = settings.clone();
        let id = me.id.as_str();
        let (high, low) = (fixed_hash(id.as_bytes()), fixed_hash(format!("{id}#").as_bytes()));
        let uuid = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        Self {
            client: Client::new(servers, session),
            say,
            at: Places {
                discovery: format!("{base}/discovery-v2-v2/{cluster}"),
                roster: format!("{base}/roster/{cluster}"),
                latch: format!("{base}/leader-latch"),
            },
            candidacy: format!("_c_{uuid}-latch-"),
            me,
            cluster,
            secret,
            granted: None,
            is_registered: false,
            has_belonged: false,
            is_lost: false,
            is_leaving: false,
            has_left: false,
            burials: BTreeSet::new(),
            found: Found::default(),
            known: HashMap::new(),
            strange: HashSet::new(),
            outsider: None,
        }
    }

    fn run(mut self, asked: &Receiver<Ask>) {
        let mut next = clock::now();
        loop {
            match asked.recv_timeout(next - clock::now()) {
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
            if began < next {
                continue;
            }
            next = match self.round() {
                Ok(true) => {
                    let length = self.granted.map_or(PAUSE, |it| it.length);
                    began + length / 6
                }
                Ok(false) => clock::now() + PAUSE,
                Err(why) => {
                    self.lost(why.to_string());
                    clock::now() + self.client.nap().max(PAUSE)
                }
            };
        }
    }

    /// One look around; `false` if it must be repeated soon.
    fn round(&mut self) -> Result<bool, Error> {
        let granted = self.client.session()?;
        if self.granted != Some(granted) {
            self.granted = Some(granted);
            self.found = Found::default();
            self.is_registered = false;
            self.is_lost = false;
            (self.say)(Said::Granted(granted.length));
        }
        if self.is_leaving && !self.has_left {
            self.leave()?;
        } else if !self.is_leaving && !self.is_registered {
            self.register(granted)?;
        }
        let began = clock::now();
        self.write_roster()?;
        let Some(found) = self.members()? else { return Ok(false) };
        if !self.is_leaving && found.own != Some(granted.id) {
            tracing::warn!("this router's node in ZooKeeper is gone; it is registered again");
            self.is_registered = false;
            return Ok(false);
        }
        let roster = self.roster()?;
        let first = self.first(granted)?;
        self.bury()?;
        self.complain_of_outsider(first.as_ref());
        let Found { epoch, members, strangers, .. } = found;
        let view = View { epoch, members, roster };
        let seen = Seen { view, strangers, began, first, server: self.client.server() };
        (self.say)(Said::Seen(Box::new(seen)));
        self.client.works();
        Ok(true)
    }

    /// The session is let go, but not before the control loop leads by it no more: either it has
    /// heard, or its lease is over, which is shorter than the session.
    fn lost(&mut self, why: String) {
        let lease = self.granted.take().map(|it| it.length);
        self.is_registered = false;
        self.client.give_up();
        if !std::mem::replace(&mut self.is_lost, true) {
            let (heard, wait) = sync_channel(1);
            (self.say)(Said::Lost(why, heard));
            if let Some(lease) = lease {
                let _ = wait.recv_timeout(lease); // a loop that has ended leads nobody
            }
        }
    }

    /// This router's node, and its candidacy.
    fn register(&mut self, granted: Granted) -> Result<(), Error> {
        for path in [&self.at.discovery, &self.at.roster, &self.at.latch] {
            make_way(&mut self.client, path)?;
        }
        self.is_among_its_own()?;
        self.write_roster()?;
        let (may, wait) = sync_channel(1);
        (self.say)(Said::Registering(may));
        if wait.recv_timeout(LOOP_PATIENCE).is_err() {
            return Err(Error::Trouble("the control loop does not answer".to_owned()));
        }
        let path = format!("{}/{}", self.at.discovery, self.me.id.as_str());
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
        self.withdraw()?;
        let path = format!("{}/{}", self.at.latch, self.candidacy);
        let id = self.me.id.as_str().as_bytes().to_vec();
        self.client.create(&path, &id, Mode::Sequential)?;
        (self.is_registered, self.has_belonged) = (true, true);
        Ok(())
    }

    /// A router that knows another secret than all that are registered would give out the same
    /// slots as they do, so it does not join them. Later it is they who would have to be wrong.
    fn is_among_its_own(&mut self) -> Result<(), Error> {
        if self.has_belonged {
            return Ok(());
        }
        match self.members()? {
            Some(found) if found.members.is_empty() && found.refuted > 0 => {
                Err(Error::Refused(format!(
                    "the routers registered in {} prove another secret than this one's: compare \
                     --cluster-secret-file of both",
                    self.at.discovery
                )))
            }
            _ => Ok(()),
        }
    }

    /// Removes what this router's candidacies are, of whatever session.
    fn withdraw(&mut self) -> Result<(), Error> {
        for name in self.client.children(&self.at.latch)? {
            if name.starts_with(&self.candidacy) {
                let path = format!("{}/{name}", self.at.latch);
                tolerate(self.client.delete(&path, None), &Error::NoNode)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        // Also what an earlier session may have left.
        tolerate(self.withdraw(), &Error::NoNode)?;
        let path = format!("{}/{}", self.at.discovery, self.me.id.as_str());
        tolerate(self.client.delete(&path, None), &Error::NoNode)?;
        self.is_registered = false;
        self.has_left = true;
        (self.say)(Said::Left);
        Ok(())
    }

    /// It owes nothing: nothing of it is left.
    fn end(mut self) {
        let path = format!("{}/{}", self.at.roster, self.me.id.as_str());
        if self.granted.is_some()
            && let Err(error) = self.client.delete(&path, None)
        {
            tracing::warn!(%error, "this router cannot be removed from the roster");
        }
        self.client.close();
    }

    /// The write of a round, on a node of this router that nobody watches.
    fn write_roster(&mut self) -> Result<(), Error> {
        let path = format!("{}/{}", self.at.roster, self.me.id.as_str());
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

    /// Who is registered; none if that went on changing.
    fn members(&mut self) -> Result<Option<Found>, Error> {
        let discovery = self.at.discovery.clone();
        for _ in 0..LOOKS_MAX {
            let before = self.client.get(&discovery)?.1.pzxid;
            let epoch = u64::try_from(before).unwrap_or(0);
            if epoch == self.found.epoch {
                return Ok(Some(self.found.clone()));
            }
            let mut names = self.client.children(&discovery)?;
            names.sort();
            let mut found = Found { epoch, ..Found::default() };
            for name in names {
                self.read_member(&name, &mut found)?;
            }
            if self.client.get(&discovery)?.1.pzxid == before {
                self.complain_of_crowd(found.members.len());
                // All routers leave out the same ones.
                found.members.truncate(ROUTERS_MAX);
                self.found = found.clone();
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// One of those that are registered, if it is a router.
    fn read_member(&mut self, name: &str, found: &mut Found) -> Result<(), Error> {
        let path = format!("{}/{name}", self.at.discovery);
        let (value, stat) = match self.client.get(&path) {
            Ok(it) => it,
            Err(Error::NoNode) => return Ok(()),
            Err(error) => return Err(error),
        };
        if name == self.me.id.as_str() {
            found.own = Some(stat.owner);
            found.members.push(self.me.clone());
            return Ok(());
        }
        let Some((member, proof)) = curator::read(name, &value) else {
            self.complain_of(&path, "is no router of this version; left out");
            return Ok(());
        };
        let lives = stat.owner != 0;
        if lives && self.secret.vouches(&proof, name, &member.address, stat.owner) {
            found.members.push(member);
            return Ok(());
        }
        self.complain_of(
            &path,
            "does not prove the secret of this cluster; it is shown, and gets no slots (compare \
             --cluster-secret-file of both, if it is a router)",
        );
        found.refuted += usize::from(lives && !proof.is_empty());
        if found.strangers.len() < ROUTERS_MAX {
            found.strangers.push(member);
        }
        Ok(())
    }

    /// Who has not been written off.
    fn roster(&mut self) -> Result<Vec<Member>, Error> {
        let names = self.client.children(&self.at.roster)?;
        let present: HashSet<&String> = names.iter().collect();
        self.known.retain(|name, _| present.contains(name));
        for name in &names {
            if self.known.contains_key(name) {
                continue;
            }
            let path = format!("{}/{name}", self.at.roster);
            let value = match self.client.get(&path) {
                Ok((value, _)) => value,
                Err(Error::NoNode) => continue,
                Err(error) => return Err(error),
            };
            match entry(name, &value, &self.secret) {
                Some(member) => {
                    self.known.insert(name.clone(), member);
                }
                None => self.complain_of(&path, "is no router of this cluster; left out"),
            }
        }
        let all: BTreeMap<&String, &Member> = self.known.iter().collect();
        Ok(all.into_values().take(ROUTERS_MAX).cloned().collect())
    }

    /// The router whose candidacy is the oldest. If its own is gone, this router makes another.
    fn first(&mut self, granted: Granted) -> Result<Option<RouterId>, Error> {
        let names = self.client.children(&self.at.latch)?;
        let mut candidates: Vec<(u64, &String)> =
            names.iter().filter_map(|it| Some((number(it)?, it))).collect();
        candidates.sort();
        if !self.is_leaving && !names.iter().any(|it| it.starts_with(&self.candidacy)) {
            self.register(granted)?;
        }
        for (_, name) in candidates {
            match self.client.get(&format!("{}/{name}", self.at.latch)) {
                // What an earlier session of this router left proves nothing of this one.
                Ok((_, stat)) if name.starts_with(&self.candidacy) && stat.owner != granted.id => {
                    let path = format!("{}/{name}", self.at.latch);
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
            match self.client.get(&format!("{}/{}", self.at.discovery, router.as_str())) {
                Ok(_) => {}
                Err(Error::NoNode) => {
                    let path = format!("{}/{}", self.at.roster, router.as_str());
                    tolerate(self.client.delete(&path, None), &Error::NoNode)?;
                    tracing::info!(%router, "a router that has ended is written off");
                }
                Err(error) => return Err(error),
            }
            self.burials.remove(&router);
        }
        Ok(())
    }

    fn complain_of(&mut self, path: &str, what: &str) {
        if self.strange.len() < ROUTERS_MAX && self.strange.insert(path.to_owned()) {
            tracing::warn!(path, "a node of ZooKeeper {what}");
        }
    }

    /// A first candidate that is no member, and was none a round ago: nobody here can lead.
    fn complain_of_outsider(&mut self, first: Option<&RouterId>) {
        let is_member = |it: &&RouterId| self.found.members.iter().any(|member| member.id == **it);
        let outsider = first.filter(|it| !is_member(it)).cloned();
        let stays = outsider.is_some() && outsider == self.outsider;
        if let Some(router) = outsider.as_ref().filter(|_| stays)
            && self.strange.insert(format!("leader {router}"))
        {
            tracing::warn!(
                %router,
                latch = self.at.latch,
                "the first candidate is no member of this cluster, so nobody here leads; clusters \
                 need a --zookeeper-base each"
            );
        }
        self.outsider = outsider;
    }

    fn complain_of_crowd(&mut self, count: usize) {
        if count > ROUTERS_MAX && self.strange.insert("crowd".to_owned()) {
            tracing::error!(count, max = ROUTERS_MAX, "too many routers; the last are left out");
        }
    }
}

fn tolerate(done: Result<(), Error>, but: &Error) -> Result<(), Error> {
    match done {
        Err(error) if error == *but => Ok(()),
        done => done,
    }
}

/// The id that somebody else's text is; none if it cannot be one.
pub(super) fn router_id(text: &str) -> Option<RouterId> {
    let fits = (1..=ID_BYTES_MAX).contains(&text.len()) && !text.contains('/');
    fits.then(|| RouterId::new(text))
}

/// A router of the roster, if it is proved.
fn entry(name: &str, value: &[u8], secret: &Secret) -> Option<Member> {
    let json: Value = serde_json::from_slice(value).ok()?;
    let address = json["address"].as_str()?.to_owned();
    let proof = curator::unhex(json["proof"].as_str()?)?;
    if !secret.vouches(&proof, name, &address, 0) {
        return None;
    }
    Some(Member { id: router_id(name)?, address, since: json["since"].as_u64().unwrap_or(0) })
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

    #[test]
    fn an_entry_of_the_roster_says_where() {
        let secret = Secret::new(b"sixteen bytes at least").expect("long enough");
        let of = |name: &str| {
            let proof = curator::hex(&secret.vouch(name, "1.2.3.4:5", 0));
            json!({"address": "1.2.3.4:5", "since": 6, "proof": proof}).to_string().into_bytes()
        };
        let it = entry("r", &of("r"), &secret).expect("right");
        assert_eq!((it.id.as_str(), it.address.as_str(), it.since), ("r", "1.2.3.4:5", 6));
        assert_eq!(entry("r", b"\xff", &secret), None);
        assert_eq!(entry("", &of(""), &secret), None);
        assert_eq!(entry("r", &of("other"), &secret), None, "not proved");
        assert_eq!(entry("r", br#"{"address":"1.2.3.4:5","since":6}"#, &secret), None);
    }
}

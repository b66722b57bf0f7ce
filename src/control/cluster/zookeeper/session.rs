//! The thread that keeps this router registered, and looks who else is.
//!
//! ```text
//!   <base>/discovery-v2-v2/<cluster>/<router>    ephemeral, as Curator's service discovery has it
//!   <base>/roster/<cluster>/<router>             stays until the router has left or is written off
//!   <base>/leader-latch/_c_<id>-latch-<number>   ephemeral; the lowest number is first
//! ```
//! Every sixth of a session there is a round: a write, so that no server which lags behind can
//! answer; then the members, until the number of their last change is the same before and after;
//! then the roster, then the candidates. What a round has seen goes to the control loop.
//!
//! Must hold: the roster has this router before it registers; the control loop has been told before
//! it registers, for the first time or again; a round that is told was made on one session, and
//! began when it says.

use super::client::{Client, Error, Granted, Mode, Verbs, make_way};
use super::curator;
use crate::base::ids::{ID_BYTES_MAX, RouterId, fixed_hash};
use crate::base::time::Duration;
use crate::control::cluster::{Ask, Said, Seen};
use crate::core::peers::document::ROUTERS_MAX;
use crate::core::peers::{Member, View};
use crate::mesh::clock;
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
    at: Places,
    /// What the names of this router's candidacies begin with.
    candidacy: String,
    granted: Option<Granted>,
    is_registered: bool,
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
}

/// The members as a round found them. Whoever joins or leaves makes another epoch; so while the
/// epoch is the same they are not read again.
#[derive(Clone, Default)]
struct Found {
    epoch: u64,
    members: Vec<Member>,
    /// The session with which this router's node goes.
    own: Option<i64>,
}

impl Keeper {
    fn new(settings: &Settings, me: Registration, say: Say) -> Self {
        let Settings { servers, session, base, cluster } = settings.clone();
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
            granted: None,
            is_registered: false,
            is_lost: false,
            is_leaving: false,
            has_left: false,
            burials: BTreeSet::new(),
            found: Found::default(),
            known: HashMap::new(),
            strange: HashSet::new(),
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
        let view = View { epoch: found.epoch, members: found.members, roster };
        let seen = Seen { view, began, first, server: self.client.server() };
        (self.say)(Said::Seen(Box::new(seen)));
        self.client.works();
        Ok(true)
    }

    fn lost(&mut self, why: String) {
        self.granted = None;
        self.is_registered = false;
        self.client.give_up();
        if !std::mem::replace(&mut self.is_lost, true) {
            (self.say)(Said::Lost(why));
        }
    }

    /// This router's node, and its candidacy.
    fn register(&mut self, granted: Granted) -> Result<(), Error> {
        for path in [&self.at.discovery, &self.at.roster, &self.at.latch] {
            make_way(&mut self.client, path)?;
        }
        self.write_roster()?;
        let (may, wait) = sync_channel(1);
        (self.say)(Said::Registering(may));
        if wait.recv_timeout(LOOP_PATIENCE).is_err() {
            return Err(Error::Trouble("the control loop does not answer".to_owned()));
        }
        let path = format!("{}/{}", self.at.discovery, self.me.id.as_str());
        let value = curator::write(&self.me, &self.cluster);
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
        self.is_registered = true;
        Ok(())
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
        let value = json!({"address": self.me.address, "since": self.me.since}).to_string();
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
        match curator::read(name, &value) {
            Some(member) => found.members.push(member),
            None => self.complain_of(&path),
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
            match entry(name, &value) {
                Some(member) => {
                    self.known.insert(name.clone(), member);
                }
                None => self.complain_of(&path),
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

    fn complain_of(&mut self, path: &str) {
        if self.strange.len() < ROUTERS_MAX && self.strange.insert(path.to_owned()) {
            tracing::warn!(path, "a node of ZooKeeper is no router of this version; left out");
        }
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

fn entry(name: &str, value: &[u8]) -> Option<Member> {
    let json: Value = serde_json::from_slice(value).ok()?;
    let address = json["address"].as_str()?.to_owned();
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
        let it = entry("r", br#"{"address":"1.2.3.4:5","since":6}"#).expect("right");
        assert_eq!((it.id.as_str(), it.address.as_str(), it.since), ("r", "1.2.3.4:5", 6));
        assert_eq!(entry("r", b"\xff"), None);
        assert_eq!(entry("", br#"{"address":"1.2.3.4:5"}"#), None);
    }
}

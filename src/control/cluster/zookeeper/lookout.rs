//! What stands in ZooKeeper of this cluster, and which of it the cluster's secret proves.
//!
//! What is not proved costs a read once: members are read again when there is another epoch, and so
//! are entries of the roster that nobody proves. A router writes its entry before it registers, by
//! which there is another epoch; so an entry that has become a router's is read in time.

use super::client::{Error, Stat, Verbs};
use super::curator;
use crate::base::ids::{ID_BYTES_MAX, RouterId, fixed_hash};
use crate::core::peers::Member;
use crate::core::peers::document::ROUTERS_MAX;
use crate::wire::peer::Secret;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Looks at the members until they stay the same while they are read.
const LOOKS_MAX: usize = 8;
/// Entries of the roster that are remembered as proved by nobody; more are read in each round.
const UNPROVEN_MAX: usize = 10_000;

/// Where things are.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) discovery: String,
    pub(super) roster: String,
    pub(super) latch: String,
}

/// The members as a round found them. Whoever joins or leaves makes another epoch; so while the
/// epoch is the same they are not read again.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) epoch: u64,
    pub(super) members: Vec<Member>,
    /// Who is registered and is not proved to be a router of this cluster.
    pub(super) strangers: Vec<Member>,
    /// Those of whom something should prove it and does not, and when they were made.
    pub(super) refuted: BTreeSet<(i64, RouterId)>,
    /// This router's node.
    pub(super) own: Option<Stat>,
}

/// What was seen, so that it need not be read again.
#[derive(Debug)]
pub(super) struct Lookout {
    pub(super) at: Places,
    me: Member,
    secret: Secret,
    /// The members, as they were read on this session.
    pub(super) found: Found,
    /// Routers of the roster, as they were read.
    known: HashMap<String, Member>,
    /// Names in the roster that were read in this epoch, and are no router's.
    unproven: (u64, HashSet<String>),
    /// Nodes that were complained of.
    strange: HashSet<String>,
    /// The first candidate, if it is no member.
    outsider: Option<RouterId>,
}

impl Lookout {
    pub(super) fn new(at: Places, me: Member, secret: Secret) -> Self {
        Self {
            at,
            me,
            secret,
            found: Found::default(),
            known: HashMap::new(),
            unproven: (0, HashSet::new()),
            strange: HashSet::new(),
            outsider: None,
        }
    }

    /// There is another session.
    pub(super) fn begin(&mut self) {
        self.found = Found::default();
    }

    /// Who is registered; none if that went on changing.
    pub(super) fn members(&mut self, client: &mut impl Verbs) -> Result<Option<Found>, Error> {
        let discovery = self.at.discovery.clone();
        for _ in 0..LOOKS_MAX {
            let before = client.get(&discovery)?.1.pzxid;
            let epoch = u64::try_from(before).unwrap_or(0);
            if epoch == self.found.epoch {
                return Ok(Some(self.found.clone()));
            }
            let mut names = client.children(&discovery)?;
            names.sort();
            let mut found = Found { epoch, ..Found::default() };
            for name in names {
                self.read_member(client, &name, &mut found)?;
            }
            if client.get(&discovery)?.1.pzxid == before {
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
    fn read_member(
        &mut self,
        client: &mut impl Verbs,
        name: &str,
        found: &mut Found,
    ) -> Result<(), Error> {
        let path = format!("{}/{name}", self.at.discovery);
        let (value, stat) = match client.get(&path) {
            Ok(it) => it,
            Err(Error::NoNode) => return Ok(()),
            Err(error) => return Err(error),
        };
        if name == self.me.id.as_str() {
            found.own = Some(stat);
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
        if lives && !proof.is_empty() {
            found.refuted.insert((stat.created, member.id.clone()));
            if found.refuted.len() > ROUTERS_MAX {
                found.refuted.pop_last();
            }
        }
        if found.strangers.len() < ROUTERS_MAX {
            found.strangers.push(member);
        }
        Ok(())
    }

    /// Among whom this router, whose node was made then, would be a stranger: their nodes were made
    /// before and prove another secret, and it has no company.
    pub(super) fn strangers_before(
        &self,
        client: &mut impl Verbs,
        found: &Found,
        made: i64,
    ) -> Result<Vec<RouterId>, Error> {
        let before = found.refuted.iter().take_while(|(at, _)| *at < made);
        let before: Vec<RouterId> = before.map(|(_, id)| id.clone()).collect();
        if before.is_empty() || self.has_company(client, found)? {
            return Ok(Vec::new());
        }
        Ok(before)
    }

    /// Whether another router that proves this one's secret is a candidate. For who is a candidate
    /// has asked of itself whether it may be.
    pub(super) fn has_company(
        &self,
        client: &mut impl Verbs,
        found: &Found,
    ) -> Result<bool, Error> {
        let names = client.children(&self.at.latch)?;
        let stands = |of: &RouterId| {
            let candidacy = candidacy(of);
            names.iter().any(|it| it.starts_with(&candidacy))
        };
        Ok(found.members.iter().any(|it| it.id != self.me.id && stands(&it.id)))
    }

    /// Who has not been written off.
    pub(super) fn roster(&mut self, client: &mut impl Verbs) -> Result<Vec<Member>, Error> {
        let names = client.children(&self.at.roster)?;
        let present: HashSet<&String> = names.iter().collect();
        self.known.retain(|name, _| present.contains(name));
        if self.unproven.0 != self.found.epoch {
            self.unproven = (self.found.epoch, HashSet::new());
        }
        self.unproven.1.retain(|name| present.contains(name));
        for name in &names {
            if self.known.contains_key(name) || self.unproven.1.contains(name) {
                continue;
            }
            let path = format!("{}/{name}", self.at.roster);
            let value = match client.get(&path) {
                Ok((value, _)) => value,
                Err(Error::NoNode) => continue,
                Err(error) => return Err(error),
            };
            if let Some(member) = entry(name, &value, &self.secret) {
                self.known.insert(name.clone(), member);
                continue;
            }
            if self.unproven.1.len() < UNPROVEN_MAX {
                self.unproven.1.insert(name.clone());
            }
            self.complain_of(
                &path,
                "is no router of this cluster; left out (delete it if no router of another secret \
                 runs)",
            );
        }
        let all: BTreeMap<&String, &Member> = self.known.iter().collect();
        Ok(all.into_values().take(ROUTERS_MAX).cloned().collect())
    }

    fn complain_of(&mut self, path: &str, what: &str) {
        if self.strange.len() < ROUTERS_MAX && self.strange.insert(path.to_owned()) {
            tracing::warn!(path, "a node of ZooKeeper {what}");
        }
    }

    /// A first candidate that is no member, and was none a round ago: nobody here can lead.
    pub(super) fn complain_of_outsider(&mut self, first: Option<&RouterId>) {
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

/// What the names of a router's candidacies begin with.
pub(super) fn candidacy(router: &RouterId) -> String {
    let id = router.as_str();
    let (high, low) = (fixed_hash(id.as_bytes()), fixed_hash(format!("{id}#").as_bytes()));
    format!(
        "_c_{:08x}-{:04x}-{:04x}-{:04x}-{:012x}-latch-",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::cluster::zookeeper::Mode;
    use serde_json::json;

    const SECRET: &[u8] = b"sixteen bytes at least";

    fn secret(text: &[u8]) -> Secret {
        Secret::new(text).expect("long enough")
    }

    fn member(id: &str) -> Member {
        Member { id: RouterId::new(id), address: "1.2.3.4:5".into(), since: 6 }
    }

    /// Nodes, and how often one of the roster was read.
    #[derive(Default)]
    struct Nodes {
        all: BTreeMap<String, (Vec<u8>, Stat)>,
        reads: usize,
    }

    impl Nodes {
        fn put(&mut self, path: &str, value: Vec<u8>, (created, owner): (i64, i64)) {
            let stat = Stat { created, owner, ..Stat::default() };
            self.all.insert(path.to_owned(), (value, stat));
        }

        /// A router that knows this secret has registered, as number so many.
        fn register(&mut self, id: &str, text: &[u8], created: i64) {
            let proof = secret(text).vouch(id, "1.2.3.4:5", 7);
            let value = curator::write(&member(id), "c", &proof);
            self.put(&format!("/d/{id}"), value, (created, 7));
            self.all.get_mut("/d").expect("there").1.pzxid = created;
        }

        fn enter(&mut self, id: &str, text: &[u8]) {
            let proof = curator::hex(&secret(text).vouch(id, "1.2.3.4:5", 0));
            let value = json!({"address": "1.2.3.4:5", "since": 6, "proof": proof}).to_string();
            self.put(&format!("/r/{id}"), value.into_bytes(), (1, 0));
        }

        fn stand(&mut self, id: &str) {
            self.put(&format!("/l/{}0000000001", candidacy(&RouterId::new(id))), vec![], (1, 7));
        }
    }

    impl Verbs for Nodes {
        fn create(&mut self, _: &str, _: &[u8], _: Mode) -> Result<String, Error> {
            unreachable!("it only looks")
        }

        fn set(&mut self, _: &str, _: &[u8], _: Option<i32>) -> Result<Stat, Error> {
            unreachable!("it only looks")
        }

        fn delete(&mut self, _: &str, _: Option<i32>) -> Result<(), Error> {
            unreachable!("it only looks")
        }

        fn get(&mut self, path: &str) -> Result<(Vec<u8>, Stat), Error> {
            self.reads += usize::from(path.starts_with("/r/"));
            self.all.get(path).cloned().ok_or(Error::NoNode)
        }

        fn children(&mut self, path: &str) -> Result<Vec<String>, Error> {
            let below = format!("{path}/");
            let names = self.all.keys().filter_map(|it| it.strip_prefix(&below));
            Ok(names.map(str::to_owned).collect())
        }
    }

    fn lookout() -> (Lookout, Nodes) {
        let [discovery, roster, latch] = ["/d", "/r", "/l"].map(str::to_owned);
        let mut nodes = Nodes::default();
        for path in [&discovery, &roster, &latch] {
            nodes.put(path, Vec::new(), (1, 0));
        }
        nodes.all.get_mut("/d").expect("there").1.pzxid = 1;
        (Lookout::new(Places { discovery, roster, latch }, member("me"), secret(SECRET)), nodes)
    }

    #[test]
    fn whoever_was_made_later_is_among_strangers_unless_an_established_router_is_his_own() {
        const OTHER: &[u8] = b"another secret as long";
        type Story = fn(&mut Nodes);
        for (told, story, expected) in [
            ("nobody", (|_| {}) as Story, false),
            ("its own", |it| it.register("a", SECRET, 2), false),
            ("a stranger before", |it| it.register("a", OTHER, 2), true),
            ("a stranger after", |it| it.register("a", OTHER, 9), false),
            (
                "a stranger before, and its own, which does not know yet whether it may stay",
                |it| {
                    it.register("a", OTHER, 2);
                    it.register("b", SECRET, 3);
                },
                true,
            ),
            (
                "a stranger before, and its own, which has stayed",
                |it| {
                    it.register("a", OTHER, 2);
                    it.register("b", SECRET, 3);
                    it.stand("b");
                },
                false,
            ),
            (
                "a stranger before, whose candidacy proves nothing, as does an old one of its own",
                |it| {
                    it.register("a", OTHER, 2);
                    it.stand("a");
                    it.stand("me");
                },
                true,
            ),
            (
                "what is no router of this version",
                |it| {
                    it.put("/d/a", b"[]".to_vec(), (2, 7));
                    it.all.get_mut("/d").expect("there").1.pzxid = 2;
                },
                false,
            ),
        ] {
            let (mut lookout, mut nodes) = lookout();
            story(&mut nodes);
            nodes.register("me", SECRET, 5.max(nodes.all["/d"].1.pzxid));
            nodes.all.get_mut("/d/me").expect("there").1.created = 5;
            let found = lookout.members(&mut nodes).expect("read").expect("all of it");
            let made = found.own.expect("it is registered").created;
            let before = lookout.strangers_before(&mut nodes, &found, made).expect("read");
            assert_eq!(before.is_empty(), !expected, "{told}");
            assert!(before.iter().all(|it| it.as_str() == "a"), "{told}: {before:?}");
        }
    }

    #[test]
    fn an_entry_that_nobody_proves_is_read_once_in_an_epoch() {
        let (mut lookout, mut nodes) = lookout();
        nodes.enter("a", SECRET);
        nodes.enter("b", b"another secret as long");
        nodes.put("/r/c", b"\xff".to_vec(), (1, 0));
        let mut round = |nodes: &mut Nodes| {
            nodes.reads = 0;
            lookout.members(nodes).expect("read");
            let roster = lookout.roster(nodes).expect("read");
            let ids: Vec<String> = roster.iter().map(|it| it.id.as_str().to_owned()).collect();
            (ids.join(" "), nodes.reads)
        };
        assert_eq!(round(&mut nodes), ("a".to_owned(), 3));
        for _ in 0..5 {
            assert_eq!(round(&mut nodes), ("a".to_owned(), 0), "it is known");
        }
        // Gone, and there again.
        nodes.all.remove("/r/c");
        assert_eq!(round(&mut nodes).1, 0);
        nodes.put("/r/c", b"[]".to_vec(), (1, 0));
        assert_eq!(round(&mut nodes), ("a".to_owned(), 1));
        // A router writes its entry, then it registers.
        nodes.enter("b", SECRET);
        nodes.register("b", SECRET, 3);
        assert_eq!(round(&mut nodes), ("a b".to_owned(), 2));
        assert_eq!(round(&mut nodes), ("a b".to_owned(), 0));
    }

    #[test]
    fn an_entry_of_the_roster_says_where() {
        let secret = secret(SECRET);
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

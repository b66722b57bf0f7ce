//! Worlds of each kind; and each rule left out once.

#![expect(clippy::print_stdout, reason = "figures of a run")]

use super::options::{KINDS, Options};
use super::world::{Figures, World};
use crate::options::Chance;
use waiter::core::peers::Rule;

/// Worlds of each kind in a plain run, fresh ones beside them; worlds among which a rule that is left
/// out is missed.
const WORLDS: u64 = 4;
const FRESH: u64 = 20;
const MISSED_WITHIN: u64 = 400;

fn run(kind: usize, seed: u64, without: Option<Rule>) -> Figures {
    let mut chance = Chance::new(seed);
    let options = Options::drawn(kind, without, &mut chance);
    World::new(options, chance).run()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().expect("a number"))
}

#[test]
fn clusters_hold_their_invariants() {
    let mut broken = Vec::new();
    let kind_wanted = number("WAITER_KIND");
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        if kind_wanted.is_some_and(|it| it != kind as u64) {
            continue;
        }
        let seeds = seeds(kind);
        let mut sum = Figures::default();
        for seed in &seeds {
            let it = replayable(kind, *seed);
            for what in &it.broken {
                broken.push(format!("{name}: {what}; {}", replay(kind, *seed)));
            }
            sum.add(&it);
        }
        println!("{name:<24} {} worlds: {}", seeds.len(), sum.text());
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// The worlds of a kind that are run: the one that is wanted, or so many; else those that once
/// failed, a few that are always the same, and fresh ones, which are printed.
fn seeds(kind: usize) -> Vec<u64> {
    let (seed, worlds) = (number("WAITER_SEED"), number("WAITER_WORLDS"));
    if let Some(seed) = seed {
        return vec![seed];
    }
    if let Some(worlds) = worlds {
        return (0..worlds).collect();
    }
    let kinds = KINDS.len() as u64;
    let fresh = FRESH / kinds + u64::from((kind as u64) < FRESH % kinds);
    let mut chance = Chance::fresh();
    let fresh: Vec<u64> = (0..fresh).map(|_| chance.number() >> 16).collect();
    println!("fresh seeds of kind {kind}: {fresh:?}");
    past(kind).chain(0..WORLDS).chain(fresh).collect()
}

/// Seeds of a kind that once failed.
fn past(kind: usize) -> impl Iterator<Item = u64> {
    let lines = include_str!("seeds.txt").lines();
    let worlds = lines.map(|it| it.split('#').next().expect("a first piece"));
    let worlds = worlds.filter_map(|it| it.trim().split_once(' '));
    let of = worlds.filter(move |(of, _)| of.parse() == Ok(kind));
    of.map(|(_, seed)| seed.parse().expect("a seed is a number"))
}

/// Runs the world of a seed; should it panic, that says how to replay it.
fn replayable(kind: usize, seed: u64) -> Figures {
    let world = std::panic::catch_unwind(|| run(kind, seed, None));
    world.unwrap_or_else(|_| panic!("a world of kind {kind} panicked; {}", replay(kind, seed)))
}

fn replay(kind: usize, seed: u64) -> String {
    format!(
        "replay it with WAITER_KIND={kind} WAITER_SEED={seed} cargo test --test sim -- clusters; \
         keep it in tests/sim/cluster/seeds.txt"
    )
}

/// Leaves a rule out until the world breaks: first the world in which it once did, then others, of
/// that kind or of `WAITER_KIND`.
fn is_missed(rule: Rule, (kind, first): (usize, u64), complaint: &str) {
    let kind = number("WAITER_KIND").map_or(kind, |it| it as usize);
    let within = number("WAITER_WORLDS").unwrap_or(MISSED_WITHIN);
    for seed in std::iter::once(first).chain(0..within) {
        let it = run(kind, seed, Some(rule));
        if let Some(what) = it.broken.iter().find(|it| it.contains(complaint)) {
            println!("{rule:?} is missed in {}, seed {seed}: {what}", KINDS[kind].0);
            let whole = run(kind, seed, None);
            assert!(whole.broken.is_empty(), "with it: {}", whole.broken.join("\n"));
            return;
        }
    }
    panic!("{rule:?} is not missed in {within} worlds");
}

impl Figures {
    fn add(&mut self, it: &Self) {
        self.served += it.served;
        self.gave_up += it.gave_up;
        self.excused += it.excused;
        self.documents += it.documents;
        self.bytes += it.bytes;
        self.kills += it.kills;
        self.deletions += it.deletions;
        self.refusals += it.refusals;
        self.unproven += it.unproven;
        self.idle_beside = self.idle_beside.max(it.idle_beside);
        self.broken.extend_from_slice(&it.broken);
    }

    fn text(&self) -> String {
        format!(
            "served {:>6}, broken {}, excused {:>3}, gave up {:>4}, kills {:>4} of {:>4}, \
             deletions {}, \
             idle beside waiting {} ms at most, unproven {}, documents of {} bytes",
            self.served,
            self.broken.len(),
            self.excused,
            self.gave_up,
            self.kills,
            self.kills + self.refusals,
            self.deletions,
            self.idle_beside,
            self.unproven,
            self.bytes / self.documents.max(1)
        )
    }
}

macro_rules! missed {
    ($name:ident, $rule:ident, $world:expr, $complaint:expr) => {
        #[test]
        fn $name() {
            is_missed(Rule::$rule, $world, $complaint);
        }
    };
}

missed!(a_newcomer_without_the_roster_is_found, Roster, (10, 10), "over the limit");
missed!(an_owner_that_does_not_settle_is_found, Settle, (6, 2), "over the limit");
missed!(one_that_forgets_the_vanished_is_found, SettleVanished, (10, 1), "over the limit");
missed!(use_by_another_right_not_counted_is_found, CountAll, (2, 1), "over the limit");
missed!(debts_not_counted_are_found, CountDebts, (2, 1), "over the limit");
missed!(debts_stated_once_are_found, StateTwice, (1, 1), "over the limit");
missed!(old_words_believed_are_found, YoungWord, (9, 109), "beyond the fence");
missed!(loans_that_live_again_are_found, StaysDead, (0, 1), "over the limit");
// Three are not among them, for worlds that miss them are too rare to look for in each run:
// `OthersShown` takes a newcomer that owns what a router had lent, the end of that router, and a
// borrower that does not hear of it for longer than the grace; `ListClosing` and `LockIsDebt` are
// backed by what all members are told. Tests in `core/peers` play just these.
missed!(orders_that_come_late_are_found, LateOrders, (1, 8), "a kill");
missed!(deletions_that_come_late_are_found, LateDeletions, (12, 70), "a deletion");
missed!(idle_loans_that_nobody_checks_are_found, CallBack, (12, 67), "not been checked");
missed!(owning_after_registering_anew_is_found, Anew, (8, 71), "over the limit");
missed!(going_on_after_a_stop_is_found, Away, (9, 7), "over the limit");
missed!(services_that_open_by_themselves_are_found, ClosedIsShut, (0, 12), "a deletion");
missed!(what_is_won_in_a_deletion_is_found, WonWhileDeleted, (12, 68), "a deletion");

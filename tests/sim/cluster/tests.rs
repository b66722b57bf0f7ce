//! Worlds of each kind; and each rule left out once.

use super::options::{KINDS, Options};
use super::world::{Figures, World};
use crate::options::Chance;
use waiter::core::peers::Rule;

/// Worlds of each kind in a plain run, and among how many a rule that is left out is missed.
const WORLDS: u64 = 4;
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
    let (seed, worlds) = (number("WAITER_SEED"), number("WAITER_WORLDS").unwrap_or(WORLDS));
    let seeds: Vec<u64> = seed.map_or_else(|| (0..worlds).collect(), |it| vec![it]);
    let mut broken = Vec::new();
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        let mut sum = Figures::default();
        for seed in &seeds {
            let it = run(kind, *seed, None);
            for what in &it.broken {
                broken.push(format!("{name}, seed {seed}: {what}"));
            }
            sum.add(&it);
        }
        println!("{name:<24} {} worlds: {}", seeds.len(), sum.text());
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Leaves a rule out until the world breaks.
fn is_missed(rule: Rule, kinds: &[usize], complaint: &str) {
    for seed in 0..MISSED_WITHIN {
        for kind in kinds {
            let it = run(*kind, seed, Some(rule));
            if let Some(what) = it.broken.iter().find(|it| it.contains(complaint)) {
                println!("{rule:?} is missed in {}, seed {seed}: {what}", KINDS[*kind].0);
                return;
            }
        }
    }
    panic!("{rule:?} is not missed in {MISSED_WITHIN} worlds");
}

impl Figures {
    fn add(&mut self, it: &Self) {
        self.served += it.served;
        self.gave_up += it.gave_up;
        self.excused += it.excused;
        self.documents += it.documents;
        self.bytes += it.bytes;
        self.kills += it.kills;
        self.refusals += it.refusals;
        self.unproven += it.unproven;
        self.idle_beside = self.idle_beside.max(it.idle_beside);
        self.broken.extend_from_slice(&it.broken);
    }

    fn text(&self) -> String {
        format!(
            "served {:>6}, over the limit {}, excused {:>3}, gave up {:>4}, kills {:>4} of {:>4}, \
             idle beside waiting {} ms at most, unproven {}, documents of {} bytes",
            self.served,
            self.broken.len(),
            self.excused,
            self.gave_up,
            self.kills,
            self.kills + self.refusals,
            self.idle_beside,
            self.unproven,
            self.bytes / self.documents.max(1)
        )
    }
}

macro_rules! missed {
    ($name:ident, $rule:ident, $kinds:expr, $complaint:expr) => {
        #[test]
        fn $name() {
            is_missed(Rule::$rule, $kinds, $complaint);
        }
    };
}

missed!(no_roster, Roster, &[10], "over the limit");
missed!(no_settling, Settle, &[2, 6, 7], "over the limit");
missed!(no_settling_with_the_vanished, SettleVanished, &[4, 6, 10], "over the limit");
missed!(not_all_counted, CountAll, &[1, 2, 4, 6], "over the limit");
missed!(no_debts_counted, CountDebts, &[2, 4, 6], "over the limit");
missed!(debts_stated_once, StateTwice, &[1, 4, 6, 7], "over the limit");
missed!(loans_never_closing, ListClosing, &[8, 9, 7], "over the limit");
missed!(old_words_believed, YoungWord, &[7, 5, 8], "over the limit");
missed!(dead_loans_live_again, StaysDead, &[0, 1], "over the limit");
missed!(written_off_early, OthersShown, &[1, 6, 7], "over the limit");
missed!(registered_anew_as_before, Anew, &[8, 9], "over the limit");
missed!(never_away, Away, &[9], "over the limit");
missed!(locks_are_no_debt, LockIsDebt, &[1, 2, 6], "a kill");

//! Which rules of the protocol are in force: all of them, always. Worlds of the simulator leave one
//! out to see that it is needed.

/// A rule of design §7 without which the limit would be exceeded, a kill or a deletion take a
/// request, or something idle stay unchecked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// A newcomer learns of vanished routers from the roster.
    Roster,
    /// An owner waits for a document of its epoch from every other member.
    Settle,
    /// It waits for those who vanished to speak, or to be silent for the grace.
    SettleVanished,
    /// Against the limit counts everything that runs here, by whatever right.
    CountAll,
    /// What others owe counts against the limit.
    CountDebts,
    /// What runs on loan from a router that is no member is stated as a debt as well.
    StateTwice,
    /// A lender that lost the instance lists the loan as closing.
    ListClosing,
    /// A request starts on a loan only while its lender's word is young.
    YoungWord,
    /// A loan once refused or returned stays dead.
    StaysDead,
    /// What a vanished router has is written off only when every other member has shown the epoch.
    OthersShown,
    /// Registered anew: nothing is owned until settled again.
    Anew,
    /// Away for a third of a session: nothing starts until ZooKeeper has answered.
    Away,
    /// A lock for a kill is a debt of the whole instance.
    LockIsDebt,
    /// What a router that vanished was about to kill is a debt for the hold: its order may be late.
    LateOrders,
    /// Where a service is stated to be closed, nothing of it starts.
    ClosedIsShut,
    /// What is won while somebody deletes its service is not given out before that is over.
    WonWhileDeleted,
    /// What a router that vanished wanted to delete stays closed for the hold: its order may be
    /// late.
    LateDeletions,
    /// Where all slots are lent, a check that is left out calls loans back: without it nothing that
    /// lies idle elsewhere is checked.
    CallBack,
}

/// The rules in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules(u32);

impl Rules {
    /// What the product runs with.
    pub const ALL: Self = Self(u32::MAX);

    /// All but one.
    pub const fn without(rule: Rule) -> Self {
        Self(!(1 << rule as u32))
    }

    /// Whether a rule is in force.
    pub const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}

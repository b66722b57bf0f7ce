//! Health checks of what is lent.
//!
//! The owner of an instance checks it, in a slot; while requests take all of them, they are its
//! check. But a slot that is lent is taken, whether its borrower uses it or not: all of them may
//! lie idle elsewhere, and nobody would notice that the instance has ended. So when the owner finds
//! no slot and all that are taken are lent, it calls one loan back from each borrower. One that
//! lies idle comes back at once, and its slot goes to the check, unless somebody waits for it;
//! where none does, each borrower uses what it has, and loses one slot for a moment.
//!
//! Must hold: as long as a borrower has an idle loan and is heard, an instance is checked at its
//! interval, and a round trip; what is called back is one slot of each borrower, and nothing
//! else is kept from anybody.

use crate::base::ids::{InstanceId, RouterId};
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rules::Rule;
use crate::core::peers::table::Shared;
use crate::core::slots::Seat;

impl Peers {
    /// A check of an instance is due, and there is no slot for it. If all slots that are taken are
    /// lent, one may come home for it: [`Effect::Check`].
    pub fn unchecked(&mut self, instance: &InstanceId) {
        let has = self.rules.has(Rule::CallBack);
        let waits = |it: &&mut Shared| has && it.present && !it.recalled && it.is_lent_alone();
        let Some(it) = self.table.instances.get_mut(instance).filter(waits) else { return };
        it.unchecked = true;
        for link in self.links.values_mut() {
            let loans = link.lent.values_mut().filter(|it| it.instance == *instance);
            // The newest, unless one is on its way already.
            let Some(loan) = loans.reduce(|a, b| if a.called { a } else { b }) else { continue };
            link.dirty |= !std::mem::replace(&mut loan.called, true);
        }
    }

    /// A loan came home, from this borrower: to home, or first to a check that waits for it.
    pub(super) fn came_home(
        &mut self,
        from: &RouterId,
        instance: &InstanceId,
        seat: Seat,
    ) -> Effect {
        let Some(it) = self.table.instances.get_mut(instance) else { return Effect::Settle(seat) };
        let is_due = std::mem::take(&mut it.unchecked);
        let is_free = it.own && it.present && !it.recalled && !it.locked;
        let link = &self.links[from];
        let is_wanted = link.wants(seat.service()).is_some_and(|(count, _)| count > 0);
        if is_due && is_free && !is_wanted && !seat.slots().waiting.any() {
            Effect::Check(seat)
        } else {
            Effect::Settle(seat)
        }
    }
}

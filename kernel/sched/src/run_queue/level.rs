//! [`Level`]: entities that compete with each other, in the order of their turns.
//!
//! Its virtual time is what a comer is measured by: it follows the least of what is there, and never goes back, so that
//! who sleeps long cannot save up time.

use alloc::sync::Arc;

use machine::intrusive::Tree;

use super::entity::{Entity, Member, Rank};
use super::weight::FAIR_BAND;

/// How far behind its level an entity that was away comes back, in virtual nanoseconds.
pub const SLEEPER_BONUS_NS: u64 = 3_000_000;
/// How many of the last threads are looked at for one that may go to another CPU.
const MOST_LOOKED_AT: usize = 32;

/// Entities that compete with each other on one CPU.
#[derive(Debug)]
pub(crate) struct Level {
    tree: Tree<dyn Member, Rank>,
    /// Virtual time of the level: never goes back, never ahead of its least entity.
    floor_ns: u64,
}

impl Level {
    pub(crate) const fn new() -> Self {
        Self {
            tree: Tree::new(),
            floor_ns: 0,
        }
    }

    /// Whether nothing in it is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The rank of what would run next.
    pub(super) fn first(&self) -> Option<Rank> {
        self.tree.first().map(|(rank, _)| rank)
    }

    pub(super) fn insert(&mut self, member: Arc<dyn Member>) {
        // A member is in one level at a time, so its link is free.
        let rank = member.entity().rank();
        let _ = self
            .tree
            .insert(rank, member, |member| member.entity().link());
    }

    /// An entity of this level has reached `virtual_ns`: time moves on.
    pub(super) fn advance(&mut self, virtual_ns: u64) {
        let mut least = virtual_ns;
        if let Some(first) = self.first()
            && first.band == FAIR_BAND
        {
            least = least.min(first.virtual_ns);
        }
        self.floor_ns = self.floor_ns.max(least);
    }

    /// Brings an entity that was away to where it joins: its own lead over the level it left, less the time that it
    /// was away (others ran meanwhile), within bounds.
    pub(super) fn join(&mut self, entity: &Entity, now_ns: u64) {
        let bound = SLEEPER_BONUS_NS.cast_signed();
        let lead = entity.lead_at(self.address(), self.floor_ns, now_ns);
        let lead = lead.clamp(-bound, 4 * bound);
        entity.set_virtual(self.floor_ns.saturating_add_signed(lead));
    }

    pub(super) fn leave(&mut self, entity: &Entity, now_ns: u64) {
        let lead = entity.rank().virtual_ns.wrapping_sub(self.floor_ns);
        entity.set_lead(lead.cast_signed(), self.address(), self.floor_ns, now_ns);
    }

    /// Which level it is. One that is made later may have the same address: who left the old one gets a little more or
    /// less then.
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Takes out an entity, if it is in this level.
    pub(super) fn remove(&mut self, entity: &Entity) -> Option<Arc<dyn Member>> {
        self.tree.remove(entity.link())
    }

    /// Takes the thread that should run next, out of a group if the group is first.
    pub(super) fn pop(&mut self) -> Option<Arc<dyn Member>> {
        let member = self.tree.pop_first()?;
        self.pop_of(member)
    }

    /// As [`Self::pop`], the fair ones first.
    pub(super) fn pop_fair(&mut self) -> Option<Arc<dyn Member>> {
        let first_fair = Rank {
            band: FAIR_BAND,
            virtual_ns: 0,
        };
        match self.tree.pop_from(first_fair) {
            Some(member) => self.pop_of(member),
            None => self.pop(),
        }
    }

    fn pop_of(&mut self, member: Arc<dyn Member>) -> Option<Arc<dyn Member>> {
        let Some(group) = member.as_group() else {
            return Some(member);
        };
        let (thread, is_empty) = group.pop();
        if !is_empty {
            self.insert(member);
        }
        thread
    }

    /// Takes one of the last threads for which `may_go`.
    pub(super) fn take_last(
        &mut self,
        may_go: &dyn Fn(&dyn Member) -> bool,
    ) -> Option<Arc<dyn Member>> {
        let found = self.tree.take_last(MOST_LOOKED_AT, |member| {
            member
                .as_group()
                .map_or_else(|| may_go(member), |group| group.has(may_go))
        })?;
        let Some(group) = found.as_group() else {
            return Some(found);
        };
        let (thread, is_empty) = group.take_last(may_go);
        if !is_empty {
            self.insert(found);
        }
        thread
    }

    pub(super) fn has(&self, may_go: &dyn Fn(&dyn Member) -> bool) -> bool {
        let mut has = false;
        self.tree.for_each(|_, member| {
            has = has
                || member
                    .as_group()
                    .map_or_else(|| may_go(member), |group| group.has(may_go));
        });
        has
    }
}

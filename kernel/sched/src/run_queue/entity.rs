//! What the run queue orders: threads, and groups of them.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use machine::cpu::CpuId;
use machine::intrusive::Link;
use machine::sync::SpinLock;

use super::group::{Group, GroupQueue};
use super::weight::{FAIR_BAND, UNIT_WEIGHT, virtual_time};

/// In the future: it was away for no time.
const NEVER_THERE: u64 = u64::MAX;

/// Where an entity stands in its level: lower runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The band; see [`super::standing`].
    pub band: u8,
    /// Virtual time; 0 in the real-time bands.
    pub virtual_ns: u64,
}

/// Something that has an entity: a thread, or a group on one CPU.
pub trait Member: Any + Send + Sync {
    /// Its entity.
    fn entity(&self) -> &Entity;

    /// It as a group.
    fn as_group(&self) -> Option<&GroupQueue> {
        None
    }
}

/// Where a thread or group stands. Changed under the queue lock of its CPU, or by whoever is waking it; read
/// without a lock by others.
#[derive(Debug)]
pub struct Entity {
    link: Link<dyn Member, Rank>,
    /// Nanoseconds run, scaled by weight, on the scale of its level.
    virtual_ns: AtomicU64,
    /// While away: how far ahead of its level it was.
    lead_ns: AtomicI64,
    /// When it went; [`NEVER_THERE`] for one that is new.
    left_at_ns: AtomicU64,
    /// Virtual time of the level that it left, and that level's address.
    left_floor_ns: AtomicU64,
    left_level: AtomicUsize,
    weight: AtomicU32,
    band: AtomicU8,
    /// Threads: the group they are in, none for the root. `has_group` is for a look without the lock.
    group: SpinLock<Option<Arc<Group>>>,
    has_group: AtomicBool,
}

impl Default for Entity {
    fn default() -> Self {
        Self::new()
    }
}

impl Entity {
    /// One of nice 0 in the root group.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            link: Link::new(),
            virtual_ns: AtomicU64::new(0),
            lead_ns: AtomicI64::new(0),
            left_at_ns: AtomicU64::new(NEVER_THERE),
            left_floor_ns: AtomicU64::new(0),
            left_level: AtomicUsize::new(0),
            weight: AtomicU32::new(UNIT_WEIGHT),
            band: AtomicU8::new(FAIR_BAND),
            group: SpinLock::new(None),
            has_group: AtomicBool::new(false),
        }
    }

    pub(super) fn link(&self) -> &Link<dyn Member, Rank> {
        &self.link
    }

    /// Where it stands.
    #[must_use]
    pub fn rank(&self) -> Rank {
        let band = self.band.load(Ordering::Relaxed);
        let virtual_ns = if band == FAIR_BAND {
            self.virtual_ns.load(Ordering::Relaxed)
        } else {
            0
        };
        Rank { band, virtual_ns }
    }

    /// Its weight.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Sets band and weight (see [`super::standing`]). For one that is queued it counts from its next turn.
    pub fn set_standing(&self, band: u8, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
        self.band.store(band, Ordering::Relaxed);
    }

    pub(super) fn set_virtual(&self, virtual_ns: u64) {
        self.virtual_ns.store(virtual_ns, Ordering::Relaxed);
    }

    /// The lead with which it comes back to a level that has come to `floor_ns`. One that is new has none. Of the time that it
    /// was away counts no more than the others got meanwhile, each of them: or very many that sleep and run in turn would
    /// all be first again each time, and somebody new would never run.
    pub(super) fn lead_at(&self, level: usize, floor_ns: u64, now_ns: u64) -> i64 {
        let mut away_ns = now_ns.saturating_sub(self.left_at_ns.load(Ordering::Relaxed));
        if self.left_level.load(Ordering::Relaxed) == level {
            away_ns =
                away_ns.min(floor_ns.saturating_sub(self.left_floor_ns.load(Ordering::Relaxed)));
        }
        let away_ns = i64::try_from(away_ns).unwrap_or(i64::MAX);
        self.lead_ns.load(Ordering::Relaxed).saturating_sub(away_ns)
    }

    pub(super) fn set_lead(&self, lead_ns: i64, level: usize, floor_ns: u64, now_ns: u64) {
        self.lead_ns.store(lead_ns, Ordering::Relaxed);
        self.left_level.store(level, Ordering::Relaxed);
        self.left_floor_ns.store(floor_ns, Ordering::Relaxed);
        self.left_at_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(super) fn run(&self, ran_ns: u64, weight: u32) {
        let virtual_ns = self.virtual_ns.load(Ordering::Relaxed);
        self.set_virtual(virtual_ns + virtual_time(ran_ns, weight));
    }

    /// Lets one of rank `other` go first, if it is in the same band.
    pub(super) fn fall_behind(&self, other: Rank) {
        let rank = self.rank();
        if rank.band == other.band {
            self.set_virtual(rank.virtual_ns.max(other.virtual_ns));
        }
    }

    /// The group that it is in; `None` is the root.
    #[must_use]
    pub fn group(&self) -> Option<Arc<Group>> {
        self.group.lock().clone()
    }

    /// Puts a thread in a group. Only while it is attached to no CPU.
    pub fn set_group(&self, group: Option<Arc<Group>>) {
        self.has_group.store(group.is_some(), Ordering::Relaxed);
        let previous = core::mem::replace(&mut *self.group.lock(), group);
        drop(previous);
    }

    /// Whether it is in a group, without a lock.
    #[must_use]
    pub fn is_in_group(&self) -> bool {
        self.has_group.load(Ordering::Relaxed)
    }

    /// The queue of its group on `cpu`; `None` is the root's, as for all real-time threads.
    pub(super) fn queue_on(&self, cpu: CpuId) -> Option<Arc<GroupQueue>> {
        if !self.has_group.load(Ordering::Relaxed) || self.band.load(Ordering::Relaxed) < FAIR_BAND
        {
            return None;
        }
        Some(self.group.lock().as_ref()?.queue(cpu))
    }
}

/// The ranks of two threads of `cpu`, or of groups they are in, in the first level that has both.
pub(super) fn ranks_in_common_level(a: &dyn Member, b: &dyn Member, cpu: CpuId) -> (Rank, Rank) {
    let mut rank_a = a.entity().rank();
    let mut rank_b = b.entity().rank();
    let mut in_a = a.entity().queue_on(cpu);
    let mut in_b = b.entity().queue_on(cpu);
    let depth = |queue: &Option<Arc<GroupQueue>>| queue.as_ref().map_or(0, |queue| queue.depth());
    let up = |queue: &mut Option<Arc<GroupQueue>>, rank: &mut Rank| {
        if let Some(inner) = queue.take() {
            *rank = inner.entity().rank();
            *queue = inner.parent().cloned();
        }
    };
    loop {
        let (depth_a, depth_b) = (depth(&in_a), depth(&in_b));
        if depth_a > depth_b {
            up(&mut in_a, &mut rank_a);
        } else if depth_b > depth_a {
            up(&mut in_b, &mut rank_b);
        } else {
            let same = match (&in_a, &in_b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => true,
            };
            if same {
                return (rank_a, rank_b);
            }
            up(&mut in_a, &mut rank_a);
            up(&mut in_b, &mut rank_b);
        }
    }
}

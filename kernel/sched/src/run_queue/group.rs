//! Groups of threads with a weight and a limit: what a cgroup's cpu controller sets.
//!
//! A [`Group`] has a [`GroupQueue`] for each CPU, which is an entity in the queue of the parent group there and
//! has a level of its own. The group's weight is divided among the CPUs by where its threads are.
//!
//! **Limit.** In each period the group may run for its quota, all CPUs together. A CPU takes what it runs out of
//! the group's pool in portions of [`PORTION_NS`]. When the pool is empty the CPU's queue is throttled: it
//! leaves its parent's level, and comes back with the next period. A CPU that the group's last thread leaves gives
//! back what is left of its portion, so that a thread that goes round finds it elsewhere.
//!
//! Locks: a queue's level, then the pool. Levels are only touched with their CPU's queue lock held.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::cpu::CpuId;
use machine::intrusive::Link;
use machine::sync::SpinLock;

use super::entity::{Entity, Member};
use super::level::Level;
use super::weight::UNIT_WEIGHT;

/// What a CPU takes out of the pool at a time.
const PORTION_NS: u64 = 5_000_000;
/// The least a group's weight on one CPU comes to.
const LEAST_WEIGHT: u32 = 2;

/// Threads, and groups of them, that are given CPU together.
#[derive(Debug)]
pub struct Group {
    common: Arc<Common>,
    queues: Vec<Arc<GroupQueue>>,
}

/// What is the group's on all CPUs.
#[derive(Debug)]
struct Common {
    weight: AtomicU32,
    /// Threads that run or are ready, in this group and those below.
    threads: AtomicUsize,
    is_limited: AtomicBool,
    pool: SpinLock<Pool>,
}

/// What may still be run in this period.
#[derive(Debug)]
struct Pool {
    quota_ns: u64,
    period_ns: u64,
    left_ns: u64,
    /// When the next period begins.
    ends_ns: u64,
    /// A CPU found nothing in this period.
    was_empty: bool,
    statistics: LimitStatistics,
}

/// What became of a group's limit (cpu.stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitStatistics {
    /// Periods in which the group ran (`nr_periods`).
    pub periods: u64,
    /// Of these, those in which it was throttled somewhere (`nr_throttled`).
    pub throttled_periods: u64,
    /// For how long, all CPUs together (`throttled_usec`).
    pub throttled_ns: u64,
}

impl Pool {
    fn take(&mut self, now_ns: u64) -> u64 {
        if now_ns >= self.ends_ns {
            self.statistics.periods += 1;
            self.statistics.throttled_periods += u64::from(core::mem::take(&mut self.was_empty));
            self.left_ns = self.quota_ns;
            let periods = (now_ns - self.ends_ns) / self.period_ns + 1;
            self.ends_ns += periods * self.period_ns;
        }
        let taken = self.left_ns.min(PORTION_NS);
        self.left_ns -= taken;
        self.was_empty |= taken == 0;
        taken
    }

    /// Takes back what a CPU has not used, maybe of an earlier period.
    fn give_back(&mut self, left_ns: u64) {
        self.left_ns = self.left_ns.saturating_add(left_ns).min(self.quota_ns);
    }
}

impl Group {
    /// A group in `parent` (`None`: in the root) for `cpus` CPUs, with weight 1024 and no limit.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(parent: Option<&Group>, cpus: usize) -> Result<Arc<Group>> {
        let common = try_arc(Common {
            weight: AtomicU32::new(UNIT_WEIGHT),
            threads: AtomicUsize::new(0),
            is_limited: AtomicBool::new(false),
            pool: SpinLock::new(Pool {
                quota_ns: 0,
                period_ns: 1,
                left_ns: 0,
                ends_ns: 0,
                was_empty: false,
                statistics: LimitStatistics::default(),
            }),
        })?;
        let mut queues = Vec::try_with_capacity(cpus)?;
        for cpu in 0..cpus {
            let parent = parent.map(|parent| parent.queue(cpu));
            queues.try_push(try_arc(GroupQueue {
                entity: Entity::new(),
                depth: parent.as_ref().map_or(1, |parent| parent.depth + 1),
                parent,
                common: Arc::clone(&common),
                level: SpinLock::new(Level::new()),
                ready: AtomicUsize::new(0),
                threads: AtomicUsize::new(0),
                is_throttled: AtomicBool::new(false),
                throttle_link: Link::new(),
                throttled_at_ns: AtomicU64::new(0),
                resumes_ns: AtomicU64::new(0),
                portion_ns: AtomicI64::new(0),
            })?)?;
        }
        Ok(try_arc(Group { common, queues })?)
    }

    /// Its queue on a CPU.
    ///
    /// # Panics
    /// For a CPU that it was not made for.
    #[must_use]
    pub fn queue(&self, cpu: CpuId) -> Arc<GroupQueue> {
        Arc::clone(&self.queues[cpu])
    }

    /// Sets the weight among its siblings (1024 is cpu.weight 100).
    pub fn set_weight(&self, weight: u32) {
        self.common
            .weight
            .store(weight.max(LEAST_WEIGHT), Ordering::Relaxed);
    }

    /// Limits it to `quota_ns` of CPU in each `period_ns` (cpu.max); `None` lifts the limit. What is throttled
    /// stays so until the period's end.
    ///
    /// # Errors
    /// `EINVAL` for a period of 0.
    pub fn set_limit(&self, limit: Option<(u64, u64)>, now_ns: u64) -> Result<()> {
        if let Some((quota_ns, period_ns)) = limit {
            if period_ns == 0 {
                return Err(Errno::EINVAL);
            }
            let mut pool = self.common.pool.lock();
            *pool = Pool {
                quota_ns,
                period_ns,
                left_ns: quota_ns,
                ends_ns: now_ns.saturating_add(period_ns),
                ..*pool
            };
        }
        self.common
            .is_limited
            .store(limit.is_some(), Ordering::Relaxed);
        Ok(())
    }

    /// What became of its limits since it was made. What is throttled now counts when it runs again.
    #[must_use]
    pub fn statistics(&self) -> LimitStatistics {
        self.common.pool.lock().statistics
    }
}

/// A group on one CPU.
#[derive(Debug)]
pub struct GroupQueue {
    entity: Entity,
    parent: Option<Arc<GroupQueue>>,
    depth: usize,
    common: Arc<Common>,
    level: SpinLock<Level>,
    /// Threads ready here and below, those behind something throttled below not among them.
    ready: AtomicUsize,
    /// Threads that run or are ready here and below.
    threads: AtomicUsize,
    is_throttled: AtomicBool,
    throttle_link: Link<GroupQueue>,
    throttled_at_ns: AtomicU64,
    /// While throttled: when the period ends in which the pool was empty. Others may have begun the next one by then.
    resumes_ns: AtomicU64,
    /// What is left of the portion; below zero when a thread ran on.
    portion_ns: AtomicI64,
}

impl Member for GroupQueue {
    fn entity(&self) -> &Entity {
        &self.entity
    }

    fn as_group(&self) -> Option<&GroupQueue> {
        Some(self)
    }
}

impl GroupQueue {
    pub(super) fn parent(&self) -> Option<&Arc<GroupQueue>> {
        self.parent.as_ref()
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn level<R>(&self, act: impl FnOnce(&mut Level) -> R) -> R {
        act(&mut self.level.lock())
    }

    /// The first thread, and whether nothing is left.
    pub(super) fn pop(&self) -> (Option<Arc<dyn Member>>, bool) {
        self.level(|level| (level.pop(), level.is_empty()))
    }

    /// One of the last threads for which `may_go`, and whether nothing is left.
    pub(super) fn take_last(
        &self,
        may_go: &dyn Fn(&dyn Member) -> bool,
    ) -> (Option<Arc<dyn Member>>, bool) {
        self.level(|level| (level.take_last(may_go), level.is_empty()))
    }

    pub(super) fn has(&self, may_go: &dyn Fn(&dyn Member) -> bool) -> bool {
        self.level(|level| level.has(may_go))
    }

    /// A thread comes, here or below; whether it is the first.
    pub(super) fn count_in(&self) -> bool {
        self.common.threads.fetch_add(1, Ordering::Relaxed);
        self.threads.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// A thread goes, here or below; whether it was the last.
    pub(super) fn count_out(&self) -> bool {
        self.common.threads.fetch_sub(1, Ordering::Relaxed);
        let was_last = self.threads.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_last && self.common.is_limited.load(Ordering::Relaxed) {
            self.give_back();
        }
        was_last
    }

    /// What is left of the portion is for other CPUs; what was run beyond it stays owed.
    fn give_back(&self) {
        let left = self.portion_ns.load(Ordering::Relaxed);
        if left > 0 {
            self.portion_ns.store(0, Ordering::Relaxed);
            self.common.pool.lock().give_back(left.unsigned_abs());
        }
    }

    /// Its part of the group's weight: as many of the group's threads as are here.
    pub(super) fn weight_here(&self) -> u32 {
        let weight = u64::from(self.common.weight.load(Ordering::Relaxed));
        let here = self.threads.load(Ordering::Relaxed) as u64;
        let all = self.common.threads.load(Ordering::Relaxed) as u64;
        let part = weight * here.max(1) / all.max(1);
        u32::try_from(part).unwrap_or(u32::MAX).max(LEAST_WEIGHT)
    }

    /// Counts threads that became ready; whether the parent sees them.
    pub(super) fn add_ready(&self, count: usize) -> bool {
        self.ready.fetch_add(count, Ordering::Relaxed);
        !self.is_throttled()
    }

    /// Counts threads that are ready no more; whether the parent saw them.
    pub(super) fn remove_ready(&self, count: usize) -> bool {
        self.ready.fetch_sub(count, Ordering::Relaxed);
        !self.is_throttled()
    }

    /// Whether it has nothing to run and so does not belong in its parent's level.
    pub(super) fn is_hidden(&self) -> bool {
        self.is_throttled() || self.level(|level| level.is_empty())
    }

    pub(super) fn throttle_link(&self) -> &Link<GroupQueue> {
        &self.throttle_link
    }

    /// While throttled: when it may run again.
    pub(super) fn resumes_ns(&self) -> u64 {
        self.resumes_ns.load(Ordering::Relaxed)
    }

    pub(super) fn is_throttled(&self) -> bool {
        self.is_throttled.load(Ordering::Relaxed)
    }

    /// Takes `ran_ns` off what may be run; whether nothing is left.
    pub(super) fn use_up(&self, ran_ns: u64, now_ns: u64) -> bool {
        if !self.common.is_limited.load(Ordering::Relaxed) {
            return false;
        }
        let ran = i64::try_from(ran_ns).unwrap_or(i64::MAX);
        let left = self.portion_ns.load(Ordering::Relaxed).saturating_sub(ran);
        self.portion_ns.store(left, Ordering::Relaxed);
        left <= 0 && !self.refill(now_ns)
    }

    /// Takes portions until there is something left; `false` when the pool is empty.
    fn refill(&self, now_ns: u64) -> bool {
        let mut pool = self.common.pool.lock();
        let mut left = self.portion_ns.load(Ordering::Relaxed);
        while left <= 0 {
            let portion = pool.take(now_ns);
            if portion == 0 {
                self.resumes_ns.store(pool.ends_ns, Ordering::Relaxed);
                break;
            }
            left = left.saturating_add_unsigned(portion);
        }
        self.portion_ns.store(left, Ordering::Relaxed);
        left > 0
    }

    /// What is left of the portion, if there is a limit.
    pub(super) fn left_ns(&self) -> Option<u64> {
        self.common.is_limited.load(Ordering::Relaxed).then(|| {
            self.portion_ns
                .load(Ordering::Relaxed)
                .max(0)
                .unsigned_abs()
        })
    }

    /// Marks it throttled; the threads that its parent no longer sees. `None` when it is already.
    pub(super) fn throttle(&self, now_ns: u64) -> Option<usize> {
        if self.is_throttled.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.throttled_at_ns.store(now_ns, Ordering::Relaxed);
        Some(self.ready.load(Ordering::Relaxed))
    }

    /// Lets it run again if there is something to run on; the threads that its parent sees again.
    pub(super) fn unthrottle(&self, now_ns: u64) -> Option<usize> {
        if !self.is_throttled() {
            return None;
        }
        let is_limited = self.common.is_limited.load(Ordering::Relaxed);
        if is_limited && !self.refill(now_ns) {
            return None;
        }
        self.is_throttled.store(false, Ordering::Relaxed);
        let since = self.throttled_at_ns.load(Ordering::Relaxed);
        self.common.pool.lock().statistics.throttled_ns += now_ns.saturating_sub(since);
        Some(self.ready.load(Ordering::Relaxed))
    }
}

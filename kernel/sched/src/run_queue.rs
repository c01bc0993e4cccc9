//! The order in which the threads of one CPU run: policy as data, tested on the host.
//!
//! What can run is an [`Entity`]: a thread, or a group of them (a cgroup) on this CPU. Fair entities of a level
//! are ordered by virtual time: nanoseconds run, divided by weight, so that over time each gets CPU in
//! proportion to its weight; a group runs the first of its own level, and is charged for what that runs. An
//! entity that was away comes back at most [`SLEEPER_BONUS_NS`] behind its level: it runs soon, but does not
//! catch up for hours of sleep. Real-time threads are in bands ahead of all fair ones, first in, first out,
//! whatever their group, as long as they leave the others a little ([`realtime`]).
//!
//! Guarded by the CPU's queue lock, the levels of groups too: their own locks (see [`group`]) are never waited
//! for. Nothing here allocates: entities have their links inside.

pub mod balance;
mod entity;
mod group;
mod level;
mod realtime;
mod weight;

use alloc::sync::Arc;

use machine::cpu::CpuId;
use machine::intrusive::List;

pub use entity::{Entity, Member, Rank};
pub use group::{Group, GroupQueue, LimitStatistics};
pub(crate) use level::Level;
pub use level::SLEEPER_BONUS_NS;
use realtime::RealtimeUse;
pub use realtime::{PERIOD_NS as REALTIME_PERIOD_NS, RUNTIME_NS as REALTIME_RUNTIME_NS};
pub use weight::{FAIR_BAND, UNIT_WEIGHT, standing, virtual_time};

/// How much behind the running thread a woken one must be to take its place.
pub const PREEMPT_LEAD_NS: u64 = 1_000_000;
/// What the running thread is left at least before it is preempted, in nanoseconds.
pub const LEAST_RUN_NS: u64 = 1_000_000;
/// How long a thread may run while `waiting` others are ready, in nanoseconds.
#[must_use]
pub fn slice_ns(waiting: usize) -> u64 {
    match waiting {
        0..=2 => 6_000_000,
        3..=5 => 4_000_000,
        _ => 3_000_000,
    }
}

/// The threads that are ready on one CPU, the running one not among them.
#[derive(Debug)]
pub struct RunQueue {
    cpu: CpuId,
    root: Level,
    /// Threads that could run: not those of groups that are throttled.
    ready: usize,
    /// Groups that wait for their next period.
    throttled: List<GroupQueue>,
    realtime: RealtimeUse,
}

impl RunQueue {
    /// The empty queue of `cpu`.
    #[must_use]
    pub const fn new(cpu: CpuId) -> Self {
        Self {
            cpu,
            root: Level::new(),
            ready: 0,
            throttled: List::new(),
            realtime: RealtimeUse::new(),
        }
    }

    /// Says which CPU's it is, while it is empty.
    pub fn set_cpu(&mut self, cpu: CpuId) {
        self.cpu = cpu;
    }

    /// Threads that wait and could run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready
    }

    /// Whether none waits that could run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready == 0
    }

    /// A thread that was away comes to this CPU (it was woken, or moves here): before [`Self::push`].
    pub fn attach(&mut self, thread: &dyn Member, now_ns: u64) {
        let entity = thread.entity();
        let leaf = entity.queue_on(self.cpu);
        match &leaf {
            Some(leaf) => leaf.level(|level| level.join(entity, now_ns)),
            None => self.root.join(entity, now_ns),
        }
        let mut next = leaf.as_ref();
        while let Some(queue) = next {
            if queue.count_in() {
                self.in_level_of(queue, |level, entity| level.join(entity, now_ns));
            }
            next = queue.parent();
        }
    }

    /// A thread that runs or was taken goes away from this CPU (it sleeps, exits, or moves).
    pub fn detach(&mut self, thread: &dyn Member, now_ns: u64) {
        let entity = thread.entity();
        let leaf = entity.queue_on(self.cpu);
        match &leaf {
            Some(leaf) => leaf.level(|level| level.leave(entity, now_ns)),
            None => self.root.leave(entity, now_ns),
        }
        let mut next = leaf.as_ref();
        while let Some(queue) = next {
            if queue.count_out() {
                self.in_level_of(queue, |level, entity| level.leave(entity, now_ns));
            }
            next = queue.parent();
        }
    }

    /// Does something about a group in the level that it is an entity of.
    fn in_level_of(&mut self, queue: &GroupQueue, act: impl FnOnce(&mut Level, &Entity)) {
        match queue.parent() {
            Some(parent) => parent.level(|level| act(level, queue.entity())),
            None => act(&mut self.root, queue.entity()),
        }
    }

    /// Adds an attached thread that is ready.
    pub fn push(&mut self, thread: Arc<dyn Member>) {
        let Some(leaf) = thread.entity().queue_on(self.cpu) else {
            self.root.insert(thread);
            self.ready += 1;
            return;
        };
        leaf.level(|level| level.insert(thread));
        self.make_visible(&leaf, 1);
    }

    /// `count` more threads are ready in `queue`: counts them upwards, and puts each group in its level, as far
    /// as nothing is throttled.
    fn make_visible(&mut self, queue: &Arc<GroupQueue>, count: usize) {
        let mut next = Some(queue);
        while let Some(queue) = next {
            if !queue.add_ready(count) {
                return;
            }
            if !queue.entity().link().is_linked() {
                let member: Arc<dyn Member> = Arc::clone(queue) as _;
                match queue.parent() {
                    Some(parent) => parent.level(|level| level.insert(member)),
                    None => self.root.insert(member),
                }
            }
            next = queue.parent();
        }
        self.ready += count;
    }

    /// `count` fewer threads are ready in `queue`.
    fn count_down(&mut self, queue: &Arc<GroupQueue>, count: usize) {
        let mut next = Some(queue);
        while let Some(queue) = next {
            if !queue.remove_ready(count) {
                return;
            }
            next = queue.parent();
        }
        self.ready -= count;
    }

    /// Takes the thread that should run next.
    pub fn pop(&mut self) -> Option<Arc<dyn Member>> {
        let thread = if self.realtime.is_spent() {
            self.root.pop_fair()
        } else {
            self.root.pop()
        }?;
        self.uncount(&*thread);
        Some(thread)
    }

    /// Takes one of the last-ranked threads that `may_go` allows: for another CPU.
    pub fn steal(&mut self, may_go: impl Fn(&dyn Member) -> bool) -> Option<Arc<dyn Member>> {
        let thread = self.root.take_last(&may_go)?;
        self.uncount(&*thread);
        Some(thread)
    }

    /// Takes out a thread, if it waits here.
    pub fn take(&mut self, thread: &dyn Member) -> Option<Arc<dyn Member>> {
        let entity = thread.entity();
        let Some(leaf) = entity.queue_on(self.cpu) else {
            let removed = self.root.remove(entity);
            self.ready -= usize::from(removed.is_some());
            return removed;
        };
        let removed = leaf.level(|level| level.remove(entity));
        if removed.is_some() {
            self.count_down(&leaf, 1);
            self.hide_empty(&leaf);
        }
        removed
    }

    /// Takes groups out of their levels that have nothing to run, from `queue` upwards.
    fn hide_empty(&mut self, queue: &Arc<GroupQueue>) {
        let mut queue = queue;
        while queue.is_hidden() {
            self.in_level_of(queue, |level, entity| {
                level.remove(entity);
            });
            let Some(parent) = queue.parent() else {
                return;
            };
            queue = parent;
        }
    }

    fn uncount(&mut self, thread: &dyn Member) {
        match thread.entity().queue_on(self.cpu) {
            Some(leaf) => self.count_down(&leaf, 1),
            None => self.ready -= 1,
        }
    }

    /// Books `ran_ns` of the running thread, and of the groups it is in. Returns whether it has to stop: a
    /// group of its, or the real-time threads together, have used up what they may run in this period.
    pub fn charge(&mut self, thread: &dyn Member, ran_ns: u64, now_ns: u64) -> bool {
        let entity = thread.entity();
        entity.run(ran_ns, entity.weight());
        if entity.rank().band < FAIR_BAND {
            self.realtime.book(ran_ns, now_ns);
            return self.realtime.is_spent();
        }
        self.realtime.pass(now_ns);
        let virtual_ns = entity.rank().virtual_ns;
        let Some(leaf) = entity.queue_on(self.cpu) else {
            self.root.advance(virtual_ns);
            return false;
        };
        leaf.level(|level| level.advance(virtual_ns));
        let mut must_stop = false;
        let mut next = Some(&leaf);
        while let Some(queue) = next {
            queue.entity().run(ran_ns, queue.weight_here());
            match queue.parent() {
                Some(parent) => parent.level(|level| Self::move_on(level, queue)),
                None => Self::move_on(&mut self.root, queue),
            }
            if queue.use_up(ran_ns, now_ns) {
                self.throttle(queue, now_ns);
            }
            must_stop |= queue.is_throttled();
            next = queue.parent();
        }
        must_stop
    }

    /// Puts a group that has run where it stands now.
    fn move_on(level: &mut Level, queue: &Arc<GroupQueue>) {
        if let Some(member) = level.remove(queue.entity()) {
            level.insert(member);
        }
        level.advance(queue.entity().rank().virtual_ns);
    }

    fn throttle(&mut self, queue: &Arc<GroupQueue>, now_ns: u64) {
        let Some(ready) = queue.throttle(now_ns) else {
            return;
        };
        // It was not throttled, so the link is free.
        let _ = self
            .throttled
            .push_back(Arc::clone(queue), GroupQueue::throttle_link);
        self.in_level_of(queue, |level, entity| {
            level.remove(entity);
            level.leave(entity, now_ns);
        });
        match queue.parent() {
            Some(parent) => {
                self.count_down(parent, ready);
                self.hide_empty(parent);
            }
            None => self.ready -= ready,
        }
    }

    /// Groups whose next period has begun run again.
    pub fn begin_periods(&mut self, now_ns: u64) {
        for _ in 0..self.throttled.len() {
            let Some(queue) = self.throttled.pop_front() else {
                return;
            };
            let Some(ready) = queue.unthrottle(now_ns) else {
                // Its link was in this list just now, so it is free.
                let _ = self.throttled.push_back(queue, GroupQueue::throttle_link);
                continue;
            };
            self.in_level_of(&queue, |level, entity| level.join(entity, now_ns));
            if ready > 0 {
                queue.remove_ready(ready);
                self.make_visible(&queue, ready);
            }
        }
    }

    /// When the first of the groups that are throttled here may run again.
    #[must_use]
    pub fn next_period_ns(&self) -> Option<u64> {
        let mut next: Option<u64> = None;
        self.throttled.for_each(|queue| {
            let ends = queue.resumes_ns();
            next = Some(next.map_or(ends, |next| next.min(ends)));
        });
        next
    }

    /// Puts the running thread behind those of its own level that wait (`sched_yield(2)`).
    pub fn put_behind(&mut self, thread: &dyn Member) {
        let entity = thread.entity();
        let put = |level: &mut Level| {
            if let Some(first) = level.first() {
                entity.fall_behind(first);
            }
        };
        match entity.queue_on(self.cpu) {
            Some(leaf) if entity.rank().band == FAIR_BAND => leaf.level(put),
            _ => put(&mut self.root),
        }
    }

    /// The best rank that waits in the root level.
    #[must_use]
    pub fn best(&self) -> Option<Rank> {
        self.root.first()
    }

    /// Whether `woken`, which is ready here, is so far ahead that `running` should give way: compared in the
    /// first level that has both, or groups of both.
    #[must_use]
    pub fn leads(&self, woken: &dyn Member, running: &dyn Member) -> bool {
        let (rank, other) = (woken.entity().rank(), running.entity().rank());
        if rank.band != other.band || rank.band < FAIR_BAND {
            let swaps = self.realtime.is_spent() && rank.band.max(other.band) == FAIR_BAND;
            return (rank.band < other.band) != swaps;
        }
        let (rank, other) = if woken.entity().is_in_group() || running.entity().is_in_group() {
            entity::ranks_in_common_level(woken, running, self.cpu)
        } else {
            (rank, other)
        };
        rank.virtual_ns + PREEMPT_LEAD_NS < other.virtual_ns
    }

    /// How long the running thread may go on before a group of its, or the real-time threads together, have used
    /// up their period's time.
    #[must_use]
    pub fn left_ns(&self, thread: &dyn Member) -> Option<u64> {
        if thread.entity().rank().band < FAIR_BAND {
            let matters = !self.is_empty() && !self.realtime.is_spent();
            return matters.then(|| self.realtime.left_ns());
        }
        let leaf = thread.entity().queue_on(self.cpu)?;
        let mut least = leaf.left_ns();
        let mut next = leaf.parent();
        while let Some(queue) = next {
            least = match (least, queue.left_ns()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            next = queue.parent();
        }
        least
    }
}

#[cfg(test)]
mod tests;

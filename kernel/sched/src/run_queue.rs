//! The order in which the threads of one CPU run: policy as pure data, tested on the host.
//!
//! Fair threads are ordered by virtual time: nanoseconds run, divided by the weight that the nice value
//! gives, so that over time each gets CPU in proportion to its weight. A thread that slept comes
//! back at most [`SLEEPER_BONUS_NS`] behind the queue: it runs soon, but does not catch up for hours
//! of sleep. Real-time threads are in bands ahead of all fair ones, first in, first out.

use alloc::vec::Vec;

use crate::attributes::{Attributes, Policy};

/// The band of fair threads; lower bands run first. Real-time priority 99 is band 0.
pub const FAIR_BAND: u8 = 99;
/// How far behind the queue a thread that slept comes back, in virtual nanoseconds.
pub const SLEEPER_BONUS_NS: u64 = 3_000_000;
/// How much behind the running thread a woken one must be to take its place.
pub const PREEMPT_LEAD_NS: u64 = 1_000_000;
/// What the running thread is left at least before it is preempted, in nanoseconds.
pub const LEAST_RUN_NS: u64 = 1_000_000;

const UNIT_WEIGHT: u32 = 1024;
const IDLE_WEIGHT: u32 = 3;
const WEIGHTS: [u32; 40] = weights();

/// The weight of nice -20 to 19: each step is a factor of 1.25.
const fn weights() -> [u32; 40] {
    let mut weights = [UNIT_WEIGHT; 40];
    let mut step = 1;
    while step <= 20 {
        weights[20 - step] = weights[21 - step] * 5 / 4;
        if step < 20 {
            weights[20 + step] = weights[19 + step] * 4 / 5;
        }
        step += 1;
    }
    weights
}

/// The band and the weight of a thread with these attributes.
#[must_use]
pub fn standing(attributes: Attributes) -> (u8, u32) {
    match attributes.policy {
        Policy::Fifo | Policy::RoundRobin => (99 - attributes.priority.clamp(1, 99), UNIT_WEIGHT),
        Policy::Idle => (FAIR_BAND, IDLE_WEIGHT),
        Policy::Other | Policy::Batch => (
            FAIR_BAND,
            WEIGHTS[usize::from((attributes.nice.clamp(-20, 19) + 20).unsigned_abs())],
        ),
    }
}

/// Virtual time of `ran_ns` at `weight`.
#[must_use]
pub fn virtual_time(ran_ns: u64, weight: u32) -> u64 {
    if weight == UNIT_WEIGHT {
        return ran_ns;
    }
    ran_ns.saturating_mul(u64::from(UNIT_WEIGHT)) / u64::from(weight.max(1))
}

/// How long a thread may run while `waiting` others are ready, in nanoseconds.
#[must_use]
pub fn slice_ns(waiting: usize) -> u64 {
    match waiting {
        0..=2 => 6_000_000,
        3..=5 => 4_000_000,
        _ => 3_000_000,
    }
}

/// Where a thread stands: lower runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The band; see [`standing`].
    pub band: u8,
    /// Virtual time; 0 in the real-time bands.
    pub virtual_ns: u64,
}

impl Rank {
    /// The rank of a thread that lets one of rank `other` go first (sched_yield(2)).
    #[must_use]
    pub fn behind(self, other: Rank) -> Rank {
        if self.band == other.band {
            Rank {
                virtual_ns: self.virtual_ns.max(other.virtual_ns),
                ..self
            }
        } else {
            self
        }
    }
}

/// The threads that are ready on one CPU, the running one not among them.
#[derive(Debug)]
pub struct RunQueue<T> {
    heap: Vec<Entry<T>>,
    /// Virtual time of the queue: never goes back, never ahead of the least thread.
    floor_ns: u64,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry<T> {
    rank: Rank,
    arrival: u64,
    item: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Rank, u64) {
        (self.rank, self.arrival)
    }
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RunQueue<T> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Vec::new(),
            floor_ns: 0,
            arrivals: 0,
        }
    }

    /// Threads that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The best rank that waits.
    #[must_use]
    pub fn best(&self) -> Option<Rank> {
        self.heap.first().map(|entry| entry.rank)
    }

    /// The virtual time at which a thread that was away joins: its own `lead_ns` over the queue it left
    /// (see [`Self::lead_of`]), within bounds.
    #[must_use]
    pub fn join_at(&self, lead_ns: i64) -> u64 {
        let bound = SLEEPER_BONUS_NS.cast_signed();
        self.floor_ns
            .saturating_add_signed(lead_ns.clamp(-bound, 4 * bound))
    }

    /// How far a thread at `virtual_ns` is ahead of the queue it leaves.
    #[must_use]
    pub fn lead_of(&self, virtual_ns: u64) -> i64 {
        virtual_ns.wrapping_sub(self.floor_ns).cast_signed()
    }

    /// The running thread has reached `virtual_ns`: time moves on.
    pub fn advance(&mut self, running: Rank) {
        if running.band < FAIR_BAND {
            return;
        }
        let mut least = running.virtual_ns;
        if let Some(best) = self.best()
            && best.band == FAIR_BAND
        {
            least = least.min(best.virtual_ns);
        }
        self.floor_ns = self.floor_ns.max(least);
    }

    /// Adds a thread.
    pub fn push(&mut self, rank: Rank, item: T) {
        let rank = if rank.band < FAIR_BAND {
            Rank {
                virtual_ns: 0,
                ..rank
            }
        } else {
            rank
        };
        self.arrivals += 1;
        self.heap.push(Entry {
            rank,
            arrival: self.arrivals,
            item,
        });
        self.rise(self.heap.len() - 1);
    }

    /// Takes the thread that should run next.
    pub fn pop(&mut self) -> Option<T> {
        if self.heap.is_empty() {
            None
        } else {
            Some(self.take(0))
        }
    }

    /// Takes the last-ranked thread that `may_go` allows: for another CPU, where it starts afresh.
    pub fn steal(&mut self, may_go: impl Fn(&T) -> bool) -> Option<T> {
        let at = (0..self.heap.len())
            .rev()
            .find(|&at| may_go(&self.heap[at].item))?;
        Some(self.take(at))
    }

    fn take(&mut self, at: usize) -> T {
        let entry = self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.rise(at);
            self.sink(at);
        }
        entry.item
    }

    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].key() <= self.heap[at].key() {
                break;
            }
            self.heap.swap(parent, at);
            at = parent;
        }
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.heap[child].key() < self.heap[least].key() {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests;

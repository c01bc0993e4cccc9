//! Which CPU has seen which epoch: the part of RCU that is an algorithm, tested on the host.
//!
//! A writer changes a cell, then counts the epoch up ([`Epochs::advance`]). A CPU at a quiescent state reads the
//! epoch and publishes it as seen. If it has seen the writer's epoch, it read it after the change, so what it
//! reads from then on is new; and what it read before, it has let go of.
//!
//! An idle CPU publishes [`IDLE`], which counts as having seen everything. Going idle and leaving it are on
//! the two sides of a store-then-load race (writer: change, look whether idle; CPU: no longer idle, read the
//! cell), so both use sequentially consistent read-modify-writes: one of the two sees the other.

use core::sync::atomic::{AtomicU64, Ordering};

/// What a CPU that waits for interrupts (or has not started) has seen: everything.
const IDLE: u64 = u64::MAX;

/// The epoch, and what `CPUS` CPUs have seen of it.
#[derive(Debug)]
pub(super) struct Epochs<const CPUS: usize> {
    now: AtomicU64,
    seen: [Seen; CPUS],
}

#[derive(Debug)]
#[repr(align(64))]
struct Seen(AtomicU64);

impl<const CPUS: usize> Epochs<CPUS> {
    pub(super) const fn new() -> Self {
        Self {
            now: AtomicU64::new(1),
            seen: [const { Seen(AtomicU64::new(IDLE)) }; CPUS],
        }
    }

    /// After a change: the epoch that every CPU has to see before what was taken out is let go.
    pub(super) fn advance(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// `cpu` (the caller's) reads nothing at this moment.
    pub(super) fn pass(&self, cpu: usize) {
        let now = self.now.load(Ordering::Acquire);
        // Release: what was read before is let go of by then.
        self.seen[cpu].0.store(now, Ordering::Release);
    }

    /// `cpu` (the caller's) reads nothing from here on until [`Self::leave_idle`].
    pub(super) fn enter_idle(&self, cpu: usize) {
        self.seen[cpu].0.store(IDLE, Ordering::Release);
    }

    /// `cpu` (the caller's) may read again.
    pub(super) fn leave_idle(&self, cpu: usize) {
        if self.seen[cpu].0.load(Ordering::Relaxed) == IDLE {
            let now = self.now.load(Ordering::Acquire);
            self.seen[cpu].0.swap(now, Ordering::SeqCst);
        }
    }

    /// Whether `cpu` may still read what was taken out before `epoch`.
    pub(super) fn is_late(&self, cpu: usize, epoch: u64) -> bool {
        self.seen[cpu].0.load(Ordering::SeqCst) < epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;

    #[test]
    fn a_cpu_is_late_until_it_passes_and_never_while_idle() {
        let epochs = Epochs::<2>::new();
        epochs.leave_idle(0);
        let first = epochs.advance();
        assert!(epochs.is_late(0, first));
        assert!(!epochs.is_late(1, first), "CPU 1 is idle");
        epochs.pass(0);
        assert!(!epochs.is_late(0, first));
        let second = epochs.advance();
        assert!(epochs.is_late(0, second) && !epochs.is_late(0, first));
        epochs.enter_idle(0);
        assert!(!epochs.is_late(0, second));
        epochs.leave_idle(0);
        assert!(!epochs.is_late(0, second));
        assert!(epochs.is_late(0, epochs.advance()));
    }

    /// Two readers that go idle and come back at random look at one of two slots; the writer reuses a slot
    /// only after a grace period. A reader must never see its slot change under it.
    #[test]
    fn nothing_is_reused_while_it_is_read() {
        static EPOCHS: Epochs<2> = Epochs::new();
        static CURRENT: AtomicU64 = AtomicU64::new(0);
        static SLOTS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
        static STOP: AtomicBool = AtomicBool::new(false);
        static ROUNDS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
        let readers: Vec<_> = (0..2)
            .map(|cpu| {
                std::thread::spawn(move || {
                    while !STOP.load(Ordering::Relaxed) {
                        EPOCHS.leave_idle(cpu);
                        for _ in 0..3 {
                            let slot = &SLOTS[CURRENT.load(Ordering::Acquire) as usize];
                            let before = slot.load(Ordering::Relaxed);
                            core::hint::spin_loop();
                            assert_eq!(slot.load(Ordering::Relaxed), before, "reused while read");
                            EPOCHS.pass(cpu);
                        }
                        EPOCHS.enter_idle(cpu);
                        ROUNDS[cpu].fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut round = 0_u64;
        while round < 5000
            || ROUNDS
                .iter()
                .any(|rounds| rounds.load(Ordering::Relaxed) < 100)
        {
            round += 1;
            let next = round % 2;
            // Nobody reads this slot: the grace period of the last round is over.
            SLOTS[next as usize].store(round, Ordering::Relaxed);
            CURRENT.swap(next, Ordering::SeqCst);
            let epoch = EPOCHS.advance();
            while (0..2).any(|cpu| EPOCHS.is_late(cpu, epoch)) {
                std::thread::yield_now();
            }
        }
        STOP.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no reader saw a change");
        }
    }
}

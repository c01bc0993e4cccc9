//! RCU on the bare machine: the epochs of the real CPUs.

use super::assert_not_reading;
use super::epochs::Epochs;
use crate::cpu::{CpuId, MAX_CPUS};
use crate::x86::percpu;

static EPOCHS: Epochs<MAX_CPUS> = super::new_epochs();

/// Adds to this CPU's count of read sections, and returns it.
#[inline]
pub(super) fn change_readers(change: isize) -> isize {
    let readers = &percpu::here().rcu_readers;
    readers.set(readers.get() + change);
    readers.get()
}

pub(super) fn epoch_after_change() -> u64 {
    EPOCHS.advance()
}

pub(super) fn is_over(epoch: u64) -> bool {
    (0..percpu::count()).all(|cpu| !EPOCHS.is_late(cpu, epoch))
}

/// CPUs that have to pass a quiescent state before `period` is over.
pub fn late_cpus(period: super::GracePeriod) -> impl Iterator<Item = CpuId> {
    (0..percpu::count()).filter(move |&cpu| EPOCHS.is_late(cpu, period.0))
}

/// This CPU reads nothing at this moment.
///
/// # Panics
/// Inside a read section.
pub fn quiescent() {
    assert_not_reading();
    EPOCHS.pass(percpu::here().id());
}

/// This CPU has started.
pub(crate) fn start_cpu(cpu: CpuId) {
    EPOCHS.leave_idle(cpu);
}

/// This CPU is about to wait for an interrupt.
pub(crate) fn before_wait() {
    assert_not_reading();
    EPOCHS.enter_idle(percpu::here().id());
}

/// An interrupt has come: its handler may read.
pub(crate) fn leave_idle() {
    EPOCHS.leave_idle(percpu::here().id());
}

//! Deadlines: each CPU's heap and the machine's one-shot timer.
//!
//! The machine's timer is only ever moved earlier; when it fires it is set for what is next then.
//! Setting it costs more than a needless interrupt now and then.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use machine::interrupt::InterruptsOff;

use super::cpu::{CPUS, Cpu, NEVER, Queue, here};
use super::watchdog;
use crate::thread::{Thread, ThreadRef};
use crate::timer_heap::{NOWHERE, Slot, Timed};

/// Sees to it that the timer of this CPU fires at `deadline` or before. Interrupts are off.
pub(super) fn ensure(cpu: &Cpu, deadline: u64) {
    if deadline < cpu.armed_ns.load(Ordering::Relaxed) {
        cpu.armed_ns.store(deadline, Ordering::Relaxed);
        machine::time::set_deadline(Some(deadline));
    }
}

/// Arms `timed` on this CPU unless it is armed already.
pub(crate) fn arm(deadline_ns: u64, timed: Arc<dyn Timed>) {
    let _off = InterruptsOff::new();
    let cpu = here();
    let this = machine::cpu::current();
    let mut heap = cpu.timers.lock();
    let home = &timed.slot().home;
    if home
        .compare_exchange(NOWHERE, this, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return;
    }
    heap.insert(deadline_ns, timed);
    drop(heap);
    ensure(cpu, deadline_ns);
}

/// Takes `slot`'s owner out of whatever heap it is in.
pub(crate) fn cancel(slot: &Slot) {
    loop {
        let home = slot.home.load(Ordering::Acquire);
        let Some(cpu) = CPUS.get(home) else {
            return;
        };
        let mut heap = cpu.timers.lock();
        if slot.home.load(Ordering::Acquire) == home {
            let removed = heap.remove(slot);
            slot.home.store(NOWHERE, Ordering::Release);
            drop(heap);
            // Outside the lock: it may be the last reference.
            drop(removed);
            return;
        }
    }
}

/// Sets the machine's timer again if it should have fired by now, before this CPU waits for an interrupt.
/// Interrupts are off.
pub(super) fn ensure_not_lost(cpu: &Cpu, now: u64) {
    let armed = cpu.armed_ns.load(Ordering::Relaxed);
    if armed <= now {
        machine::time::set_deadline(Some(armed));
    }
}

/// The machine's timer fired: calls what is due and sets the timer for what is next.
pub(crate) fn timer_interrupt() {
    let cpu = here();
    cpu.armed_ns.store(NEVER, Ordering::Relaxed);
    let now = crate::clock::monotonic_ns();
    loop {
        let due = {
            let mut heap = cpu.timers.lock();
            let due = heap.pop_expired(now);
            if let Some(timed) = &due {
                timed.slot().home.store(NOWHERE, Ordering::Release);
            }
            due
        };
        let Some(timed) = due else { break };
        timed.expired();
    }
    let slice_end = cpu.slice_end_ns.load(Ordering::Relaxed);
    if slice_end <= now {
        cpu.slice_end_ns.store(NEVER, Ordering::Relaxed);
        cpu.needs_reschedule.store(true, Ordering::Relaxed);
    } else {
        ensure(cpu, slice_end);
    }
    begin_periods(cpu, now);
    watchdog::look(cpu, now);
    let first = cpu.timers.lock().first();
    if let Some(first) = first {
        ensure(cpu, first);
    }
    if cpu.alarm_ns.load(Ordering::Relaxed) <= now {
        cpu.alarm_ns.store(NEVER, Ordering::Relaxed);
        cpu.current().ring_run_alarm();
    }
    set_alarm(cpu, now);
}

/// Sees to it that groups that are throttled here run again. Interrupts are off.
pub(super) fn set_period(cpu: &Cpu, queue: &Queue) {
    let next = queue.ready.next_period_ns().unwrap_or(NEVER);
    cpu.period_ns.store(next, Ordering::Relaxed);
    ensure(cpu, next);
}

/// Lets the groups run again whose next period has begun.
fn begin_periods(cpu: &Cpu, now: u64) {
    let period = cpu.period_ns.load(Ordering::Relaxed);
    if period > now {
        ensure(cpu, period);
        return;
    }
    let mut queue = cpu.queue.lock();
    queue.ready.begin_periods(now);
    queue.recount(cpu);
    set_period(cpu, &queue);
    if !queue.ready.is_empty() {
        // Whoever runs looks whether another one should; an idle CPU does so anyway.
        cpu.needs_reschedule.store(true, Ordering::Relaxed);
    }
}

/// Has the machine's timer fire at `slice_end`, or when the alarm of `next` is due, which now runs.
pub(super) fn start_alarm(cpu: &Cpu, next: &Thread, slice_end: u64, now: u64) {
    let alarm = next.run_alarm_moment(now);
    cpu.alarm_ns.store(alarm, Ordering::Relaxed);
    ensure(cpu, slice_end.min(alarm));
}

/// Sees to it that the running thread's CPU-time alarm rings. Interrupts are off.
pub(super) fn set_alarm(cpu: &Cpu, now: u64) {
    if cpu.is_idle.load(Ordering::Relaxed) {
        return;
    }
    let alarm = cpu.current().run_alarm_moment(now);
    cpu.alarm_ns.store(alarm, Ordering::Relaxed);
    ensure(cpu, alarm);
}

/// A thread's CPU-time alarm was set: tells the CPU that runs it, or is about to.
pub(crate) fn run_alarm_changed(thread: &ThreadRef) {
    let _off = InterruptsOff::new();
    if !thread.backend.on_cpu.load(Ordering::SeqCst) {
        return;
    }
    let home = thread.backend.cpu();
    if home == machine::cpu::current() {
        set_alarm(here(), crate::clock::monotonic_ns());
    } else {
        machine::interrupt::send_reschedule(home);
    }
}

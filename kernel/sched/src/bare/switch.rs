//! Choosing the next thread and switching to it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use machine::interrupt::{self, InterruptsOff};
use machine::sync::IrqGuard;

use super::cpu::{self, Afterwards, Cpu, NEVER, Queue};
use super::{timers, wake, watchdog};
use crate::attributes::Policy;
use crate::later::{self, Left};
use crate::run_queue::{FAIR_BAND, slice_ns};
use crate::stats::bump;
use crate::thread::{Thread, ThreadRef};

pub(crate) fn init_cpu() {
    let _off = InterruptsOff::new();
    cpu::here().adopt();
    watchdog::join();
}

/// The idle thread: runs what is ready, else waits for an interrupt.
pub(crate) fn idle() -> ! {
    let cpu = cpu::here();
    if cpu.queue.lock().idle.is_none() {
        init_cpu();
    }
    let me = cpu.current();
    loop {
        drop_leavings();
        let _off = InterruptsOff::new();
        cpu.needs_reschedule.store(false, Ordering::Relaxed);
        let next = wait_for_work(cpu);
        switch_now(cpu, me.clone(), next);
    }
}

/// Sleeps until someone wakes `me`, which has been marked asleep. Returns at once when that has
/// happened already.
pub(crate) fn block(me: &ThreadRef) {
    machine::sync::assert_none_held();
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    {
        let mut queue = cpu.queue.lock();
        // Under the lock: a waker that comes now sees `is_queued` and leaves the rest to us.
        if !me.is_asleep() {
            return;
        }
        let now = crate::clock::monotonic_ns();
        let _ = charge(cpu, &mut queue, me, now);
        me.account.stop();
        set_aside(&mut queue, me, now);
        me.backend.is_queued.store(false, Ordering::Relaxed);
        if let Some(next) = queue.pop(cpu) {
            switch(cpu, queue, me.clone(), next, now, Afterwards::Nothing);
            return;
        }
    }
    let next = wait_for_work(cpu);
    switch_now(cpu, me.clone(), next);
}

pub(crate) fn exit() -> ! {
    // Whatever is still on this stack at the last switch is never dropped: so nothing is.
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    let me = cpu.current();
    let now = crate::clock::monotonic_ns();
    let mut queue = cpu.queue.lock();
    let _ = charge(cpu, &mut queue, &me, now);
    set_aside(&mut queue, &me, now);
    me.set_dead();
    if let Some(next) = queue.pop(cpu).or_else(|| queue.idle.clone()) {
        switch(cpu, queue, me, next, now, Afterwards::Nothing);
    }
    unreachable!("sched: a thread that has exited was switched to")
}

pub(crate) fn yield_now() {
    let _off = InterruptsOff::new();
    give_way(cpu::here(), true);
}

#[inline]
pub(crate) fn reschedule_if_needed() {
    if cpu::here().needs_reschedule.load(Ordering::Relaxed) {
        reschedule();
    }
}

#[cold]
fn reschedule() {
    machine::rcu::quiescent();
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    cpu.needs_reschedule.store(false, Ordering::Relaxed);
    wake::balance(cpu);
    give_way(cpu, false);
}

/// Puts the running thread back in the queue and runs the best of all; `yields`: another one of the same
/// standing if there is one. Interrupts are off.
fn give_way(cpu: &'static Cpu, yields: bool) {
    let me = cpu.current();
    let may_stay = me.affinity().contains(machine::cpu::current());
    let mut queue = cpu.queue.lock();
    if queue
        .idle
        .as_ref()
        .is_some_and(|idle| Arc::ptr_eq(idle, &me))
    {
        // The idle thread is in no queue; it gives way in its own loop.
        return;
    }
    let now = crate::clock::monotonic_ns();
    let must_stop = charge(cpu, &mut queue, &me, now);
    if yields {
        queue.ready.put_behind(&*me);
    }
    let mut afterwards = Afterwards::Nothing;
    if !may_stay {
        set_aside(&mut queue, &me, now);
        afterwards = Afterwards::Move;
    } else if !must_stop && (queue.ready.is_empty() || (!yields && keeps_cpu(&queue, &me))) {
        let end = limit_of(&queue, &me, NEVER, now);
        cpu.slice_end_ns.store(end, Ordering::Relaxed);
        timers::ensure(cpu, end);
        return;
    } else {
        // One that must stop is not seen in the queue until its group may run again.
        me.account.begin_wait(now);
        queue.push(cpu, me.clone());
    }
    if let Some(next) = queue.pop(cpu).or_else(|| queue.idle.clone()) {
        switch(cpu, queue, me, next, now, afterwards);
    }
}

/// Whether a FIFO thread goes on: nothing but a higher priority takes its CPU.
fn keeps_cpu(queue: &Queue, me: &Thread) -> bool {
    let rank = me.entity.rank();
    rank.band < FAIR_BAND
        && me.has_policy(Policy::Fifo)
        && queue.ready.best().is_none_or(|best| best.band >= rank.band)
}

/// `end`, or earlier if a group of the thread that is to run, or real-time threads together, have less left.
fn limit_of(queue: &Queue, thread: &Thread, end: u64, now: u64) -> u64 {
    if !thread.entity.is_in_group() && thread.entity.rank().band == FAIR_BAND {
        return end;
    }
    let left = queue.ready.left_ns(thread);
    left.map_or(end, |left| end.min(now.saturating_add(left)))
}

/// The running thread leaves the queue. It stays `is_queued` unless it sleeps: whoever is late with a wake-up must not
/// queue one that has ended or is on its way to another CPU.
fn set_aside(queue: &mut Queue, me: &Thread, now: u64) {
    queue.ready.detach(me, now);
    me.backend.is_attached.store(false, Ordering::Relaxed);
}

/// Books the time of the running thread. Returns whether it has to stop: its kind has used up its time.
fn charge(cpu: &Cpu, queue: &mut Queue, me: &Thread, now: u64) -> bool {
    bump(&cpu.system_ns, me.account.book_system(now));
    let ran = now.saturating_sub(cpu.switched_in_ns.load(Ordering::Relaxed));
    cpu.switched_in_ns.store(now, Ordering::Relaxed);
    let must_stop = queue.ready.charge(me, ran, now);
    if must_stop {
        queue.recount(cpu);
        timers::set_period(cpu, queue);
    }
    must_stop
}

/// The next thread to run, waiting for interrupts until there is one. Interrupts are off, no lock is held.
fn wait_for_work(cpu: &'static Cpu) -> ThreadRef {
    loop {
        {
            let mut queue = cpu.queue.lock();
            if let Some(next) = queue.pop(cpu) {
                return next;
            }
            if cpu.has_leavings.load(Ordering::Relaxed)
                && let Some(idle) = &queue.idle
            {
                // Drops them, as no lock is held there.
                return idle.clone();
            }
        }
        if let Some(next) = wake::steal(cpu) {
            return next;
        }
        {
            let queue = cpu.queue.lock();
            if !queue.ready.is_empty() {
                continue;
            }
            cpu.slice_end_ns.store(NEVER, Ordering::Relaxed);
            cpu.alarm_ns.store(NEVER, Ordering::Relaxed);
            cpu.is_idle.store(true, Ordering::Relaxed);
        }
        let before = crate::clock::monotonic_ns();
        timers::ensure_not_lost(cpu, before);
        interrupt::wait();
        cpu.is_idle.store(false, Ordering::Relaxed);
        bump(
            &cpu.idle_ns,
            crate::clock::monotonic_ns().saturating_sub(before),
        );
    }
}

/// As [`switch`], a while after `next` was chosen.
fn switch_now(cpu: &'static Cpu, me: ThreadRef, next: ThreadRef) {
    let queue = cpu.queue.lock();
    let now = crate::clock::monotonic_ns();
    switch(cpu, queue, me, next, now, Afterwards::Nothing);
}

/// Makes `next` the running thread in place of `me`, at `now`. Interrupts are off.
fn switch(
    cpu: &'static Cpu,
    mut queue: IrqGuard<'_, Queue>,
    me: ThreadRef,
    next: ThreadRef,
    now: u64,
    afterwards: Afterwards,
) {
    cpu.switched_in_ns.store(now, Ordering::Relaxed);
    next.account.start(now);
    // Also one that nobody had the CPU after: it idled where it slept.
    next.account.end_wait(now);
    // Under the lock: a waker that queues a thread now either is counted here, or sees the new end and tells
    // this CPU. Without, it could take the last thread's slice for this one's, and nobody would end it.
    let waiting = queue.ready.len();
    let end = if waiting == 0 {
        NEVER
    } else {
        now + slice_ns(waiting)
    };
    let slice_end = limit_of(&queue, &next, end, now);
    cpu.slice_end_ns.store(slice_end, Ordering::Relaxed);
    if Arc::ptr_eq(&me, &next) {
        drop(queue);
        timers::start_alarm(cpu, &next, slice_end, now);
        return;
    }
    me.account.stop();
    bump(&cpu.switches, 1);
    queue.handed_over = Some((me, afterwards));
    drop(queue);
    // Before its alarm is looked at: whoever changes that either is seen here, or sees this and tells this CPU.
    next.backend.on_cpu.swap(true, Ordering::SeqCst);
    timers::start_alarm(cpu, &next, slice_end, now);
    next.activate_page_table();
    let task = next.estate.backend.task.clone();
    cpu.set_current(next);
    task.switch_to();
    after_switch();
}

/// The first thing on the new stack: lets go of the thread that ran before.
pub(super) fn after_switch() {
    let mut queue = cpu::here().queue.lock();
    let Some((previous, afterwards)) = queue.handed_over.take() else {
        return;
    };
    previous.backend.on_cpu.store(false, Ordering::Release);
    drop(queue);
    if afterwards == Afterwards::Move {
        wake::place(&previous);
    }
}

/// Puts off the drop of something that nobody else has any more. Anywhere.
pub(crate) fn let_go(left: Arc<dyn Left>) {
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    later::add(&mut cpu.leavings.lock(), left);
    cpu.has_leavings.store(true, Ordering::Relaxed);
}

/// Drops what was let go of on this CPU. Where no lock is held: the drops may run any code.
#[inline]
pub(crate) fn drop_leavings() {
    if cpu::here().has_leavings.load(Ordering::Relaxed) {
        drop_all_leavings();
    }
}

#[cold]
fn drop_all_leavings() {
    loop {
        let left = {
            // A drop may give the CPU away, and come back on another one.
            let _off = InterruptsOff::new();
            let cpu = cpu::here();
            let left = cpu.leavings.lock().pop_front();
            if left.is_none() {
                cpu.has_leavings.store(false, Ordering::Relaxed);
            }
            left
        };
        let Some(left) = left else { return };
        drop(left);
    }
}

//! Choosing the next thread and switching to it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use machine::interrupt::{self, InterruptsOff};

use super::cpu::{self, Afterwards, Cpu, NEVER, Queue};
use super::{timers, wake};
use crate::attributes::Policy;
use crate::run_queue::{FAIR_BAND, Rank, slice_ns, virtual_time};
use crate::stats::bump;
use crate::thread::{Thread, ThreadRef};

pub(crate) fn init_cpu() {
    let _off = InterruptsOff::new();
    cpu::here().adopt();
}

/// The idle thread: runs what is ready, else waits for an interrupt.
pub(crate) fn idle() -> ! {
    let cpu = cpu::here();
    if cpu.queue.lock().idle.is_none() {
        init_cpu();
    }
    let me = cpu.current();
    loop {
        bury_dead(cpu);
        let _off = InterruptsOff::new();
        cpu.needs_reschedule.store(false, Ordering::Relaxed);
        let next = wait_for_work(cpu);
        switch(cpu, me.clone(), next, Afterwards::Nothing);
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
        let rank = charge(cpu, &mut queue, me);
        me.account.stop();
        set_aside(&queue, me, rank);
    }
    let next = wait_for_work(cpu);
    switch(cpu, me.clone(), next, Afterwards::Nothing);
}

pub(crate) fn exit() -> ! {
    // Whatever is still on this stack at the last switch is never dropped: so nothing is.
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    let me = cpu.current();
    let next = {
        let mut queue = cpu.queue.lock();
        let rank = charge(cpu, &mut queue, &me);
        set_aside(&queue, &me, rank);
        me.set_dead();
        queue.pop(cpu).or_else(|| queue.idle.clone())
    };
    if let Some(next) = next {
        switch(cpu, me, next, Afterwards::Bury);
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
    bury_dead(cpu::here());
    let _off = InterruptsOff::new();
    let cpu = cpu::here();
    cpu.needs_reschedule.store(false, Ordering::Relaxed);
    wake::pull_from_busier(cpu);
    give_way(cpu, false);
}

/// Puts the running thread back in the queue and runs the best of all; `yields`: another one of the same
/// standing if there is one. Interrupts are off.
fn give_way(cpu: &'static Cpu, yields: bool) {
    let me = cpu.current();
    let may_stay = me.affinity().contains(machine::cpu::current());
    let next = {
        let mut queue = cpu.queue.lock();
        let mut rank = charge(cpu, &mut queue, &me);
        if yields && let Some(best) = queue.ready.best() {
            rank = rank.behind(best);
            me.share
                .virtual_ns
                .store(rank.virtual_ns, Ordering::Relaxed);
        }
        if !may_stay {
            set_aside(&queue, &me, rank);
            queue.pop(cpu).or_else(|| queue.idle.clone())
        } else if queue.ready.is_empty() || (!yields && keeps_cpu(&queue, &me, rank)) {
            cpu.slice_end_ns.store(NEVER, Ordering::Relaxed);
            None
        } else {
            queue.push(cpu, rank, me.clone());
            queue.pop(cpu)
        }
    };
    if let Some(next) = next {
        let afterwards = if may_stay {
            Afterwards::Nothing
        } else {
            Afterwards::Move
        };
        switch(cpu, me, next, afterwards);
    }
}

/// Whether a FIFO thread goes on: nothing but a higher priority takes its CPU.
fn keeps_cpu(queue: &Queue, me: &Thread, rank: Rank) -> bool {
    rank.band < FAIR_BAND
        && me.share.has_policy(Policy::Fifo)
        && queue.ready.best().is_none_or(|best| best.band >= rank.band)
}

/// The running thread leaves the queue: remembers where it stood.
fn set_aside(queue: &Queue, me: &Thread, rank: Rank) {
    me.backend
        .lead_ns
        .store(queue.ready.lead_of(rank.virtual_ns), Ordering::Relaxed);
    me.backend.is_queued.store(false, Ordering::Relaxed);
}

/// Books the time of the running thread; returns where it stands now.
fn charge(cpu: &Cpu, queue: &mut Queue, me: &Thread) -> Rank {
    let now = crate::clock::monotonic_ns();
    bump(&cpu.system_ns, me.account.book_system(now));
    let ran = now.saturating_sub(cpu.switched_in_ns.load(Ordering::Relaxed));
    cpu.switched_in_ns.store(now, Ordering::Relaxed);
    let weight = me.share.weight.load(Ordering::Relaxed);
    let virtual_ns = me.share.virtual_ns.load(Ordering::Relaxed) + virtual_time(ran, weight);
    me.share.virtual_ns.store(virtual_ns, Ordering::Relaxed);
    let rank = Rank {
        band: me.share.band.load(Ordering::Relaxed),
        virtual_ns,
    };
    queue.ready.advance(rank);
    rank
}

/// The next thread to run, waiting for interrupts until there is one. Interrupts are off, no lock is held.
fn wait_for_work(cpu: &'static Cpu) -> ThreadRef {
    loop {
        {
            let mut queue = cpu.queue.lock();
            if let Some(next) = queue.pop(cpu) {
                return next;
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
        interrupt::wait();
        cpu.is_idle.store(false, Ordering::Relaxed);
        bump(
            &cpu.idle_ns,
            crate::clock::monotonic_ns().saturating_sub(before),
        );
    }
}

/// Makes `next` the running thread in place of `me`. Interrupts are off, no lock is held.
fn switch(cpu: &'static Cpu, me: ThreadRef, next: ThreadRef, afterwards: Afterwards) {
    let now = crate::clock::monotonic_ns();
    cpu.switched_in_ns.store(now, Ordering::Relaxed);
    next.account.start(now);
    let waiting = cpu.waiting.load(Ordering::Relaxed);
    let slice_end = if waiting == 0 {
        NEVER
    } else {
        now + slice_ns(waiting)
    };
    cpu.slice_end_ns.store(slice_end, Ordering::Relaxed);
    let alarm = next.run_alarm_moment(now);
    cpu.alarm_ns.store(alarm, Ordering::Relaxed);
    timers::ensure(cpu, slice_end.min(alarm));
    if Arc::ptr_eq(&me, &next) {
        return;
    }
    me.account.stop();
    bump(&cpu.switches, 1);
    next.backend.on_cpu.store(true, Ordering::Relaxed);
    next.activate_page_table();
    cpu.queue.lock().handed_over = Some((me, afterwards));
    let task = next.backend.task.clone();
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
    match afterwards {
        Afterwards::Nothing => {}
        Afterwards::Move => {
            drop(queue);
            wake::place(&previous);
        }
        Afterwards::Bury => {
            queue.dead.push(previous);
            cpu::here().needs_reschedule.store(true, Ordering::Relaxed);
        }
    }
}

/// Drops exited threads. Where no lock is held: the drop may run any code.
fn bury_dead(cpu: &Cpu) {
    loop {
        let Some(dead) = cpu.queue.lock().dead.pop() else {
            return;
        };
        drop(dead);
    }
}

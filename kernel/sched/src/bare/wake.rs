//! Waking: which CPU a thread goes to, and whether that CPU must be told. Also stealing, which is the
//! same question asked by the CPU that has nothing to do.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use machine::cpu::CpuId;
use machine::interrupt::{self, InterruptsOff};

use super::cpu::{CPUS, Cpu, NEVER, Queue};
use super::timers;
use crate::attributes::Policy;
use crate::run_queue::{FAIR_BAND, LEAST_RUN_NS, PREEMPT_LEAD_NS, Rank, slice_ns};
use crate::thread::{State, Thread, ThreadRef};

/// Lets a prepared thread run: it has been asleep since it was made.
pub(crate) fn launch(thread: &ThreadRef) {
    thread.wake();
}

/// Queues a thread whose state the caller just moved from asleep to runnable.
pub(crate) fn make_runnable(thread: &ThreadRef) {
    let home = thread.backend.cpu();
    let on_cpu = thread.backend.on_cpu.load(Ordering::Acquire);
    let target = if on_cpu { home } else { choose(thread, home) };
    let mut queue = CPUS[home].queue.lock();
    if thread.backend.is_queued.load(Ordering::Relaxed) {
        // It has not gone to sleep yet; `block` will see that it need not.
        return;
    }
    if target != home {
        drop(queue);
        queue = CPUS[target].queue.lock();
    }
    let must_tell = enqueue(&mut queue, target, thread);
    drop(queue);
    tell(target, must_tell);
}

/// Queues a runnable thread that is in no queue and on no CPU.
pub(super) fn place(thread: &ThreadRef) {
    let target = choose(thread, thread.backend.cpu());
    let must_tell = enqueue(&mut CPUS[target].queue.lock(), target, thread);
    tell(target, must_tell);
}

/// The CPU for a thread that last ran on `home`: that one if it is free, else any free one, else
/// `home`, if affinity allows.
fn choose(thread: &Thread, home: CpuId) -> CpuId {
    let allowed = thread.affinity();
    let home_allowed = allowed.contains(home);
    let count = machine::cpu::count();
    if count == 1 || (home_allowed && CPUS[home].is_free()) {
        return home;
    }
    let usable =
        |&cpu: &CpuId| allowed.contains(cpu) && CPUS[cpu].is_online.load(Ordering::Relaxed);
    if let Some(free) = (0..count).filter(usable).find(|&cpu| CPUS[cpu].is_free()) {
        return free;
    }
    if home_allowed {
        return home;
    }
    (0..count)
        .filter(usable)
        .min_by_key(|&cpu| CPUS[cpu].load())
        .unwrap_or(home)
}

/// What the CPU that got a thread has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    Nothing,
    /// It waits for interrupts, or has no slice running.
    Look,
    /// The running thread should give way.
    Preempt,
}

fn enqueue(queue: &mut Queue, target: CpuId, thread: &ThreadRef) -> Tell {
    let cpu = &CPUS[target];
    let virtual_ns = queue
        .ready
        .join_at(thread.backend.lead_ns.load(Ordering::Relaxed));
    let band = thread.share.band.load(Ordering::Relaxed);
    thread.share.virtual_ns.store(virtual_ns, Ordering::Relaxed);
    thread.backend.cpu.store(target, Ordering::Relaxed);
    thread.backend.is_queued.store(true, Ordering::Relaxed);
    let rank = Rank { band, virtual_ns };
    queue.push(cpu, rank, thread.clone());
    if cpu.is_idle.load(Ordering::Relaxed) {
        Tell::Look
    } else if leads(cpu, rank, thread) {
        Tell::Preempt
    } else if cpu.slice_end_ns.load(Ordering::Relaxed) == NEVER {
        Tell::Look
    } else {
        Tell::Nothing
    }
}

/// Whether a woken thread is so far ahead that the running one should give way.
fn leads(cpu: &Cpu, rank: Rank, thread: &Thread) -> bool {
    let running = cpu.current();
    let band = running.share.band.load(Ordering::Relaxed);
    if rank.band != band || band < FAIR_BAND {
        return rank.band < band;
    }
    rank.virtual_ns + PREEMPT_LEAD_NS < running.share.virtual_ns.load(Ordering::Relaxed)
        && !thread.share.has_policy(Policy::Batch)
}

fn tell(target: CpuId, what: Tell) {
    let cpu = &CPUS[target];
    let is_here = target == machine::cpu::current();
    match what {
        Tell::Nothing => {}
        Tell::Look if is_here => start_slice(cpu, false),
        Tell::Preempt if is_here => start_slice(cpu, true),
        Tell::Look => interrupt::send_reschedule(target),
        Tell::Preempt => {
            cpu.needs_reschedule.store(true, Ordering::Relaxed);
            interrupt::send_reschedule(target);
        }
    }
}

/// Somebody waits on this CPU: bounds the time of the running thread.
fn start_slice(cpu: &Cpu, is_preempted: bool) {
    let _off = InterruptsOff::new();
    if cpu.is_idle.load(Ordering::Relaxed) {
        return;
    }
    let since = cpu.switched_in_ns.load(Ordering::Relaxed);
    let now = crate::clock::monotonic_ns();
    if is_preempted && now >= since + LEAST_RUN_NS {
        cpu.needs_reschedule.store(true, Ordering::Relaxed);
        return;
    }
    let end = if is_preempted {
        since + LEAST_RUN_NS
    } else {
        now + slice_ns(cpu.waiting.load(Ordering::Relaxed))
    };
    if end < cpu.slice_end_ns.load(Ordering::Relaxed) {
        cpu.slice_end_ns.store(end, Ordering::Relaxed);
        timers::ensure(cpu, end);
    }
}

/// Another CPU put a thread on this one's queue, or wants user code to stop for a signal.
pub(crate) fn reschedule_interrupt() {
    let cpu = super::cpu::here();
    if cpu.waiting.load(Ordering::Relaxed) > 0 && cpu.slice_end_ns.load(Ordering::Relaxed) == NEVER
    {
        start_slice(cpu, false);
    }
    timers::set_alarm(cpu, crate::clock::monotonic_ns());
}

/// Makes `cpu` pass a quiescent state soon: at its next return to user mode, or from there.
pub(crate) fn prod(cpu: CpuId) {
    CPUS[cpu].needs_reschedule.store(true, Ordering::Release);
    if cpu != machine::cpu::current() {
        interrupt::send_reschedule(cpu);
    }
}

/// Makes a thread that runs user code on another CPU come back into the kernel.
pub(crate) fn kick(thread: &Thread) {
    let cpu = thread.backend.cpu();
    if cpu != machine::cpu::current()
        && thread.state() == State::Runnable
        && CPUS[cpu].is_current(thread)
    {
        interrupt::send_reschedule(cpu);
    }
}

/// Moves a thread that is on a CPU it may no longer use.
pub(crate) fn affinity_changed(thread: &ThreadRef) {
    let home = thread.backend.cpu();
    if thread.affinity().contains(home) {
        return;
    }
    let cpu = &CPUS[home];
    let queued = {
        let mut queue = cpu.queue.lock();
        let queued = queue
            .ready
            .steal(|it| Arc::ptr_eq(it, thread) && !it.backend.on_cpu.load(Ordering::Acquire));
        cpu.waiting.store(queue.ready.len(), Ordering::Relaxed);
        queued
    };
    if let Some(thread) = queued {
        place(&thread);
    } else if cpu.is_current(thread) {
        cpu.needs_reschedule.store(true, Ordering::Relaxed);
        if home != machine::cpu::current() {
            interrupt::send_reschedule(home);
        }
    }
}

/// Takes a thread that waits on another CPU, to run it here. No lock is held.
pub(super) fn steal(cpu: &Cpu) -> Option<ThreadRef> {
    let count = machine::cpu::count();
    let here = machine::cpu::current();
    for step in 1..count {
        let from = (here + step) % count;
        if CPUS[from].waiting.load(Ordering::Relaxed) > 0
            && let Some(thread) = steal_from(&CPUS[from], here)
        {
            let lead = thread.backend.lead_ns.load(Ordering::Relaxed);
            let virtual_ns = cpu.queue.lock().ready.join_at(lead);
            thread.share.virtual_ns.store(virtual_ns, Ordering::Relaxed);
            return Some(thread);
        }
    }
    None
}

fn steal_from(victim: &Cpu, here: CpuId) -> Option<ThreadRef> {
    let mut queue = victim.queue.lock();
    let thread = queue.ready.steal(|thread| {
        thread.affinity().contains(here) && !thread.backend.on_cpu.load(Ordering::Acquire)
    })?;
    victim.waiting.store(queue.ready.len(), Ordering::Relaxed);
    let virtual_ns = thread.share.virtual_ns.load(Ordering::Relaxed);
    thread
        .backend
        .lead_ns
        .store(queue.ready.lead_of(virtual_ns), Ordering::Relaxed);
    thread.backend.cpu.store(here, Ordering::Relaxed);
    Some(thread)
}

/// At the end of a slice: evens out queues that differ by two or more.
pub(super) fn pull_from_busier(cpu: &Cpu) {
    let mine = cpu.waiting.load(Ordering::Relaxed);
    let here = machine::cpu::current();
    let busier = (0..machine::cpu::count())
        .find(|&other| CPUS[other].waiting.load(Ordering::Relaxed) >= mine + 2);
    if let Some(other) = busier
        && let Some(thread) = steal_from(&CPUS[other], here)
    {
        enqueue(&mut cpu.queue.lock(), here, &thread);
    }
}

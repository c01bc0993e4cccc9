//! Waking: which CPU a thread goes to, and whether that CPU must be told. Also stealing, which is the
//! same question asked by the CPU that has nothing to do.

use core::any::Any;
use core::sync::atomic::Ordering;

use machine::cpu::CpuId;
use machine::interrupt::{self, InterruptsOff};

use super::cpu::{CPUS, Cpu, NEVER, Queue, as_thread};
use super::{timers, watchdog};
use crate::attributes::{CpuMask, Policy};
use crate::run_queue::balance::{self, ROTATION_NS, SETTLE_NS};
use crate::run_queue::{FAIR_BAND, LEAST_RUN_NS, slice_ns};
use crate::thread::{State, Thread, ThreadRef};

/// Lets a prepared thread run: it has been asleep since it was made.
pub(crate) fn launch(thread: &ThreadRef) {
    thread.wake();
}

/// Queues a thread whose state the caller just moved from asleep to runnable.
pub(crate) fn make_runnable(thread: &ThreadRef) {
    let mut home = thread.backend.cpu();
    let mut target = if thread.backend.on_cpu.load(Ordering::Relaxed) {
        home
    } else {
        choose(thread, home)
    };
    let mut queue = CPUS[home].queue.lock();
    // It may have run, slept again and moved since the caller made it runnable: only with the lock of the CPU that
    // it is on is anything certain.
    while thread.backend.cpu() != home {
        drop(queue);
        home = thread.backend.cpu();
        target = home;
        queue = CPUS[home].queue.lock();
    }
    if thread.backend.is_queued.load(Ordering::Relaxed) {
        // It has not gone to sleep yet; `block` will see that it need not. Or another waker was faster.
        return;
    }
    if thread.backend.on_cpu.load(Ordering::Acquire) {
        // Its stack is in use there.
        target = home;
    }
    if target != home {
        // Taken: whoever else may wake it leaves it alone.
        thread.backend.is_queued.store(true, Ordering::Relaxed);
        drop(queue);
        queue = CPUS[target].queue.lock();
    }
    let now = crate::clock::monotonic_ns();
    let must_tell = enqueue(&mut queue, target, thread, now);
    drop(queue);
    tell(target, must_tell, now);
}

/// Queues a runnable thread that is in no queue and on no CPU.
pub(super) fn place(thread: &ThreadRef) {
    let target = choose(thread, thread.backend.cpu());
    let now = crate::clock::monotonic_ns();
    let must_tell = enqueue(&mut CPUS[target].queue.lock(), target, thread, now);
    tell(target, must_tell, now);
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
    let here = machine::cpu::current();
    if home_allowed {
        // Near the waker, where there is less to do.
        let is_better = allowed.contains(here) && CPUS[here].load() + 1 < CPUS[home].load();
        return if is_better { here } else { home };
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
    /// The running thread should give way when it has run for a moment.
    Preempt,
    /// The running thread should give way at once, to a real-time thread.
    PreemptNow,
}

fn enqueue(queue: &mut Queue, target: CpuId, thread: &ThreadRef, now: u64) -> Tell {
    let cpu = &CPUS[target];
    queue.ready.attach(&**thread, now);
    thread.backend.cpu.store(target, Ordering::Relaxed);
    thread.backend.is_queued.store(true, Ordering::Relaxed);
    thread.backend.is_attached.store(true, Ordering::Relaxed);
    thread.account.begin_wait(now);
    queue.push(cpu, thread.clone());
    if cpu.is_idle.load(Ordering::Relaxed) {
        Tell::Look
    } else if leads(cpu, queue, thread) {
        if thread.entity.rank().band < FAIR_BAND {
            Tell::PreemptNow
        } else {
            Tell::Preempt
        }
    } else if cpu.slice_end_ns.load(Ordering::Relaxed) == NEVER {
        Tell::Look
    } else {
        Tell::Nothing
    }
}

/// Whether a woken thread is so far ahead that the running one should give way.
fn leads(cpu: &Cpu, queue: &Queue, thread: &Thread) -> bool {
    !thread.has_policy(Policy::Batch)
        && cpu.with_current(|running| queue.ready.leads(thread, running))
}

fn tell(target: CpuId, what: Tell, now: u64) {
    if what == Tell::Nothing {
        return;
    }
    let cpu = &CPUS[target];
    let is_here = target == machine::cpu::current();
    if is_here && what != Tell::PreemptNow {
        start_slice(cpu, what == Tell::Preempt, now);
        return;
    }
    if what != Tell::Look {
        cpu.needs_reschedule.store(true, Ordering::Relaxed);
    }
    if !is_here {
        interrupt::send_reschedule(target);
    }
}

/// Somebody waits on this CPU: bounds the time of the running thread.
fn start_slice(cpu: &Cpu, is_preempted: bool, now: u64) {
    let _off = InterruptsOff::new();
    if cpu.is_idle.load(Ordering::Relaxed) {
        return;
    }
    let since = cpu.switched_in_ns.load(Ordering::Relaxed);
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
    if !cpu.is_online.load(Ordering::Relaxed) {
        // It has no thread yet, and looks for all this when it has.
        return;
    }
    let now = crate::clock::monotonic_ns();
    if cpu.waiting.load(Ordering::Relaxed) > 0 && cpu.slice_end_ns.load(Ordering::Relaxed) == NEVER
    {
        start_slice(cpu, false, now);
    }
    timers::set_alarm(cpu, now);
    watchdog::join();
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
        if thread.backend.cpu() != home {
            // It has moved meanwhile, and may have been allowed to where it is by the mask before this one.
            drop(queue);
            return affinity_changed(thread);
        }
        if thread.backend.on_cpu.load(Ordering::Acquire) {
            None
        } else {
            let queued = queue.ready.take(&**thread);
            if queued.is_some() {
                thread.backend.is_attached.store(false, Ordering::Relaxed);
                queue.ready.detach(&**thread, crate::clock::monotonic_ns());
            }
            queue.recount(cpu);
            queued.and_then(as_thread)
        }
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
            && let Some(thread) = take_from(&CPUS[from], here, false)
        {
            let now = crate::clock::monotonic_ns();
            let mut queue = cpu.queue.lock();
            queue.ready.attach(&*thread, now);
            thread.backend.is_attached.store(true, Ordering::Relaxed);
            return Some(thread);
        }
    }
    None
}

/// Takes one of the last threads that wait on `from` and may run on `to`; it belongs to `to` from then on, and is
/// on no queue yet.
fn take_from(from: &Cpu, to: CpuId, settled_only: bool) -> Option<ThreadRef> {
    let now = crate::clock::monotonic_ns();
    let mut queue = from.queue.lock();
    let thread = queue.ready.steal(|member| {
        let any: &dyn Any = member;
        any.downcast_ref::<Thread>().is_some_and(|thread| {
            let moved = thread.backend.moved_ns.load(Ordering::Relaxed);
            thread.affinity().contains(to)
                && !thread.backend.on_cpu.load(Ordering::Acquire)
                && (!settled_only || moved + SETTLE_NS <= now)
        })
    });
    let thread = as_thread(thread?)?;
    queue.ready.detach(&*thread, now);
    queue.recount(from);
    // It stays `is_queued`: it may be marked asleep, and whoever wakes it must leave it to the thief.
    thread.backend.is_attached.store(false, Ordering::Relaxed);
    thread.backend.cpu.store(to, Ordering::Relaxed);
    thread.backend.moved_ns.store(now, Ordering::Relaxed);
    Some(thread)
}

/// At the end of a slice: gives a thread that waits here to a CPU that has fewer. Interrupts are off, no lock is
/// held.
pub(super) fn balance(cpu: &Cpu) {
    let count = machine::cpu::count();
    if count == 1 || cpu.waiting.load(Ordering::Relaxed) == 0 {
        return;
    }
    let here = machine::cpu::current();
    let now = crate::clock::monotonic_ns();
    let is_due = cpu.rotation_ns.load(Ordering::Relaxed) <= now;
    // CPUs that none of the threads here may go to.
    let mut barred = CpuMask(0);
    let (push, thread) = loop {
        let others = (1..count)
            .map(|step| (here + step) % count)
            .filter(|&other| {
                !barred.contains(other) && CPUS[other].is_online.load(Ordering::Relaxed)
            })
            .map(|other| (other, CPUS[other].load()));
        let Some(push) = balance::push(cpu.load(), others, is_due) else {
            return;
        };
        match take_from(cpu, push.to, push.settled_only) {
            Some(thread) => break (push, thread),
            None => barred.0 |= CpuMask::only(push.to).0,
        }
    };
    for cpu in [cpu, &CPUS[push.to]] {
        cpu.rotation_ns.store(now + ROTATION_NS, Ordering::Relaxed);
    }
    let must_tell = enqueue(&mut CPUS[push.to].queue.lock(), push.to, &thread, now);
    tell(push.to, must_tell, now);
}

/// Changes what a thread stands for in the queue (band, weight, group) by `change`: taken out of it meanwhile.
pub(crate) fn change_standing(thread: &Thread, change: impl FnOnce()) {
    loop {
        let home = thread.backend.cpu();
        let mut queue = CPUS[home].queue.lock();
        if thread.backend.cpu() != home {
            continue;
        }
        let is_attached = thread.backend.is_attached.load(Ordering::Relaxed);
        let waits = queue.ready.take(thread);
        let now = crate::clock::monotonic_ns();
        if is_attached {
            queue.ready.detach(thread, now);
        }
        change();
        if is_attached {
            queue.ready.attach(thread, now);
        }
        if let Some(member) = waits {
            queue.ready.push(member);
        }
        queue.recount(&CPUS[home]);
        return;
    }
}

//! What the scheduler keeps for each CPU, on cache lines of its own.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use machine::cpu::MAX_CPUS;
use machine::sync::IrqLock;

use super::watchdog::Suspicion;
use crate::later::Leavings;
use crate::run_queue::{Member, RunQueue};
use crate::stats::CpuStat;
use crate::thread::{Thread, ThreadBuilder, ThreadRef};
use crate::timer_heap::TimerHeap;

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

pub(super) static CPUS: [Cpu; MAX_CPUS] = [const { Cpu::new() }; MAX_CPUS];

/// The scheduler's data of one CPU.
#[repr(align(64))]
pub(super) struct Cpu {
    /// The running thread. Written by this CPU alone, with interrupts off, so readers here never wait.
    current: spin::RwLock<Option<ThreadRef>>,
    /// The current thread should give way.
    pub(super) needs_reschedule: AtomicBool,
    /// End of the current slice, [`NEVER`] while nobody else is ready. Written by this CPU.
    pub(super) slice_end_ns: AtomicU64,
    /// When the current thread's CPU-time alarm is due. Written by this CPU.
    pub(super) alarm_ns: AtomicU64,
    /// When a surplus thread may move on from here; see [`crate::run_queue::balance`].
    pub(super) rotation_ns: AtomicU64,
    /// When a group that is throttled here may run again.
    pub(super) period_ns: AtomicU64,
    /// When this CPU looks next whether all is well, what it has found of itself, and what its neighbour has found of
    /// it; see [`super::watchdog`].
    pub(super) watchdog_ns: AtomicU64,
    pub(super) in_kernel: Suspicion,
    pub(super) overdue: Suspicion,
    pub(super) idles: Suspicion,
    /// When the current thread was given the CPU.
    pub(super) switched_in_ns: AtomicU64,
    /// What the machine's timer is set to. Written by this CPU with interrupts off.
    pub(super) armed_ns: AtomicU64,
    /// Address of the active page table, to skip needless switches.
    pub(super) active_table: AtomicUsize,
    /// Threads that wait in `queue`, for a look without the lock.
    pub(super) waiting: AtomicUsize,
    /// Takes part in scheduling.
    pub(super) is_online: AtomicBool,
    /// Waits for interrupts; set under the queue's lock.
    pub(super) is_idle: AtomicBool,
    pub(super) user_ns: AtomicU64,
    pub(super) system_ns: AtomicU64,
    pub(super) idle_ns: AtomicU64,
    pub(super) switches: AtomicU64,
    pub(super) queue: IrqLock<Queue>,
    pub(super) timers: IrqLock<TimerHeap>,
    /// What was let go of here, to be dropped where no lock is held ([`crate::later`]), and whether there is any.
    pub(super) leavings: IrqLock<Leavings>,
    pub(super) has_leavings: AtomicBool,
}

/// What happens to a thread once its stack is free.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// Nothing: it is in a queue or asleep.
    Nothing,
    /// It goes to another CPU.
    Move,
}

pub(super) struct Queue {
    pub(super) ready: RunQueue,
    /// The idle thread; runs when a thread exits and nothing is ready.
    pub(super) idle: Option<ThreadRef>,
    /// The thread this CPU is switching away from, and whether it is to go to another CPU.
    pub(super) handed_over: Option<(ThreadRef, Afterwards)>,
}

impl Cpu {
    const fn new() -> Self {
        Self {
            current: spin::RwLock::new(None),
            needs_reschedule: AtomicBool::new(false),
            slice_end_ns: AtomicU64::new(NEVER),
            alarm_ns: AtomicU64::new(NEVER),
            rotation_ns: AtomicU64::new(0),
            period_ns: AtomicU64::new(NEVER),
            watchdog_ns: AtomicU64::new(NEVER),
            in_kernel: Suspicion::new(),
            overdue: Suspicion::new(),
            idles: Suspicion::new(),
            switched_in_ns: AtomicU64::new(0),
            armed_ns: AtomicU64::new(NEVER),
            active_table: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            is_online: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
            user_ns: AtomicU64::new(0),
            system_ns: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            queue: IrqLock::new(Queue {
                ready: RunQueue::new(0),
                idle: None,
                handed_over: None,
            }),
            timers: IrqLock::new(TimerHeap::new()),
            leavings: IrqLock::new(Leavings::new()),
            has_leavings: AtomicBool::new(false),
        }
    }

    pub(super) fn current(&self) -> ThreadRef {
        match &*self.current.read() {
            Some(thread) => thread.clone(),
            None => panic!("sched: a CPU asked for its thread before sched::init"),
        }
    }

    /// Calls `look` with the running thread, for less than a reference to it costs.
    pub(super) fn with_current<R>(&self, look: impl FnOnce(&Thread) -> R) -> R {
        match &*self.current.read() {
            Some(thread) => look(thread),
            None => panic!("sched: a CPU asked for its thread before sched::init"),
        }
    }

    pub(super) fn is_current(&self, thread: &Thread) -> bool {
        self.current
            .read()
            .as_ref()
            .is_some_and(|it| core::ptr::eq(Arc::as_ptr(it), thread))
    }

    pub(super) fn set_current(&self, thread: ThreadRef) {
        let previous = self.current.write().replace(thread);
        drop(previous);
    }

    /// Makes the flow that runs here its idle thread.
    pub(super) fn adopt(&self) {
        let idle = ThreadBuilder::adopt(b"idle");
        {
            let mut queue = self.queue.lock();
            queue.ready.set_cpu(machine::cpu::current());
            queue.idle = Some(idle.clone());
        }
        self.set_current(idle);
        self.is_online.store(true, Ordering::SeqCst);
    }

    /// Threads that run or wait here.
    pub(super) fn load(&self) -> usize {
        let runs = !self.is_idle.load(Ordering::Relaxed);
        self.waiting.load(Ordering::Relaxed) + usize::from(runs)
    }

    /// Whether it would run a new thread at once.
    pub(super) fn is_free(&self) -> bool {
        self.is_idle.load(Ordering::Relaxed) && self.waiting.load(Ordering::Relaxed) == 0
    }

    pub(super) fn stat(&self) -> CpuStat {
        CpuStat {
            user_ns: self.user_ns.load(Ordering::Relaxed),
            system_ns: self.system_ns.load(Ordering::Relaxed),
            idle_ns: self.idle_ns.load(Ordering::Relaxed),
            switches: self.switches.load(Ordering::Relaxed),
        }
    }
}

impl Queue {
    /// Adds an attached thread; keeps `waiting` of its CPU in step.
    pub(super) fn push(&mut self, cpu: &Cpu, thread: ThreadRef) {
        self.ready.push(thread);
        self.recount(cpu);
    }

    pub(super) fn recount(&self, cpu: &Cpu) {
        cpu.waiting.store(self.ready.len(), Ordering::Relaxed);
    }

    /// Takes the thread to run next; keeps `waiting` of its CPU in step.
    pub(super) fn pop(&mut self, cpu: &Cpu) -> Option<ThreadRef> {
        let thread = self.ready.pop()?;
        self.recount(cpu);
        as_thread(thread)
    }
}

/// What a run queue holds is threads.
pub(super) fn as_thread(member: Arc<dyn Member>) -> Option<ThreadRef> {
    let any: Arc<dyn Any + Send + Sync> = member;
    any.downcast().ok()
}

/// This CPU's data. The kernel is not preempted inside itself, so it stays this CPU's until the
/// caller blocks.
pub(super) fn here() -> &'static Cpu {
    &CPUS[machine::cpu::current()]
}

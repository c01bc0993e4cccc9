//! The backend of the bare machine: threads are tasks on per-CPU run queues.
//!
//! **Hand-over.** A thread is on a queue, or running, or asleep, or being woken by the one waker that
//! moved its state from asleep to runnable. While its CPU has not left its stack yet (`on_cpu`),
//! wakers put it back on that CPU and thieves leave it alone; so a queue's CPU never has to wait for another.
//!
//! **Idling.** A thread that blocks with nothing else to run waits for interrupts where it stands:
//! no switch to the idle thread and back for a short wait. The idle thread is for exits and boot.

mod cpu;
mod switch;
mod timers;
mod wake;
mod watchdog;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use machine::frame::account::AccountId;
use machine::page_table::PageTable;
use machine::sync::SpinLock;
use machine::task::Task;

use crate::stats::{CpuStat, bump};
use crate::thread::{Thread, ThreadRef};

pub(crate) use switch::{
    block, drop_leavings, exit, idle, init_cpu, let_go, reschedule_if_needed, yield_now,
};
pub(crate) use timers::{arm, cancel, run_alarm_changed, timer_interrupt};
pub(crate) use wake::{
    affinity_changed, change_standing, kick, launch, make_runnable, prod, reschedule_interrupt,
};
pub(crate) use watchdog::start as start_watchdog;

/// The scheduler's own part of a thread.
pub(crate) struct ThreadData {
    /// The CPU whose queue lock guards it. Changed by the waker, or by a thief under both locks.
    cpu: AtomicUsize,
    /// Running, on a queue or on its way there, or at its end: wakers leave it alone. Guarded by the queue lock of `cpu`.
    is_queued: AtomicBool,
    /// Counted in the run queue of `cpu`, whose lock guards it; not while it moves.
    is_attached: AtomicBool,
    /// Its stack is in use.
    on_cpu: AtomicBool,
    /// When it last came to its CPU from another one.
    moved_ns: AtomicU64,
}

/// What it runs on and with.
pub(crate) struct Estate {
    task: Arc<Task>,
    /// What it will run. Here, so that the task's own closure has no size and so nothing to leak when it
    /// never returns.
    entry: SpinLock<Option<Box<dyn FnOnce() + Send>>>,
}

impl Estate {
    pub(crate) fn new(entry: Box<dyn FnOnce() + Send>) -> Result<Self> {
        let task = Task::new(Box::new(run_entry)).map_err(|_| Errno::ENOMEM)?; // infallible: a function has no size;
        let entry = SpinLock::new(Some(entry));
        Ok(Self { task, entry })
    }

    pub(crate) fn adopted() -> Self {
        Self {
            task: Task::adopt_current(),
            entry: SpinLock::new(None),
        }
    }
}

impl core::fmt::Debug for ThreadData {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cpu {}", self.cpu())
    }
}

impl ThreadData {
    pub(crate) fn new() -> Self {
        Self {
            cpu: AtomicUsize::new(machine::cpu::current()),
            is_queued: AtomicBool::new(false),
            is_attached: AtomicBool::new(false),
            on_cpu: AtomicBool::new(false),
            moved_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn adopted() -> Self {
        let data = Self::new();
        data.on_cpu.store(true, Ordering::Relaxed);
        data.is_queued.store(true, Ordering::Relaxed);
        data
    }

    #[expect(clippy::unused_self, reason = "the other backend has no task")]
    pub(crate) fn set_account(&self, thread: &Thread, account: AccountId) {
        thread.estate.backend.task.set_account(account);
    }

    pub(crate) fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }
}

/// What every task runs first.
fn run_entry() {
    switch::after_switch();
    let entry = current().estate.backend.entry.lock().take();
    if let Some(entry) = entry {
        entry();
    }
    crate::thread::exit()
}

pub(crate) fn current() -> ThreadRef {
    cpu::here().current()
}

pub(crate) fn is_online() -> bool {
    cpu::here().is_online.load(Ordering::Relaxed)
}

/// Makes a page table active on this CPU; `None` leaves the kernel half.
pub(crate) fn activate(table: Option<&Arc<PageTable>>) {
    let active = &cpu::here().active_table;
    let wanted = table.map_or(0, |table| Arc::as_ptr(table).addr());
    if active.load(Ordering::Relaxed) == wanted {
        return;
    }
    match table {
        Some(table) => table.activate(),
        None => PageTable::deactivate(),
    }
    active.store(wanted, Ordering::Relaxed);
}

/// The thread `rcu` is started by [`crate::rcu::start`].
pub(crate) fn start_rcu() {}

/// Adds CPU time to this CPU's account.
pub(crate) fn book(ns: u64, is_user: bool) {
    let cpu = cpu::here();
    bump(
        if is_user {
            &cpu.user_ns
        } else {
            &cpu.system_ns
        },
        ns,
    );
}

pub(crate) fn cpu_stat(cpu: usize) -> CpuStat {
    cpu::CPUS.get(cpu).map(cpu::Cpu::stat).unwrap_or_default()
}

pub(crate) fn runnable_threads() -> usize {
    cpu::CPUS
        .iter()
        .take(machine::cpu::count())
        .map(cpu::Cpu::load)
        .sum()
}

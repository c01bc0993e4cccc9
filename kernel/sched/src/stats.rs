//! CPU time: what each thread and each CPU spent in user mode, in the kernel and idle.
//!
//! Only the CPU that runs a thread writes its counters, so plain loads and stores are enough. Others add what has
//! passed since the last booking, by the clock.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// CPU time of a thread, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTime {
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

/// The running account of a thread.
#[derive(Debug, Default)]
pub(crate) struct Account {
    user_ns: AtomicU64,
    system_ns: AtomicU64,
    since_ns: AtomicU64,
    /// What the time since then is.
    mode: AtomicU8,
    waited_ns: AtomicU64,
    turns: AtomicU64,
    /// Since when it waits for a CPU, [`NOT_WAITING`] when it does not.
    waits_since_ns: AtomicU64,
}

const NOT_WAITING: u64 = 0;

/// How a thread has waited for CPUs (/proc/PID/schedstat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns {
    /// Time in run queues, in nanoseconds.
    pub waited_ns: u64,
    /// How often it was given a CPU.
    pub count: u64,
}

/// It does not run.
const OFF: u8 = 0;
/// It runs in the kernel.
const SYSTEM: u8 = 1;
/// It runs user code.
const USER: u8 = 2;

impl Account {
    /// The thread is given the CPU, in kernel mode.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host does its own accounts")
    )]
    pub(crate) fn start(&self, now: u64) {
        self.since_ns.store(now, Ordering::Relaxed);
        self.mode.store(SYSTEM, Ordering::Relaxed);
    }

    /// The thread, whose time has just been booked, loses the CPU.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host does its own accounts")
    )]
    pub(crate) fn stop(&self) {
        self.mode.store(OFF, Ordering::Relaxed);
    }

    /// It waits in a run queue from now on. Under the queue's lock.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host has its own queues")
    )]
    pub(crate) fn begin_wait(&self, now: u64) {
        self.waits_since_ns.store(now, Ordering::Relaxed);
    }

    /// It is given a CPU.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host has its own queues")
    )]
    pub(crate) fn end_wait(&self, now: u64) {
        bump(&self.turns, 1);
        let since = self.waits_since_ns.load(Ordering::Relaxed);
        if since != NOT_WAITING {
            self.waits_since_ns.store(NOT_WAITING, Ordering::Relaxed);
            bump(&self.waited_ns, now.saturating_sub(since));
        }
    }

    pub(crate) fn turns(&self) -> Turns {
        Turns {
            waited_ns: self.waited_ns.load(Ordering::Relaxed),
            count: self.turns.load(Ordering::Relaxed),
        }
    }

    /// Books the time since the last call as kernel time; user time begins.
    pub(crate) fn enter_user(&self, now: u64) -> u64 {
        self.mode.store(USER, Ordering::Relaxed);
        self.book_system(now)
    }

    /// Books the time since the last call as user time; kernel time begins.
    pub(crate) fn leave_user(&self, now: u64) -> u64 {
        self.mode.store(SYSTEM, Ordering::Relaxed);
        self.book_user(now)
    }

    /// Books the time since the last call as kernel time; returns how long that was.
    pub(crate) fn book_system(&self, now: u64) -> u64 {
        let ran = self.lap(now);
        bump(&self.system_ns, ran);
        ran
    }

    /// Books the time since the last call as user time; returns how long that was.
    fn book_user(&self, now: u64) -> u64 {
        let ran = self.lap(now);
        bump(&self.user_ns, ran);
        ran
    }

    /// What was used up to `now`. A moment's change on another CPU may be counted in part.
    pub(crate) fn read(&self, now: u64) -> CpuTime {
        let mut time = CpuTime {
            user_ns: self.user_ns.load(Ordering::Relaxed),
            system_ns: self.system_ns.load(Ordering::Relaxed),
        };
        let running = now.saturating_sub(self.since_ns.load(Ordering::Relaxed));
        match self.mode.load(Ordering::Relaxed) {
            USER => time.user_ns += running,
            SYSTEM => time.system_ns += running,
            _ => {}
        }
        time
    }

    /// Since when it has been in the kernel without having been booked, if it is there.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host has no watchdog")
    )]
    pub(crate) fn in_kernel_since(&self) -> Option<u64> {
        let is_there = self.mode.load(Ordering::Relaxed) == SYSTEM;
        is_there.then(|| self.since_ns.load(Ordering::Relaxed))
    }

    fn lap(&self, now: u64) -> u64 {
        let since = self.since_ns.load(Ordering::Relaxed);
        self.since_ns.store(now, Ordering::Relaxed);
        now.saturating_sub(since)
    }
}

pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

/// What a CPU has done since boot (/proc/stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuStat {
    /// User mode, in nanoseconds.
    pub user_ns: u64,
    /// Kernel mode, in nanoseconds.
    pub system_ns: u64,
    /// Nothing to run, in nanoseconds.
    pub idle_ns: u64,
    /// Switches between threads.
    pub switches: u64,
}

/// The account of `cpu`, zero for one that does not run.
#[must_use]
pub fn cpu(cpu: usize) -> CpuStat {
    crate::backend::cpu_stat(cpu)
}

/// Threads that run or are ready to run, on all CPUs (/proc/loadavg).
#[must_use]
pub fn runnable_threads() -> usize {
    crate::backend::runnable_threads()
}

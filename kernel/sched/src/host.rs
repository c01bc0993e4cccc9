//! The backend of host unit tests: threads are std threads, timers one std thread.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::cell::RefCell;
use std::sync::{Condvar, Mutex, Once, OnceLock};

use abi::Result;
use machine::frame::account::{self, AccountId};
use machine::intrusive::List;
use machine::page_table::PageTable;

use crate::later::{self, Leavings, Left};
use crate::stats::CpuStat;
use crate::thread::{Thread, ThreadBuilder, ThreadRef};
use crate::timer_heap::{NOWHERE, Slot, Timed, TimerHeap};

std::thread_local! {
    static CURRENT: RefCell<Option<ThreadRef>> = const { RefCell::new(None) };
}

std::thread_local! {
    /// What was let go of with interrupts off.
    static LEAVINGS: RefCell<Leavings> = const { RefCell::new(Leavings::new()) };
}

static RUNNABLE: AtomicUsize = AtomicUsize::new(0);

/// The std thread behind a thread, once it runs.
pub(crate) struct ThreadData {
    handle: OnceLock<std::thread::Thread>,
}

/// What it will run.
pub(crate) struct Estate {
    entry: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Estate {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the other backend's stacks can run out"
    )]
    pub(crate) fn new(entry: Box<dyn FnOnce() + Send>) -> Result<Self> {
        let entry = Mutex::new(Some(entry));
        Ok(Self { entry })
    }

    pub(crate) fn adopted() -> Self {
        let entry = Mutex::new(None);
        Self { entry }
    }
}

impl core::fmt::Debug for ThreadData {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.handle)
    }
}

impl ThreadData {
    pub(crate) fn new() -> Self {
        let handle = OnceLock::new();
        Self { handle }
    }

    pub(crate) fn adopted() -> Self {
        let data = Self::new();
        let _ = data.handle.set(std::thread::current());
        data
    }

    /// Only the calling thread's: that of another one is its std thread's own.
    #[expect(clippy::unused_self, reason = "the other backend's task has it")]
    pub(crate) fn set_account(&self, thread: &Thread, account: AccountId) {
        if core::ptr::eq(thread, Arc::as_ptr(&current())) {
            account::set_current(account);
        }
    }

    #[expect(clippy::unused_self, reason = "the other backend has several CPUs")]
    pub(crate) fn cpu(&self) -> usize {
        0
    }
}

/// What unwinds a std thread that called `exit`.
struct Exit;

pub(crate) fn is_online() -> bool {
    true
}

pub(crate) fn current() -> ThreadRef {
    let known = CURRENT.try_with(|current| {
        // Borrowed already while the value itself is dropped.
        let mut current = current.try_borrow_mut().ok()?;
        let current = current.get_or_insert_with(|| ThreadBuilder::adopt(b"test"));
        Some(current.clone())
    });
    // What the thread's locals own may wake queues as they are dropped, when the local is gone.
    known
        .ok()
        .flatten()
        .unwrap_or_else(|| ThreadBuilder::adopt(b"ending"))
}

pub(crate) fn launch(thread: &ThreadRef) {
    let entry = thread
        .estate
        .backend
        .entry
        .lock()
        .ok()
        .and_then(|mut entry| entry.take());
    let Some(entry) = entry else { return };
    thread.set_awake();
    let thread = thread.clone();
    RUNNABLE.fetch_add(1, Ordering::Relaxed);
    std::thread::spawn(move || {
        let _ = thread.backend.handle.set(std::thread::current());
        CURRENT.set(Some(thread.clone()));
        thread.activate_page_table();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(entry));
        if let Err(payload) = outcome
            && !payload.is::<Exit>()
        {
            std::process::abort();
        }
        PageTable::deactivate();
        thread.set_memory(None);
        thread.set_dead();
        CURRENT.set(None);
        RUNNABLE.fetch_sub(1, Ordering::Relaxed);
    });
}

pub(crate) fn block(me: &Thread) {
    machine::rcu::quiescent();
    while me.is_asleep() {
        std::thread::park();
    }
}

pub(crate) fn make_runnable(thread: &ThreadRef) {
    match thread.backend.handle.get() {
        Some(handle) => handle.unpark(),
        None => launch(thread),
    }
}

pub(crate) fn exit() -> ! {
    std::panic::resume_unwind(Box::new(Exit))
}

pub(crate) fn yield_now() {
    std::thread::yield_now();
}

pub(crate) fn reschedule_if_needed() {}

/// Puts off a drop with interrupts off, when a handler would run on the machine; else it is now.
pub(crate) fn let_go(left: Arc<dyn Left>) {
    if machine::interrupt::are_off() {
        LEAVINGS.with_borrow_mut(|list| later::add(list, left));
    }
}

pub(crate) fn drop_leavings() {
    while let Some(left) = LEAVINGS.with_borrow_mut(List::pop_front) {
        drop(left);
    }
}

pub(crate) fn kick(_: &Thread) {}

pub(crate) fn prod(_: usize) {}

pub(crate) fn start_watchdog() {}

pub(crate) fn change_standing(_: &Thread, change: impl FnOnce()) {
    change();
}

pub(crate) fn run_alarm_changed(_: &ThreadRef) {}

/// Nobody starts the kernel in host tests: the first use starts the thread `rcu`.
pub(crate) fn start_rcu() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let _ = crate::rcu::start();
    });
}

pub(crate) fn affinity_changed(_: &Thread) {}

pub(crate) fn activate(table: Option<&Arc<PageTable>>) {
    match table {
        Some(table) => table.activate(),
        None => PageTable::deactivate(),
    }
}

pub(crate) fn book(_ns: u64, _is_user: bool) {}

pub(crate) fn cpu_stat(_: usize) -> CpuStat {
    CpuStat::default()
}

pub(crate) fn runnable_threads() -> usize {
    RUNNABLE.load(Ordering::Relaxed)
}

pub(crate) fn init_cpu() {}

pub(crate) fn idle() -> ! {
    loop {
        std::thread::park();
    }
}

pub(crate) fn timer_interrupt() {}

pub(crate) fn reschedule_interrupt() {}

static TIMERS: Mutex<TimerHeap> = Mutex::new(TimerHeap::new());
static TIMERS_CHANGED: Condvar = Condvar::new();
static TIMER_THREAD: Once = Once::new();

fn timers() -> std::sync::MutexGuard<'static, TimerHeap> {
    TIMERS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn arm(deadline_ns: u64, timed: Arc<dyn Timed>) {
    TIMER_THREAD.call_once(|| {
        std::thread::spawn(run_timers);
    });
    let mut heap = timers();
    if timed.slot().home.swap(0, Ordering::SeqCst) == NOWHERE {
        heap.insert(deadline_ns, timed);
        TIMERS_CHANGED.notify_one();
    }
}

pub(crate) fn cancel(slot: &Slot) {
    let mut heap = timers();
    if slot.home.swap(NOWHERE, Ordering::SeqCst) != NOWHERE {
        drop(heap.remove(slot));
    }
}

fn run_timers() {
    let mut heap = timers();
    loop {
        let now = crate::clock::monotonic_ns();
        if let Some(timed) = heap.pop_expired(now) {
            timed.slot().home.store(NOWHERE, Ordering::SeqCst);
            drop(heap);
            timed.expired();
            heap = timers();
            continue;
        }
        let wait_ns = heap
            .first()
            .map_or(u64::MAX / 4, |first| first - now)
            .min(1_000_000_000);
        let wait = core::time::Duration::from_nanos(wait_ns);
        heap = match TIMERS_CHANGED.wait_timeout(heap, wait) {
            Ok((heap, _)) => heap,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

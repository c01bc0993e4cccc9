//! Kernel threads. A user thread is a kernel thread that runs user code in a loop.

mod builder;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use machine::frame::account::AccountId;
use machine::intrusive::Link;
use machine::page_table::PageTable;
use machine::sync::SpinLock;

use crate::attributes::{Attributes, CpuMask, Policy};
use crate::backend;
use crate::handshake::StateCell;
use crate::later::DropLater;
use crate::park::{Sleep, WAIT_LEVELS};
use crate::run_queue::{Entity, Group, Member};
use crate::stats::{Account, CpuTime, Turns};
use crate::timer_heap::{Slot, Timed};

pub use crate::handshake::State;
pub use builder::ThreadBuilder;

/// A counted reference to a thread.
pub type ThreadRef = Arc<Thread>;

/// Something a higher layer attaches to a thread; taken back with `downcast`.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// A kernel thread.
pub struct Thread {
    id: u64,
    name: SpinLock<Name>,
    state: StateCell,
    interrupted: AtomicBool,
    killed: AtomicBool,
    attributes: SpinLock<Attributes>,
    affinity: AtomicU64,
    /// Links to the queues that it waits on, innermost last, and how many are in use; its own business.
    wait_links: [Link<Thread>; WAIT_LEVELS],
    pub(crate) wait_depth: AtomicUsize,
    /// The queue whose condition it looks at.
    #[cfg(any(feature = "checks", debug_assertions))]
    pub(crate) evaluates_for: AtomicUsize,
    pub(crate) account: Account,
    /// CPU time at which the alarm is due, [`NO_ALARM`] without one.
    run_alarm_ns: AtomicU64,
    pub(crate) sleep_timer: Slot,
    /// Its place in a run queue.
    pub(crate) entity: Entity,
    /// The policy's number: interrupt handlers read it, so it is not behind the attributes' lock.
    policy: AtomicU8,
    pub(crate) backend: backend::ThreadData,
    pub(crate) estate: DropLater<Estate>,
}

/// What is more than memory of the heap: whoever wakes a thread may be the last one to have it.
pub(crate) struct Estate {
    extension: Option<Attachment>,
    page_table: SpinLock<Option<Arc<PageTable>>>,
    memory: SpinLock<Option<Attachment>>,
    pub(crate) backend: backend::Estate,
}

impl Member for Thread {
    fn entity(&self) -> &Entity {
        &self.entity
    }
}

type Name = [u8; 16];

/// No CPU-time alarm; also the moment of one that never comes.
const NO_ALARM: u64 = u64::MAX;

static RUN_ALARM_HOOK: spin::Once<fn(&ThreadRef)> = spin::Once::new();

/// Names what is called when a thread has used the CPU time that [`Thread::set_run_alarm`] said: with interrupts
/// off, on the CPU that runs the thread, which comes to its user loop right after. It may set flags, take
/// interrupt-safe locks and wake. Once, at start-up.
pub fn set_run_alarm_hook(hook: fn(&ThreadRef)) {
    RUN_ALARM_HOOK.call_once(|| hook);
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Thread({} {:?} {:?})",
            self.id,
            self.state(),
            self.backend
        )
    }
}

impl Thread {
    /// A number no other thread has had. Not the tid of user space, which `process` hands out.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name (comm): at most 15 bytes, padded with NULs.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Sets the name; bytes past the 15th are dropped.
    pub fn set_name(&self, name: &[u8]) {
        *self.name.lock() = name_of(name);
    }

    /// What [`ThreadBuilder::extension`] attached.
    #[must_use]
    pub fn extension(&self) -> Option<&Attachment> {
        self.estate.extension.as_ref()
    }

    /// The page table that is active while this thread runs.
    #[must_use]
    pub fn page_table(&self) -> Option<Arc<PageTable>> {
        self.estate.page_table.lock().clone()
    }

    /// Sets the page table: at once for the calling thread, at its next turn for another one.
    /// `None` leaves the kernel half alone.
    pub fn set_page_table(&self, table: Option<Arc<PageTable>>) {
        if core::ptr::eq(self, Arc::as_ptr(&current())) {
            backend::activate(table.as_ref());
        }
        let previous = core::mem::replace(&mut *self.estate.page_table.lock(), table);
        drop(previous);
    }

    pub(crate) fn activate_page_table(&self) {
        if let Some(table) = &*self.estate.page_table.lock() {
            backend::activate(Some(table));
        }
    }

    /// The address space (a `memory::AddressSpace`) of this thread.
    #[must_use]
    pub fn memory(&self) -> Option<Attachment> {
        self.estate.memory.lock().clone()
    }

    /// Sets the address space; see also [`Self::set_page_table`].
    pub fn set_memory(&self, memory: Option<Attachment>) {
        let previous = core::mem::replace(&mut *self.estate.memory.lock(), memory);
        // Dropped outside the lock: it may be the last reference to a whole address space.
        drop(previous);
    }

    /// Sets the account that is charged for what it allocates; the root's at first. Whoever does keeps the account
    /// open as long as the thread may run.
    pub fn set_memory_account(&self, account: AccountId) {
        self.backend.set_account(self, account);
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// A signal is to be delivered: ends an interruptible sleep, now or when one begins, until
    /// [`Self::clear_interrupt`].
    pub fn interrupt(self: &Arc<Self>) {
        self.interrupted.swap(true, Ordering::SeqCst);
        self.wake_from(State::Sleeping);
        backend::kick(self);
    }

    /// No signal is to be delivered any more.
    pub fn clear_interrupt(&self) {
        self.interrupted.store(false, Ordering::Release);
    }

    /// It is to end: beside the interrupt that follows, long calls stop half-way ([`killed`]).
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
    }

    /// Whether [`Self::kill`] was called.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Whether [`Self::interrupt`] was called since the last [`Self::clear_interrupt`].
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Wakes the thread from [`crate::park()`] (or a wait queue), to look at its condition again.
    /// Allowed from interrupt handlers. `false` when it was not asleep.
    pub fn wake(self: &Arc<Self>) -> bool {
        self.wake_from(State::Sleeping) || self.wake_from(State::Uninterruptible)
    }

    fn wake_from(self: &Arc<Self>, state: State) -> bool {
        let woken = self.state.wake_from(state);
        if woken {
            backend::make_runnable(self);
        }
        woken
    }

    pub(crate) fn wait_link(&self, level: usize) -> &Link<Thread> {
        &self.wait_links[level]
    }

    pub(crate) fn set_asleep(&self, sleep: Sleep) {
        let state = match sleep {
            Sleep::Interruptible => State::Sleeping,
            Sleep::Uninterruptible => State::Uninterruptible,
        };
        self.state.set_asleep(state);
    }

    pub(crate) fn set_awake(&self) {
        self.state.set(State::Runnable);
    }

    pub(crate) fn set_dead(&self) {
        self.state.set(State::Dead);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.state.is_asleep()
    }

    /// CPU time used so far.
    #[must_use]
    pub fn cpu_time(&self) -> CpuTime {
        self.account.read(crate::clock::monotonic_ns())
    }

    /// How it has waited for CPUs so far.
    #[must_use]
    pub fn turns(&self) -> Turns {
        self.account.turns()
    }

    /// Has the hook of [`set_run_alarm_hook`] called once, when this thread has used `at_ns` of CPU time (user and
    /// kernel time together, as [`Self::cpu_time`] counts them); `None` cancels.
    pub fn set_run_alarm(self: &Arc<Self>, at_ns: Option<u64>) {
        let at_ns = at_ns.unwrap_or(NO_ALARM);
        if self.run_alarm_ns.swap(at_ns, Ordering::SeqCst) != at_ns {
            backend::run_alarm_changed(self);
        }
    }

    /// As [`Self::set_run_alarm`], unless the alarm is set to an earlier moment.
    pub fn bring_run_alarm_forward(self: &Arc<Self>, at_ns: u64) {
        if self.run_alarm_ns.fetch_min(at_ns, Ordering::SeqCst) > at_ns {
            backend::run_alarm_changed(self);
        }
    }

    /// The moment at which the alarm is due if the thread, which runs, goes on until then.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "nothing is timed on the host")
    )]
    pub(crate) fn run_alarm_moment(&self, now: u64) -> u64 {
        let at_ns = self.run_alarm_ns.load(Ordering::SeqCst);
        if at_ns == NO_ALARM {
            return NO_ALARM;
        }
        let used = self.account.read(now);
        now.saturating_add(at_ns.saturating_sub(used.user_ns + used.system_ns))
    }

    /// Calls the hook. Interrupts are off.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "nothing is timed on the host")
    )]
    pub(crate) fn ring_run_alarm(self: &Arc<Self>) {
        self.run_alarm_ns.store(NO_ALARM, Ordering::Relaxed);
        if let Some(hook) = RUN_ALARM_HOOK.get() {
            hook(self);
        }
    }

    /// Books the time since the last booking as kernel time: call right before user code runs.
    pub fn enter_user(&self) {
        let now = crate::clock::monotonic_ns();
        backend::book(self.account.enter_user(now), false);
    }

    /// Books the time since the last booking as user time: call right after user code stopped.
    pub fn leave_user(&self) {
        let now = crate::clock::monotonic_ns();
        backend::book(self.account.leave_user(now), true);
    }

    /// Its scheduling attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        *self.attributes.lock()
    }

    /// Sets the scheduling attributes (permission is the caller's business).
    ///
    /// # Errors
    /// `EINVAL` when they contradict each other.
    pub fn set_attributes(&self, attributes: Attributes) -> Result<()> {
        let attributes = attributes.validate()?;
        *self.attributes.lock() = attributes;
        self.apply_attributes(attributes);
        Ok(())
    }

    fn apply_attributes(&self, attributes: Attributes) {
        let (band, weight) = crate::run_queue::standing(attributes);
        let policy = u8::try_from(attributes.policy.to_raw()).unwrap_or(0);
        backend::change_standing(self, || {
            self.entity.set_standing(band, weight);
            self.policy.store(policy, Ordering::Relaxed);
        });
    }

    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host has its own order")
    )]
    pub(crate) fn has_policy(&self, policy: Policy) -> bool {
        u32::from(self.policy.load(Ordering::Relaxed)) == policy.to_raw()
    }

    /// The group whose weight and limit it runs under; `None` is the root.
    #[must_use]
    pub fn cpu_group(&self) -> Option<Arc<Group>> {
        self.entity.group()
    }

    /// Moves it to another group.
    pub fn set_cpu_group(&self, group: Option<Arc<Group>>) {
        backend::change_standing(self, || self.entity.set_group(group));
    }

    /// The CPUs it may run on, whether they are there or not.
    #[must_use]
    pub fn affinity(&self) -> CpuMask {
        CpuMask(self.affinity.load(Ordering::Relaxed))
    }

    /// Restricts it to CPUs of `mask`; it moves if it has to.
    ///
    /// # Errors
    /// `EINVAL` when none of them runs.
    pub fn set_affinity(self: &Arc<Self>, mask: CpuMask) -> Result<()> {
        if mask.and(CpuMask::online()).is_empty() {
            return Err(Errno::EINVAL);
        }
        self.affinity.swap(mask.0, Ordering::SeqCst);
        backend::affinity_changed(self);
        Ok(())
    }

    /// The CPU it runs on or last ran on.
    #[must_use]
    pub fn cpu(&self) -> usize {
        self.backend.cpu()
    }
}

impl Timed for Thread {
    fn slot(&self) -> &Slot {
        &self.sleep_timer
    }

    fn expired(self: Arc<Self>) {
        self.wake();
    }
}

/// Lets a prepared thread run. Once.
pub fn start(thread: &ThreadRef) {
    backend::launch(thread);
}

/// Makes a thread and lets it run.
///
/// # Errors
/// `ENOMEM` when there is no memory for its stack.
pub fn spawn(builder: ThreadBuilder) -> Result<ThreadRef> {
    builder.spawn()
}

/// Whether the calling thread is to end: loops whose length a user sets stop then, with what they have.
#[must_use]
pub fn killed() -> bool {
    current().is_killed()
}

/// The calling thread. In an interrupt handler: the one that was interrupted.
#[must_use]
pub fn current() -> ThreadRef {
    backend::current()
}

/// Whether there is a calling thread: not while this CPU starts.
#[must_use]
pub fn is_there() -> bool {
    backend::is_online()
}

/// Ends the calling thread. Its page table and address space are let go first; its stack when
/// the CPU has left it.
pub fn exit() -> ! {
    let me = current();
    me.set_page_table(None);
    me.set_memory(None);
    drop(me);
    backend::exit()
}

/// Lets others of the same standing run.
pub fn yield_now() {
    backend::yield_now();
}

/// Gives way if another thread should have the CPU. Call before returning to user mode, with no lock held; cheap when
/// there is nothing to do.
pub fn reschedule_if_needed() {
    backend::reschedule_if_needed();
}

/// Drops what was put off ([`DropLater`]). Call before returning to user mode, with no lock held, sleeping ones neither, and
/// with interrupts on: a drop may sleep and take long. Cheap when there is nothing to do.
pub fn drop_leavings() {
    debug_assert!(
        !machine::interrupt::are_off(),
        "a long drop without interrupts"
    );
    backend::drop_leavings();
}

/// In a long call: gives way if another thread should have the CPU. Every loop whose length a user sets
/// calls it at least once in 10 million instructions, with no spin lock held; a load and a branch when there
/// is nothing to do. The calling thread stays runnable, also where it is marked asleep by a wait.
#[inline]
#[cfg_attr(any(feature = "checks", debug_assertions), track_caller)]
pub fn cond_resched() {
    machine::sync::assert_none_held();
    #[cfg(any(feature = "checks", debug_assertions))]
    {
        // Whether or not it comes to it this time.
        machine::rcu::assert_not_reading();
        assert!(
            !machine::interrupt::is_handling(),
            "an interrupt handler gives the CPU away"
        );
    }
    backend::reschedule_if_needed();
}

/// Between two parts of a long call that waits for nobody: as [`cond_resched`], and whether a signal ends the call.
#[must_use]
pub fn is_to_stop() -> bool {
    cond_resched();
    current().is_interrupted()
}

fn name_of(bytes: &[u8]) -> Name {
    let mut name = [0; 16];
    let len = bytes.len().min(15);
    name[..len].copy_from_slice(&bytes[..len]);
    name
}

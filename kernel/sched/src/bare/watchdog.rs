//! The watchdog: tells of CPUs that do not get on, when it is turned on (`nacre.watchdog`, or builds with checks).
//!
//! Each CPU looks once a second, from its timer interrupt: at itself, whether it has been in the kernel for long without a
//! moment at which it could be given away, and at its neighbour, whether that idles while threads wait for it or
//! its timer is long overdue. What looks wrong is looked at more often and reported when it stays so; the stack
//! is printed by the CPU's own interrupt handler.
//!
//! A virtual CPU may not be run by its host for seconds, and its clock goes on. So no time is measured from
//! then on: looks are counted, and a CPU that makes them is being run, as its neighbour is on any fair host.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use machine::interrupt::{self, InterruptsOff};
use machine::log;

use super::cpu::{CPUS, Cpu, NEVER, here};
use super::{timers, wake};

/// How often each CPU looks.
const PERIOD_NS: u64 = 1_000_000_000;
/// How often it looks at what seems wrong.
const SOON_NS: u64 = 2_000_000;
/// After how long something seems wrong. A CPU in the kernel is then asked to give way at the next opportunity.
const SUSPECTED_AFTER_NS: u64 = 500_000_000;
/// How many looks find the same before it is reported: with what came before them, two seconds.
const REPORTED_AFTER: u32 = 750;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// What one look after the other has found of a CPU. Written by the CPU that looks.
pub(super) struct Suspicion {
    /// What would be another if the CPU had got on.
    state: AtomicU64,
    looks: AtomicU32,
}

impl Suspicion {
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU64::new(NEVER),
            looks: AtomicU32::new(0),
        }
    }

    /// Notes what a look has found, `None` when all is well. True once for a state that lasts.
    fn lasts(&self, state: Option<u64>) -> bool {
        let state = state.unwrap_or(NEVER);
        if self.state.swap(state, Ordering::Relaxed) != state || state == NEVER {
            self.looks.store(0, Ordering::Relaxed);
            return false;
        }
        self.looks.fetch_add(1, Ordering::Relaxed) + 1 == REPORTED_AFTER
    }

    fn is_raised(&self) -> bool {
        self.state.load(Ordering::Relaxed) != NEVER
    }
}

/// Turns it on, on all CPUs that run by now; the others see that it is on when they begin.
pub(crate) fn start() {
    // Both sides store first and look then: one of them sees the other.
    IS_ON.store(true, Ordering::SeqCst);
    let _off = InterruptsOff::new();
    for (number, cpu) in CPUS.iter().enumerate().take(machine::cpu::count()) {
        if number == machine::cpu::current() {
            join();
        } else if cpu.is_online.load(Ordering::SeqCst) {
            interrupt::send_reschedule(number);
        }
    }
}

/// This CPU takes part from now on, if the watchdog is on. Interrupts are off.
pub(super) fn join() {
    let cpu = here();
    if IS_ON.load(Ordering::SeqCst) && cpu.watchdog_ns.load(Ordering::Relaxed) == NEVER {
        let next = crate::clock::monotonic_ns() + PERIOD_NS;
        cpu.watchdog_ns.store(next, Ordering::Relaxed);
        timers::ensure(cpu, next);
    }
}

/// The timer of this CPU fired: looks, if it is time. Interrupts are off.
pub(super) fn look(cpu: &Cpu, now: u64) {
    let due = cpu.watchdog_ns.load(Ordering::Relaxed);
    if due > now {
        timers::ensure(cpu, due);
        return;
    }
    let me = machine::cpu::current();
    let neighbour = (me + 1) % machine::cpu::count();
    look_at_self(me, cpu, now);
    if neighbour != me {
        look_at_timer(neighbour, &CPUS[neighbour], now);
        look_at_queue(neighbour, &CPUS[neighbour]);
    }
    let next = if cpu.in_kernel.is_raised() || CPUS[neighbour].is_suspected() {
        now + SOON_NS
    } else {
        now + PERIOD_NS
    };
    cpu.watchdog_ns.store(next, Ordering::Relaxed);
    timers::ensure(cpu, next);
}

impl Cpu {
    /// Whether its neighbour has found anything.
    fn is_suspected(&self) -> bool {
        self.overdue.is_raised() || self.idles.is_raised()
    }
}

fn look_at_self(me: usize, cpu: &Cpu, now: u64) {
    let is_idle = cpu.is_idle.load(Ordering::Relaxed);
    let thread = cpu.current();
    let since = thread
        .account
        .in_kernel_since()
        .filter(|since| !is_idle && now.saturating_sub(*since) > SUSPECTED_AFTER_NS);
    if since.is_some() {
        wake::prod(me);
    }
    if cpu.in_kernel.lasts(since) {
        let name = thread.name();
        let len = name.iter().position(|byte| *byte == 0);
        log!(
            "watchdog: CPU {me} has been in the kernel for {} ms, thread {thread:?} \"{}\"",
            since.map_or(0, |since| (now - since) / 1_000_000),
            name[..len.unwrap_or(name.len())].escape_ascii()
        );
        interrupt::send_report(me);
    }
}

/// A timer that is overdue means that interrupts are off, or that the interrupt was lost.
fn look_at_timer(number: usize, cpu: &Cpu, now: u64) {
    let armed = cpu.armed_ns.load(Ordering::Relaxed);
    let is_overdue = armed < now.saturating_sub(SUSPECTED_AFTER_NS);
    if cpu.overdue.lasts(is_overdue.then_some(armed)) {
        log!(
            "watchdog: CPU {number}: the timer is overdue by {} ms",
            (now - armed) / 1_000_000
        );
        interrupt::send_report(number);
    }
}

/// A thread that was just queued is no trouble: an idle CPU that gets on wakes, and its idle time grows.
fn look_at_queue(number: usize, cpu: &Cpu) {
    let waiting = cpu.waiting.load(Ordering::Relaxed);
    let idles = waiting > 0 && cpu.is_idle.load(Ordering::Relaxed);
    let idle_ns = cpu.idle_ns.load(Ordering::Relaxed);
    if cpu.idles.lasts(idles.then_some(idle_ns)) {
        log!("watchdog: CPU {number} idles while {waiting} threads wait for it");
        interrupt::send_reschedule(number);
    }
}

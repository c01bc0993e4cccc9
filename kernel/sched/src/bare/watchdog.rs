//! The watchdog: tells of CPUs that do not get on, when it is turned on (`nacre.watchdog`, or builds with checks).
//!
//! Each CPU looks at all of them once a second, from its timer interrupt. A CPU is reported that has been in
//! the kernel for two seconds without a moment at which it could be given away (with its stack, which its own
//! interrupt handler prints), that idles while threads wait for it, or whose timer is long overdue.

use core::sync::atomic::{AtomicBool, Ordering};

use machine::interrupt::{self, InterruptsOff};
use machine::log;

use super::cpu::{CPUS, Cpu, NEVER, here};
use super::{timers, wake};

/// How often each CPU looks.
const PERIOD_NS: u64 = 1_000_000_000;
/// After how long in the kernel a CPU is asked to give way at the next opportunity.
const ASKED_AFTER_NS: u64 = 500_000_000;
/// After how long it is reported.
const REPORTED_AFTER_NS: u64 = 2_000_000_000;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Turns it on, on all CPUs.
pub(crate) fn start() {
    IS_ON.store(true, Ordering::Release);
    let _off = InterruptsOff::new();
    for cpu in 0..machine::cpu::count() {
        if cpu == machine::cpu::current() {
            join();
        } else {
            interrupt::send_reschedule(cpu);
        }
    }
}

/// This CPU takes part from now on, if the watchdog is on. Interrupts are off.
pub(super) fn join() {
    let cpu = here();
    if IS_ON.load(Ordering::Relaxed) && cpu.watchdog_ns.load(Ordering::Relaxed) == NEVER {
        let next = crate::clock::monotonic_ns() + PERIOD_NS;
        cpu.watchdog_ns.store(next, Ordering::Relaxed);
        timers::ensure(cpu, next);
    }
}

/// The timer of this CPU fired: looks at all CPUs, if it is time. Interrupts are off.
pub(super) fn look(cpu: &Cpu, now: u64) {
    let due = cpu.watchdog_ns.load(Ordering::Relaxed);
    if due > now {
        timers::ensure(cpu, due);
        return;
    }
    cpu.watchdog_ns.store(now + PERIOD_NS, Ordering::Relaxed);
    timers::ensure(cpu, now + PERIOD_NS);
    let running = CPUS.iter().enumerate().take(machine::cpu::count());
    for (number, other) in running {
        let armed = other.armed_ns.load(Ordering::Relaxed);
        if armed < now.saturating_sub(REPORTED_AFTER_NS) && number != machine::cpu::current() {
            log!(
                "watchdog: CPU {number}: the timer is overdue by {} ms",
                (now - armed) / 1_000_000
            );
            interrupt::send_reschedule(number);
        }
        if other.is_idle.load(Ordering::Relaxed) {
            look_at_idle(number, other, now);
        } else {
            look_at_busy(number, other, now);
        }
    }
}

fn look_at_idle(number: usize, cpu: &Cpu, now: u64) {
    let waiting = cpu.waiting.load(Ordering::Relaxed);
    let since = cpu.idles_since_ns.load(Ordering::Relaxed);
    if waiting == 0 {
        cpu.idles_since_ns.store(NEVER, Ordering::Relaxed);
    } else if since == NEVER {
        cpu.idles_since_ns.store(now, Ordering::Relaxed);
    } else if since + REPORTED_AFTER_NS < now {
        log!("watchdog: CPU {number} idles while {waiting} threads wait for it");
        cpu.idles_since_ns.store(now, Ordering::Relaxed);
        interrupt::send_reschedule(number);
    }
}

fn look_at_busy(number: usize, cpu: &Cpu, now: u64) {
    cpu.idles_since_ns.store(NEVER, Ordering::Relaxed);
    let thread = cpu.current();
    let Some(since) = thread.account.in_kernel_since() else {
        return;
    };
    let stays = now.saturating_sub(since);
    if stays > ASKED_AFTER_NS {
        wake::prod(number);
    }
    if stays > REPORTED_AFTER_NS && cpu.reported_ns.swap(since, Ordering::Relaxed) != since {
        let name = thread.name();
        let len = name.iter().position(|byte| *byte == 0);
        log!(
            "watchdog: CPU {number} has been in the kernel for {} ms, thread {thread:?} \"{}\"",
            stays / 1_000_000,
            name[..len.unwrap_or(name.len())].escape_ascii()
        );
        interrupt::send_report(number);
    }
}

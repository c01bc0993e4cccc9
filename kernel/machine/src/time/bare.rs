//! The TSC as the clock of all CPUs; its frequency from the host, from CPUID, or measured against
//! the PIT. The epoch from the host or the CMOS clock.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::x86::features::{cpuid, highest_leaf};
use crate::x86::{apic, port, read_tsc};

const NS_A_SECOND: u64 = 1_000_000_000;
const PIT_HZ: u64 = 1_193_182;
/// How long the PIT is watched: 0.5 ms, from edge to edge of its count.
const PIT_TICKS: u16 = 600;
/// Reads, of a microsecond or more each, in which a PIT that is there has counted.
const PIT_READS: u32 = 100_000;
/// How long the APIC's timer is watched: 25 µs. The slowest, 25 MHz, counts 625 ticks then: it is known to 0.2%, which is enough
/// for a timer that is armed for one moment at a time, and looks at the TSC when it fires.
const APIC_SAMPLES_A_SECOND: u64 = 40_000;
const NO_DEADLINE: u64 = u64::MAX;

/// TSC at boot, its frequency, and nanoseconds a tick in 32.32 fixed point.
static START: AtomicU64 = AtomicU64::new(0);
static HZ: AtomicU64 = AtomicU64::new(0);
static NS_A_TICK: AtomicU64 = AtomicU64::new(0);
static EPOCH_NS: AtomicU64 = AtomicU64::new(0);

/// Learns the clock's frequency and the time of day. `epoch_ns` is the Unix time at TSC 0, when the
/// host told.
pub(crate) fn set_up(start_tsc: u64, tsc_khz: Option<u64>, epoch_ns: Option<u64>) {
    let hz = tsc_khz
        .map(|khz| khz * 1000)
        .filter(|hz| *hz > 0)
        .or_else(hz_from_cpuid);
    let Some(hz) = hz.or_else(hz_from_pit) else {
        crate::log!(
            "time: the frequency of the TSC is unknown: the machine has no PIT to measure it by, CPUID does not \
             tell it, and the command line has no nacre.tsc_khz=KHZ; the kernel cannot run without a clock"
        );
        crate::power::panicked();
    };
    START.store(start_tsc, Ordering::Relaxed);
    HZ.store(hz, Ordering::Relaxed);
    let a_tick = (u128::from(NS_A_SECOND) << 32) / u128::from(hz);
    NS_A_TICK.store(u64::try_from(a_tick).unwrap_or(u64::MAX), Ordering::Relaxed);
    let epoch = match epoch_ns {
        Some(at_zero) => at_zero + to_ns(start_tsc),
        None => super::cmos::unix_seconds().map_or(0, |now| now * NS_A_SECOND - now_ns()),
    };
    EPOCH_NS.store(epoch, Ordering::Relaxed);
    apic::calibrate_timer(hz, hz / APIC_SAMPLES_A_SECOND);
}

fn hz_from_cpuid() -> Option<u64> {
    let hypervisor = if cpuid(1, 0)[2] & (1 << 31) != 0 {
        cpuid(0x4000_0000, 0)[0]
    } else {
        0
    };
    if (0x4000_0010..0x4001_0000).contains(&hypervisor) {
        let khz = cpuid(0x4000_0010, 0)[0];
        if khz != 0 {
            return Some(u64::from(khz) * 1000);
        }
    }
    if highest_leaf() < 0x15 {
        return None;
    }
    let [denominator, numerator, crystal_hz, _] = cpuid(0x15, 0);
    if denominator == 0 || numerator == 0 || crystal_hz == 0 {
        return None;
    }
    Some(u64::from(crystal_hz) * u64::from(numerator) / u64::from(denominator))
}

/// Lets PIT channel 2 count down and compares; its edges are exact, however slow the reads are.
/// `None` where there is no PIT.
fn hz_from_pit() -> Option<u64> {
    port::out8(0x61, port::in8(0x61) & !2 | 1);
    port::out8(0x43, 0b1011_0100);
    port::out8(0x42, 0xff);
    port::out8(0x42, 0xff);
    let (first, start) = next_pit_edge()?;
    loop {
        let (count, now) = next_pit_edge()?;
        let ticks = first.wrapping_sub(count);
        if ticks >= PIT_TICKS {
            return Some(((now - start) * PIT_HZ / u64::from(ticks)).max(1_000_000));
        }
    }
}

/// The PIT's next count and the time when it was seen. `None` when it does not count.
fn next_pit_edge() -> Option<(u16, u64)> {
    let before = pit_count();
    for _ in 0..PIT_READS {
        let count = pit_count();
        if count != before {
            return Some((count, read_tsc()));
        }
    }
    None
}

fn pit_count() -> u16 {
    port::out8(0x43, 0b1000_0000);
    let low = port::in8(0x42);
    u16::from_le_bytes([low, port::in8(0x42)])
}

fn to_ns(ticks: u64) -> u64 {
    let ns = u128::from(ticks) * u128::from(NS_A_TICK.load(Ordering::Relaxed));
    (ns >> 32) as u64
}

/// Nanoseconds since boot; never goes back, the same on all CPUs.
#[must_use]
pub fn now_ns() -> u64 {
    to_ns(read_tsc().saturating_sub(START.load(Ordering::Relaxed)))
}

/// TSC ticks since the kernel's first instruction.
pub(crate) fn ticks_since_entry() -> u64 {
    read_tsc().saturating_sub(START.load(Ordering::Relaxed))
}

/// Unix time in nanoseconds at `now_ns() == 0`, as the host or the RTC said.
#[must_use]
pub fn boot_epoch_ns() -> u64 {
    EPOCH_NS.load(Ordering::Relaxed)
}

/// Calls [`crate::interrupt::Upcalls::timer`] on this CPU at `deadline_ns` (of [`now_ns`]), or at once
/// when that has passed. `None` cancels. One deadline a CPU.
pub fn set_deadline(deadline_ns: Option<u64>) {
    let Some(deadline) = deadline_ns.filter(|deadline| *deadline != NO_DEADLINE) else {
        apic::stop_timer();
        return;
    };
    let hz = u128::from(HZ.load(Ordering::Relaxed));
    // Rounded up: a timer that fires early would be set again for nothing.
    let ticks = (u128::from(deadline) * hz).div_ceil(u128::from(NS_A_SECOND)) + 1;
    let tsc = u128::from(START.load(Ordering::Relaxed)) + ticks;
    let left = deadline.saturating_sub(now_ns());
    apic::set_timer(u64::try_from(tsc).unwrap_or(u64::MAX), left);
}

/// The timer's interrupt arrived.
pub(crate) fn fired() {}

//! The local APIC: x2APIC where the CPU has it, its registers in memory otherwise. End of interrupt,
//! interrupts between CPUs, and the one-shot timer.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use super::features::{self, Features};
use super::{percpu, read_msr, write_msr};
use crate::addr::PhysAddr;
use crate::interrupt::InterruptsOff;

const IA32_APIC_BASE: u32 = 0x1b;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const X2APIC_FIRST: u32 = 0x800;
const DEFAULT_BASE: u64 = 0xfee0_0000;

/// Registers, as offsets in memory; x2APIC numbers are a 16th of them.
const ID: u32 = 0x20;
const EOI: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const TSC_DEADLINE_MODE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0b1011;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const DELIVER_INIT: u32 = 0x4500;
const DELIVER_STARTUP: u32 = 0x4600;

/// The registers in memory; null with x2APIC.
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
/// Timer ticks a second, without TSC deadline.
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);

fn write(register: u32, value: u32) {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base.is_null() {
        // SAFETY: x2APIC is on; the registers written here do not touch memory.
        unsafe { write_msr(X2APIC_FIRST + register / 16, u64::from(value)) };
    } else {
        let at: *mut u32 = base.wrapping_add(register as usize).cast();
        // SAFETY: the register page is mapped for good, and the offset is inside it.
        unsafe { at.write_volatile(value) };
    }
}

fn read(register: u32) -> u32 {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base.is_null() {
        // SAFETY: x2APIC is on and has the registers read here.
        unsafe { read_msr(X2APIC_FIRST + register / 16) as u32 }
    } else {
        let at: *const u32 = base.wrapping_add(register as usize).cast();
        // SAFETY: the register page is mapped for good, and the offset is inside it.
        unsafe { at.read_volatile() }
    }
}

/// Turns this CPU's APIC on, with its timer masked.
pub(crate) fn set_up(spurious_vector: u8, timer_vector: u8) {
    // SAFETY: every x86-64 CPU has the register.
    let base = unsafe { read_msr(IA32_APIC_BASE) };
    let has_x2apic = features::has(Features::X2APIC);
    let mode = if has_x2apic {
        BASE_ENABLE | BASE_X2APIC
    } else {
        BASE_ENABLE
    };
    if base & mode != mode {
        // SAFETY: CPUID names x2APIC where it is turned on; the base address stays.
        unsafe { write_msr(IA32_APIC_BASE, base | mode) };
    }
    if !has_x2apic && REGISTERS.load(Ordering::Relaxed).is_null() {
        let Some(page) = crate::mmio::map(PhysAddr(DEFAULT_BASE), 4096) else {
            panic!("no room to map the local APIC");
        };
        REGISTERS.store(page.as_ptr(), Ordering::Relaxed);
    }
    write(SPURIOUS, SOFTWARE_ENABLE | u32::from(spurious_vector));
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    let deadline = features::has(Features::TSC_DEADLINE);
    let mode = if deadline { TSC_DEADLINE_MODE } else { 0 };
    write(TIMER, mode | u32::from(timer_vector));
    percpu::here().apic_id.store(id(), Ordering::Relaxed);
}

/// Measures the timer against the TSC for `ticks` of the latter. Not needed with TSC deadline.
pub(crate) fn calibrate_timer(tsc_hz: u64, ticks: u64) {
    if features::has(Features::TSC_DEADLINE) {
        return;
    }
    let timer = read(TIMER);
    write(TIMER, timer | MASKED);
    write(TIMER_INITIAL, u32::MAX);
    let start = super::read_tsc();
    let mut now = start;
    while now.wrapping_sub(start) < ticks {
        now = super::read_tsc();
    }
    let counted = u64::from(u32::MAX - read(TIMER_CURRENT));
    write(TIMER_INITIAL, 0);
    write(TIMER, timer);
    let hz = u128::from(counted) * u128::from(tsc_hz) / u128::from((now - start).max(1));
    TIMER_HZ.store(
        u64::try_from(hz).unwrap_or(u64::MAX).max(1),
        Ordering::Relaxed,
    );
}

/// This CPU's APIC id.
pub(crate) fn id() -> u32 {
    let id = read(ID);
    if REGISTERS.load(Ordering::Relaxed).is_null() {
        id
    } else {
        id >> 24
    }
}

/// Ends the interrupt being handled.
pub(crate) fn end_of_interrupt() {
    write(EOI, 0);
}

/// Sets the timer for a TSC value at least `ns` nanoseconds away; the TSC is used with TSC deadline,
/// the nanoseconds otherwise.
pub(crate) fn set_timer(tsc: u64, ns: u64) {
    if features::has(Features::TSC_DEADLINE) {
        // SAFETY: CPUID names the register.
        unsafe { write_msr(IA32_TSC_DEADLINE, tsc.max(1)) };
    } else {
        let hz = TIMER_HZ.load(Ordering::Relaxed);
        let ticks = u128::from(ns) * u128::from(hz) / 1_000_000_000;
        // A far deadline comes early, and is then set again.
        write(
            TIMER_INITIAL,
            u32::try_from(ticks).unwrap_or(u32::MAX).max(1),
        );
    }
}

/// Stops the timer.
pub(crate) fn stop_timer() {
    if features::has(Features::TSC_DEADLINE) {
        // SAFETY: CPUID names the register.
        unsafe { write_msr(IA32_TSC_DEADLINE, 0) };
    } else {
        write(TIMER_INITIAL, 0);
    }
}

/// Interrupts another CPU.
pub(crate) fn send(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector));
}

/// Resets another CPU to wait for a start-up message.
pub(crate) fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT);
}

/// Starts another CPU at a page below 1 MiB.
pub(crate) fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_STARTUP | u32::from(page));
}

fn command(apic_id: u32, command: u32) {
    let _off = InterruptsOff::new();
    if REGISTERS.load(Ordering::Relaxed).is_null() {
        let value = u64::from(apic_id) << 32 | u64::from(command);
        // Unlike a store to the registers in memory this write may overtake stores before it (Intel SDM
        // volume 3, section 11.12.3), and the interrupted CPU would not see what it is told of.
        fence(Ordering::SeqCst);
        // SAFETY: x2APIC is on; the register sends an interrupt.
        unsafe { write_msr(X2APIC_FIRST + COMMAND / 16, value) };
        return;
    }
    while read(COMMAND) & DELIVERY_PENDING != 0 {
        core::hint::spin_loop();
    }
    write(COMMAND_HIGH, apic_id << 24);
    write(COMMAND, command);
}

//! Vectors and their handlers. Lines go to the boot CPU, messages where their device asks for.

use core::arch::asm;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86_64::instructions::interrupts;

use super::{Handler, Message, Upcalls};
use crate::cpu::CpuId;
use crate::frame::{kept, reporting};
use crate::heap::{AllocError, Vec};
use crate::rcu;
use crate::x86::{apic, ioapic, percpu, tlb};

/// Vectors: the first interrupt's, those of devices, and the kernel's own.
const FIRST_DEVICE_VECTOR: u8 = 0x30;
const DEVICE_VECTORS: usize = 0xa0;
pub(crate) const TIMER_VECTOR: u8 = 0xf0;
pub(crate) const RESCHEDULE_VECTOR: u8 = 0xf1;
pub(crate) const FLUSH_VECTOR: u8 = 0xf2;
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;

const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// A device vector: the line it belongs to (none for messages) and who is called.
struct Line {
    gsi: Option<u32>,
    handlers: Vec<Handler>,
}

/// CPUs that are to print where in the kernel they are, a bit each.
static REPORTS_WANTED: AtomicU64 = AtomicU64::new(0);
static UPCALLS: spin::Once<Upcalls> = spin::Once::new();
static LINES: spin::RwLock<Vec<Line>> = spin::RwLock::new(Vec::new());

/// Sets the upcalls, once. Before that, interrupts are acknowledged and dropped.
pub fn set_upcalls(upcalls: Upcalls) {
    UPCALLS.call_once(|| upcalls);
}

/// Calls `handler` with interrupts off whenever the device interrupt `gsi` arrives.
/// One handler a line; a shared line calls all that registered.
///
/// # Errors
/// [`AllocError`].
pub fn register(gsi: u32, handler: Handler) -> Result<(), AllocError> {
    let _off = InterruptsOff::new();
    let mut lines = LINES.write();
    if let Some(line) = lines.iter_mut().find(|line| line.gsi == Some(gsi)) {
        return line.handlers.try_push(handler);
    }
    let Some(vector) = add_line(&mut lines, Some(gsi), handler) else {
        crate::log!("interrupt {gsi}: no vector left; the device stays silent");
        return Ok(());
    };
    drop(lines);
    if !ioapic::route(gsi, vector, boot_apic_id()) {
        crate::log!("interrupt {gsi}: no I/O APIC has this line; the device stays silent");
    }
    Ok(())
}

/// Gives a vector of its own to a message-signalled interrupt (MSI-X on PCI) that calls `handler`
/// with interrupts off on `cpu`, or on the boot CPU when `cpu` is not there or out of a message's
/// reach. `None` when no vector or no memory is left.
#[must_use]
pub fn register_message(cpu: CpuId, handler: Handler) -> Option<Message> {
    let _off = InterruptsOff::new();
    let vector = add_line(&mut LINES.write(), None, handler)?;
    // A message has eight bits for the destination.
    let there = (cpu < percpu::count()).then(|| percpu::of(cpu)).flatten();
    let apic_id = there
        .map(|area| area.apic_id.load(Ordering::Relaxed))
        .filter(|id| *id < 0xff)
        .unwrap_or_else(boot_apic_id);
    let address = MESSAGE_ADDRESS | u64::from(apic_id) << 12;
    Some(Message {
        address,
        data: u32::from(vector),
    })
}

fn boot_apic_id() -> u32 {
    percpu::of(0).map_or(0, |area| area.apic_id.load(Ordering::Relaxed))
}

fn add_line(lines: &mut Vec<Line>, gsi: Option<u32>, handler: Handler) -> Option<u8> {
    let number = u8::try_from(lines.len())
        .ok()
        .filter(|_| lines.len() < DEVICE_VECTORS)?;
    let handlers = Vec::try_from([handler]).ok()?;
    lines.try_push(Line { gsi, handlers }).ok()?;
    Some(FIRST_DEVICE_VECTOR + number)
}

/// Handles an interrupt; called with interrupts off.
pub(crate) fn dispatch(vector: u8) {
    rcu::leave_idle();
    count_handling(1);
    handle(vector);
    count_handling(-1);
}

#[cfg(not(any(feature = "checks", debug_assertions)))]
fn count_handling(_: isize) {}

#[cfg(any(feature = "checks", debug_assertions))]
fn count_handling(change: isize) {
    let handling = &percpu::here().handling;
    handling.set(handling.get().wrapping_add_signed(change));
}

/// Whether this CPU is in an interrupt handler.
#[cfg(any(feature = "checks", debug_assertions))]
#[must_use]
pub fn is_handling() -> bool {
    percpu::here().handling.get() > 0
}

fn handle(vector: u8) {
    match vector {
        TIMER_VECTOR => {
            crate::time::bare::fired();
            if let Some(upcalls) = UPCALLS.get() {
                (upcalls.timer)();
            }
        }
        RESCHEDULE_VECTOR => {
            if let Some(upcalls) = UPCALLS.get() {
                (upcalls.reschedule)();
            }
        }
        FLUSH_VECTOR => {
            tlb::poll();
            kept::poll();
            reporting::poll();
        }
        SPURIOUS_VECTOR => return,
        _ => dispatch_device(vector),
    }
    apic::end_of_interrupt();
}

fn dispatch_device(vector: u8) {
    let Some(number) = vector.checked_sub(FIRST_DEVICE_VECTOR) else {
        return;
    };
    if let Some(line) = LINES.read().get(usize::from(number)) {
        for handler in &line.handlers {
            handler();
        }
    }
}

/// Makes `cpu` call [`Upcalls::reschedule`].
pub fn send_reschedule(cpu: CpuId) {
    if let Some(area) = percpu::of(cpu) {
        apic::send(area.apic_id.load(Ordering::Relaxed), RESCHEDULE_VECTOR);
    }
}

/// Makes `cpu` print where in the kernel it is, if it takes interrupts there.
pub fn send_report(cpu: CpuId) {
    REPORTS_WANTED.fetch_or(1 << cpu, Ordering::Release);
    send_reschedule(cpu);
}

/// Whether this CPU, which handles an interrupt, is to print where it was; once.
pub(crate) fn take_report() -> bool {
    let me = 1 << percpu::here().id();
    REPORTS_WANTED.load(Ordering::Relaxed) & me != 0
        && REPORTS_WANTED.fetch_and(!me, Ordering::Acquire) & me != 0
}

/// Waits for an interrupt, atomically with turning interrupts on; returns with them off.
/// Call with interrupts off (the caller has just found nothing to do).
pub fn wait() {
    rcu::before_wait();
    // SAFETY: STI takes effect after HLT has begun, so no interrupt is missed in between.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    rcu::leave_idle();
}

/// Whether interrupts are off on this CPU.
#[must_use]
pub fn are_off() -> bool {
    !interrupts::are_enabled()
}

/// Turns interrupts on; only where nothing on this CPU relies on them being off.
pub(crate) fn turn_on() {
    interrupts::enable();
}

/// Turns interrupts off.
pub(crate) fn turn_off() {
    interrupts::disable();
}

/// Keeps interrupts off on this CPU until dropped; nests.
#[derive(Debug)]
pub struct InterruptsOff {
    were_on: bool,
    /// Belongs to the CPU's flow that made it.
    _not_send: PhantomData<*const ()>,
}

impl InterruptsOff {
    /// Turns interrupts off.
    #[must_use]
    pub fn new() -> Self {
        let were_on = !are_off();
        if were_on {
            turn_off();
        }
        Self {
            were_on,
            _not_send: PhantomData,
        }
    }
}

impl Default for InterruptsOff {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        if self.were_on {
            turn_on();
        }
    }
}

/// Whether the boot CPU's interrupts are in place.
pub(crate) static READY: AtomicBool = AtomicBool::new(false);

/// Turns this CPU's APIC on; on the boot CPU the I/O APICs too.
pub(crate) fn set_up() {
    apic::set_up(SPURIOUS_VECTOR, TIMER_VECTOR);
    if !READY.swap(true, Ordering::Relaxed) {
        ioapic::set_up();
    }
}

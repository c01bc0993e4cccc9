//! I/O APICs: which vector on which CPU a device's interrupt line raises. The legacy interrupt
//! controllers are masked.

use core::ptr::NonNull;

use super::port;
use crate::addr::PhysAddr;
use crate::heap::Vec;
use crate::sync::IrqLock;

const DEFAULT_BASE: u64 = 0xfec0_0000;
const SELECT: usize = 0;
const WINDOW: usize = 0x10;
const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;
/// MADT entry of an I/O APIC.
const MADT_IOAPIC: u8 = 1;

#[derive(Debug)]
struct IoApic {
    registers: NonNull<u8>,
    first_gsi: u32,
    lines: u32,
}

// SAFETY: the registers are only used under the lock.
unsafe impl Send for IoApic {}

static CONTROLLERS: IrqLock<Vec<IoApic>> = IrqLock::new(Vec::new());

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        self.select(register);
        // SAFETY: the window is in the mapped page.
        unsafe { self.at(WINDOW).read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        self.select(register);
        // SAFETY: the window is in the mapped page.
        unsafe { self.at(WINDOW).write_volatile(value) };
    }

    fn select(&self, register: u32) {
        // SAFETY: the selector is in the mapped page.
        unsafe { self.at(SELECT).write_volatile(register) };
    }

    /// Where one of the two registers in memory is.
    fn at(&self, offset: usize) -> *mut u32 {
        self.registers.as_ptr().wrapping_add(offset).cast()
    }
}

/// Finds the I/O APICs: those of the MADT, or the one that is always at the same address. Lines start
/// out masked, as reset leaves them.
pub(crate) fn set_up() {
    port::out8(0x21, 0xff);
    port::out8(0xa1, 0xff);
    let mut controllers = CONTROLLERS.lock();
    for (kind, body) in crate::acpi::madt_entries() {
        if let (MADT_IOAPIC, Some(base), Some(first)) = (kind, word(body, 2), word(body, 6)) {
            add(&mut controllers, u64::from(base), first);
        }
    }
    if controllers.is_empty() {
        add(&mut controllers, DEFAULT_BASE, 0);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn add(controllers: &mut Vec<IoApic>, base: u64, first_gsi: u32) {
    let Some(registers) = crate::mmio::map(PhysAddr(base), 0x20) else {
        return;
    };
    let mut found = IoApic {
        registers,
        first_gsi,
        lines: 0,
    };
    found.lines = (found.read(VERSION) >> 16 & 0xff) + 1;
    if controllers.try_push(found).is_err() {
        crate::log!("no memory for the I/O APIC at {base:#x}");
    }
}

/// Makes an edge of line `gsi` raise `vector` on the CPU with this APIC id. `false` when no
/// controller has the line.
pub(crate) fn route(gsi: u32, vector: u8, apic_id: u32) -> bool {
    let controllers = CONTROLLERS.lock();
    let owner = controllers.iter().find(|found| {
        gsi.checked_sub(found.first_gsi)
            .is_some_and(|line| line < found.lines)
    });
    let Some(owner) = owner else { return false };
    let entry = FIRST_ENTRY + 2 * (gsi - owner.first_gsi);
    owner.write(entry + 1, apic_id << 24);
    owner.write(entry, u32::from(vector));
    true
}

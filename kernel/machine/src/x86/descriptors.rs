//! GDT, TSS and IDT. The selectors are Linux's, which programs (and some hypervisors) rely on.
//!
//! The IDT is a plain array: `x86_64`'s wants a function of the compiler's `x86-interrupt` kind, or a field of its own, for
//! each exception, and ours all lead to one stub.

use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::percpu::Area;
use super::trap;

/// Kernel code segment.
pub(crate) const KERNEL_CODE: u16 = 0x10;
/// Kernel data segment.
pub(crate) const KERNEL_DATA: u16 = 0x18;
/// What SYSRET derives the user's selectors from: data 0x2b, code 0x33.
pub(crate) const USER_BASE: u16 = 0x23;
/// User data segment.
pub(crate) const USER_DATA: u16 = 0x2b;
/// User code segment.
pub(crate) const USER_CODE: u16 = 0x33;
const TSS_SELECTOR: u16 = 0x40;

/// Bytes of the stack of the exceptions that may come anywhere; see [`FatalStack`].
pub(crate) const FATAL_STACK_LEN: usize = 8192;
/// Vectors on that stack: NMI, double fault, machine check.
const FATAL_VECTORS: [usize; 3] = [2, 8, 18];
/// The debug exception, which has a stack of its own: users can have it come at the kernel's first instruction (see
/// `trap_debug`).
const DEBUG_VECTOR: usize = 1;
const GATES: usize = 256;

/// Null, unused, kernel code and data, unused (Linux has 32-bit user code there), user data and code, unused,
/// TSS (two). No segment for 32-bit code: on AMD a SYSCALL from one enters the kernel at another address, CSTAR.
const SEGMENTS: [u64; 10] = [
    0,
    0,
    DescriptorFlags::KERNEL_CODE64.bits(),
    DescriptorFlags::KERNEL_DATA.bits(),
    0,
    DescriptorFlags::USER_DATA.bits(),
    DescriptorFlags::USER_CODE64.bits(),
    0,
    0,
    0,
];

/// A CPU's descriptor tables and the stacks that they name.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Tables {
    gdt: [u64; 10],
    tss: TaskStateSegment,
    /// Where the CPU pushes a trap's frame when it comes from user mode, for a moment.
    entry_stack: [u64; 32],
    /// The same for debug exceptions, which may come while the entry stack is in use.
    debug_stack: [u64; 32],
    fatal_stack: FatalStack,
}

/// The stack of exceptions that may come where GS is not the kernel's: its last word is the
/// address of the CPU's area.
#[derive(Debug)]
#[repr(C, align(8192))]
struct FatalStack([u64; FATAL_STACK_LEN / 8]);

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Gate([u64; 2]);

#[repr(C, align(16))]
struct Idt(UnsafeCell<[Gate; GATES]>);

// SAFETY: written once by the boot CPU before any other runs.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([Gate([0; 2]); GATES]));

impl Tables {
    pub(crate) const fn new() -> Tables {
        Tables {
            gdt: [0; 10],
            tss: TaskStateSegment::new(),
            entry_stack: [0; 32],
            debug_stack: [0; 32],
            fatal_stack: FatalStack([0; FATAL_STACK_LEN / 8]),
        }
    }

    fn fill(&mut self, area: u64) {
        self.gdt = SEGMENTS;
        // SAFETY: the segment is used as long as the tables are loaded, which is for good (see `load`).
        let segment = unsafe { Descriptor::tss_segment_unchecked(&raw const self.tss) };
        if let Descriptor::SystemSegment(low, high) = segment {
            (self.gdt[8], self.gdt[9]) = (low, high);
        }
        self.tss.privilege_stack_table[0] = VirtAddr::from_ptr(self.entry_stack.as_ptr_range().end);
        let last = self.fatal_stack.0.len() - 1;
        self.fatal_stack.0[last] = area;
        // Two words below the top, so that frames stay 16-aligned.
        let top = &raw const self.fatal_stack.0[last - 1];
        self.tss.interrupt_stack_table[0] = VirtAddr::from_ptr(top);
        self.tss.interrupt_stack_table[1] = VirtAddr::from_ptr(self.debug_stack.as_ptr_range().end);
    }
}

/// Fills the IDT; on the boot CPU, before [`load`].
pub(crate) fn fill_idt() {
    let stubs = trap::stubs();
    for vector in 0..GATES {
        let handler = stubs + (vector * trap::STUB_LEN) as u64;
        // Which of the TSS's stacks; 0 for none of its own.
        let stack: u64 = match vector {
            DEBUG_VECTOR => 2,
            _ => FATAL_VECTORS.contains(&vector).into(),
        };
        // Breakpoint and overflow may be raised by user instructions.
        let privilege: u64 = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let low = handler & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | stack << 32
            | (0x8e | privilege << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        // SAFETY: no other CPU runs, and this one has not loaded the table.
        unsafe { (*IDT.0.get())[vector] = Gate([low, handler >> 32]) };
    }
}

/// Loads GDT, TSS and IDT of this CPU, whose area it is.
pub(crate) fn load(area: &'static Area) {
    // SAFETY: a CPU's tables are only used by itself; this is the only place that makes a reference.
    let tables = unsafe { &mut *area.tables.get() };
    tables.fill(core::ptr::from_ref(area).addr() as u64);
    let gdt = DescriptorTablePointer {
        limit: (size_of_val(&tables.gdt) - 1) as u16,
        base: VirtAddr::from_ptr(tables.gdt.as_ptr()),
    };
    let idt = DescriptorTablePointer {
        limit: (size_of::<Idt>() - 1) as u16,
        base: VirtAddr::from_ptr(IDT.0.get()),
    };
    // SAFETY: the table is the area's, which is 'static, and filled.
    unsafe { lgdt(&gdt) };
    // SAFETY: the table is 'static, and `fill_idt` has filled it.
    unsafe { lidt(&idt) };
    // SAFETY: 64-bit code of the kernel, as the segment in use is.
    unsafe { CS::set_reg(SegmentSelector(KERNEL_CODE)) };
    let data = SegmentSelector(KERNEL_DATA);
    // SAFETY: flat data, as the segment in use is. A load of GS would clear its base, the area.
    unsafe { SS::set_reg(data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(data) };
    // SAFETY: the descriptor was just filled, and is marked as not in use.
    unsafe { load_tss(SegmentSelector(TSS_SELECTOR)) };
}

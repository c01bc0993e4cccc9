//! GDT, TSS and IDT. The selectors are Linux's, which programs (and some hypervisors) rely on.

use core::arch::asm;
use core::cell::UnsafeCell;

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
const GATES: usize = 256;

/// Null, unused, kernel code and data, unused (Linux has 32-bit user code there), user data and code, unused,
/// TSS (two). No segment for 32-bit code: on AMD a SYSCALL from one enters the kernel at another address, CSTAR.
const SEGMENTS: [u64; 10] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0,
    0,
];

/// A CPU's descriptor tables and the stacks that they name.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Tables {
    gdt: [u64; 10],
    tss: Tss,
    /// Where the CPU pushes a trap's frame when it comes from user mode, for a moment.
    entry_stack: [u64; 32],
    fatal_stack: FatalStack,
}

/// The stack of exceptions that may come where GS is not the kernel's: its last word is the
/// address of the CPU's area.
#[derive(Debug)]
#[repr(C, align(8192))]
struct FatalStack([u64; FATAL_STACK_LEN / 8]);

#[derive(Debug)]
#[repr(C, packed(4))]
struct Tss {
    reserved: u32,
    stacks: [u64; 3],
    reserved_2: u64,
    interrupt_stacks: [u64; 7],
    reserved_3: u64,
    reserved_4: u16,
    io_map: u16,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Gate([u64; 2]);

#[repr(C, align(16))]
struct Idt(UnsafeCell<[Gate; GATES]>);

// SAFETY: written once by the boot CPU before any other runs.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([Gate([0; 2]); GATES]));

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl Tables {
    pub(crate) const fn new() -> Tables {
        Tables {
            gdt: [0; 10],
            tss: Tss {
                reserved: 0,
                stacks: [0; 3],
                reserved_2: 0,
                interrupt_stacks: [0; 7],
                reserved_3: 0,
                reserved_4: 0,
                io_map: size_of::<Tss>() as u16,
            },
            entry_stack: [0; 32],
            fatal_stack: FatalStack([0; FATAL_STACK_LEN / 8]),
        }
    }

    fn fill(&mut self, area: u64) {
        self.gdt = SEGMENTS;
        let tss = (&raw const self.tss).addr() as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        self.gdt[8] = limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
        self.gdt[9] = tss >> 32;
        self.tss.stacks[0] = self.entry_stack.as_ptr_range().end.addr() as u64;
        let last = self.fatal_stack.0.len() - 1;
        self.fatal_stack.0[last] = area;
        // Two words below the top, so that frames stay 16-aligned.
        let top = (&raw const self.fatal_stack.0[last - 1]).addr() as u64;
        self.tss.interrupt_stacks[0] = top;
    }
}

/// Fills the IDT; on the boot CPU, before [`load`].
pub(crate) fn fill_idt() {
    let stubs = trap::stubs();
    for vector in 0..GATES {
        let handler = stubs + (vector * trap::STUB_LEN) as u64;
        let stack = u64::from(FATAL_VECTORS.contains(&vector));
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
    let gdt = Pointer {
        limit: 79,
        base: tables.gdt.as_ptr().addr() as u64,
    };
    let idt = Pointer {
        limit: (GATES * 16 - 1) as u16,
        base: IDT.0.get().addr() as u64,
    };
    // SAFETY: both tables are 'static and filled; the segments are flat, as those in use are, and GS's
    // base, which a load of GS would clear, is left alone.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "lidt [{idt}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "ltr {tss:x}",
            gdt = in(reg) &raw const gdt,
            idt = in(reg) &raw const idt,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            tss = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
    }
}

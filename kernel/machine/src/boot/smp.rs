//! Starting the other CPUs: INIT and a start-up message make each run [`TRAMPOLINE`]'s code in real mode
//! at a page below 1 MiB, from where it enters 64-bit mode with the kernel's page tables.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::acpi;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::cpu::MAX_CPUS;
use crate::interrupt;
use crate::x86::stack::Stack;
use crate::x86::{apic, cpu_setup, layout, paging, percpu, port};

/// Physical address of the page that starting CPUs run on.
const TRAMPOLINE: u64 = 0x8000;
/// How long a CPU may take to begin. A busy host may not run a virtual CPU for seconds.
const PATIENCE_NS: u64 = 30_000_000_000;
/// The wait after INIT that real hardware wants; virtual CPUs need none.
const AFTER_INIT_NS: u64 = 10_000;
const MADT_LOCAL_APIC: u8 = 0;
const MADT_X2APIC: u8 = 9;
const CPU_ENABLED: u8 = 1;

static WANTED: AtomicU64 = AtomicU64::new(0);
static MAIN: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// The CPU being started, and the one that has arrived last. The CPU takes its number from `STARTING`, or the
/// boot CPU takes it back and goes on without it: one of them, so that no CPU comes that nobody counts on.
static STARTING: AtomicUsize = AtomicUsize::new(NOBODY);
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
const NOBODY: usize = usize::MAX;

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static trampoline_root: u8;
    static trampoline_stack: u8;
    static trampoline_entry: u8;
}

global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .balign 16
    .global trampoline_start
trampoline_start:
    .code16
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl {base} + trampoline_gdt - trampoline_start
    movl %cr4, %eax
    orl $0xa0, %eax
    movl %eax, %cr4
    movl {base} + trampoline_root - trampoline_start, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orl $0x80010033, %eax
    movl %eax, %cr0
    ljmpl $8, ${base} + trampoline_long - trampoline_start
    .code64
trampoline_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    xorl %ebp, %ebp
    movq trampoline_stack(%rip), %rsp
    movq trampoline_entry(%rip), %rax
    call *%rax
    ud2
    .balign 8
trampoline_gdt:
    .word 23
    .long {base} + trampoline_gdt - trampoline_start
    .word 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .global trampoline_root
trampoline_root:
    .quad 0
    .global trampoline_stack
trampoline_stack:
    .quad 0
    .global trampoline_entry
trampoline_entry:
    .quad 0
    .global trampoline_end
trampoline_end:
    "#,
    base = const TRAMPOLINE,
    options(att_syntax),
);

/// Takes the command line's count of CPUs.
pub(super) fn set_wanted(count: Option<u64>) {
    WANTED.store(count.unwrap_or(0), Ordering::Relaxed);
}

/// Starts the other CPUs; each runs `main` once it is set up and never returns from it. A CPU that
/// does not arrive is named in the log, and those that have arrived go on without it and those behind it: it might
/// still come, to the page, the stack and the number of the one being started then.
///
/// # Panics
/// When it is called again: numbers and stacks of CPUs are given once.
pub fn start_other_cpus(main: fn() -> !) {
    static CALLED: AtomicBool = AtomicBool::new(false);
    assert!(
        !CALLED.swap(true, Ordering::Relaxed),
        "other CPUs are started twice"
    );
    MAIN.store(main as *mut (), Ordering::Relaxed);
    let boot = apic::id();
    let mut next = 1;
    let mut prepared = false;
    let mut all_arrived = true;
    for_each_apic_id(&mut |apic_id| {
        if apic_id == boot || next >= MAX_CPUS || !all_arrived {
            return;
        }
        if !prepared {
            prepared = true;
            prepare_page();
        }
        if start(next, apic_id) {
            next += 1;
        } else {
            all_arrived = false;
            crate::log!("CPU with APIC id {apic_id} does not start; going on with {next}");
        }
    });
    if prepared && all_arrived {
        // A mapping that is only removed cannot fail.
        let _ = paging::map_low_page(PhysAddr(TRAMPOLINE), 0);
    }
}

/// CPUs as the command line counts them, else as ACPI lists them, else as QEMU's fw_cfg counts them.
fn for_each_apic_id(act: &mut dyn FnMut(u32)) {
    let wanted = WANTED.load(Ordering::Relaxed);
    if wanted > 0 {
        (0..wanted.min(MAX_CPUS as u64) as u32).for_each(act);
        return;
    }
    let mut listed = 0;
    for (kind, body) in acpi::madt_entries() {
        let id = match (kind, body) {
            (MADT_LOCAL_APIC, [_, id, flags, ..]) if flags & CPU_ENABLED != 0 => u32::from(*id),
            (MADT_X2APIC, [_, _, a, b, c, d, flags, ..]) if flags & CPU_ENABLED != 0 => {
                u32::from_le_bytes([*a, *b, *c, *d])
            }
            _ => continue,
        };
        listed += 1;
        act(id);
    }
    if listed == 0 {
        (0..u32::from(fw_cfg_cpus())).for_each(act);
    }
}

/// The number of CPUs that QEMU's configuration device tells; 1 without the device.
fn fw_cfg_cpus() -> u16 {
    const SELECTOR: u16 = 0x510;
    const DATA: u16 = 0x511;
    const SIGNATURE: u16 = 0;
    const CPUS: u16 = 5;
    port::out16(SELECTOR, SIGNATURE);
    let signature = [(); 4].map(|()| port::in8(DATA));
    if &signature != b"QEMU" {
        return 1;
    }
    port::out16(SELECTOR, CPUS);
    u16::from_le_bytes([port::in8(DATA), port::in8(DATA)]).min(MAX_CPUS as u16)
}

fn symbol_offset(symbol: *const u8) -> usize {
    symbol.addr() - (&raw const trampoline_start).addr()
}

/// Copies the trampoline to its page and maps that where it is, so that turning paging on goes well.
fn prepare_page() {
    let mapped = paging::map_low_page(PhysAddr(TRAMPOLINE), paging::CODE);
    let window = crate::mmio::map(PhysAddr(TRAMPOLINE), PAGE_SIZE);
    let (Ok(()), Some(window)) = (mapped, window) else {
        panic!("no memory for the page that other CPUs start on");
    };
    let from = &raw const trampoline_start;
    let len = symbol_offset(&raw const trampoline_end);
    // SAFETY: the page is low RAM that nothing else uses (see `LOW_MEMORY_END`), and the code fits.
    unsafe { core::ptr::copy_nonoverlapping(from, window.as_ptr(), len) };
    let entry: extern "C" fn() -> ! = other_cpu_main;
    set_word(&raw const trampoline_root, paging::kernel_root().0);
    set_word(&raw const trampoline_entry, entry as usize as u64);
}

fn set_word(symbol: *const u8, value: u64) {
    let Some(window) = crate::mmio::map(PhysAddr(TRAMPOLINE), PAGE_SIZE) else {
        return;
    };
    let word: *mut u64 = window.as_ptr().wrapping_add(symbol_offset(symbol)).cast();
    // SAFETY: the symbol is an aligned word of the trampoline's copy in the mapped page.
    unsafe { word.write_volatile(value) };
}

fn start(id: usize, apic_id: u32) -> bool {
    let Ok(stack) = Stack::new() else {
        return false;
    };
    if percpu::make(id).is_err() {
        return false;
    }
    STARTING.store(id, Ordering::Release);
    set_word(&raw const trampoline_stack, stack.top());
    apic::send_init(apic_id);
    wait(AFTER_INIT_NS, id);
    apic::send_startup(apic_id, (TRAMPOLINE >> 12) as u8);
    // The CPU keeps its stack, however late it comes.
    let _kept = core::mem::ManuallyDrop::new(stack);
    if wait(PATIENCE_NS, id) {
        return true;
    }
    let taken_back = STARTING.compare_exchange(id, NOBODY, Ordering::AcqRel, Ordering::Acquire);
    // A CPU that has its number is on its way, and may be given threads at any moment.
    taken_back.is_err() && wait(u64::MAX, id)
}

/// Waits until CPU `id` has arrived, for at most `ns`.
fn wait(ns: u64, id: usize) -> bool {
    let end = crate::time::now_ns().saturating_add(ns);
    while ARRIVED.load(Ordering::Acquire) != id {
        if crate::time::now_ns() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// The first Rust instruction on another CPU, on its own stack.
extern "C" fn other_cpu_main() -> ! {
    let id = STARTING.swap(NOBODY, Ordering::AcqRel);
    if id == NOBODY {
        // Too late; interrupts are off.
        loop {
            x86_64::instructions::hlt();
        }
    }
    percpu::start_other_cpu(id);
    cpu_setup::enable_features();
    cpu_setup::finish(false);
    interrupt::bare::set_up();
    percpu::set_online(id);
    ARRIVED.store(id, Ordering::Release);
    let main = MAIN.load(Ordering::Acquire);
    // SAFETY: `start_other_cpus` stored a function of this type before it started the CPU.
    let main: fn() -> ! = unsafe { core::mem::transmute(main) };
    interrupt::bare::turn_on();
    main()
}

/// Keeps the layout honest: the trampoline's page is RAM below what the allocator gets.
const _: () = assert!(TRAMPOLINE < 0x10_0000 && layout::VMALLOC_START > TRAMPOLINE);

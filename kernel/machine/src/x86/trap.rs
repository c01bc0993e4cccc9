//! Traps: the stubs that the IDT names, and what happens when the kernel itself is interrupted.
//!
//! From user mode a stub moves the registers to the running [`Registers`] and returns from the call that
//! entered user mode (see `user_entry`); from the kernel it calls [`in_kernel`].
//!
//! [`Registers`]: crate::user_mode::Registers

use core::arch::global_asm;

use x86_64::registers::control::Cr2;

use super::copy;
use super::descriptors::FATAL_STACK_LEN;
use super::features::{self, Features};
use crate::interrupt::bare::{RESCHEDULE_VECTOR, take_report};

/// Bytes from one stub to the next.
pub(crate) const STUB_LEN: usize = 16;
/// First vector of interrupts; below are the CPU's exceptions.
pub(crate) const FIRST_INTERRUPT: u8 = 32;

/// What a trap in the kernel saved.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbp: u64,
    rbx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

global_asm!(
    r#"
    .section .text.traps, "ax"
    .balign 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_anywhere
    .elseif vector == 1
    jmp trap_debug
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr
    "#,
    options(att_syntax),
);

global_asm!(
    r#"
    .section .text.traps, "ax"
    .balign 16
trap_common:
    cld
    test byte ptr [rsp + 24], 3
    jnz user_trap
kernel_trap:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call {in_kernel}
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

    // On the debug stack. A watchpoint that MOV SS or POP SS met comes after the next instruction: if that is SYSCALL, INT3 or
    // one that faults, it comes at the kernel's first one, where GS and, of SYSCALL, the stack are still the user's.
    // It is dropped there, and nothing but its own stack is touched.
trap_debug:
    cld
    test byte ptr [rsp + 24], 3
    jnz user_trap
    add rsp, 16
    iretq

    // On the fatal stack, GS unknown: takes the area from the stack's last word. Never returns.
trap_anywhere:
    cld
    push rax
    push rcx
    push rdx
    mov rax, rsp
    or rax, {stack_mask}
    mov rax, [rax - 7]
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0xc0000101
    wrmsr
    pop rdx
    pop rcx
    pop rax
    jmp kernel_trap
    "#,
    in_kernel = sym in_kernel,
    stack_mask = const FATAL_STACK_LEN - 1,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Address of the stub of vector 0.
pub(crate) fn stubs() -> u64 {
    (&raw const trap_stubs).addr() as u64
}

/// The address of the last page fault on this CPU.
pub(crate) fn fault_address() -> u64 {
    Cr2::read_raw()
}

/// Handles a trap that came while the kernel ran; interrupts are off.
extern "C" fn in_kernel(frame: &mut Frame) {
    if features::has(Features::SMAP) {
        copy::forbid_user_access();
    }
    let vector = frame.vector as u8;
    if vector >= FIRST_INTERRUPT {
        if vector == RESCHEDULE_VECTOR && take_report() {
            report(frame);
        }
        crate::interrupt::bare::dispatch(vector);
    } else if let (14, Some(resume)) = (vector, copy::resume_address(frame.rip)) {
        frame.rip = resume;
    } else {
        die(frame);
    }
}

/// Prints where the kernel was interrupted, and what on its stack looks like return addresses.
fn report(frame: &Frame) {
    crate::log!(
        "CPU {} is at image+{:#x}; addresses on its stack, as image+:{}",
        crate::cpu::current(),
        frame.rip.wrapping_sub(super::layout::image().start),
        super::frames::Addresses { from: frame.rsp }
    );
}

/// A trap that the kernel must not cause: says what and where, then panics.
fn die(frame: &Frame) -> ! {
    let what = match frame.vector {
        2 => "NMI",
        8 => "double fault (a kernel stack overflow?)",
        13 => "general protection fault",
        14 => "page fault",
        18 => "machine check",
        _ => "exception",
    };
    let base = super::layout::image().start;
    panic!(
        "{what} (vector {}, error {:#x}) in the kernel at image+{:#x}, address {:#x}, stack {:#x}, \
         rax {:#x} rcx {:#x} rdx {:#x} rsi {:#x} rdi {:#x} rbx {:#x}",
        frame.vector,
        frame.error_code,
        frame.rip.wrapping_sub(base),
        fault_address(),
        frame.rsp,
        frame.rax,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbx,
    )
}

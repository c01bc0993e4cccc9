//! The crossing to user mode and back.
//!
//! [`enter`] is a function call that returns when user mode is left, by whatever way: the traps' stubs and
//! the SYSCALL entry store the user's registers where `enter` was told and then return from it.
//! User mode cannot touch the kernel stack that is left behind, so nothing else needs to be kept.

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::descriptors::{KERNEL_CODE, USER_BASE, USER_CODE, USER_DATA};
use super::percpu::{KERNEL_SP, SCRATCH, USER_REGS};
use crate::user_mode::Registers;

/// What [`enter`] returns when user mode executed SYSCALL; other values are vectors.
pub(crate) const SYSCALL: u32 = 256;

/// Cleared by SYSCALL: what would matter in the kernel.
const FLAGS_CLEARED: RFlags = RFlags::TRAP_FLAG
    .union(RFlags::INTERRUPT_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::ALIGNMENT_CHECK);

unsafe extern "C" {
    /// Runs user code with these registers until something stops it. Returns the vector, or
    /// [`SYSCALL`], and the error code in the high half. Interrupts are off before and after.
    ///
    /// # Safety
    /// `regs` is valid for writes until this returns; `rip` is canonical, and below the end of user
    /// space with `use_sysret`; `rflags` has only what user mode may have, and IF.
    pub(crate) fn enter_user(regs: *mut Registers, use_sysret: bool) -> u64;
    static syscall_entry: u8;
}

/// Where SYSCALL arrives.
pub(crate) fn syscall_address() -> u64 {
    (&raw const syscall_entry).addr() as u64
}

/// Sets the MSRs of SYSCALL on this CPU.
pub(crate) fn set_up() {
    // SAFETY: the selectors are those of the GDT.
    unsafe { Star::write_raw(USER_BASE, KERNEL_CODE) };
    LStar::write(VirtAddr::new_truncate(syscall_address()));
    SFMask::write(FLAGS_CLEARED);
}

global_asm!(
    r#"
    .section .text.traps, "ax"
    .balign 16
    .global enter_user
enter_user:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_sp}], rsp
    mov gs:[{user_regs}], rdi
    test sil, sil
    mov rax, [rdi + {rax}]
    mov rbx, [rdi + {rbx}]
    mov rdx, [rdi + {rdx}]
    mov rsi, [rdi + {rsi}]
    mov rbp, [rdi + {rbp}]
    mov r8, [rdi + {r8}]
    mov r9, [rdi + {r9}]
    mov r10, [rdi + {r10}]
    mov r12, [rdi + {r12}]
    mov r13, [rdi + {r13}]
    mov r14, [rdi + {r14}]
    mov r15, [rdi + {r15}]
    jz 2f
    mov rcx, [rdi + {rip}]
    mov r11, [rdi + {rflags}]
    mov rsp, [rdi + {rsp}]
    mov rdi, [rdi + {rdi}]
    swapgs
    sysretq
2:  push {user_data}
    push qword ptr [rdi + {rsp}]
    push qword ptr [rdi + {rflags}]
    push {user_code}
    push qword ptr [rdi + {rip}]
    mov rcx, [rdi + {rcx}]
    mov r11, [rdi + {r11}]
    mov rdi, [rdi + {rdi}]
    swapgs
    iretq

    .balign 16
    .global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{user_regs}]
    mov [rsp + {rax}], rax
    mov [rsp + {rcx}], rcx
    mov [rsp + {rip}], rcx
    mov [rsp + {r11}], r11
    mov [rsp + {rflags}], r11
    mov rax, gs:[{scratch}]
    mov [rsp + {rsp}], rax
    mov rcx, rsp
    mov eax, {syscall}
    jmp user_exit

    // A trap from user mode: on the entry stack, vector, error code and the CPU's frame.
    .global user_trap
user_trap:
    swapgs
    push rcx
    mov rcx, gs:[{user_regs}]
    mov [rcx + {rax}], rax
    mov [rcx + {r11}], r11
    pop rax
    mov [rcx + {rcx}], rax
    mov rax, [rsp + 16]
    mov [rcx + {rip}], rax
    mov rax, [rsp + 32]
    mov [rcx + {rflags}], rax
    mov rax, [rsp + 40]
    mov [rcx + {rsp}], rax
    mov eax, [rsp + 8]
    shl rax, 32
    or rax, [rsp]

    // RAX: what to return. RCX: where the registers go. RAX, RCX, R11 are saved.
user_exit:
    mov [rcx + {rbx}], rbx
    mov [rcx + {rdx}], rdx
    mov [rcx + {rsi}], rsi
    mov [rcx + {rdi}], rdi
    mov [rcx + {rbp}], rbp
    mov [rcx + {r8}], r8
    mov [rcx + {r9}], r9
    mov [rcx + {r10}], r10
    mov [rcx + {r12}], r12
    mov [rcx + {r13}], r13
    mov [rcx + {r14}], r14
    mov [rcx + {r15}], r15
    mov rsp, gs:[{kernel_sp}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    "#,
    kernel_sp = const KERNEL_SP,
    user_regs = const USER_REGS,
    scratch = const SCRATCH,
    syscall = const SYSCALL,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    rax = const offset_of!(Registers, rax),
    rbx = const offset_of!(Registers, rbx),
    rcx = const offset_of!(Registers, rcx),
    rdx = const offset_of!(Registers, rdx),
    rsi = const offset_of!(Registers, rsi),
    rdi = const offset_of!(Registers, rdi),
    rbp = const offset_of!(Registers, rbp),
    rsp = const offset_of!(Registers, rsp),
    r8 = const offset_of!(Registers, r8),
    r9 = const offset_of!(Registers, r9),
    r10 = const offset_of!(Registers, r10),
    r11 = const offset_of!(Registers, r11),
    r12 = const offset_of!(Registers, r12),
    r13 = const offset_of!(Registers, r13),
    r14 = const offset_of!(Registers, r14),
    r15 = const offset_of!(Registers, r15),
    rip = const offset_of!(Registers, rip),
    rflags = const offset_of!(Registers, rflags),
);

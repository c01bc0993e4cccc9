//! Copies between kernel and user memory that survive faults.
//!
//! A fault in one of these loops resumes at the address that [`RESUME`]'s table gives, with the
//! bytes not copied yet in RCX. A fault in the middle of an eight-byte step goes on by bytes, so that
//! the count is exact.

use core::arch::{asm, global_asm};

use super::features::{self, Features};

unsafe extern "C" {
    /// Copies `len` bytes; returns how many were not copied.
    ///
    /// # Safety
    /// The kernel's side of the copy is valid for `len` bytes; the user's side is below the end of
    /// user space.
    fn copy_user(to: *mut u8, from: *const u8, len: usize) -> usize;
    /// Zeroes `len` bytes; returns how many were not zeroed.
    ///
    /// # Safety
    /// The range is below the end of user space.
    fn zero_user(to: *mut u8, len: usize) -> usize;
    /// Loads a word. Returns it, or all ones if that faults.
    ///
    /// # Safety
    /// The address is below the end of user space.
    fn load_user_u32(from: *const u32) -> u64;
    /// Replaces a word if it is `current`. Returns what it was, or all ones if that faults.
    ///
    /// # Safety
    /// The address is below the end of user space.
    fn exchange_user_u32(at: *mut u32, current: u32, new: u32) -> u64;

    static resume_table: [u32; 2];
    static resume_table_end: [u32; 2];
}

global_asm!(
    r#"
    .section .text.user_copy, "ax"
    .balign 16
copy_user:
    mov r8, rdx
    and r8, 7
    mov rcx, rdx
    shr rcx, 3
1:  rep movsq
    mov rcx, r8
2:  rep movsb
    xor eax, eax
    ret
3:  lea rcx, [r8 + rcx * 8]
    jmp 2b
4:  mov rax, rcx
    ret

zero_user:
    xor eax, eax
    mov r8, rsi
    and r8, 7
    mov rcx, rsi
    shr rcx, 3
5:  rep stosq
    mov rcx, r8
6:  rep stosb
    ret
7:  lea rcx, [r8 + rcx * 8]
    jmp 6b
8:  mov rax, rcx
    ret

load_user_u32:
12: mov eax, [rdi]
    ret
exchange_user_u32:
    mov eax, esi
13: lock cmpxchg [rdi], edx
    ret
14: mov rax, -1
    ret

    .section .rodata.resume_table, "a"
    .balign 4
resume_table:
    .long 1b - resume_table, 3b - resume_table
    .long 2b - resume_table, 4b - resume_table
    .long 5b - resume_table, 7b - resume_table
    .long 6b - resume_table, 8b - resume_table
    .long 12b - resume_table, 14b - resume_table
    .long 13b - resume_table, 14b - resume_table
resume_table_end:
    "#
);

/// Where to go on after a fault at `rip`, if that is one of the copies.
pub(crate) fn resume_address(rip: u64) -> Option<u64> {
    let table = &raw const resume_table;
    let len = ((&raw const resume_table_end).addr() - table.addr()) / size_of::<[u32; 2]>();
    let start = table.addr() as u64;
    // SAFETY: the assembler laid `len` pairs out between the two symbols.
    let pairs = unsafe { core::slice::from_raw_parts(table, len) };
    let at = |offset: u32| start.wrapping_add_signed(i64::from(offset.cast_signed()));
    pairs
        .iter()
        .find(|[fault, _]| at(*fault) == rip)
        .map(|[_, resume]| at(*resume))
}

/// Lets the kernel touch user pages until dropped, where SMAP forbids it otherwise.
struct UserAccess;

impl UserAccess {
    fn new() -> Self {
        if features::has(Features::SMAP) {
            // SAFETY: the CPU has STAC; only the copies of this module run before it is undone.
            unsafe { asm!("stac", options(nostack)) };
        }
        UserAccess
    }
}

impl Drop for UserAccess {
    fn drop(&mut self) {
        if features::has(Features::SMAP) {
            forbid_user_access();
        }
    }
}

/// Makes SMAP hold again; only on a CPU that has it.
pub(crate) fn forbid_user_access() {
    // SAFETY: the caller checked for SMAP, which comes with CLAC.
    unsafe { asm!("clac", options(nostack)) };
}

fn user_pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Copies from user memory. Returns how many bytes were not copied.
///
/// # Safety
/// `to` is valid for writes of `len` bytes; the user's range is below the end of user space.
pub(crate) unsafe fn from_user(to: *mut u8, from: u64, len: usize) -> usize {
    let _access = UserAccess::new();
    // SAFETY: the caller's promise; the user's side may fault, which is handled.
    unsafe { copy_user(to, user_pointer(from), len) }
}

/// Copies to user memory, as [`from_user`].
///
/// # Safety
/// `from` is valid for reads of `len` bytes; the user's range is below the end of user space.
pub(crate) unsafe fn to_user(to: u64, from: *const u8, len: usize) -> usize {
    let _access = UserAccess::new();
    // SAFETY: the caller's promise; the user's side holds no Rust values and may fault.
    unsafe { copy_user(user_pointer(to), from, len) }
}

/// Zeroes user memory, as [`from_user`].
///
/// # Safety
/// The user's side is below the end of user space: above it this would change the kernel's memory.
pub(crate) unsafe fn zero(to: u64, len: usize) -> usize {
    let _access = UserAccess::new();
    // SAFETY: the caller's promise; the user's side holds no Rust values and may fault.
    unsafe { zero_user(user_pointer(to), len) }
}

/// Loads an aligned word of user memory; `None` if that faults.
///
/// # Safety
/// The user's side is below the end of user space: above it this would change the kernel's memory.
pub(crate) unsafe fn load_u32(from: u64) -> Option<u32> {
    let _access = UserAccess::new();
    // SAFETY: the caller's promise; a fault is handled.
    u32::try_from(unsafe { load_user_u32(user_pointer(from)) }).ok()
}

/// Replaces an aligned word of user memory if it is `current`; what it was, `None` if that faults.
///
/// # Safety
/// The user's side is below the end of user space: above it this would change the kernel's memory.
pub(crate) unsafe fn compare_exchange_u32(at: u64, current: u32, new: u32) -> Option<u32> {
    let _access = UserAccess::new();
    // SAFETY: the caller's promise; the user's side holds no Rust values and may fault.
    u32::try_from(unsafe { exchange_user_u32(user_pointer(at), current, new) }).ok()
}

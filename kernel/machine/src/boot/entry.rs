//! The first instructions: entry by our VMM (64-bit), and by PVH loaders (32-bit, through a stub that
//! builds page tables). Both relocate the image if nobody has, take a stack, and go on in Rust.
//!
//! Registers at [`_start`] are those of the boot contract in ARCHITECTURE.md: RDI `BootInfo`, RSI the
//! command line, RDX its length; no stack is promised.

use core::arch::global_asm;

use crate::power::bare as power;

/// Bytes of the boot CPU's stack, below which an unmapped guard page lies.
const BOOT_STACK_LEN: usize = 64 * 1024;

global_asm!(
    r#"
    .section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .global boot_stack_guard
boot_stack_guard:
    .skip 4096
    .skip {stack_len}
boot_stack_top:

    .section .data.rel.ro.self_pointer, "aw", @progbits
    .balign 8
self_pointer:
    .quad self_pointer

    .section .text.entry, "ax"
    .global _start
_start:
    cli
    cld
    mov r8, rdx
    rdtsc
    shl rdx, 32
    lea rcx, [rax + rdx]
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    call relocate
    mov rdx, r8
    call {from_vmm}
    ud2

    // RBX: physical address of hvm_start_info.
pvh_high:
    rdtsc
    shl rdx, 32
    lea rcx, [rax + rdx]
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    call relocate
    mov rdi, rbx
    mov rsi, rcx
    call {from_pvh}
    ud2

    // Adds the base to every R_X86_64_RELATIVE word, unless the loader has. Keeps RCX, RSI, RDI, R8.
relocate:
    lea rax, [rip + self_pointer]
    cmp [rax], rax
    je 3f
    lea r9, [rip + __ehdr_start]
    lea r10, [rip + __rela_start]
    lea r11, [rip + __rela_end]
2:  cmp r10, r11
    jae 3f
    mov rax, [r10]
    mov rdx, [r10 + 16]
    add rdx, r9
    mov [r9 + rax], rdx
    add r10, 24
    jmp 2b
3:  ret
    "#,
    stack_len = const BOOT_STACK_LEN,
    from_vmm = sym super::bare::from_vmm,
    from_pvh = sym super::bare::from_pvh,
);

// The PVH note (XEN_ELFNOTE_PHYS32_ENTRY) and stub. Tables, eight pages: PML4; PDPT of the first four
// GiB, used for the identity and for the direct map; its four page directories; PDPT and page directory of
// the image, which lies at a random slot of 2 MiB.
global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry_phys

    .section .bss.pvh_tables, "aw", @nobits
    .balign 4096
    .global pvh_tables
pvh_tables:
    .skip 8 * 4096

    .section .rodata.pvh_gdt, "a"
    .balign 8
    .global pvh_gdt
pvh_gdt:
    .word 23
    .long pvh_gdt_phys + 8
    .word 0
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff

    .section .text.pvh, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    // Room for the image: its last word is RAM, and the loader put no archive over it.
    movl $image_end_phys, %edx
    movl $0x4e616372, -4(%edx)
    cmpl $0x4e616372, -4(%edx)
    jne pvh_too_small
    movl $0, -4(%edx)
    // A piece of RAM in the loader's map has all of the image: firmware keeps tables and stacks of its own at the end
    // of RAM, and over them the image is not what was loaded. Before version 1 there is no map.
    cmpl $1, 4(%ebx)
    jb 6f
    movl 40(%ebx), %esi
    movl 48(%ebx), %ecx
5:  testl %ecx, %ecx
    jz pvh_too_small
    decl %ecx
    movl %esi, %edi
    addl $24, %esi
    cmpl ${ram}, 16(%edi)
    jne 5b
    cmpl $0, 4(%edi)
    jne 5b
    movl (%edi), %eax
    cmpl ${image_start}, %eax
    ja 5b
    addl 8(%edi), %eax
    movl 12(%edi), %ebp
    adcl $0, %ebp
    jnz 6f
    cmpl %edx, %eax
    jb 5b
6:
    cmpl $0, 12(%ebx)
    je 2f
    movl 16(%ebx), %esi
    movl (%esi), %eax
    cmpl %edx, %eax
    jae 2f
    addl 8(%esi), %eax
    cmpl ${image_start}, %eax
    ja pvh_too_small
2:
    movl $pvh_tables_phys, %edi
    leal 0x2000(%edi), %edx
    movl $0x83, %eax
    movl $2048, %ecx
2:  movl %eax, (%edx)
    addl $0x200000, %eax
    addl $8, %edx
    decl %ecx
    jnz 2b
    leal 0x1000(%edi), %edx
    leal 0x2003(%edi), %eax
    movl $4, %ecx
2:  movl %eax, (%edx)
    addl $0x1000, %eax
    addl $8, %edx
    decl %ecx
    jnz 2b
    leal 0x1003(%edi), %eax
    movl %eax, (%edi)
    movl %eax, 273 * 8(%edi)
    leal 0x6003(%edi), %eax
    movl %eax, 511 * 8(%edi)
    leal 0x7003(%edi), %eax
    movl %eax, 0x6000 + 510 * 8(%edi)
    rdtsc
    movzbl %al, %ebp
    leal 0x7000(%edi, %ebp, 8), %edx
    movl $0x200083, %eax
    movl $8, %ecx
2:  movl %eax, (%edx)
    addl $0x200000, %eax
    addl $8, %edx
    decl %ecx
    jnz 2b
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl %edi, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010033, %eax
    movl %eax, %cr0
    lgdt pvh_gdt_phys
    ljmp $8, $pvh_long_phys

    .code64
    .global pvh_long
pvh_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %ebx, %ebx
    movl %ebp, %ebp
    shlq $21, %rbp
    leaq pvh_high(%rip), %rax
    leaq __ehdr_start(%rip), %rdx
    subq %rdx, %rax
    leaq -0x80000000(%rax, %rbp), %rax
    jmp *%rax

    .code32
pvh_too_small:
    movl $pvh_too_small_text_phys, %esi
    movw ${com1}, %dx
2:  lodsb
    testb %al, %al
    jz 3f
    outb %al, %dx
    jmp 2b
3:  movw ${pvpanic}, %dx
    movb ${panicked}, %al
    outb %al, %dx
    movw ${debug_exit}, %dx
    movb ${debug_exit_panic}, %al
    outb %al, %dx
    movb $0xfe, %al
    outb %al, $0x64
4:  hlt
    jmp 4b
    .global pvh_too_small_text
pvh_too_small_text:
    .asciz "nacre: there is not enough memory for the kernel and its archive; give the machine more\r\n"
    .code64
    "#,
    image_start = const 0x20_0000,
    ram = const super::pvh::TYPE_RAM,
    com1 = const power::COM1,
    pvpanic = const power::PVPANIC,
    panicked = const power::PVPANIC_PANICKED,
    debug_exit = const power::DEBUG_EXIT,
    debug_exit_panic = const power::DEBUG_EXIT_PANIC,
    options(att_syntax),
);

// Segments, flags and addresses that no compiler makes: what they do to a program is what they do on Linux,
// and nothing to the kernel.
#include "test.h"
#include <ucontext.h>

static int outcome(void (*act)(long), long argument) {
    pid_t child = fork_clean();
    if (child == 0) {
        act(argument);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

static void load_ds(long s) { __asm__ volatile("movw %w0, %%ds" ::"r"(s)); }
static void load_es(long s) { __asm__ volatile("movw %w0, %%es" ::"r"(s)); }
static void load_gs(long s) { __asm__ volatile("movw %w0, %%gs" ::"r"(s)); }
static void load_ss(long s) { __asm__ volatile("movw %w0, %%ss" ::"r"(s)); }
// The base of FS is the C library's: nothing of it is used until the exit.
static void load_fs(long s) {
    __asm__ volatile("movw %w0, %%fs; xorl %%edi, %%edi; movl $60, %%eax; syscall" ::"r"(s));
}

static void segments(void) {
    void (*loads[])(long) = {load_ds, load_es, load_fs, load_gs, load_ss};
    const char *names[] = {"ds", "es", "fs", "gs", "ss"};
    // Null, user data, kernel code and data, the TSS, beyond the table, of a local table.
    long selectors[] = {0, 3, 0x2b, 0x10, 0x13, 0x18, 0x1b, 0x40, 0x43, 0xfffb, 0x0f};
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 11; j++) {
            say("%s = %#lx: status %#x\n", names[i], selectors[j], outcome(loads[i], selectors[j]));
        }
    }
}

// Sets flags, makes a system call, and gives the flags behind it.
static unsigned long flags_kept(unsigned long set) {
    unsigned long flags;
    long number = SYS_getppid;
    __asm__ volatile("pushfq; orq %2, (%%rsp); popfq; syscall; pushfq; popq %0; pushq $2; popfq"
                     : "=r"(flags), "+a"(number)
                     : "r"(set)
                     : "rcx", "r11", "memory", "cc");
    return flags & set;
}

static void flags(void) {
    // DF, NT, AC, ID, the arithmetic ones; then IOPL, IF, VIF, VIP, which are not a program's.
    unsigned long asked[] = {0x400, 0x4000, 0x40000, 0x200000, 0x8d5, 0x3000, 0x180000};
    for (int i = 0; i < 7; i++) say("flags %#lx: %#lx kept\n", asked[i], flags_kept(asked[i]));
    struct timespec nap = {0, 1000000};
    __asm__ volatile("pushfq; orq $0x4400, (%%rsp); popfq" ::: "memory", "cc");
    // With DF and NT set the kernel copies, switches and comes back all the same.
    long slept = syscall(SYS_nanosleep, &nap, 0);
    __asm__ volatile("pushq $2; popfq" ::: "memory", "cc");
    say("nanosleep = %ld\n", slept);
}

static volatile int steps;
static void stepped(int signal) {
    (void)signal;
    steps++;
}

static void single_step(void) {
    struct sigaction action = {.sa_handler = stepped};
    sigaction(SIGTRAP, &action, 0);
    long number = SYS_getppid;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; syscall; nop; nop; pushfq; andq $-257, (%%rsp); popfq"
                     : "+a"(number)::"rcx", "r11", "memory", "cc");
    say("steps through a system call: %d\n", steps);
    signal(SIGTRAP, SIG_DFL);
}

static void jump(long address) { ((void (*)(void))address)(); }

// Returns from a signal to an address.
static long return_to;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = return_to;
}
static void sigreturn_to(long address) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    return_to = address;
    raise(SIGUSR1);
}

// SYSCALL at the very end of user space: it would return to an address that is not.
static void last_instruction(long page) {
    char *at = mmap((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (char *)page) _exit(1);
    memcpy(at + 4094, "\x0f\x05", 2);
    __asm__ volatile("jmp *%0" ::"r"(at + 4094), "a"(SYS_getppid));
}

static void odd_stack(long address) {
    __asm__ volatile("movq %0, %%rsp; movl $39, %%eax; syscall; pushq %%rax" ::"r"(address));
}

static void addresses(void) {
    long odd[] = {0x800000000000, -0x7fffffffffffffff, 0x7ffffffff000, -0x80000000L, -1};
    for (int i = 0; i < 5; i++) {
        say("jump to %#lx: status %#x\n", odd[i], outcome(jump, odd[i]));
        say("return from a signal to %#lx: status %#x\n", odd[i], outcome(sigreturn_to, odd[i]));
        // Not for addresses that are no addresses: QEMU raises another exception than processors do.
        if (i != 1) say("stack at %#lx: status %#x\n", odd[i], outcome(odd_stack, odd[i]));
    }
    say("system call in the last page: status %#x\n", outcome(last_instruction, 0x7fffffffe000));
}

#define INSTRUCTION(name, text) \
    static void name(long unused) { (void)unused; __asm__ volatile(text ::: "rax", "rcx", "rdx", "memory"); }
INSTRUCTION(int_2, "int $2")
INSTRUCTION(int_8, "int $8")
INSTRUCTION(int_14, "int $14")
INSTRUCTION(int_242, "int $242")
INSTRUCTION(clear_interrupts, "cli")
INSTRUCTION(swap_gs, "swapgs")
INSTRUCTION(write_msr, "movl $0xc0000082, %%ecx; wrmsr")
INSTRUCTION(read_cr0, "movq %%cr0, %%rax")
INSTRUCTION(write_cr3, "movq %%rax, %%cr3")
INSTRUCTION(load_task, "movl $0x40, %%eax; ltr %%ax")
INSTRUCTION(system_return, "sysretq")

static void instructions(void) {
    struct { const char *name; void (*act)(long); } all[] = {
        {"int 2", int_2}, {"int 8", int_8}, {"int 14", int_14}, {"int 242", int_242},
        {"cli", clear_interrupts}, {"swapgs", swap_gs}, {"wrmsr", write_msr}, {"read of cr0", read_cr0},
        {"write of cr3", write_cr3}, {"ltr", load_task}, {"sysret", system_return},
    };
    for (int i = 0; i < 11; i++) say("%s: status %#x\n", all[i].name, outcome(all[i].act, 0));
}

// A jump to another segment; LRET and IRET do not go as on processors under QEMU with SMAP.
static void jump_far(uint32_t to, uint16_t segment) {
    struct { uint32_t to; uint16_t segment; } __attribute__((packed)) target = {to, segment};
    __asm__ volatile("ljmpl *%0" ::"m"(target), "a"(20) : "memory");
}

// Code in the lowest 4 GiB that makes a system call and then ends the program.
static uint32_t low_code(void) {
    char *code = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    memcpy(code, "\x0f\x05\x0f\x0b", 4);
    return (uint32_t)(uintptr_t)code;
}

static void far_jump(long segment) { jump_far(low_code(), (uint16_t)segment); }

static void far_jumps(void) {
    long segments[] = {0, 0x10, 0x13, 0x18, 0x2b, 0x40, 0x33};
    for (int i = 0; i < 7; i++) {
        say("far jump to %#lx: status %#x\n", segments[i], outcome(far_jump, segments[i]));
    }
    // Where Linux has 32-bit code. On AMD a SYSCALL from there goes where no other does. What becomes of the
    // program differs; the machine must go on.
    int status = outcome(far_jump, 0x23);
    say("32-bit code has ended: %s\n", WIFEXITED(status) || WIFSIGNALED(status) ? "yes" : "no");
}

int main(void) {
    segments();
    flags();
    single_step();
    addresses();
    instructions();
    far_jumps();
    return 0;
}

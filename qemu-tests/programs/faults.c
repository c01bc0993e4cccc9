// Faults become signals that say what happened and where, and a handler can get past them.
#include "test.h"
#include <setjmp.h>

static sigjmp_buf jump;
static siginfo_t last;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    last = *info;
    siglongjmp(jump, signal);
}

#define FAULT(what, expression)                                                   \
    do {                                                                          \
        int signal = sigsetjmp(jump, 1);                                          \
        if (signal == 0) {                                                        \
            expression;                                                           \
            say("%s: nothing happened\n", what);                                  \
        } else {                                                                  \
            say("%s: signal %d code %d\n", what, signal, last.si_code);           \
        }                                                                         \
    } while (0)

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &action, 0);

    FAULT("read of nothing", *(volatile int *)0x10);
    TRUE(last.si_addr == (void *)0x10);
    FAULT("write of nothing", *(volatile int *)0x20 = 1);
    FAULT("jump to nothing", ((void (*)(void))0x40)());
    char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULT("write to a read-only page", page[5] = 1);
    TRUE(last.si_addr == page + 5);
    FAULT("execution of data", ((void (*)(void))page)());
    mprotect(page, 4096, PROT_NONE);
    FAULT("read without permission", *(volatile char *)page);
    munmap(page, 4096);
    FAULT("read after unmapping", *(volatile char *)page);
    FAULT("write to program text", *(volatile char *)(uintptr_t)main = 1);
    FAULT("read of kernel memory", *(volatile char *)0xffffffff80000000);
    FAULT("read of a non-canonical address", *(volatile char *)0x8000000000000000);
    int file = open("/tmp/faults", O_RDWR | O_CREAT | O_TRUNC, 0600);
    ftruncate(file, 100);
    char *map = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    FAULT("read behind the end of a file", *(volatile char *)(map + 5000));
    TRUE(last.si_addr == map + 5000);
    SHOW(map[4095]);
    volatile int zero = 0;
    FAULT("division by zero", zero = 1 / zero);
    FAULT("undefined instruction", __asm__ volatile("ud2"));
    FAULT("breakpoint", __asm__ volatile("int3"));
    FAULT("privileged instruction", __asm__ volatile("hlt"));
    FAULT("port access", __asm__ volatile("outb %al, $0x80"));

    for (int i = 0; i < 5; i++) signal(signals[i], SIG_DFL);
    pid_t child = fork_clean();
    if (child == 0) *(volatile int *)0 = 1;
    show_end("without a handler", child);
    child = fork_clean();
    if (child == 0) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)0 = 1;
        _exit(0);
    }
    show_end("ignoring does not help", child);
    child = fork_clean();
    if (child == 0) abort();
    show_end("abort", child);
    return 0;
}

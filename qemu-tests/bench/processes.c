// Rows of the kernel benchmark: processes and threads from their start to their end, and two
// threads that take turns.
#include "bench.h"

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, LARGE_PAGES = 2048 };

static char *const arguments[] = {"exit", 0}, *const environment[] = {0};
static uint32_t turn;
static volatile int is_over;

static void call_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, 0, 0);
}
static void call_exec(void) {
    pid_t child = fork();
    if (child == 0) {
        execve("/bin/exit", arguments, environment);
        _exit(1);
    }
    waitpid(child, 0, 0);
}
static void call_spawn(void) {
    pid_t child;
    posix_spawn(&child, "/bin/exit", 0, 0, arguments, environment);
    waitpid(child, 0, 0);
}
static void *nothing(void *argument) { return argument; }
static void call_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, nothing, 0) == 0) pthread_join(thread, 0);
}

static void wait_for(uint32_t value) {
    uint32_t seen;
    while ((seen = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != value) {
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
    }
}
static void pass(uint32_t value) {
    __atomic_store_n(&turn, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}
static void *partner(void *argument) {
    for (;;) {
        wait_for(1);
        if (is_over) return argument;
        pass(0);
    }
}
static void call_turn(void) {
    pass(1);
    wait_for(0);
}

static void call_getppid(void) { syscall(SYS_getppid); }
// As container runtimes write theirs: one comparison a call that is allowed, getppid's among the last.
static void *call_filtered(void *argument) {
    enum { CALLS = 250 };
    static struct sock_filter filter[CALLS + 3];
    struct sock_fprog program = {CALLS + 3, filter};
    filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (unsigned i = 0; i < CALLS; i++) {
        unsigned number = (i + SYS_getppid + 20) % CALLS;
        filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, (unsigned char)(CALLS - i), 0);
    }
    filter[CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1);
    filter[CALLS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
    row("getppid-filtered", 200, 1, call_getppid);
    return argument;
}

void rows_of_processes(void) {
    pthread_t thread;
    row("fork+exit", 10, 1, call_fork);
    row("fork+exec", 5, 1, call_exec);
    row("posix_spawn", 5, 1, call_spawn);
    row("thread", 20, 1, call_thread);
    need(-pthread_create(&thread, 0, partner, 0), "pthread_create");
    row("switch-futex", 100, 1, call_turn);
    is_over = 1;
    pass(1);
    pthread_join(thread, 0);
    need(-pthread_create(&thread, 0, call_filtered, 0), "pthread_create");
    pthread_join(thread, 0);
    char *area = mmap(0, LARGE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(area == MAP_FAILED ? -1 : 0, "mmap");
    for (int i = 0; i < LARGE_PAGES; i++) area[(long)i * PAGE] = 1;
    row("fork+exit-8m", 3, 1, call_fork);
    munmap(area, LARGE_PAGES * PAGE);
}

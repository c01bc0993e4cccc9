// Processes at their edges: who is answered for by which id, what waiting can still bring, what a handler
// and a privileged program start with.
#include "test.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void copy_self(const char *to) {
    char buffer[65536];
    int from = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, (size_t)n) != n) say("short write\n");
    close(from);
    close(out);
}

static int exec_suid(void *how) {
    (void)how;
    if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) _exit(9);
    execl("/tmp/suid", "suid", "ids", (char *)0);
    _exit(8);
}

// Whoever else has the root directory could put another one under a privileged program.
static void shared_root(void) {
    static char stack[65536] __attribute__((aligned(16)));
    copy_self("/tmp/suid");
    SHOW(chmod("/tmp/suid", 06755));
    int flags[] = {SIGCHLD, CLONE_FS | SIGCHLD, CLONE_FS | CLONE_VM | SIGCHLD, CLONE_VM | SIGCHLD};
    for (int i = 0; i < 4; i++) {
        fflush(stdout);
        show_end("set-id program", clone(exec_suid, stack + sizeof stack, flags[i], 0));
    }
    unlink("/tmp/suid");
}

static pthread_barrier_t barrier;
static int tid;

static void *idle(void *argument) {
    tid = (int)syscall(SYS_gettid);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return argument;
}

static void thread_ids(void) {
    pthread_t thread;
    char path[64];
    pthread_barrier_init(&barrier, 0, 2);
    pthread_create(&thread, 0, idle, 0);
    pthread_barrier_wait(&barrier);
    SHOW(kill(tid, 0));
    SHOW(getpgid(tid) == getpgid(0));
    SHOW(getsid(tid) == getsid(0));
    SHOW(syscall(SYS_tgkill, getpid(), tid, 0));
    SHOW(syscall(SYS_tgkill, tid, tid, 0));
    SHOW(setpgid(tid, 0));
    snprintf(path, sizeof path, "/proc/%d/task", tid);
    OK(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    OK(open(path, O_RDONLY));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, 0);
}

static void zombies(void) {
    siginfo_t info;
    char path[64], text[64];
    pid_t child = fork_clean();
    if (child == 0) {
        setpgid(0, 0);
        _exit(3);
    }
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    // Only stops are waited for, and there is nobody left who could.
    SHOW(waitid(P_ALL, 0, &info, WSTOPPED));
    SHOW(waitid(P_PID, (id_t)child, &info, WSTOPPED | WCONTINUED | WNOHANG));
    SHOW(kill(child, 0));
    SHOW(kill(child, SIGKILL));
    SHOW(kill(-child, SIGTERM));
    SHOW(getpgid(child) == child);
    SHOW(getsid(child) == getsid(0));
    snprintf(path, sizeof path, "/proc/%d/exe", child);
    SHOW(readlink(path, text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/cmdline", child);
    int cmdline = open(path, O_RDONLY);
    SHOW(read(cmdline, text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d", child);
    int folder = open(path, O_RDONLY | O_DIRECTORY);
    SHOW(syscall(SYS_pidfd_send_signal, folder, 0, 0, 0));
    show_end("zombie", child);
    SHOW(kill(child, 0));
    SHOW(kill(-child, 0));
    SHOW(read(cmdline, text, sizeof text));
    SHOW(openat(folder, "stat", O_RDONLY));
    SHOW(syscall(SYS_pidfd_send_signal, folder, 0, 0, 0));
    close(cmdline);
    close(folder);
}

// Children are reported in the order of their birth, whatever they died in.
static void order_of_reports(void) {
    pid_t children[4];
    siginfo_t info;
    int gates[2];
    if (pipe(gates)) return;
    for (int i = 0; i < 4; i++) {
        children[i] = fork_clean();
        if (children[i] == 0) {
            if (i < 3) pause();
            _exit(i);
        }
    }
    for (int i = 2; i >= 0; i--) kill(children[i], SIGTERM);
    for (int i = 0; i < 4; i++) waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT);
    for (int i = 0; i < 4; i++) {
        int status;
        pid_t dead = wait(&status);
        for (int at = 0; at < 4; at++)
            if (children[at] == dead) say("child %d: %x\n", at, (unsigned)status);
    }
    close(gates[0]);
    close(gates[1]);
}

// A group that loses its last tie to the session, with a stopped member, is hung up and continued.
static void orphaned_group(void) {
    int gates[2];
    char byte = 0;
    if (pipe(gates)) return;
    pid_t middle = fork_clean();
    if (middle == 0) {
        pid_t inner = fork();
        if (inner == 0) {
            setpgid(0, 0);
            raise(SIGSTOP);
            _exit(0);
        }
        int status;
        waitpid(inner, &status, WUNTRACED);
        say("inner: stopped %d\n", WIFSTOPPED(status));
        _exit(0);
    }
    close(gates[1]);
    // The middle's child holds the pipe's other end.
    show_end("middle", middle);
    SHOW(read(gates[0], &byte, 1));
    int status;
    waitpid(-1, &status, 0);
    say("inner: signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    close(gates[0]);
}

static void group_signals(void) {
    pid_t leader = 0;
    for (int i = 0; i < 5; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            setpgid(0, leader);
            for (;;) pause();
        }
        setpgid(child, leader);
        if (!leader) leader = child;
    }
    SHOW(kill(-leader, 0));
    SHOW(kill(-leader, SIGSTOP));
    for (int i = 0, status; i < 5; i++) SHOW(waitpid(-leader, &status, WUNTRACED) > 0);
    SHOW(kill(-leader, SIGCONT));
    for (int i = 0, status; i < 5; i++) SHOW(waitpid(-leader, &status, WCONTINUED) > 0);
    SHOW(kill(-leader, SIGTERM));
    for (int i = 0, status; i < 5; i++) SHOW(waitpid(-leader, &status, 0) > 0 && WTERMSIG(status));
    SHOW(kill(-leader, 0));
}

static volatile unsigned handler_mxcsr, handler_fcw;
static volatile unsigned long handler_xmm;

static void see_registers(int signal) {
    (void)signal;
    unsigned mxcsr;
    unsigned short fcw;
    unsigned long xmm;
    __asm__ volatile("movq %%xmm9, %0" : "=r"(xmm));
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(fcw));
    handler_mxcsr = mxcsr, handler_fcw = fcw, handler_xmm = xmm;
}

// The handler's registers are fresh, the interrupted code's are back behind it.
static void handler_registers(void) {
    unsigned mxcsr = 0x1fc0;
    unsigned short fcw = 0x27f;
    unsigned long xmm = 0x1234567890UL;
    signal(SIGUSR1, see_registers);
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    __asm__ volatile("fldcw %0" ::"m"(fcw));
    __asm__ volatile("movq %2, %%xmm9\n\t syscall\n\t movq %%xmm9, %0"
                     : "=&r"(xmm)
                     : "a"(SYS_kill), "r"(xmm), "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "xmm9", "memory");
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(fcw));
    say("handler: xmm9 %lx mxcsr %x fcw %x\n", handler_xmm, handler_mxcsr, handler_fcw);
    say("after: xmm9 %lx mxcsr %x fcw %x\n", xmm, mxcsr, fcw);
    mxcsr = 0x1f80, fcw = 0x37f;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    __asm__ volatile("fldcw %0" ::"m"(fcw));
}

static unsigned word;

static void *wait_privately(void *argument) {
    struct timespec time = {0, 100000000};
    long result = syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &time);
    say("private waiter: %s\n", result ? strerrorname_np(errno) : "woken");
    return argument;
}

static void futex_kinds(void) {
    pthread_t thread;
    pthread_create(&thread, 0, wait_privately, 0);
    sleep_ms(30);
    SHOW(syscall(SYS_futex, &word, FUTEX_WAKE, 1));
    pthread_join(thread, 0);
}

static void odd_arguments(void) {
    cpu_set_t cpus;
    SHOW(sched_getaffinity(-1, sizeof cpus, &cpus));
    SHOW(sched_setaffinity(-1, sizeof cpus, &cpus));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 1));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 5 << 13));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 4));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "ids") == 0) {
        say("uid %d euid %d gid %d egid %d\n", getuid(), geteuid(), getgid(), getegid());
        return 0;
    }
    shared_root();
    thread_ids();
    zombies();
    order_of_reports();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    orphaned_group();
    group_signals();
    handler_registers();
    futex_kinds();
    odd_arguments();
    return 0;
}

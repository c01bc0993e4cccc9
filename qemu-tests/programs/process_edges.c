// Processes at their edges: who is answered for by which id, what waiting can still bring, what a handler
// and a privileged program start with.
#include "test.h"
#include <linux/capability.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

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

struct file_capabilities {
    uint32_t magic, permitted, inheritable, more[2];
};

static void run_as_user(const char *what, int no_new_privs) {
    pid_t child = fork_clean();
    if (child == 0) {
        if (no_new_privs) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (setresuid(1000, 1000, 1000)) _exit(9);
        execl("/tmp/capable", "capable", "capabilities", (char *)0);
        say("exec: %s\n", strerrorname_np(errno));
        _exit(8);
    }
    show_end(what, child);
}

static int set_capabilities(uint32_t magic, size_t size) {
    struct file_capabilities value = {magic, 1 << CAP_NET_BIND_SERVICE, 0, {0, 0}};
    return setxattr("/tmp/capable", "security.capability", &value, size, 0);
}

// What a program may by its file, until that is changed.
static void file_capabilities(void) {
    char value[64];
    copy_self("/tmp/capable");
    SHOW(set_capabilities(0x02000001, 20));
    run_as_user("capabilities in effect", 0);
    run_as_user("no new privileges", 1);
    SHOW(set_capabilities(0x02000000, 20));
    run_as_user("capabilities permitted", 0);
    SHOW(prctl(PR_CAPBSET_READ, CAP_NET_BIND_SERVICE, 0, 0, 0));
    SHOW(chown("/tmp/capable", 0, 0));
    SHOW(getxattr("/tmp/capable", "security.capability", value, sizeof value));
    SHOW(set_capabilities(0x02000001, 20));
    int file = open("/tmp/capable", O_WRONLY | O_APPEND);
    SHOW(write(file, "", 1));
    SHOW(getxattr("/tmp/capable", "security.capability", value, sizeof value));
    close(file);
    SHOW(set_capabilities(0x02000001, 8));
    SHOW(set_capabilities(0x04000001, 20));
    unlink("/tmp/capable");
}

static void show_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    say("effective %x permitted %x\n", data[0].effective, data[0].permitted);
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

// A zombie is scheduled no more, but is still answered for.
static void scheduling_of(pid_t child) {
    struct sched_param param = {0};
    struct rlimit limit;
    cpu_set_t cpus;
    clockid_t clock;
    char byte;
    struct iovec piece = {&byte, 1};
    SHOW(sched_getscheduler(child));
    SHOW(sched_getparam(child, &param));
    SHOW(sched_setscheduler(child, SCHED_BATCH, &param));
    SHOW(sched_getscheduler(child));
    SHOW(setpriority(PRIO_PROCESS, (id_t)child, 5));
    SHOW(getpriority(PRIO_PROCESS, (id_t)child));
    SHOW(sched_getaffinity(child, sizeof cpus, &cpus));
    SHOW(prlimit(child, RLIMIT_CORE, 0, &limit));
    SHOW(syscall(SYS_tgkill, child, child, SIGTERM));
    SHOW(clock_getcpuclockid(child, &clock));
    SHOW(process_vm_readv(child, &piece, 1, &piece, 1, 0));
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
    scheduling_of(child);
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
    SHOW(sched_setaffinity(-1, sizeof cpus, (void *)8));
    SHOW(syscall(SYS_sched_getaffinity, 0, 4, &cpus));
    SHOW(syscall(SYS_sched_getaffinity, 0, 12, &cpus));
    struct sched_param param = {0};
    SHOW(sched_getscheduler(-1));
    SHOW(sched_setscheduler(0, SCHED_OTHER, 0));
    SHOW(sched_setscheduler(0, -1, &param));
    SHOW(sched_setscheduler(999999, SCHED_OTHER, (void *)8));
    SHOW(sched_getparam(0, 0));
    SHOW(sched_get_priority_max(6));
    SHOW(sched_get_priority_max(7));
    uint32_t attr[14] = {4};
    SHOW(syscall(SYS_sched_setattr, 0, attr, 0));
    SHOW(syscall(SYS_sched_setattr, -1, attr, 0));
    SHOW(syscall(SYS_sched_getattr, 0, attr, 40, 0));
    SHOW(syscall(SYS_sched_getattr, 0, 0, 48, 0));
    struct rlimit limit = {2, 1};
    SHOW(prlimit(-1, RLIMIT_CORE, 0, &limit));
    SHOW(prlimit(999999, 77, 0, &limit));
    SHOW(prlimit(0, 77, 0, &limit));
    SHOW(prlimit(0, RLIMIT_CORE, &limit, 0));
    SHOW(setrlimit(77, (void *)8));
    SHOW(getpriority(PRIO_PROCESS, (id_t)-1));
    SHOW(getpriority(PRIO_USER, 54321));
    SHOW(getpriority(3, 0));
    SHOW(syscall(SYS_ioprio_set, 2, 0, 2 << 13 | 3));
    SHOW(syscall(SYS_ioprio_get, 2, 0));
    SHOW(syscall(SYS_ioprio_set, 1, -1, 2 << 13 | 3));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 8));
    SHOW(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), 0, &cpus));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 1));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 5 << 13));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 4));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
}

// What an ordinary user may not have, or may not do to others.
static void as_user(void) {
    struct sched_param param = {1};
    struct rlimit limit = {0, 0};
    uint64_t head, size;
    uint32_t attr[12] = {48};
    pid_t child = fork_clean();
    if (child == 0) {
        setrlimit(RLIMIT_NICE, &limit);
        if (setresuid(1000, 1000, 1000)) _exit(9);
        SHOW(sched_setscheduler(0, SCHED_FIFO, &param));
        SHOW(setpriority(PRIO_PROCESS, 0, -1));
        attr[4] = (uint32_t)-1;
        SHOW(syscall(SYS_sched_setattr, 0, attr, 0));
        SHOW(setpriority(PRIO_PROCESS, (id_t)getppid(), 1));
        SHOW(syscall(SYS_ioprio_set, 1, getppid(), 2 << 13 | 4));
        SHOW(syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4));
        SHOW(prlimit(getppid(), RLIMIT_CORE, 0, &limit));
        SHOW(syscall(SYS_get_robust_list, getppid(), &head, &size));
        param.sched_priority = 0;
        SHOW(sched_setscheduler(0, SCHED_IDLE | SCHED_RESET_ON_FORK, &param));
        SHOW(sched_getscheduler(0));
        SHOW(sched_setscheduler(0, SCHED_IDLE, &param));
        SHOW(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &param));
        _exit(0);
    }
    show_end("as a user", child);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "ids") == 0) {
        say("uid %d euid %d gid %d egid %d\n", getuid(), geteuid(), getgid(), getegid());
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "capabilities") == 0) {
        show_capabilities();
        return 0;
    }
    shared_root();
    file_capabilities();
    thread_ids();
    zombies();
    order_of_reports();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    orphaned_group();
    group_signals();
    handler_registers();
    futex_kinds();
    odd_arguments();
    as_user();
    return 0;
}

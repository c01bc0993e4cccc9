// seccomp: modes, actions and which of several wins, what is inherited, who may set filters, and what programs are refused.
#include "test.h"
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sched.h>
#include <ucontext.h>
#include <sys/prctl.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define GIVE(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

static long seccomp(unsigned operation, unsigned flags, const void *argument) {
    return syscall(SYS_seccomp, operation, flags, argument);
}

static long set(unsigned flags, const struct sock_filter *filter, size_t length) {
    struct sock_fprog program = {.len = (unsigned short)length, .filter = (struct sock_filter *)filter};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
}

// `number` gets `action`, every other call is made.
static long about(long number, unsigned action, unsigned flags) {
    struct sock_filter filter[] = {LOAD(nr), IF((unsigned)number, 0, 1), GIVE(action), GIVE(SECCOMP_RET_ALLOW)};
    return set(flags, filter, LENGTH(filter));
}

static pid_t begin(void) {
    pid_t child = fork_clean();
    if (child == 0) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return child;
}

static void status_fields(const char *when) {
    char line[256];
    FILE *file = fopen("/proc/thread-self/status", "r");
    if (!file) _exit(9);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "Seccomp", 7) || !strncmp(line, "NoNewPrivs", 10)) say("%s: %s", when, line);
    fclose(file);
}

static void *pause_thread(void *argument) {
    (void)argument;
    while (pause()) continue;
    return 0;
}

// What each action does to a call, alone.
static void actions(void) {
    static const struct {
        const char *name;
        unsigned action;
    } table[] = {
        {"allow", SECCOMP_RET_ALLOW | 99},
        {"log", SECCOMP_RET_LOG},
        {"trace", SECCOMP_RET_TRACE | 5},
        {"user_notif", SECCOMP_RET_USER_NOTIF},
        {"errno 0", SECCOMP_RET_ERRNO},
        {"errno 13", SECCOMP_RET_ERRNO | 13},
        {"errno 4095", SECCOMP_RET_ERRNO | 4095},
        {"errno 4096", SECCOMP_RET_ERRNO | 4096},
        {"errno 65535", SECCOMP_RET_ERRNO | 65535},
        {"trap", SECCOMP_RET_TRAP | 77},
        {"kill_thread", SECCOMP_RET_KILL_THREAD},
        {"kill_process", SECCOMP_RET_KILL_PROCESS},
        {"unknown 0x10000", 0x10000},
        {"unknown 0x7ffe0000", 0x7ffe0000},
        {"unknown 0xffff0000", 0xffff0000},
    };
    for (size_t i = 0; i < LENGTH(table); i++) {
        pid_t child = begin();
        if (child == 0) {
            if (about(SYS_getppid, table[i].action, 0) != 0) _exit(2);
            long parent = syscall(SYS_getppid);
            say("%s: %s\n", table[i].name, parent > 0 ? "a number" : parent == 0 ? "0" : strerror(errno));
            _exit(0);
        }
        show_end(table[i].name, child);
    }
}

// Which of two wins, whatever their order.
static void precedence(void) {
    static const unsigned order[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP,  SECCOMP_RET_ERRNO | 11,
                                     SECCOMP_RET_ERRNO | 12,   SECCOMP_RET_TRACE, SECCOMP_RET_LOG,
                                     SECCOMP_RET_ALLOW};
    for (size_t first = 0; first < LENGTH(order); first++)
        for (size_t second = 0; second < LENGTH(order); second++) {
            pid_t child = begin();
            if (child == 0) {
                about(SYS_getppid, order[first], 0);
                about(SYS_getppid, order[second], 0);
                long parent = syscall(SYS_getppid);
                _exit(parent < 0 ? errno : 0);
            }
            int status = 0;
            waitpid(child, &status, 0);
            say("%zu over %zu: %d %d\n", first, second, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                WIFEXITED(status) ? WEXITSTATUS(status) : 0);
        }
}

static siginfo_t trapped;
static void on_trap(int signal, siginfo_t *info, void *context) {
    trapped = *info;
    ucontext_t *user = context;
    say("handler: signal %d, number kept %d\n", signal, user->uc_mcontext.gregs[REG_RAX] == SYS_getppid);
    user->uc_mcontext.gregs[REG_RAX] = 4711;
}

static void trap(void) {
    pid_t child = begin();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &action, 0);
        about(SYS_getppid, SECCOMP_RET_TRAP | 77, 0);
        long result = syscall(SYS_getppid);
        say("result %ld, errno %d, code %d, call %d, arch %x, address %s\n", result, trapped.si_errno, trapped.si_code,
            trapped.si_syscall, trapped.si_arch, trapped.si_call_addr ? "there" : "none");
        // Blocked or ignored, it cannot be survived.
        if (fork_clean() == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, 0);
            syscall(SYS_getppid);
            _exit(0);
        }
        int status;
        wait(&status);
        say("blocked: signal %d\n", WTERMSIG(status));
        if (fork_clean() == 0) {
            signal(SIGSYS, SIG_IGN);
            syscall(SYS_getppid);
            _exit(0);
        }
        wait(&status);
        say("ignored: signal %d\n", WTERMSIG(status));
        _exit(0);
    }
    show_end("trap", child);
}

// Numbers are 32 bits wide, for the filter and for the call.
static void numbers(void) {
    pid_t child = begin();
    if (child == 0) {
        about(SYS_getppid, SECCOMP_RET_ERRNO | 40, 0);
        SHOW(syscall(SYS_getppid));
        SHOW(syscall(SYS_getppid | 0xabcd00000000));
        TRUE(syscall(SYS_getpid | 0x100000000) == getpid());
        about(0x12345678, SECCOMP_RET_ERRNO | 41, 0);
        about(-1, SECCOMP_RET_ERRNO | 42, 0);
        SHOW(syscall(0x12345678));
        SHOW(syscall(-1));
        SHOW(syscall(0x12345679));
        about(400, SECCOMP_RET_ERRNO | 43, 0);
        SHOW(syscall(400));
        _exit(0);
    }
    show_end("numbers", child);
}

// A filter that looks at arguments is asked each time.
static void arguments(void) {
    pid_t child = begin();
    if (child == 0) {
        struct sock_filter filter[] = {
            LOAD(arch), IF(AUDIT_ARCH_X86_64, 1, 0), GIVE(SECCOMP_RET_KILL_PROCESS), LOAD(nr),
            IF(SYS_lseek, 0, 6), LOAD(args[1]), IF(5, 0, 3),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4), IF(1, 0, 1),
            GIVE(SECCOMP_RET_ERRNO | 44), IF(2, 0, 0), GIVE(SECCOMP_RET_ALLOW),
        };
        OK(set(0, filter, LENGTH(filter)));
        for (int round = 0; round < 2; round++) {
            SHOW(syscall(SYS_lseek, -1, 5L, 0));
            SHOW(syscall(SYS_lseek, -1, 1L << 32 | 5, 0));
            SHOW(syscall(SYS_lseek, -1, 6L, 0));
        }
        _exit(0);
    }
    show_end("arguments", child);
}

static void strict(int how) {
    static const char *const names[] = {"write and exit", "getppid", "exit_group", "prctl after", "threads"};
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t other;
        if (how == 4) pthread_create(&other, 0, pause_thread, 0);
        if (how == 3)
            SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 77, 0, 0));
        else
            SHOW(seccomp(SECCOMP_SET_MODE_STRICT, 0, 0));
        ssize_t written = write(1, "written\n", 8);
        if (how == 0) syscall(SYS_exit, (int)written);
        if (how == 1 || how == 4) syscall(SYS_getppid);
        if (how == 2) _exit(0);
        prctl(PR_GET_SECCOMP);
        syscall(SYS_exit, 7);
    }
    if (how == 4) {
        // The other thread goes on without the one that broke the rule.
        siginfo_t info = {0};
        sleep_ms(50);
        SHOW(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT));
        SHOW(info.si_pid);
        kill(child, SIGTERM);
    }
    show_end(names[how], child);
}

static void *ends_itself(void *argument) {
    (void)argument;
    about(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getppid);
    return (void *)1;
}

static void *ends_all(void *argument) {
    about(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
    syscall(SYS_getppid);
    return argument;
}

static void threads(void) {
    pid_t child = begin();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, ends_itself, 0);
        // A thread that is ended so clears its tid: joining works, its result was never set.
        void *result = 0;
        pthread_join(thread, &result);
        say("joined, result %s\n", result == (void *)1 ? "returned" : "none");
        status_fields("after");
        pthread_create(&thread, 0, ends_all, 0);
        pthread_join(thread, 0);
        _exit(0);
    }
    show_end("threads", child);
}

static _Atomic int ready, go;
static int filtered_tid;
static void *waits(void *argument) {
    if (argument) about(SYS_getsid, SECCOMP_RET_ERRNO | 1, 0);
    filtered_tid = (int)syscall(SYS_gettid);
    ready = 1;
    while (!go) sched_yield();
    long result = syscall(SYS_getppid);
    if (argument) return 0;
    int mode = prctl(PR_GET_SECCOMP), locked = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    say("other: %s, mode %d, no_new_privs %d\n", result < 0 ? strerror(errno) : "made", mode, locked);
    return 0;
}

static void synchronised(void) {
    for (int differs = 0; differs < 2; differs++) {
        pid_t child = begin();
        if (child == 0) {
            pthread_t thread;
            pthread_create(&thread, 0, waits, differs ? (void *)1 : 0);
            while (!ready) sched_yield();
            long result = about(SYS_getppid, SECCOMP_RET_ERRNO | 45, SECCOMP_FILTER_FLAG_TSYNC);
            say("TSYNC: %s\n", result == 0 ? "0" : result == filtered_tid ? "the thread" : strerror(errno));
            SHOW(about(SYS_getppid, SECCOMP_RET_ERRNO | 46,
                       SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH));
            go = 1;
            pthread_join(thread, 0);
            SHOW(syscall(SYS_getppid) < 0 ? -errno : 1);
            status_fields("synchronised");
            _exit(0);
        }
        show_end("TSYNC", child);
    }
}

static void inherited(void) {
    pid_t child = begin();
    if (child == 0) {
        about(SYS_getsid, SECCOMP_RET_ERRNO | 47, 0);
        pid_t grandchild = fork_clean();
        if (grandchild == 0) {
            about(SYS_getppid, SECCOMP_RET_ERRNO | 48, 0);
            status_fields("grandchild");
            SHOW(syscall(SYS_getsid, 0));
            fflush(stdout);
            execl("/proc/self/exe", "seccomp", "again", (char *)0);
            _exit(3);
        }
        show_end("grandchild", grandchild);
        OK(syscall(SYS_getppid));
        SHOW(syscall(SYS_getsid, 0));
        _exit(0);
    }
    show_end("inherited", child);
}

static int drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    return (int)syscall(SYS_capset, &header, none);
}

static void rights(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        SHOW(about(SYS_getsid, SECCOMP_RET_ALLOW, 0));
        drop_capabilities();
        SHOW(about(SYS_getsid, SECCOMP_RET_ALLOW, 0));
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 0, 0));
        struct sock_fprog empty = {0, (void *)1};
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 0, &empty));
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        SHOW(about(SYS_getsid, SECCOMP_RET_ALLOW, 0));
        SHOW(prctl(PR_GET_SECCOMP));
        SHOW(seccomp(SECCOMP_SET_MODE_STRICT, 0, 0));
        SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        SHOW(prctl(PR_SET_SECCOMP, 7));
        SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0));
        struct sock_fprog program = {1, 0};
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 0, &program));
        program.filter = (void *)8;
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 0, &program));
        struct sock_filter allow = GIVE(SECCOMP_RET_ALLOW);
        program.filter = &allow;
        SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 1 << 6, &program));
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_LOG, &program));
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
        SHOW(seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program));
        status_fields("rights");
        _exit(0);
    }
    show_end("rights", child);
    static const unsigned actions[] = {0, 1, 0x10000, 0x30000, 0x50000, 0x7fc00000, 0x7ff00000, 0x7ffc0000, 0x7fff0000,
                                       0x80000000, 0x80000001};
    for (size_t i = 0; i < LENGTH(actions); i++) {
        say("%x ", actions[i]);
        SHOW(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &actions[i]));
    }
    SHOW(seccomp(SECCOMP_GET_ACTION_AVAIL, 1, actions));
    SHOW(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, 0));
    struct seccomp_notif_sizes sizes = {0};
    SHOW(seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
    say("%u %u %u\n", sizes.seccomp_notif, sizes.seccomp_notif_resp, sizes.seccomp_data);
    SHOW(seccomp(SECCOMP_GET_NOTIF_SIZES, 2, &sizes));
    SHOW(seccomp(SECCOMP_GET_NOTIF_SIZES, 0, 0));
    SHOW(seccomp(4, 0, 0));
    SHOW(seccomp(SECCOMP_SET_MODE_STRICT, 1, 0));
    SHOW(seccomp(SECCOMP_SET_MODE_STRICT, 0, &sizes));
}

// A call that a stop interrupts is looked at again when it goes on.
static void restarted(void) {
    pid_t child = begin();
    if (child == 0) {
        volatile int *is_done = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        about(SYS_restart_syscall, SECCOMP_RET_ERRNO | 49, 0);
        pid_t self = getpid();
        if (fork_clean() == 0) {
            // Until one has come while the call sleeps.
            while (!*is_done) {
                usleep(5000);
                kill(self, SIGSTOP);
                usleep(5000);
                kill(self, SIGCONT);
            }
            _exit(0);
        }
        struct timespec while_ = {1000, 0};
        SHOW(syscall(SYS_nanosleep, &while_, 0) == 0 ? 0 : errno);
        *is_done = 1;
        wait(0);
        _exit(0);
    }
    show_end("restarted", child);
}

static void show_file(const char *path) {
    char text[256];
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, text, sizeof text);
    say("%s: %.*s", path, (int)length, text);
    close(fd);
}

static unsigned long long state = 88172645463325252ULL;
static unsigned number(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 20);
}

static const unsigned short codes[] = {
    0x00, 0x20, 0x20, 0x20, 0x60, 0x80, 0x01, 0x61, 0x81, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c,
    0x44,  0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45,
    0x4d,  0x06, 0x16, 0x07, 0x87,
};
// Those that no filter of calls has.
static const unsigned short strange[] = {0x28, 0x30, 0x40, 0xb1, 0x94, 0x9c, 0x8c, 0x0d, 0x0e, 0x17, 0x104, 0xff};

static struct sock_filter any(int left, unsigned *written) {
    struct sock_filter one = {codes[number() % LENGTH(codes)], 0, 0, number() % 5 ? number() % 40 : number()};
    if (number() % 400 == 0) one.code = strange[number() % LENGTH(strange)];
    int jumps = (one.code & 7) == BPF_JMP;
    unsigned reach = left > 1 ? (unsigned)left - 1 : 1;
    if (number() % 300 == 0) reach++;
    if (one.code == 0x20 && number() % 100) one.k = number() % 16 * 4;
    if (one.code == 0x05) one.k = number() % reach;
    if (jumps && one.code != 0x05) one.jt = number() % reach, one.jf = number() % reach;
    if ((one.code == 0x64 || one.code == 0x74) && number() % 50) one.k %= 32;
    if (one.code == 0x34 && number() % 50) one.k |= 1;
    if (one.code == 0x02 || one.code == 0x03) {
        if (number() % 100) one.k %= 16;
        if (one.k < 16) *written |= 1U << one.k;
    }
    if (one.code == 0x60 || one.code == 0x61) {
        for (int i = 0; i < 16 && number() % 100; i++)
            if (*written >> ((one.k + i) % 16) & 1) {
                one.k = (one.k + i) % 16;
                break;
            }
    }
    return one;
}

// Programs made from a number: whether they are taken, and what they compute. The result comes back as the error of a call
// that there is not, made from the upper and from the lower half of what the program leaves in A.
static void random_programs(void) {
    enum { MANY = 400 };
    static unsigned taken, sum;
    for (int i = 0; i < MANY; i++) {
        struct sock_filter program[72];
        struct sock_filter head[] = {LOAD(nr), IF(600, 1, 0), GIVE(SECCOMP_RET_ALLOW)};
        memcpy(program, head, sizeof head);
        int count = 3, body = 1 + (int)(number() % 40);
        unsigned written = 0;
        for (int j = 0; j < body; j++) program[count + j] = any(body - j, &written);
        count += body;
        // A into the twelve bits that come back.
        static const struct sock_filter fold[] = {
            BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 20),
            BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x7ff),
            BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1), BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
            BPF_STMT(BPF_RET | BPF_A, 0)};
        memcpy(program + count, fold, sizeof fold);
        count += (int)LENGTH(fold);
        if (number() % 60 == 0) count--;
        struct sock_fprog all = {(unsigned short)count, program};
        pid_t child = vfork();
        if (child == 0) {
            // The address of the call is not the same everywhere, and is looked at by few: those are made from a fixed one.
            if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all) != 0) _exit(255);
            long result = syscall(600, 0x1111222233334444L, 2L, -3L, 0x80000000L, 5L, 0x600000006L);
            sum = sum * 31 + (unsigned)(result == -1 ? errno : 0);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        taken += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        // Whether a core was dumped is a setting of the machine.
        sum = sum * 31 + (WIFSIGNALED(status) ? (unsigned)WTERMSIG(status) : (unsigned)status);
        if (i % 40 == 39) say("after %d: %u taken, sum %x\n", i + 1, taken, sum);
    }
}

int main(int count, char **arguments_) {
    if (count > 1 && strcmp(arguments_[1], "again") == 0) {
        SHOW(syscall(SYS_getppid));
        SHOW(syscall(SYS_getsid, 0));
        status_fields("executed");
        return 0;
    }
    actions();
    precedence();
    trap();
    numbers();
    arguments();
    for (int how = 0; how < 5; how++) strict(how);
    threads();
    synchronised();
    inherited();
    rights();
    restarted();
    show_file("/proc/sys/kernel/seccomp/actions_avail");
    random_programs();
    return 0;
}

// ptrace(2): stops, steps, breakpoints, registers, signals, events of new threads and programs, the end of either side.
#include "test.h"
#include <elf.h>
#include <pthread.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/prctl.h>

static long trace(long request, pid_t pid, unsigned long addr, unsigned long data) {
    return syscall(SYS_ptrace, request, pid, addr, data);
}

static int wait_any(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, __WALL) != pid) return -1;
    return status;
}

// A stop by its names: the signal, the event above it, or the end.
static void show_status(const char *what, int status) {
    if (WIFSTOPPED(status))
        say("%s: stopped by %d%s, event %d\n", what, WSTOPSIG(status) & 0x7f, WSTOPSIG(status) & 0x80 ? "+" : "", status >> 16);
    else if (WIFEXITED(status))
        say("%s: exit %d\n", what, WEXITSTATUS(status));
    else
        say("%s: status %x\n", what, status);
}

static int next(const char *what, pid_t pid) {
    int status = wait_any(pid);
    show_status(what, status);
    return status;
}

// A child that its parent traces, stopped before `run`.
static pid_t traced(void (*run)(void)) {
    pid_t child = fork_clean();
    if (child == 0) {
        trace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    next("start", child);
    return child;
}

static struct user_regs_struct registers(pid_t pid) {
    struct user_regs_struct regs = {0};
    trace(PTRACE_GETREGS, pid, 0, (unsigned long)&regs);
    return regs;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    next("end", pid);
}

static void three_calls(void) {
    syscall(SYS_getppid);
    syscall(SYS_dup, -1);
    syscall(10000);
}

static void calls(void) {
    say("-- calls\n");
    pid_t child = traced(three_calls);
    SHOW(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
    SHOW(trace(PTRACE_SETOPTIONS, child, 0, 1 << 30));
    for (int i = 0; i < 6; i++) {
        trace(PTRACE_SYSCALL, child, 0, 0);
        int status = wait_any(child);
        struct ptrace_syscall_info info = {0};
        long size = trace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, (unsigned long)&info);
        say("stop %x op %d size %ld arch %x ", status, info.op, size, info.arch);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            say("nr %lld first %lld rax %lld\n", (long long)info.entry.nr, info.entry.nr == SYS_dup ? (long long)(int)info.entry.args[0] : 0, (long long)registers(child).rax);
        else
            say("error %d value %d\n", info.exit.is_error, info.exit.is_error ? (int)info.exit.rval : info.exit.rval == getpid());
    }
    // Another call than the one asked for, and none.
    trace(PTRACE_SYSCALL, child, 0, 0);
    wait_any(child);
    struct user_regs_struct regs = registers(child);
    say("last call %lld\n", (long long)regs.orig_rax);
    regs.orig_rax = SYS_getppid;
    SHOW(trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs));
    trace(PTRACE_SYSCALL, child, 0, 0);
    next("after it", child);
    say("did another: %d\n", registers(child).rax == (unsigned long)getpid());
    end(child);
    child = traced(three_calls);
    trace(PTRACE_SYSCALL, child, 0, 0);
    next("unmarked", child);
    regs = registers(child);
    regs.orig_rax = -1;
    regs.rax = 77;
    trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs);
    trace(PTRACE_SYSCALL, child, 0, 0);
    wait_any(child);
    say("skipped: %lld\n", (long long)registers(child).rax);
    trace(PTRACE_CONT, child, 0, 0);
    next("done", child);
}

static volatile long watched;
static void on_signal(int signal) { (void)signal; watched = 2; }
extern char step_start[], step_call[], step_end[];
static void steps(void) {
    __asm__ volatile(
        "int3\n step_start:\n nop\n nop\n mov $39, %%eax\n step_call: syscall\n nop\n step_end: int3\n" ::: "rax", "rcx", "r11", "memory");
    watched = 1;
    raise(SIGUSR1);
}

static void stepping(void) {
    say("-- stepping\n");
    signal(SIGUSR1, on_signal);
    pid_t child = traced(steps);
    trace(PTRACE_CONT, child, 0, 0);
    next("first trap", child);
    siginfo_t info;
    trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info);
    say("code %d\n", info.si_code);
    for (int i = 0; i < 6; i++) {
        trace(PTRACE_SINGLESTEP, child, 0, 0);
        int status = wait_any(child);
        trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info);
        struct user_regs_struct regs = registers(child);
        say("step to +%ld status %x code %d trap flag %lld\n", (long)regs.rip - (long)step_start, status, info.si_code, (long long)regs.eflags >> 8 & 1);
    }
    // A watchpoint.
    SHOW(trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[0]), (unsigned long)&watched));
    SHOW(trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[7]), 1 | 1 << 16 | 2 << 18));
    SHOW(trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[1]), ~0UL));
    SHOW(trace(PTRACE_POKEUSR, child, 3, 1));
    trace(PTRACE_CONT, child, 0, 0);
    next("watch", child);
    trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info);
    unsigned long word = 0;
    trace(PTRACE_PEEKUSR, child, offsetof(struct user, u_debugreg[6]), (unsigned long)&word);
    say("code %d status %lx value ", info.si_code, word & 0xf);
    trace(PTRACE_PEEKDATA, child, (unsigned long)&watched, (unsigned long)&word);
    say("%ld\n", word);
    trace(PTRACE_CONT, child, 0, 0);
    next("signal", child);
    // Into the handler, and the watched word again there.
    trace(PTRACE_SINGLESTEP, child, 0, SIGUSR1);
    next("in handler", child);
    say("at its start: %d\n", registers(child).rip == (unsigned long)on_signal);
    trace(PTRACE_CONT, child, 0, 0);
    next("watch", child);
    // An instruction breakpoint, and past it.
    trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[7]), 0);
    SHOW(trace(PTRACE_DETACH, child, 0, 0));
    next("done", child);
}

static int breakpoint_calls;
__attribute__((noinline)) static void marked(void) { breakpoint_calls++; __asm__ volatile("" ::: "memory"); }
static void call_marked(void) {
    marked();
    marked();
    _exit(breakpoint_calls);
}

static void breakpoints(void) {
    say("-- breakpoints\n");
    pid_t child = traced(call_marked);
    unsigned long word = 0, at = (unsigned long)marked;
    SHOW(trace(PTRACE_PEEKTEXT, child, at, (unsigned long)&word));
    SHOW(trace(PTRACE_POKETEXT, child, at, (word & ~0xffUL) | 0xcc));
    trace(PTRACE_CONT, child, 0, 0);
    next("hit", child);
    struct user_regs_struct regs = registers(child);
    say("behind it: %lld\n", (long long)(regs.rip - at));
    trace(PTRACE_POKETEXT, child, at, word);
    regs.rip = at;
    SHOW(trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs));
    // The second call by the CPU's own.
    trace(PTRACE_SINGLESTEP, child, 0, 0);
    next("stepped", child);
    SHOW(trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[3]), at));
    SHOW(trace(PTRACE_POKEUSR, child, offsetof(struct user, u_debugreg[7]), 1 << 6));
    trace(PTRACE_CONT, child, 0, 0);
    next("hit again", child);
    say("at it: %lld\n", (long long)(registers(child).rip - at));
    trace(PTRACE_CONT, child, 0, 0);
    next("done", child);
    SHOW(trace(PTRACE_PEEKTEXT, child, at, (unsigned long)&word));
}

static void nothing_much(void) {
    register long value __asm__("rbx") = 5;
    __asm__ volatile("mov $7, %%rax\n movq %%rax, %%xmm1\n int3\n movq %%xmm1, %%rbx\n" : "+r"(value)::"rax", "xmm1");
    _exit(value);
}

static void register_sets(void) {
    say("-- register sets\n");
    pid_t child = traced(nothing_much);
    trace(PTRACE_CONT, child, 0, 0);
    next("trap", child);
    struct user_fpregs_struct fpu;
    SHOW(trace(PTRACE_GETFPREGS, child, 0, (unsigned long)&fpu));
    say("xmm1 %u control %x mxcsr %x\n", fpu.xmm_space[4], fpu.cwd, fpu.mxcsr);
    fpu.xmm_space[4] = 23;
    SHOW(trace(PTRACE_SETFPREGS, child, 0, (unsigned long)&fpu));
    struct user_regs_struct regs;
    struct iovec area = {&regs, sizeof regs};
    SHOW(trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (unsigned long)&area));
    say("size %zu rax %lld cs %llx ss %llx\n", area.iov_len, (long long)regs.rax, (long long)regs.cs, (long long)regs.ss);
    area.iov_len = 16;
    SHOW(trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (unsigned long)&area));
    area.iov_len = 17;
    SHOW(trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (unsigned long)&area));
    area.iov_len = 16;
    SHOW(trace(PTRACE_GETREGSET, child, 0x999, (unsigned long)&area));
    area = (struct iovec){&fpu, sizeof fpu};
    SHOW(trace(PTRACE_GETREGSET, child, NT_PRFPREG, (unsigned long)&area));
    say("size %zu xmm1 %u\n", area.iov_len, fpu.xmm_space[4]);
    fpu.mxcsr = ~0;
    SHOW(trace(PTRACE_SETREGSET, child, NT_PRFPREG, (unsigned long)&area));
    regs = registers(child);
    regs.cs = 0x10;
    SHOW(trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs));
    regs = registers(child);
    regs.fs_base = 1UL << 63;
    SHOW(trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs));
    trace(PTRACE_CONT, child, 0, 0);
    next("done", child);
}

static void send_some(void) {
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    raise(SIGUSR2);
    // Ignored, but shown.
    signal(SIGHUP, SIG_IGN);
    raise(SIGHUP);
    _exit(watched);
}

static void signals(void) {
    say("-- signals\n");
    watched = 0;
    pid_t child = traced(send_some);
    sigset_t mask;
    uint64_t bits = 1UL << (SIGUSR2 - 1) | 1UL << (SIGKILL - 1);
    SHOW(trace(PTRACE_SETSIGMASK, child, 8, (unsigned long)&bits));
    SHOW(trace(PTRACE_GETSIGMASK, child, 8, (unsigned long)&bits));
    say("mask %lx\n", bits);
    SHOW(trace(PTRACE_GETSIGMASK, child, sizeof mask, (unsigned long)&mask));
    trace(PTRACE_CONT, child, 0, 0);
    next("usr1", child);
    siginfo_t info;
    SHOW(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("signal %d code %d own %d\n", info.si_signo, info.si_code, info.si_pid == child);
    // Suppressed; the next one waits behind the mask.
    trace(PTRACE_CONT, child, 0, 0);
    next("hup", child);
    siginfo_t waiting[2];
    struct ptrace_peeksiginfo_args args = {0, 0, 2};
    SHOW(trace(PTRACE_PEEKSIGINFO, child, (unsigned long)&args, (unsigned long)waiting));
    say("waits: %d\n", waiting[0].si_signo);
    args.flags = 1;
    SHOW(trace(PTRACE_PEEKSIGINFO, child, (unsigned long)&args, (unsigned long)waiting));
    args.nr = -1;
    SHOW(trace(PTRACE_PEEKSIGINFO, child, (unsigned long)&args, (unsigned long)waiting));
    // Another one instead: its handler runs.
    SHOW(trace(PTRACE_CONT, child, 0, 1000));
    trace(PTRACE_CONT, child, 0, SIGUSR1);
    next("done", child);
    child = traced(send_some);
    trace(PTRACE_CONT, child, 0, 0);
    next("shown", child);
    // Changed on its way, and taken for another.
    info.si_code = -7;
    SHOW(trace(PTRACE_SETSIGINFO, child, 0, (unsigned long)&info));
    info.si_code = 0;
    trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info);
    say("code %d\n", info.si_code);
    trace(PTRACE_CONT, child, 0, SIGTERM);
    next("killed", child);
}

static void *other_thread(void *argument) {
    (void)argument;
    return NULL;
}

static void make_all(void) {
    pid_t child = fork();
    if (child == 0) _exit(1);
    waitpid(child, NULL, 0);
    child = vfork();
    if (child == 0) _exit(2);
    waitpid(child, NULL, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, NULL);
    _exit(3);
}

// Follows all that `first` makes, and counts what it sees: the order among threads is not said.
static void follow(pid_t first, int how) {
    int events[8] = {0}, exits[8] = {0}, stops = 0, starts = 0, messages = 0;
    int alive = 1;
    if (how) trace(how, first, 0, 0);
    while (alive > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) break;
        if (!WIFSTOPPED(status)) {
            // Of what status the thread is, which ends with all, differs.
            if (WIFEXITED(status) && WEXITSTATUS(status) < 3) exits[WEXITSTATUS(status)]++;
            if (pid == first) alive = 0;
            if (pid == first) show_status("first", status);
            continue;
        }
        int event = status >> 16, signal = 0;
        unsigned long message = 0;
        if (event == PTRACE_EVENT_STOP) {
            starts++;
        } else if (event > 0 && event < 8) {
            events[event]++;
            trace(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message);
            if (event != PTRACE_EVENT_EXIT) messages += message > 1;
            else if (pid == first) messages += message >> 8 & 0xff;
        } else if (WSTOPSIG(status) == SIGSTOP) {
            starts++;
        } else if (WSTOPSIG(status) != SIGCHLD) {
            stops++;
        } else {
            signal = SIGCHLD;
        }
        trace(PTRACE_CONT, pid, 0, signal);
    }
    for (int i = 1; i < 8; i++) say("event %d: %d\n", i, events[i]);
    for (int i = 1; i < 3; i++)
        if (exits[i]) say("exit %d: %d\n", i, exits[i]);
    say("starts %d other stops %d messages %d\n", starts, stops, messages);
}

#define ALL_EVENTS (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT)

static void new_tasks(void) {
    say("-- new tasks\n");
    pid_t child = traced(make_all);
    trace(PTRACE_SETOPTIONS, child, 0, ALL_EVENTS);
    follow(child, PTRACE_CONT);
    say("-- the same, seized\n");
    int gate[2];
    if (pipe(gate) != 0) return;
    child = fork_clean();
    if (child == 0) {
        char byte;
        if (read(gate[0], &byte, 1) == 1) make_all();
        _exit(0);
    }
    SHOW(trace(PTRACE_SEIZE, child, 1, 0));
    SHOW(trace(PTRACE_SEIZE, child, 0, 1 << 30));
    SHOW(trace(PTRACE_SEIZE, child, 0, ALL_EVENTS));
    SHOW(trace(PTRACE_SEIZE, child, 0, 0));
    if (write(gate[1], "x", 1) != 1) return;
    follow(child, 0);
}

static void *exec_self(void *path) {
    char *arguments[] = {path, "exec", NULL};
    execv("/proc/self/exe", arguments);
    return NULL;
}

static void exec_in_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, exec_self, "x");
    pause();
}

static void execs(void) {
    say("-- exec by another thread\n");
    pid_t child = traced(exec_in_thread);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE);
    trace(PTRACE_CONT, child, 0, 0);
    unsigned long thread = 0, before = 0;
    next("thread", child);
    trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&thread);
    trace(PTRACE_CONT, child, 0, 0);
    next("its start", thread);
    trace(PTRACE_CONT, thread, 0, 0);
    next("exec", child);
    trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&before);
    say("by the thread: %d, which is gone: %ld\n", before == thread, trace(PTRACE_CONT, thread, 0, 0));
    say("rax %lld orig %lld\n", (long long)registers(child).rax, (long long)registers(child).orig_rax);
    trace(PTRACE_CONT, child, 0, 0);
    next("done", child);
    say("-- exec without options\n");
    child = traced(exec_in_thread);
    end(child);
}

static void wait_for_ever(void) {
    for (;;) pause();
}

static char state_of(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    ssize_t len = read(fd, line, sizeof line - 1);
    close(fd);
    if (len <= 0) return '?';
    line[len] = 0;
    char *end = strrchr(line, ')');
    return end ? end[2] : '?';
}

static int tracer_of(pid_t pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    int tracer = -1;
    while (file && fgets(line, sizeof line, file)) sscanf(line, "TracerPid: %d", &tracer);
    if (file) fclose(file);
    return tracer;
}

static void stops(void) {
    say("-- group-stops, seized\n");
    pid_t child = fork_clean();
    if (child == 0) wait_for_ever();
    SHOW(trace(PTRACE_SEIZE, child, 0, 0));
    SHOW(trace(PTRACE_GETEVENTMSG, child, 0, 0));
    SHOW(trace(PTRACE_INTERRUPT, child, 0, 0));
    next("interrupted", child);
    say("state %c traced by us %d\n", state_of(child), tracer_of(child) == getpid());
    siginfo_t info;
    SHOW(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("signal %d code %x\n", info.si_signo, info.si_code);
    kill(child, SIGSTOP);
    trace(PTRACE_CONT, child, 0, 0);
    next("signal", child);
    SHOW(trace(PTRACE_LISTEN, child, 0, 0));
    trace(PTRACE_CONT, child, 0, SIGSTOP);
    next("group-stop", child);
    SHOW(trace(PTRACE_LISTEN, child, 0, 0));
    SHOW(trace(PTRACE_GETEVENTMSG, child, 0, 0));
    SHOW(trace(PTRACE_INTERRUPT, child, 0, 0));
    next("again", child);
    SHOW(trace(PTRACE_LISTEN, child, 0, 0));
    kill(child, SIGCONT);
    next("its end", child);
    trace(PTRACE_CONT, child, 0, 0);
    next("signal", child);
    trace(PTRACE_CONT, child, 0, 0);
    // Detached in a group-stop it stays stopped, for the parent to see.
    kill(child, SIGSTOP);
    next("signal", child);
    trace(PTRACE_CONT, child, 0, SIGSTOP);
    next("group-stop", child);
    SHOW(trace(PTRACE_DETACH, child, 0, 0));
    say("traced by us %d\n", tracer_of(child) == getpid());
    kill(child, SIGKILL);
    next("end", child);

    say("-- group-stops, attached\n");
    child = fork_clean();
    if (child == 0) wait_for_ever();
    SHOW(trace(PTRACE_ATTACH, child, 0, 0));
    next("attached", child);
    SHOW(trace(PTRACE_INTERRUPT, child, 0, 0));
    SHOW(trace(PTRACE_LISTEN, child, 0, 0));
    trace(PTRACE_CONT, child, 0, SIGSTOP);
    next("group-stop", child);
    SHOW(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    trace(PTRACE_CONT, child, 0, 0);
    kill(child, SIGCONT);
    next("signal", child);
    SHOW(trace(PTRACE_KILL, child, 0, 0));
    next("end", child);

    say("-- attached while stopped\n");
    child = fork_clean();
    if (child == 0) wait_for_ever();
    kill(child, SIGSTOP);
    int status;
    waitpid(child, &status, WUNTRACED);
    SHOW(trace(PTRACE_ATTACH, child, 0, 0));
    say("state %c\n", state_of(child));
    SHOW(trace(PTRACE_PEEKUSR, child, 0, (unsigned long)&info));
    next("attached", child);
    end(child);
}

static void *attach_itself(void *whole) {
    SHOW(trace(PTRACE_ATTACH, *(pid_t *)whole, 0, 0));
    return NULL;
}

static void errors(void) {
    say("-- who may not\n");
    pid_t own = getpid();
    pthread_t thread;
    pthread_create(&thread, NULL, attach_itself, &own);
    pthread_join(thread, NULL);
    SHOW(trace(PTRACE_ATTACH, 0x3fffffff, 0, 0));
    pid_t child = fork_clean();
    if (child == 0) wait_for_ever();
    SHOW(trace(PTRACE_CONT, child, 0, 0));
    SHOW(trace(PTRACE_KILL, child, 0, 0));
    pid_t judge = fork_clean();
    if (judge == 0) {
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(1);
        SHOW(trace(PTRACE_ATTACH, child, 0, 0));
        SHOW(trace(PTRACE_SEIZE, child, 0, 0));
        _exit(0);
    }
    show_end("other user", judge);
    SHOW(trace(PTRACE_ATTACH, child, 0, 0));
    SHOW(trace(PTRACE_ATTACH, child, 0, 0));
    next("attached", child);
    SHOW(trace(0x7777, child, 0, 0));
    SHOW(trace(PTRACE_PEEKDATA, child, 8, (unsigned long)&own));
    SHOW(trace(PTRACE_PEEKUSR, child, 928, (unsigned long)&own));
    SHOW(trace(PTRACE_CONT, child, 0, 65));
    end(child);
    SHOW(prctl(0x59616d61, getpid(), 0, 0, 0));
}

// The tracer is not the parent: it hears of the end first, then the parent does.
static void third_party(void) {
    say("-- a tracer that is not the parent\n");
    int told[2];
    if (pipe(told) != 0) return;
    pid_t child = fork_clean();
    if (child == 0) wait_for_ever();
    pid_t tracer = fork_clean();
    if (tracer == 0) {
        SHOW(trace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEEXIT));
        if (write(told[1], "x", 1) != 1) _exit(1);
        next("tracer", child);
        trace(PTRACE_CONT, child, 0, SIGTERM);
        next("tracer", child);
        unsigned long message = 0;
        trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&message);
        say("message %lu\n", message);
        trace(PTRACE_CONT, child, 0, 0);
        siginfo_t info = {0};
        waitid(P_PID, child, &info, WEXITED | WNOWAIT);
        say("tracer: code %d status %d\n", info.si_code, info.si_status);
        if (write(told[1], "x", 1) != 1) _exit(1);
        sleep_ms(1);
        next("tracer", child);
        _exit(0);
    }
    char byte;
    if (read(told[0], &byte, 1) != 1) return;
    SHOW(waitpid(child, NULL, WNOHANG));
    kill(child, SIGTERM);
    if (read(told[0], &byte, 1) != 1) return;
    show_end("tracer", tracer);
    next("parent", child);

    say("-- the end of a tracer\n");
    for (int kills = 0; kills < 2; kills++) {
        child = fork_clean();
        if (child == 0) wait_for_ever();
        tracer = fork_clean();
        if (tracer == 0) {
            OK(trace(PTRACE_SEIZE, child, 0, kills ? PTRACE_O_EXITKILL : 0));
            trace(PTRACE_INTERRUPT, child, 0, 0);
            next("tracer", child);
            _exit(0);
        }
        show_end("tracer", tracer);
        if (!kills) {
            say("traced %d\n", tracer_of(child));
            kill(child, SIGTERM);
        }
        next("child", child);
    }
}

// Many tracees that end with their tracer, in the midst of all kinds of stops.
static void storm(void) {
    say("-- a storm\n");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int round = 0; round < 8; round++) {
        pid_t tracer = fork_clean();
        if (tracer == 0) {
            setpgid(0, 0);
            for (int i = 0; i < 8; i++) {
                pid_t child = fork();
                if (child == 0) {
                    trace(PTRACE_TRACEME, 0, 0, 0);
                    if (i % 2) raise(SIGSTOP);
                    for (int n = 0; n < 50; n++) {
                        pid_t last = fork();
                        if (last == 0) _exit(0);
                        waitpid(last, NULL, 0);
                    }
                    _exit(0);
                }
            }
            for (int n = 0; n < 100; n++) {
                int status;
                pid_t pid = waitpid(-1, &status, __WALL);
                if (pid > 0 && WIFSTOPPED(status)) {
                    trace(PTRACE_SETOPTIONS, pid, 0, ALL_EVENTS | (round % 2 ? PTRACE_O_EXITKILL : 0));
                    trace(n % 3 ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, 0);
                }
            }
            raise(SIGKILL);
        }
        int status;
        waitpid(tracer, &status, 0);
        if (!WIFSIGNALED(status)) say("round %d: %x\n", round, status);
        kill(-tracer, SIGKILL);
        while (waitpid(-1, NULL, __WALL) > 0) continue;
    }
    say("over\n");
}

// A filter that has the tracer decide about getppid(2).
static void filtered(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 7),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {6, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    long results[4];
    for (int i = 0; i < 4; i++) results[i] = syscall(SYS_getppid);
    _exit(results[0] == getpid() ? results[1] == 55 && results[2] == -1 ? 1 : 2 : 3);
}

static void filters(void) {
    say("-- filters\n");
    pid_t child = traced(filtered);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP);
    // Another call, none, and one that the filter forbids.
    long calls[] = {SYS_getpid, -1, SYS_getuid};
    for (int i = 0; i < 3; i++) {
        trace(PTRACE_CONT, child, 0, 0);
        next("filter", child);
        unsigned long message = 0;
        trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&message);
        struct user_regs_struct regs = registers(child);
        struct ptrace_syscall_info info = {0};
        long size = trace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, (unsigned long)&info);
        say("message %lu call %lld rax %lld op %d size %ld data %d\n", message, (long long)regs.orig_rax, (long long)regs.rax, info.op, size, info.seccomp.ret_data);
        regs.orig_rax = calls[i];
        regs.rax = 55;
        trace(PTRACE_SETREGS, child, 0, (unsigned long)&regs);
    }
    trace(PTRACE_SETOPTIONS, child, 0, 0);
    trace(PTRACE_CONT, child, 0, 0);
    next("done", child);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "exec") == 0) return 9;
    calls();
    stepping();
    breakpoints();
    register_sets();
    signals();
    filters();
    new_tasks();
    execs();
    stops();
    errors();
    third_party();
    storm();
    return 0;
}

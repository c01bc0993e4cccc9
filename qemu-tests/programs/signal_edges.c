// Signals at their edges: what a queue holds, what interrupts a call for good, what a frame may say.
#include "test.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile int caught, last_code, last_value;

static void count(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    caught++;
    last_code = info->si_code;
    last_value = info->si_value.sival_int;
}

static void catch(int signal, int flags) {
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, 0);
}

static void mask(int how, int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(how, &set, 0);
}

// Unknown flags are not kept: that is how programs find out what the kernel knows.
static void action_flags(void) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {(void *)1, 0xffffffff00000400, 0, -1UL}, old;
    SHOW(syscall(SYS_rt_sigaction, SIGUSR2, &action, 0, 8));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR2, 0, &old, 8));
    say("flags %lx, mask %lx\n", old.flags, old.mask);
    SHOW(syscall(SYS_rt_sigaction, SIGKILL, 0, &old, 8));
    SHOW(syscall(SYS_rt_sigaction, SIGKILL, &action, 0, 8));
    SHOW(syscall(SYS_rt_sigaction, 65, 0, &old, 8));
}

static void queue_limits(void) {
    // Only the soft limit: a hard one could not be raised again without a capability, and the count is the
    // user's, so that other processes of the host would decide what the rest of this program sees.
    struct rlimit limit = {8, 1000};
    SHOW(setrlimit(RLIMIT_SIGPENDING, &limit));
    catch(SIGRTMIN, 0);
    mask(SIG_BLOCK, SIGRTMIN);
    int queued = 0;
    while (queued < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = queued}) == 0)
        queued++;
    SHOW(queued <= 8);
    TRUE(errno == EAGAIN);
    // The limit is one for all of the process, not one for each thread.
    int own = 0;
    siginfo_t info = {.si_code = SI_QUEUE, .si_pid = getpid()};
    while (own < 100 &&
           syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGRTMIN, &info) == 0)
        own++;
    SHOW(own);
    caught = 0;
    mask(SIG_UNBLOCK, SIGRTMIN);
    TRUE(caught == queued);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_SIGPENDING, &limit);
}

static void division(int signal, siginfo_t *info, void *context) {
    (void)context;
    say("signal %d, code %d\n", signal, info->si_code);
    _exit(0);
}

// An exception of the floating-point unit says which. (QEMU has none of SSE's.)
static void fpu_codes(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = division, .sa_flags = SA_SIGINFO};
        sigaction(SIGFPE, &action, 0);
        volatile unsigned short control = 0x37f & ~4;
        __asm__ volatile("fninit; fldcw %0; fldz; fld1; fdivp; fwait" ::"m"(control));
        _exit(1);
    }
    show_end("x87", child);
}

static void spoil(int signal, siginfo_t *info, void *pointer) {
    ucontext_t *context = pointer;
    long what = *(volatile long *)0x7ff000;
    (void)info, (void)signal;
    if (what == 0) context->uc_mcontext.gregs[REG_RIP] = 0xffffffff80000000;
    if (what == 1) context->uc_mcontext.gregs[REG_RIP] = 0x8000000000000000;
    if (what == 2) context->uc_mcontext.gregs[REG_RSP] = 0x8000000000000000;
    if (what == 3) context->uc_mcontext.gregs[REG_EFL] |= 0x3000 | 0x4000 | 0x20000;
    if (what == 4) context->uc_mcontext.gregs[REG_CSGSFS] = 0x10 | 0x18L << 48;
    if (what == 5) context->uc_mcontext.fpregs = (void *)0xffffffff80000000;
    if (what == 6) context->uc_mcontext.fpregs->mxcsr = -1;
    if (what == 7) memset(context, 0xff, sizeof *context);
    if (what == 8) context->uc_mcontext.fpregs = (void *)0x7ff008;
    if (what == 9) context->uc_mcontext.fpregs = 0;
}

// What a handler leaves in its frame never gives more than user mode has.
static void hostile_frames(void) {
    long *what = mmap((void *)0x7ff000, 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (*what = 0; *what < 10; ++*what) {
        // What a stack or segment nowhere leads to is the CPU's affair.
        if (*what == 2 || *what == 4 || *what == 8) continue;
        pid_t child = fork_clean();
        if (child == 0) {
            struct sigaction action = {.sa_sigaction = spoil, .sa_flags = SA_SIGINFO};
            sigaction(SIGUSR1, &action, 0);
            signal(SIGSEGV, SIG_DFL);
            raise(SIGUSR1);
            unsigned long flags;
            __asm__ volatile("pushfq; popq %0" : "=r"(flags));
            _exit(flags & 0x7000 ? 1 : 0);
        }
        say("%ld: ", *what);
        show_end("frame", child);
    }
    pid_t child = fork_clean();
    if (child == 0) {
        __asm__ volatile("mov $0x8000000000000000, %%rsp; mov $15, %%eax; syscall" ::: "memory");
        _exit(1);
    }
    show_end("sigreturn without a stack", child);
    child = fork_clean();
    if (child == 0) {
        struct sigaction action = {.sa_handler = (void (*)(int))0x8000000000000000};
        sigaction(SIGUSR1, &action, 0);
        raise(SIGUSR1);
        _exit(1);
    }
    show_end("handler nowhere", child);
    child = fork_clean();
    if (child == 0) {
        catch(SIGSEGV, 0);
        catch(SIGUSR1, 0);
        pid_t self = getpid();
        __asm__ volatile("xor %%esp, %%esp; syscall" ::"a"(SYS_kill), "D"(self), "S"(SIGUSR1)
                         : "rcx", "r11", "memory");
        _exit(1);
    }
    show_end("no room for a frame", child);
}

static void alternate_stacks(void) {
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = 100}, old;
    SHOW(sigaltstack(&stack, 0));
    stack.ss_size = sizeof memory;
    stack.ss_flags = 77;
    SHOW(sigaltstack(&stack, 0));
    stack.ss_flags = SS_ONSTACK;
    SHOW(sigaltstack(&stack, 0));
    SHOW(sigaltstack(0, &old));
    say("flags %x, size %zu\n", (unsigned)old.ss_flags, old.ss_size);
    stack.ss_flags = (int)(1U << 31);
    SHOW(sigaltstack(&stack, 0));
    SHOW(sigaltstack(0, &old));
    say("flags %x\n", (unsigned)old.ss_flags);
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, 0));
    SHOW(sigaltstack(0, &old));
    say("flags %x, size %zu\n", (unsigned)old.ss_flags, old.ss_size);
    SHOW(sigaltstack((void *)8, 0));
}

static void *interrupter(void *thread) {
    sleep_ms(100);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return 0;
}

#define INTERRUPTED(call)                                                                          \
    do {                                                                                           \
        pthread_t self = pthread_self(), other;                                                    \
        pthread_create(&other, 0, interrupter, &self);                                             \
        SHOW(call);                                                                                \
        pthread_join(other, 0);                                                                    \
    } while (0)

// Which calls a handler with SA_RESTART ends, and which go on.
static void restarts(void) {
    struct timespec time = {0, 300000000}, left;
    sigset_t empty, usr2;
    sigemptyset(&empty);
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        catch(SIGUSR1, flags);
        caught = 0;
        INTERRUPTED(nanosleep(&time, &left));
        INTERRUPTED(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &left));
        int word = 0;
        INTERRUPTED(syscall(SYS_futex, &word, 0, 0, &time, 0, 0));
        INTERRUPTED(sigtimedwait(&usr2, 0, &time));
        INTERRUPTED(sigsuspend(&empty));
        INTERRUPTED(pause());
        pid_t child = fork_clean();
        if (child == 0) {
            sleep_ms(300);
            _exit(5);
        }
        int status = 0;
        INTERRUPTED(waitpid(child, &status, 0) == child);
        if (!flags) waitpid(child, &status, 0);
        SHOW(WEXITSTATUS(status));
        SHOW(caught);
    }
}

// A stop does not end a sleep; the time that was left goes on.
static void stopped_sleep(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct timespec time = {0, 200000000}, left = {7, 7};
        int result = nanosleep(&time, &left);
        _exit(result == 0 ? 0 : 1);
    }
    sleep_ms(50);
    for (int i = 0; i < 3; i++) {
        kill(child, SIGSTOP);
        waitpid(child, 0, WUNTRACED);
        kill(child, SIGCONT);
        waitpid(child, 0, WCONTINUED);
    }
    show_end("stopped sleeper", child);
}

// A blocked signal that is ignored stays, in case its action changes.
static void blocked_and_ignored(void) {
    sigset_t pending;
    signal(SIGUSR1, SIG_IGN);
    mask(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    raise(SIGUSR1);
    catch(SIGUSR1, 0);
    caught = 0;
    mask(SIG_UNBLOCK, SIGUSR1);
    SHOW(caught);
    SHOW(last_code);
}

static void reset(void) {
    catch(SIGUSR1, SA_RESETHAND | SA_NODEFER);
    caught = 0;
    raise(SIGUSR1);
    struct sigaction action;
    sigaction(SIGUSR1, 0, &action);
    TRUE(action.sa_handler == SIG_DFL);
    TRUE(!(action.sa_flags & SA_SIGINFO) == 0);
    SHOW(caught);
}

int main(void) {
    action_flags();
    queue_limits();
    fpu_codes();
    hostile_frames();
    alternate_stacks();
    restarts();
    stopped_sleep();
    blocked_and_ignored();
    reset();
    SHOW(syscall(SYS_restart_syscall));
    SHOW(kill(getpid(), 65));
    SHOW(syscall(SYS_tgkill, -1, getpid(), 0));
    SHOW(syscall(SYS_tgkill, getpid(), 0, 0));
    SHOW(syscall(SYS_tkill, getpid(), 0));
    SHOW(syscall(SYS_rt_sigtimedwait, 8, 0, 0, 8));
    SHOW(syscall(SYS_rt_sigsuspend, 0, 4));
    return 0;
}

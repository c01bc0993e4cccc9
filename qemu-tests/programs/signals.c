// Signals: handlers, masks, pending ones, restarts, queues, stacks.
#include "test.h"
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile int count;
static int order[16], orders;

static void counts(int signal) {
    (void)signal;
    count++;
}

static void with_info(int signal, siginfo_t *info, void *context) {
    (void)context;
    say("signal %d code %d from us %d value %d\n", signal, info->si_code,
        info->si_pid == getpid(), info->si_value.sival_int);
}

static void orders_it(int signal, siginfo_t *info, void *context) {
    (void)context, (void)signal;
    order[orders++] = info->si_value.sival_int;
}

static void nested(int signal) {
    say("in %d, depth %d\n", signal, ++count);
    if (count == 1) raise(signal);
    say("out of %d\n", signal);
}

static void set(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, 0);
}

static void masks(void) {
    sigset_t set_of_two, old, pending;
    sigemptyset(&set_of_two);
    sigaddset(&set_of_two, SIGUSR1);
    sigaddset(&set_of_two, SIGKILL);
    set(SIGUSR1, counts, 0);
    count = 0;
    SHOW(sigprocmask(SIG_BLOCK, &set_of_two, &old));
    sigprocmask(SIG_BLOCK, 0, &pending);
    SHOW(sigismember(&pending, SIGUSR1));
    SHOW(sigismember(&pending, SIGKILL));
    raise(SIGUSR1);
    raise(SIGUSR1);
    SHOW(count);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    SHOW(sigprocmask(SIG_SETMASK, &old, 0));
    SHOW(count);
    SHOW(sigprocmask(77, &old, 0));
    raise(SIGUSR1);
    SHOW(count);

    // sigsuspend takes the signal and puts the mask back.
    sigprocmask(SIG_BLOCK, &set_of_two, 0);
    raise(SIGUSR1);
    sigset_t none;
    sigemptyset(&none);
    SHOW(sigsuspend(&none));
    SHOW(count);
    sigprocmask(SIG_SETMASK, 0, &pending);
    SHOW(sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, 0);
}

static void restart(int flags) {
    int ends[2];
    pipe(ends);
    set(SIGALRM, counts, flags);
    count = 0;
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(150);
        write(ends[1], "z", 1);
        _exit(0);
    }
    struct itimerval timer = {.it_value = {0, 40000}};
    setitimer(ITIMER_REAL, &timer, 0);
    char byte;
    SHOW(read(ends[0], &byte, 1));
    SHOW(count);
    waitpid(child, 0, 0);
    close(ends[0]);
    close(ends[1]);
}

static void queue(void) {
    struct sigaction action = {.sa_sigaction = orders_it, .sa_flags = SA_SIGINFO};
    sigset_t blocked, old;
    sigemptyset(&blocked);
    for (int i = 0; i < 3; i++) {
        sigaction(SIGRTMIN + i, &action, 0);
        sigaddset(&blocked, SIGRTMIN + i);
    }
    sigfillset(&action.sa_mask);
    for (int i = 0; i < 3; i++) sigaction(SIGRTMIN + i, &action, 0);
    sigprocmask(SIG_BLOCK, &blocked, &old);
    for (int i = 0; i < 6; i++) {
        union sigval value = {.sival_int = i};
        sigqueue(getpid(), SIGRTMIN + 2 - i % 3, value);
    }
    sigprocmask(SIG_SETMASK, &old, 0);
    for (int i = 0; i < orders; i++) say("%d ", order[i]);
    say("(lowest signal first, each in order)\n");
}

static void timed_wait(void) {
    sigset_t set_of_one;
    sigemptyset(&set_of_one);
    sigaddset(&set_of_one, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set_of_one, 0);
    struct timespec short_time = {0, 10000000};
    siginfo_t info;
    SHOW(sigtimedwait(&set_of_one, &info, &short_time));
    union sigval value = {.sival_int = 31};
    sigqueue(getpid(), SIGUSR2, value);
    SHOW(sigtimedwait(&set_of_one, &info, &short_time));
    SHOW(info.si_value.sival_int);
    sigprocmask(SIG_UNBLOCK, &set_of_one, 0);
}

static char other_stack[16384];

static void where(int signal) {
    char here;
    (void)signal;
    TRUE(&here > other_stack && &here < other_stack + sizeof other_stack);
}

static sigjmp_buf jump;
static void jumps(int signal) { siglongjmp(jump, signal); }

int main(void) {
    SHOW(kill(getpid(), 0));
    SHOW(kill(99999, 0));
    SHOW(kill(getpid(), 65));
    SHOW(sigaction(SIGKILL, &(struct sigaction){.sa_handler = counts}, 0));
    SHOW(sigaction(SIGSTOP, &(struct sigaction){.sa_handler = SIG_IGN}, 0));
    struct sigaction info = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &info, 0);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 55});
    masks();
    restart(0);
    restart(SA_RESTART);
    queue();
    timed_wait();

    set(SIGUSR1, nested, 0);
    count = 0;
    raise(SIGUSR1);
    set(SIGUSR1, nested, SA_NODEFER);
    count = 0;
    raise(SIGUSR1);
    set(SIGUSR1, counts, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, 0, &now);
    TRUE(now.sa_handler == SIG_DFL);

    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    SHOW(sigaltstack(&stack, 0));
    set(SIGUSR1, where, SA_ONSTACK);
    raise(SIGUSR1);
    stack.ss_size = 100;
    SHOW(sigaltstack(&stack, 0));

    set(SIGUSR1, jumps, 0);
    int value = sigsetjmp(jump, 1);
    if (value == 0) raise(SIGUSR1);
    SHOW(value);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, 0, &mask);
    SHOW(sigismember(&mask, SIGUSR1));

    set(SIGCHLD, counts, SA_RESTART);
    count = 0;
    pid_t child = fork_clean();
    if (child == 0) _exit(0);
    waitpid(child, 0, 0);
    SHOW(count);
    signal(SIGCHLD, SIG_DFL);
    int deadly[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGALRM, SIGTERM, SIGUSR1, SIGRTMAX};
    for (int i = 0; i < 8; i++) {
        child = fork_clean();
        if (child == 0) {
            signal(deadly[i], SIG_DFL);
            raise(deadly[i]);
            _exit(0);
        }
        show_end("default action", child);
    }
    child = fork_clean();
    if (child == 0) {
        raise(SIGCHLD);
        raise(SIGURG);
        raise(SIGWINCH);
        raise(SIGCONT);
        _exit(6);
    }
    show_end("ignored by default", child);
    return 0;
}

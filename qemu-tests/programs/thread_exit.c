// Threads and the end of a process: exit, exec, fatal signals, fork, signals to one thread.
#include "test.h"
#include <pthread.h>

static volatile pid_t handled_by;
static void handler(int signal) {
    (void)signal;
    handled_by = gettid();
}

static void *spins(void *argument) {
    for (;;) __atomic_fetch_add((long *)argument, 1, __ATOMIC_RELAXED);
    return 0;
}

static void *blocks(void *argument) {
    for (;;) pause();
    return argument;
}

static void *exits(void *argument) {
    sleep_ms(20);
    exit((int)(intptr_t)argument);
}

static void *executes(void *argument) {
    (void)argument;
    char *arguments[] = {"thread_exit", "again", 0};
    execv("/tests/thread_exit", arguments);
    _exit(1);
}

static void *crashes(void *argument) {
    sleep_ms(20);
    *(volatile int *)argument = 1;
    return 0;
}

static void *ends_last(void *argument) {
    sleep_ms(50);
    say("the last thread\n");
    return argument;
}

static long scratch;

static void with_threads(const char *what, void *(*body)(void *), void *argument) {
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, spins, &scratch);
        pthread_create(&thread, 0, blocks, 0);
        pthread_create(&thread, 0, body, argument);
        for (;;) pause();
    }
    show_end(what, child);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        TRUE(gettid() == getpid());
        return 23;
    }
    with_threads("exit in a thread", exits, (void *)5);
    with_threads("exec in a thread", executes, 0);
    with_threads("crash in a thread", crashes, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, spins, &scratch);
        raise(SIGKILL);
    }
    show_end("killed with threads", child);
    child = fork_clean();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, spins, &scratch);
        pthread_create(&thread, 0, blocks, 0);
        sleep_ms(20);
        return 9;
    }
    show_end("main returns", child);
    child = fork_clean();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, ends_last, 0);
        pthread_exit(0);
    }
    show_end("main thread goes first", child);

    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, 0);
    pthread_t thread;
    pthread_create(&thread, 0, blocks, 0);
    sleep_ms(20);
    handled_by = 0;
    SHOW(pthread_kill(thread, SIGUSR1));
    while (handled_by == 0) sleep_ms(1);
    TRUE(handled_by != gettid());
    // A signal to the process goes to a thread that does not block it.
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &mask, 0);
    handled_by = 0;
    kill(getpid(), SIGUSR1);
    while (handled_by == 0) sleep_ms(1);
    TRUE(handled_by != gettid());
    SHOW(syscall(SYS_tgkill, getpid(), 99999, SIGUSR1));
    SHOW(syscall(SYS_tgkill, -1, gettid(), SIGUSR1));

    // Only the thread that forks is in the child.
    pthread_create(&thread, 0, spins, &scratch);
    child = fork_clean();
    if (child == 0) {
        long before = scratch;
        sleep_ms(30);
        _exit(scratch == before ? 0 : 1);
    }
    show_end("fork with threads", child);
    fflush(stdout);
    _exit(0);
}

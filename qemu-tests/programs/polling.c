// poll, select and their relatives on pipes, files and nothing.
#include "test.h"
#include <poll.h>
#include <sys/select.h>

static void handler(int signal) { (void)signal; }

static void show_poll(const char *what, int descriptor, short events) {
    struct pollfd ready = {descriptor, events, -1};
    int count = poll(&ready, 1, 0);
    say("%s: %d, %x\n", what, count, (unsigned short)ready.revents);
}

int main(void) {
    int ends[2];
    pipe(ends);
    show_poll("empty pipe", ends[0], POLLIN);
    show_poll("write end", ends[1], POLLOUT);
    write(ends[1], "x", 1);
    show_poll("full pipe", ends[0], POLLIN | POLLPRI);
    show_poll("not asked for", ends[0], 0);
    close(ends[1]);
    show_poll("data and hang-up", ends[0], POLLIN);
    char byte;
    read(ends[0], &byte, 1);
    show_poll("hang-up", ends[0], POLLIN);
    show_poll("closed", ends[1], POLLIN);
    show_poll("ignored", -1, POLLIN);
    close(ends[0]);
    pipe(ends);
    close(ends[0]);
    show_poll("no reader", ends[1], POLLOUT);
    close(ends[1]);
    int file = open("/etc/data", O_RDONLY);
    show_poll("file", file, POLLIN | POLLOUT);
    show_poll("null", open("/dev/null", O_RDWR), POLLIN | POLLOUT);

    pipe(ends);
    struct pollfd two[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
    SHOW(poll(two, 2, 1000));
    SHOW(two[0].revents);
    SHOW(two[1].revents);
    long long start = now_ns();
    SHOW(poll(two, 1, 50));
    long long took = now_ns() - start;
    TRUE(took >= 50000000 && took < 2000000000);
    SHOW(poll(0, 0, 1));
    SHOW(poll(two, 1 << 30, 0));

    // Woken by another process.
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(40);
        write(ends[1], "y", 1);
        _exit(0);
    }
    SHOW(poll(two, 1, 5000));
    SHOW(two[0].revents);
    waitpid(child, 0, 0);
    read(ends[0], &byte, 1);

    // Interrupted by a signal.
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    ualarm(30000, 0);
    SHOW(poll(two, 1, 5000));
    sigset_t mask, blocked;
    sigemptyset(&mask);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, 0);
    raise(SIGALRM);
    struct timespec second = {1, 0};
    SHOW(ppoll(two, 1, &second, &mask));
    SHOW(ppoll(two, 1, &(struct timespec){0, 1000}, 0));
    SHOW(ppoll(two, 1, &(struct timespec){0, -1}, 0));

    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(ends[0], &in);
    FD_SET(ends[1], &out);
    struct timeval none = {0, 0};
    SHOW(select(ends[1] + 1, &in, &out, 0, &none));
    SHOW(FD_ISSET(ends[0], &in));
    SHOW(FD_ISSET(ends[1], &out));
    write(ends[1], "z", 1);
    FD_SET(ends[0], &in);
    SHOW(select(ends[1] + 1, &in, &out, 0, 0));
    FD_ZERO(&in);
    FD_SET(40, &in);
    SHOW(select(41, &in, 0, 0, &none));
    SHOW(select(-1, 0, 0, 0, &none));
    struct timeval wait_time = {0, 20000};
    SHOW(select(0, 0, 0, 0, &wait_time));
    SHOW(wait_time.tv_usec);
    return 0;
}

// epoll: level and edge triggers, one-shot, changes, nesting.
#include "test.h"
#include <sys/epoll.h>

static int epoll;

static void show(const char *what, int timeout_ms) {
    struct epoll_event events[8];
    int count = epoll_wait(epoll, events, 8, timeout_ms);
    say("%s: %d", what, count);
    for (int i = 0; i < count; i++) say(" [%x for %lu]", events[i].events, events[i].data.u64);
    say("\n");
}

static int control(int operation, int descriptor, unsigned events, unsigned long data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operation, descriptor, &event);
}

int main(void) {
    int ends[2], more[2];
    char byte;
    pipe(ends);
    pipe(more);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    TRUE(epoll > 0);
    SHOW(epoll_create(0));
    SHOW(epoll_create1(1));
    SHOW(control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_MOD, more[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_DEL, more[0], 0, 0));
    SHOW(control(EPOLL_CTL_ADD, 999, EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, epoll, EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, open("/etc/data", O_RDONLY), EPOLLIN, 1));
    SHOW(control(99, ends[0], EPOLLIN, 1));
    SHOW(epoll_wait(epoll, 0, 0, 0));
    SHOW(epoll_wait(ends[0], 0, 1, 0));
    show("nothing", 0);
    show("nothing for a while", 20);
    write(ends[1], "ab", 2);
    show("level", 0);
    show("level again", 0);
    read(ends[0], &byte, 1);
    show("still", 0);
    read(ends[0], &byte, 1);
    show("drained", 0);

    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET, 2));
    write(ends[1], "a", 1);
    show("edge", 0);
    show("no new edge", 0);
    write(ends[1], "b", 1);
    show("new edge", 0);
    read(ends[0], &byte, 1);
    show("reading is no edge", 0);
    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 3));
    show("one shot", 0);
    show("shot", 0);
    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 4));
    show("armed again", 0);
    SHOW(control(EPOLL_CTL_DEL, ends[0], 0, 0));
    show("removed", 0);

    control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 5);
    control(EPOLL_CTL_ADD, more[1], EPOLLOUT, 6);
    show("two", 0);
    control(EPOLL_CTL_DEL, more[1], 0, 0);
    int outer = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
    SHOW(epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &event));
    SHOW(epoll_wait(outer, &event, 1, 0));
    SHOW(event.data.u64);
    read(ends[0], &byte, 1);
    SHOW(epoll_wait(outer, &event, 1, 0));

    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(30);
        write(ends[1], "c", 1);
        _exit(0);
    }
    show("woken by another process", 5000);
    waitpid(child, 0, 0);
    read(ends[0], &byte, 1);
    close(ends[1]);
    show("hang-up", 0);
    close(ends[0]);
    show("closed", 0);

    signal(SIGALRM, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    SHOW(epoll_pwait(epoll, &event, 1, 10, &mask));
    return 0;
}
